"""What a difference quotient cannot see; kinks and margins; other array libraries; the shell."""

import numpy as np
import pytest

import tinynet.backend
from tests.engine.gpu.fake_cupy import fake_cupy
from tinynet.gradient_check import GradientError, check_backward, check_gradients
from tinynet.layer import EVAL, Layer, Mode, Parameter
from tinynet.layers import (
    BatchNorm,
    Dense,
    Dropout,
    MaxPool2D,
    ReLU,
    Sequential,
    relu_backward,
    relu_forward,
)
from tinynet.testing.planted import PLANTED

__all__ = ["fake_cupy"]

X = np.random.default_rng(0).standard_normal((4, 3))
TRAIN = Mode(train=True, rng=np.random.default_rng(1))


def faults(layer, x=X, mode=EVAL):
    with pytest.raises(GradientError) as caught:
        check_gradients(layer, x, mode)
    return " | ".join(caught.value.report.faults)


SAID = {
    "ReLU layer: rectifies in place": "forward modifies x: work on a copy",
    "dense layer: takes its step at once": "backward modifies weight: work on a copy",
    "dense layer: scales its upstream in place": "backward modifies dy: work on a copy",
    "dense layer: borrows its upstream": "backward writes to an array that it was given",
    "ReLU layer: reuses the memory of its output": "forward changes what an earlier call returned",
    "ReLU layer: reuses the memory of dx": "the gradient of x that an earlier call returned",
    "dense layer: overwrites its gradients": "to the gradient of weight (+=), and overwrites it",
    "dense layer: adds to one gradient only": "add to the gradient of bias (+=), and overwrites it",
    "dense layer: keeps its input": "another gradient of weight after a second forward pass: keep",
    "dense layer: keeps its first gradient": "with -2 dy the gradient of weight is not -2 times as",
    "ReLU layer: uses up its cache": "do not write to the cache",
    "dropout layer: keeps its mask": "keep what it needs in the cache only",
    "dropout applied twice: keeps its mask": "keep what it needs in the cache only",
    "dropout layer: draws outside the mode": "forward gives another result the second time",
    "dense layer: declares its inputs shape": "output_shape declares (3, 4), forward gives (3, 3)",
    "dense layer: drops precision": "the gradient of x is float32, want float64, the dtype of x",
    "dense layer: promotes its gradient": "the gradient of x is float64 for a float32 layer and",
    "ReLU layer: relies on contiguous memory": "another gradient of x for non-contiguous arrays",
    "dense layer: forgets its bias": "gradient of bias is wrong in 3 of 3 elements; at (1,) got 0",
    "batch norm outside training: moves its statistics": "forward changes running_mean outside",
    "batch norm layer: moves its statistics twice": "backward changes running_mean: only a forward",
    "dense: gradient clipped": "something clipped",
    "ReLU layer: reads dy in the order of memory": "gradient of x for transposed arrays",
    "ReLU layer: takes strides for positive": "gradient of x for reversed arrays",
    "ReLU layer: takes a broadcast dy for a mean": "gradient of x for broadcast dy",
    "ReLU layer: adds an epsilon to dy": "with 1e-06 dy the gradient of x is not 1e-06 times",
    "ReLU layer: divides by dy": "with dy = 0 the gradient of x is not 0 but nan",
    "ReLU layer: clips far out": "with 1e+06 dy the gradient of x is not 1e+06 times as large",
    "dense layer: keeps its input by identity": "where an array holds new values",
    "dense layer: keeps the number of examples": "after a second forward pass",
}


@pytest.mark.parametrize("bug", SAID)
def test_faults_of_bookkeeping_are_named(bug):
    (planted,) = (planted for planted in PLANTED if planted.name == bug)
    with pytest.raises(GradientError) as caught:
        planted.case().check()
    assert SAID[bug] in " | ".join(caught.value.report.faults)


class Scale(Layer):
    """y = w x, right; its subclasses each get one thing wrong in the forward pass."""

    def __init__(self):
        self.weight = Parameter(np.full(3, 2.0, np.float32))

    def forward(self, x, mode=EVAL):
        return x * self.weight.value, x

    def backward(self, dy, cache):
        self.weight.grad += (dy * cache).sum(axis=0)
        return dy * self.weight.value

    def output_shape(self, input_shape):
        return input_shape


class WritesAndPutsBack(Scale):
    def forward(self, x, mode=EVAL):
        x *= 2
        x /= 2
        return super().forward(x, mode)


class Promotes(Scale):
    def forward(self, x, mode=EVAL):
        y, cache = super().forward(x, mode)
        return y * np.float64(1), cache


