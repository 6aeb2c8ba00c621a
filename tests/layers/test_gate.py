import numpy as np
import pytest

from tests.layers.support import assert_close, normal, torch_pass
from tinynet.gradient_check import check_gradients
from tinynet.layer import Mode
from tinynet.layers import (
    BatchNorm,
    Conv2D,
    Dense,
    Gate,
    GlobalAvgPool2D,
    ReLU,
    Sequential,
    Sigmoid,
    gate_backward,
    gate_forward,
)


def excitation(channels=4, inner=2):
    """A squeeze-and-excitation block's path: one gate a channel."""
    rng = np.random.default_rng(0)
    return Sequential(
        squeeze=GlobalAvgPool2D(),
        reduce=Dense(channels, inner, rng=rng),
        inner=Sigmoid(),
        expand=Dense(inner, channels, rng=rng),
        gate=Sigmoid(),
    ).to(dtype="float64")


def test_squeeze_and_excitation_equals_torch(torch):
    layer = Gate(excitation())
    x, dy = normal(0, (2, 3, 2, 4), (2, 3, 2, 4))
    parameters = list(layer.parameters().values())
    y, cache = layer.forward(x)
    dx = layer.backward(dy, cache)

    def oracle(x, w1, b1, w2, b2):
        gates = torch.sigmoid(torch.sigmoid(x.mean(dim=(1, 2)) @ w1 + b1) @ w2 + b2)
        return x * gates[:, None, None, :]

    wanted = torch_pass(torch, oracle, dy, x, *(p.value for p in parameters))
    for got, want in zip((y, dx, *(p.grad for p in parameters)), wanted, strict=True):
        assert_close(got, want)


def test_gradients_of_a_gate_of_each_pixel():
    path = Sequential(Conv2D(2, 2, 1, rng=np.random.default_rng(0)), BatchNorm(2), Sigmoid())
    assert check_gradients(Gate(path), normal(0, (2, 2, 3, 2))[0], Mode(train=True)).ok


def test_a_gate_of_0_closes_a_channel_and_of_1_lets_it_through():
    (x,) = normal(0, (2, 3, 3, 2))
    y, cache = gate_forward(x, np.array([[0.0, 1.0], [1.0, 0.5]]))
    assert not y[0, ..., 0].any()
    assert np.array_equal(y[0, ..., 1], x[0, ..., 1])
    assert np.array_equal(y[1, ..., 1], x[1, ..., 1] / 2)
    dx, dg = gate_backward(np.ones_like(y), cache)
    assert not dx[0, ..., 0].any()
    assert_close(dg, x.sum(axis=(1, 2)))


def test_the_square_of_the_input_is_a_gate_with_an_empty_path():
    # y = x ⊙ x, so dx = 2x: one x by the product, one by the path
    (x,) = normal(0, (3, 4))
    square = Gate(Sequential())
    y, cache = square.forward(x)
    assert_close(y, x * x)
    assert_close(square.backward(np.ones_like(x), cache), 2 * x)


def test_names_shapes_and_cost_are_those_of_the_path():
    layer = Gate(excitation())
    names = [f"path.{layer}.{p}" for layer in ("reduce", "expand") for p in ("weight", "bias")]
    assert list(layer.parameters()) == names
    assert layer.multiply_adds((5, 6, 4)) == 4 * 2 + 2 * 4
    visited = [(name, shape) for name, _, shape in layer.walk((5, 6, 4), "block")]
    assert visited[0] == ("block.path.squeeze", (5, 6, 4))
    assert visited[-1] == ("block.path.gate", (4,))
    assert repr(Gate(ReLU())) == "Gate(ReLU())"


X = np.zeros((2, 3, 3, 4), np.float32)
WIDE = Gate(Sequential(GlobalAvgPool2D(), Dense(4, 5, rng=np.random.default_rng(0))))
NARROW = Gate(Dense(4, 3, rng=np.random.default_rng(0)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: WIDE.forward(X), r"Gate: the gates are \(2, 5\) .* want \(2, 4\), one gate"),
        (lambda: WIDE.output_shape((3, 3, 4)), r"Gate: .* \(N, 5\) .* want \(N, 4\), one gate"),
        (lambda: NARROW.forward(X[:, 0, 0]), r"Gate: the gates are \(2, 3\) .*, want \(2, 4\)"),
        (lambda: gate_forward(X, X[:1, 0, 0]), r"gate: the gates are \(1, 4\)"),
    ],
)
def test_errors_name_the_container_what_came_and_what_was_wanted(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_class_in_place_of_a_layer():
    with pytest.raises(TypeError, match="Gate: path is the class Sigmoid, want a layer"):
        Gate(Sigmoid)
