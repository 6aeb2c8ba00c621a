"""What a difference quotient cannot see; kinks and margins; other array libraries; the shell."""

import subprocess
import sys
import types

import numpy as np
import pytest

import tinynet.backend
from tinynet.gradient_check import GradientError, check_backward, check_gradients
from tinynet.gradient_check.__main__ import main
from tinynet.layer import EVAL, Layer, Mode, Parameter
from tinynet.layers import (
    BatchNorm,
    Dense,
    Dropout,
    MaxPool2D,
    ReLU,
    Sequential,
    Sigmoid,
    relu_backward,
    relu_forward,
)

X = np.random.default_rng(0).standard_normal((4, 3))
TRAIN = Mode(train=True, rng=np.random.default_rng(1))


def faults(layer, x=X, mode=EVAL):
    with pytest.raises(GradientError) as caught:
        check_gradients(layer, x, mode)
    return " | ".join(caught.value.report.faults)


class Scale(Layer):
    """y = w x, right; its subclasses each get one thing wrong."""

    def __init__(self):
        self.weight = Parameter(np.full(3, 2.0))

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


class WritesToUpstream(Scale):
    def backward(self, dy, cache):
        dy *= 2
        dy /= 2
        return super().backward(dy, cache)


class ReturnsOneBuffer(Scale):
    buffer = None

    def forward(self, x, mode=EVAL):
        if self.buffer is None or self.buffer.dtype != x.dtype:
            self.buffer = np.empty_like(x)
        np.multiply(x, self.weight.value, out=self.buffer)
        return self.buffer, x


class ReturnsOneGradient(Scale):
    buffer = None

    def backward(self, dy, cache):
        dx = super().backward(dy, cache)
        if self.buffer is None or self.buffer.dtype != dx.dtype:
            self.buffer = np.empty_like(dx)
        self.buffer[...] = dx
        return self.buffer


class KeepsItsFirstGradient(Scale):
    first = None

    def backward(self, dy, cache):
        self.first = (dy * cache).sum(axis=0) if self.first is None else self.first
        self.weight.grad += self.first
        return dy * self.weight.value


class KeepsItsMask(Layer):
    def forward(self, x, mode=EVAL):
        self.mask = mode.rng.random(x.shape) < 0.5
        return x * self.mask, None

    def backward(self, dy, cache):
        return dy * self.mask

    def output_shape(self, input_shape):
        return input_shape


class Promotes(Scale):
    def backward(self, dy, cache):
        return super().backward(dy, cache) * np.float64(1)


class PromotesForward(Scale):
    def forward(self, x, mode=EVAL):
        y, cache = super().forward(x, mode)
        return y * np.float64(1), cache


class MovesStatistics(BatchNorm):
    def forward(self, x, mode=EVAL):
        self.running_mean = self.running_mean + 0.1 * x.mean(axis=0)
        return super().forward(x, mode)


class MovesThemTwice(BatchNorm):
    def backward(self, dy, cache):
        self.running_var = self.running_var * 0.9
        return super().backward(dy, cache)


class OverwritesTheSecondTime(Scale):
    """Adds to a gradient that is zero, overwrites another: a batch in two halves loses one."""

    def backward(self, dy, cache):
        self.weight.grad[...] = (dy * cache).sum(axis=0)
        return dy * self.weight.value


FAULTS = {
    WritesAndPutsBack: "forward writes to an array that it was given",
    WritesToUpstream: "backward writes to an array that it was given",
    ReturnsOneBuffer: "forward changes what an earlier call returned",
    ReturnsOneGradient: "backward changes the gradient of x that an earlier call returned",
    KeepsItsFirstGradient: "with -2 dy the gradient of weight is not -2 times as large",
    Promotes: "the gradient of x is float64 for a float32 layer and input",
    PromotesForward: "forward gives float64 for a float32 layer and input",
    OverwritesTheSecondTime: "must add to the gradient of weight (+=), and overwrites it",
}


@pytest.mark.parametrize("layer", FAULTS, ids=lambda layer: layer.__name__)
def test_faults_of_layers_are_named(layer):
    assert FAULTS[layer] in faults(layer())