class DropsPrecision(Scale):
    def forward(self, x, mode=EVAL):
        y, cache = super().forward(x, mode)
        return y.astype(np.float32), cache


class ReliesOnLayout(Scale):
    def forward(self, x, mode=EVAL):
        rows = np.lib.stride_tricks.as_strided(x, x.shape, (x.shape[1] * x.itemsize, x.itemsize))
        return super().forward(rows, mode)


class Explodes(Scale):
    def forward(self, x, mode=EVAL):
        return x / 0.0, x


FORWARD = {
    WritesAndPutsBack: "forward writes to an array that it was given",
    Promotes: "forward gives float64 for a float32 layer and input",
    DropsPrecision: "forward gives float32 for float64 arguments",
    ReliesOnLayout: "another result for non-contiguous inputs",
    Explodes: "forward gives NaN or infinity",
}


@pytest.mark.parametrize("layer", FORWARD, ids=lambda layer: layer.__name__)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_faults_of_forward_passes_are_named(layer):
    assert FORWARD[layer] in faults(layer())
    assert check_gradients(Scale(), X).ok


# What a student writes first: y = x w + b, w not square.

W = np.random.default_rng(1).standard_normal((3, 5))
B = np.zeros(5)


def affine(x, w, b):
    return x @ w + b, (x, w)


def check_affine(backward):
    with pytest.raises(GradientError) as caught:
        check_backward(affine, backward, (X, W, B))
    return str(caught.value)


def rest(dz, x, w):
    return x.T @ dz, dz.sum(axis=0)


RAISES = {
    "dz @ w": lambda dz, x, w: (dz @ w, *rest(dz, x, w)),
    "w @ dz": lambda dz, x, w: (w @ dz, *rest(dz, x, w)),
    "dz * w": lambda dz, x, w: (dz * w, *rest(dz, x, w)),
    "dz.T @ w": lambda dz, x, w: (dz.T @ w, *rest(dz, x, w)),
    "x @ dz": lambda dz, x, w: (dz @ w.T, x @ dz, dz.sum(axis=0)),
    "dz.dot(x)": lambda dz, x, w: (dz @ w.T, dz.dot(x), dz.sum(axis=0)),
    "x * dz": lambda dz, x, w: (dz @ w.T, x * dz, dz.sum(axis=0)),
    "sum over axis 2": lambda dz, x, w: (dz @ w.T, x.T @ dz, dz.sum(axis=2)),
    "a name": lambda dz, x, w: (dz @ w.T, x.T @ dz, db),  # noqa: F821
    "a key": lambda dz, x, w: ({}["x"], *rest(dz, x, w)),
    "an index": lambda dz, x, w: (dz[:, 5] * w, *rest(dz, x, w)),
    "a reshape": lambda dz, x, w: (dz.reshape(x.shape), *rest(dz, x, w)),
}
MISFITS = {
    "dw transposed": lambda dz, x, w: (dz @ w.T, dz.T @ x, dz.sum(axis=0)),
    "db of all": lambda dz, x, w: (dz @ w.T, x.T @ dz, dz.sum()),
    "db per example": lambda dz, x, w: (dz @ w.T, x.T @ dz, dz.sum(axis=1)),
    "db not summed": lambda dz, x, w: (dz @ w.T, x.T @ dz, dz),
    "db kept two-dimensional": lambda dz, x, w: (dz @ w.T, x.T @ dz, dz.sum(axis=0)[None]),
    "dx and dw exchanged": lambda dz, x, w: (x.T @ dz, dz @ w.T, dz.sum(axis=0)),
    "dx per example": lambda dz, x, w: ((dz @ w.T)[0], *rest(dz, x, w)),
    "dx is dz": lambda dz, x, w: (dz, *rest(dz, x, w)),
}


@pytest.mark.parametrize("mistake", RAISES)
def test_a_backward_pass_that_raises_is_told_the_shapes_and_what_would_fit(mistake):
    def backward(dz, cache):
        return RAISES[mistake](dz, *cache)

    said = check_affine(backward)
    assert "backward raises" in said
    assert "shapes: dz (4, 5), x (4, 3), w (3, 5), b (5,)" in said
    for fits in ("x, (4, 3): dz @ w.T", "w, (3, 5): x.T @ dz", "b, (5,): dz.sum(axis=0)"):
        assert fits in said
    assert "line " in said


@pytest.mark.parametrize("mistake", MISFITS)
def test_a_gradient_of_another_shape_is_told_what_would_fit_and_the_others_are_checked(mistake):
    said = check_affine(lambda dz, cache: MISFITS[mistake](dz, *cache))
    assert "has that shape" in said
    assert "right" in said.splitlines()[-1] or "right" in said.splitlines()[-2]


