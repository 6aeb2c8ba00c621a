"""A network is measured from end to end too: what its layers do not say of it is found."""

import numpy as np
import pytest

from tinynet.gradient_check import GradientError, check_gradients
from tinynet.gradient_check.chain_rule import more_than_its_layers
from tinynet.gradient_check.checkable import CheckableLayer
from tinynet.gradient_check.finite_differences import Function
from tinynet.layer import EVAL, Mode
from tinynet.layers import BatchNorm, Conv2D, Dense, Flatten, Sequential, Sigmoid

TRAIN = Mode(train=True, rng=np.random.default_rng(1))


def generator():
    return np.random.default_rng(0)


def normal(*shape):
    return np.random.default_rng(2).standard_normal(shape)


class Peeking(Sigmoid):
    """Adds a small part of one element of another layer's weight, which is none of its business."""

    def __init__(self, weight, index, part):
        self.peeked = [weight]  # in a list, so that it is not taken for a parameter of this layer
        self.index, self.part = index, part

    def forward(self, x, mode=EVAL):
        y, cache = super().forward(x, mode)
        return y + self.part * self.peeked[0].value[self.index], cache


def peeking(part):
    first, second = Dense(20, 30, rng=generator()), Dense(30, 3, rng=generator())
    return Sequential(first, Peeking(first.weight, (11, 7), part), second)


def test_a_dependence_on_a_single_element_of_another_layer_is_found():
    """Each of 600 elements is in the one slope of their array."""
    with pytest.raises(GradientError) as caught:
        check_gradients(peeking(1.0), normal(4, 20))
    (fault,) = caught.value.report.faults
    assert fault.startswith("end to end, the gradient of 0.weight times random signs is ")
    assert check_gradients(peeking(0.0), normal(4, 20)).between


def measured(model, x, change=1.0):
    """The faults where the slopes that the layers say are ``change`` times the true ones."""
    report = check_gradients(model, x, TRAIN)
    subject = CheckableLayer(model, x, TRAIN)
    y, _ = subject.forward()
    # the upstream gradient that the check drew, by its seed
    dy = np.random.default_rng(243_000_001).standard_normal(y.shape)
    checks = [check.of(check.got) for check in report.arrays]
    for check in checks:
        check.wanted = change * check.wanted
    before = {name: a.copy() for name, a in subject.arrays.items()}
    faults = list(
        more_than_its_layers(checks, Function(subject.forward, y.copy(), dy), subject.arrays)
    )
    for name, a in subject.arrays.items():
        assert np.array_equal(a, before[name]), name
    return faults, [check.name for check in checks]


def network():
    rng = generator()
    return Sequential(
        Conv2D(2, 3, 3, padding="same", rng=rng), BatchNorm(3), Sigmoid(), Flatten(),
        Dense(48, 2, rng=rng),
    )  # fmt: skip


def test_every_array_is_measured_and_put_back():
    x = normal(3, 4, 4, 2)
    assert measured(network(), x)[0] == []
    faults, names = measured(network(), x, change=1.01)
    said = [fault.split()[6] for fault in faults]
    # a bias before a batch norm has no slope: nothing to be a hundredth too large
    assert said == [name for name in names if name != "0.bias"]


def test_undecidable_elements_are_not_moved():
    model, x = Sequential(Dense(2, 2, rng=generator()), Sigmoid()), normal(3, 2)
    report = check_gradients(model, x)
    subject = CheckableLayer(model, x, EVAL)
    y, _ = subject.forward()
    dy = np.random.default_rng(243_000_001).standard_normal(y.shape)
    (check, *_) = report.arrays
    check.wanted = check.wanted.copy()
    check.wanted[1, 0] = np.nan
    function = Function(subject.forward, y.copy(), dy)
    assert [f.split()[6] for f in more_than_its_layers([check], function, subject.arrays)] == ["x"]
    check.undecidable = check.undecidable.copy()
    check.undecidable[1, 0] = True
    assert list(more_than_its_layers([check], function, subject.arrays)) == []