def test_the_layer_they_spoil_is_right():
    assert check_gradients(Scale(), X).ok


def test_masks_must_be_in_the_cache():
    assert "keep what it needs in the cache only" in faults(KeepsItsMask(), mode=TRAIN)
    assert "keep what it needs in the cache only" in faults(Sequential(KeepsItsMask()), mode=TRAIN)


def test_moving_statistics_move_in_training_only():
    assert "forward changes running_mean outside training" in faults(MovesStatistics(3))
    assert "backward changes running_var" in faults(MovesThemTwice(3), mode=TRAIN)
    for mode in (TRAIN, EVAL):
        assert check_gradients(BatchNorm(3), X, mode).ok


def test_a_layer_that_couples_the_examples_is_checked_in_both_modes():
    class EvalOnly(BatchNorm):
        """Right outside training; in training the statistics are taken for constants."""

        def backward(self, dy, cache):
            self.gamma.grad += (dy * cache.x_hat).sum(axis=0)
            self.beta.grad += dy.sum(axis=0)
            return dy * cache.gamma * cache.inv_std

    assert check_gradients(EvalOnly(3), X).ok
    assert "a straight line in x along axis 0" in faults(EvalOnly(3), mode=TRAIN)
    frozen = BatchNorm(3)
    frozen.freeze()
    assert check_gradients(frozen, X, TRAIN).ok


def test_a_clipped_gradient_is_not_linear():
    def backward(dy, y):
        return np.clip(dy * y * (1 - y), -0.01, 0.01)

    layer = Sigmoid()
    layer.backward = backward
    assert "something clipped" in faults(layer)


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


# CuPy: a stand-in whose arrays are NumPy's under CuPy's name, and refuse to meet NumPy's own.


@pytest.fixture
def fake_cupy(monkeypatch):
    module = types.ModuleType("cupy")

    class ndarray(np.ndarray):  # noqa: N801 - CuPy's name
        def get(self):
            return np.array(self.view(np.ndarray))

        def __array_ufunc__(self, ufunc, method, *inputs, out=None, **kwargs):
            for a in inputs:
                if type(a) is np.ndarray and a.ndim:
                    raise TypeError(f"{ufunc.__name__} of a cupy and a numpy array")
            plain = [a.view(np.ndarray) if isinstance(a, ndarray) else a for a in inputs]
            if out is not None:
                kwargs["out"] = tuple(a.view(np.ndarray) for a in out)
            return wrapped(getattr(ufunc, method)(*plain, **kwargs))

    ndarray.__module__ = "cupy"

    def wrapped(result):
        if isinstance(result, np.ndarray | np.generic):
            return np.asarray(result).view(ndarray)
        return result

    def borrowed(name):
        function = getattr(np, name)
        return lambda *args, **kwargs: wrapped(function(*args, **kwargs))

    for name in dir(np):
        part = getattr(np, name)
        if callable(part) and not isinstance(part, type) and not name.startswith("_"):
            setattr(module, name, borrowed(name))
    module.float64, module.float32, module.ndarray = np.float64, np.float32, ndarray
    monkeypatch.setitem(sys.modules, "cupy", module)
    with tinynet.backend.use_reference():  # kernels would need a GPU
        yield module


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


# The shell.


def test_the_command_line_explains_itself(capsys):
    assert main([]) == 0
    out = capsys.readouterr().out
    assert "--tour" in out
    assert "check_backward(forward, backward, args)" in out
    with pytest.raises(SystemExit):
        main(["--tuor"])
    assert "unknown arguments: --tuor" in capsys.readouterr().err


def test_the_tour_gets_the_arguments_that_are_its_own(monkeypatch):
    tour = types.ModuleType("tinynet.testing.tour")
    tour.main = lambda arguments: 7 if arguments == ["--no-input"] else 8
    monkeypatch.setitem(sys.modules, "tinynet.testing.tour", tour)
    assert main(["--tour", "--no-input"]) == 7


def test_the_module_runs_as_a_command():
    run = subprocess.run(
        [sys.executable, "-m", "tinynet.gradient_check", "--help"], capture_output=True, text=True
    )
    assert run.returncode == 0
    assert "--tour" in run.stdout