def test_more_gradients_than_arrays_is_told_with_their_shapes():
    with pytest.raises(
        ValueError, match=r"returned 2 gradients for 1 .*have the shapes \(4, 3\), \(\)"
    ):
        check_backward(lambda x: (2 * x, None), lambda dy, c: (2 * dy, np.zeros(())), (X,))


def test_a_fault_of_the_contract_hides_no_wrong_value():
    def forward(x):
        x *= 2
        return x.copy(), None

    def backward(dy, cache):
        dy *= 3
        return dy

    with pytest.raises(GradientError) as caught:
        check_backward(forward, backward, (X.copy(),))
    said = " | ".join(caught.value.report.faults)
    assert "forward modifies x" in said
    assert "backward modifies dy" in said
    assert "all elements are 1.5 times what they should be" in said


def test_masks_and_whole_numbers_must_stay_as_they_are_too():
    mask = np.ones(X.shape, bool)

    def forward(x, mask):
        kept = mask.copy()
        mask[0] = False
        return x * kept, kept

    with pytest.raises(GradientError, match="forward modifies mask: work on a copy"):
        check_backward(forward, lambda dy, kept: dy * kept, (X, mask))


class Wrapper:
    """Hands everything on to the layer inside, and forgets to scale in the backward pass."""

    def __init__(self, inner):
        self.inner = inner

    def __getattr__(self, name):
        if name.startswith("__") or name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)

    def forward(self, x, mode=EVAL):
        return self.inner.forward(2 * x, mode)

    def backward(self, dy, cache):
        return self.inner.backward(dy, cache)


def test_a_wrapper_is_checked_itself_and_not_the_layer_inside():
    with pytest.raises(GradientError, match=r"the gradient of x is wrong[\s\S]*0.5 times what"):
        check_gradients(Wrapper(Dense(3, 2, rng=np.random.default_rng(0))), X)


# Kinks and margins.


def test_a_margin_moves_the_input_off_its_kinks_and_says_so():
    x = np.array([[-1.0, 0.0, 0.0, 2.0]])
    report = check_gradients(ReLU(), x, margin=0.01)
    assert report.undecidable == 0
    assert "2 elements were undecidable, so every element of x was moved by 0.005 to 0.01" in str(
        report
    )
    assert x.tolist() == [[-1.0, 0.0, 0.0, 2.0]]
    with pytest.raises(GradientError, match="let margin=0.01 move it"):
        check_gradients(ReLU(), x)


def test_a_margin_breaks_ties_and_a_wrong_gradient_is_still_caught():
    x = np.zeros((2, 4, 4, 3))
    assert check_gradients(MaxPool2D(2), x, margin=0.01).undecidable == 0
    report = check_backward(relu_forward, relu_backward, (np.zeros((3, 4)),), margin=0.01)
    assert report.undecidable == 0
    with pytest.raises(GradientError, match=r"all elements are 0.999 times[\s\S]*were undecidable"):
        check_backward(relu_forward, lambda dy, c: 0.999 * dy * c, (np.zeros((3, 4)),), margin=0.01)


def test_an_input_without_kinks_is_not_moved():
    plain, with_margin = (check_gradients(ReLU(), X, margin=m) for m in (None, 0.01))
    assert with_margin.notes == []
    assert np.array_equal(plain.arrays[0].wanted, with_margin.arrays[0].wanted)


# CuPy: a stand-in whose arrays refuse to meet NumPy's own.


def test_cupy_arrays_are_checked_with_the_numbers_on_the_host(fake_cupy):
    rng = np.random.default_rng(0)
    model = Sequential(
        Dense(3, 4, rng=rng), BatchNorm(4), ReLU(), Dropout(0.5), Dense(4, 2, rng=rng)
    )
    model.to("cupy")
    x = fake_cupy.asarray(X)
    assert tinynet.backend.library_of(x) == "cupy"
    report = check_gradients(model, x, TRAIN)
    assert report.ok
    for check in report.arrays:
        for a in (check.got, check.wanted, check.tolerance, check.undecidable):
            assert type(a) is np.ndarray
    host = check_gradients(model.to("numpy"), X, TRAIN)
    assert abs(host.arrays[1].wanted - report.arrays[1].wanted).max() < 1e-12


def test_a_wrong_pair_of_cupy_functions_is_explained(fake_cupy):
    x = fake_cupy.asarray(X)
    with pytest.raises(GradientError, match="is a mask missing"):
        check_backward(lambda x: (fake_cupy.maximum(x, 0), x), lambda dy, c: dy * 1, (x,))
