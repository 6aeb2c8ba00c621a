"""Networks are checked layer by layer: nothing is missed, and the layer at fault is named."""

import numpy as np
import pytest

from tinynet.gradient_check import GradientError, check_gradients
from tinynet.gradient_check.chain_rule import record, taken_apart
from tinynet.layer import EVAL, Layer, Mode, Parameter
from tinynet.layers import (
    BatchNorm,
    Concat,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    MaxPool2D,
    ReLU,
    Residual,
    Sequential,
    Sigmoid,
)

TRAIN = Mode(train=True, rng=np.random.default_rng(1))


def generator():
    return np.random.default_rng(0)


def normal(*shape):
    return np.random.default_rng(2).standard_normal(shape)


def network(activation=Sigmoid, convolution=Conv2D):
    rng = generator()
    return Sequential(
        Conv2D(1, 2, 3, padding="same", rng=rng),
        Sequential(BatchNorm(2), activation(), MaxPool2D(2)),
        Residual(convolution(2, 2, 1, rng=rng)),
        Residual(Conv2D(2, 3, 1, rng=rng), skip=Conv2D(2, 3, 1, rng=rng)),
        Concat(Conv2D(3, 1, 1, rng=rng), Sequential(Conv2D(3, 2, 1, rng=rng), activation())),
        Flatten(),
        Dropout(0.8),
        Dense(12, 3, rng=rng),
    )


def message(model, x, mode=TRAIN, **settings):
    with pytest.raises(GradientError) as caught:
        check_gradients(model, x, mode, **settings)
    return caught.value.report


@pytest.mark.parametrize("mode", [TRAIN, EVAL])
def test_the_true_gradients_are_those_end_to_end(mode):
    model, x = network(), normal(3, 4, 4, 1)
    apart = check_gradients(model, x, mode)

    class OnePiece(Sequential):
        """Its own forward pass, so it is not taken apart."""

        def forward(self, x, mode=EVAL):
            return super().forward(x, mode)

    whole = check_gradients(OnePiece(*model.layers), x, mode)
    assert [c.name for c in apart.arrays] == [c.name for c in whole.arrays]
    assert apart.between
    assert not whole.between
    for a, b in zip(apart.arrays, whole.arrays, strict=True):
        assert abs(a.wanted - b.wanted).max() <= 1e-9, a.name
        assert np.array_equal(a.got, b.got)


def test_every_element_of_every_array_is_compared():
    model, x = network(), normal(3, 4, 4, 1)
    report = check_gradients(model, x, TRAIN)
    assert {c.name for c in report.arrays} == {"x", *model.parameters()}
    for check in report.arrays:
        assert check.checked.all()
        assert not np.isnan(check.wanted).any()
    # each layer's input but the first's: batch norm's, the activation's (pooling joins it), …
    assert "between the layers" in str(report)
    assert sum(c.got.size for c in report.between) > 200


class DoubledSigmoid(Sigmoid):
    def backward(self, dy, cache):
        return 2 * super().backward(dy, cache)


def test_the_layer_at_fault_is_named_and_those_before_it_are_listed():
    rng = generator()
    model = Sequential(
        Dense(3, 4, rng=rng),
        Sigmoid(),
        Dense(4, 4, rng=rng),
        DoubledSigmoid(),
        Dense(4, 2, rng=rng),
    )
    report = message(model, normal(5, 3))
    fault, consequence = report.faults
    assert fault.startswith(
        "the gradient of the input of 3 (DoubledSigmoid()) is wrong in 20 of 20"
    )
    assert "all elements are 2 times what they should be" in fault
    assert consequence.startswith(
        "so these gradients are wrong too: x, 0.weight, 0.bias, 2.weight and 1"
    )
    verdicts = {check.name: bool(check.wrong.any()) for check in report.arrays}
    assert verdicts == {name: name[0] != "4" for name in verdicts}


def test_two_layers_at_fault_are_both_named():
    rng = generator()
    model = Sequential(Dense(3, 4, rng=rng), DoubledSigmoid(), DoubledSigmoid())
    faults = message(model, normal(5, 3)).faults
    assert ["input of 2" in faults[0], "input of 1" in faults[1]] == [True, True]


class OneWeight(Conv2D):
    def backward(self, dy, cache):
        before = self.weight.grad.copy()
        dx = super().backward(dy, cache)
        self.weight.grad[0, 0, 1, 0] += 0.001 * (self.weight.grad - before)[0, 0, 1, 0]
        return dx


def test_one_weight_off_by_a_thousandth_inside_a_branch():
    report = message(network(convolution=OneWeight), normal(3, 4, 4, 1))
    assert len(report.faults) == 1
    assert "2.main.weight is wrong in 1 of 4 elements; at (0, 0, 1, 0)" in report.faults[0]
    assert sum(int(check.wrong.sum()) for check in report.arrays) == 1


@pytest.mark.parametrize("name", ["backward", "forward"])
def test_a_container_s_own_pass_is_not_taken_on_trust(name, monkeypatch):
    def shortcut_forgotten(self, dy, cache):
        return self.main.backward(dy, cache[0])

    def halved(self, x, mode=EVAL):
        y, cache = self.main.forward(x, mode)
        return y + x / 2, (cache, None)

    monkeypatch.setattr(Residual, name, {"backward": shortcut_forgotten, "forward": halved}[name])
    model = Sequential(Dense(3, 3, rng=generator()), Residual(Dense(3, 3, rng=generator())))
    faults = message(model, normal(4, 3)).faults
    said = {"backward": "though each layer by itself is right", "forward": "end to end"}[name]
    assert said in faults[0]


def test_a_layer_that_modifies_what_it_was_given_inside_a_network():
    class InPlace(ReLU):
        def forward(self, x, mode=EVAL):
            y, cache = super().forward(x, mode)
            x[...] = y
            return y, cache

    model = Sequential(Dense(3, 4, rng=generator()), InPlace(), Dense(4, 2, rng=generator()))
    said = str(message(model, normal(4, 3)))
    assert "1: forward modifies the input of 1 (ReLU()): work on a copy" in said


def test_a_wrong_shape_between_layers_is_named():
    class Summed(Sigmoid):
        def backward(self, dy, cache):
            return super().backward(dy, cache)[:1]

    model = Sequential(Sigmoid(), Summed())
    with pytest.raises(
        GradientError, match=r"1 \(Summed\(\)\) is \(1, 3\), want \(4, 3\)"
    ) as caught:
        check_gradients(model, normal(4, 3))
    assert len(caught.value.report.faults) == 2  # and that x's is wrong too


# Kinks that do not show from further away.


def test_ties_among_zeros_in_max_pooling_are_decided_behind_a_relu():
    """Two zeros tie in a window, but the ReLU lets neither of them move."""
    x = np.array([[-1.0, -2.0, -3.0, -4.0], [1.0, -1.0, -2.0, 3.0]]).reshape(2, 2, 2, 1)
    report = check_gradients(Sequential(ReLU(), MaxPool2D(2)), x)
    assert report.undecidable == 0
    with pytest.raises(GradientError, match="4 of 8 elements of x cannot be decided"):
        check_gradients(MaxPool2D(2), np.maximum(x, 0))


def test_a_wrong_relu_is_caught_where_it_is_checked_with_the_pooling_after_it():
    class Leaky(ReLU):
        def backward(self, dy, cache):
            return dy * np.where(cache, 1, 0.01).astype(dy.dtype)

    rng = generator()
    model = Sequential(Conv2D(1, 2, 3, rng=rng), Leaky(), MaxPool2D(2), Flatten())
    report = message(model, normal(3, 6, 6, 1))
    assert "the input of 1 (" in report.faults[0]
    assert "want 0" in report.faults[0]


# What cannot be taken apart.


class OwnPass(Layer):
    """y = w tanh(w x), one parameter used twice."""

    def __init__(self):
        self.weight = Parameter(np.full(3, 0.7))

    def forward(self, x, mode=EVAL):
        w = self.weight.value
        t = np.tanh(w * x)
        return w * t, (x, t)

    def backward(self, dy, cache):
        (x, t), w = cache, self.weight.value
        self.weight.grad += (dy * (t + w * x * (1 - t * t))).sum(axis=0)
        return dy * w * w * (1 - t * t)

    def output_shape(self, input_shape):
        return input_shape


def test_a_shared_layer_is_checked_in_one_piece():
    shared, x = OwnPass(), normal(4, 3)
    for model, apart in (
        (Sequential(shared, Sigmoid(), shared), False),
        (Sequential(OwnPass(), Sigmoid(), OwnPass()), True),
    ):
        assert bool(taken_apart(model, x, EVAL)) == apart
        assert bool(check_gradients(model, x).between) == apart


def test_a_shared_layer_without_parameters_may_be_used_twice():
    shared = Sigmoid()
    model = Sequential(Dense(3, 3, rng=generator()), shared, Dense(3, 3, rng=generator()), shared)
    assert check_gradients(model, normal(4, 3)).between


def test_an_application_runs_again_with_the_same_mask_and_statistics():
    model, x = network(), normal(3, 4, 4, 1)
    model.to(dtype="float64")
    mode = Mode(train=True, rng=np.random.default_rng(5))
    y, whole = record(model, x, mode)
    again = x
    for part in whole.parts:
        again, _ = part.run(again)
    assert np.array_equal(again, y)
    assert np.array_equal(again, model.forward(x, Mode(True, np.random.default_rng(5)))[0])


def test_frozen_parts_have_their_gradients_checked_like_any_other():
    model, x = network(), normal(3, 4, 4, 1)
    model.freeze()
    report = check_gradients(model, x, TRAIN)
    assert {c.name for c in report.arrays} == {"x", *model.parameters()}
    assert all(abs(c.wanted).max() > 0 for c in report.arrays)

    class StopsWhereFrozen(Dense):
        def backward(self, dy, cache):
            dx = dy @ cache.w.T
            if self.weight.trainable:
                return super().backward(dy, cache)
            return dx

    frozen = StopsWhereFrozen(3, 2, rng=generator())
    frozen.freeze()
    assert "weight is wrong in 6 of 6" in str(message(frozen, normal(4, 3)))
