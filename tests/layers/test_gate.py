import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.layers import loops
from tests.layers.support import assert_close, drawn, drawn_few, drawn_some, normal, torch_pass
from tinynet.gradient_check import check_backward, check_gradients
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
from tinynet.testing.strategies import seeds

IMAGES = st.tuples(*[st.integers(1, 4)] * 4)
SHAPES = st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple)


@st.composite
def factors(draw):
    """Shapes of x and of its gates: the same, or one gate a channel."""
    if draw(st.booleans()):
        shape = draw(IMAGES)
        return shape, (shape[0], shape[3])
    shape = draw(SHAPES)
    return shape, shape


def excitation(channels, inner, seed=0):
    """A squeeze-and-excitation block's path: one gate a channel."""
    rng = np.random.default_rng(seed)
    return Sequential(
        squeeze=GlobalAvgPool2D(),
        reduce=Dense(channels, inner, rng=rng),
        inner=Sigmoid(),
        expand=Dense(inner, channels, rng=rng),
        gate=Sigmoid(),
    ).to(dtype="float64")


@drawn
@given(shapes=factors(), strided=st.booleans(), seed=seeds())
def test_product_equals_torch(torch, shapes, strided, seed):
    x, g, dy = normal(seed, *shapes, shapes[0], strided=strided)
    y, cache = gate_forward(x, g)

    def oracle(x, g):
        return x * (g if g.shape == x.shape else g[:, None, None, :])

    wanted = torch_pass(torch, oracle, dy, x, g)
    for got, want in zip((y, *gate_backward(dy, cache)), wanted, strict=True):
        assert_close(got, want)


@drawn
@given(shape=IMAGES, inner=st.integers(1, 3), seed=seeds())
def test_squeeze_and_excitation_equals_torch(torch, shape, inner, seed):
    layer = Gate(excitation(shape[3], inner, seed))
    x, dy = normal(seed, shape, shape)
    parameters = list(layer.parameters().values())
    y, cache = layer.forward(x)
    dx = layer.backward(dy, cache)

    def oracle(x, w1, b1, w2, b2):
        gates = torch.sigmoid(torch.sigmoid(x.mean(dim=(1, 2)) @ w1 + b1) @ w2 + b2)
        return x * gates[:, None, None, :]

    wanted = torch_pass(torch, oracle, dy, x, *(p.value for p in parameters))
    for got, want in zip((y, dx, *(p.grad for p in parameters)), wanted, strict=True):
        assert_close(got, want)


@drawn_some
@given(shapes=factors(), seed=seeds())
def test_product_equals_the_loops(shapes, seed):
    x, g, dy = normal(seed, *shapes, shapes[0])
    y, cache = gate_forward(x, g)
    for got, want in zip((y, *gate_backward(dy, cache)), loops.gate(x, g, dy), strict=True):
        assert_close(got, want)


@drawn_few
@given(shapes=factors(), image=st.tuples(*[st.integers(1, 2)] * 3, st.integers(1, 3)), seed=seeds())
def test_gradients(shapes, image, seed):
    x, g = normal(seed, *shapes)
    check_backward(gate_forward, gate_backward, (x, g))
    check_gradients(Gate(Sigmoid()), x)
    (x,) = normal(seed, image)
    rng = np.random.default_rng(seed)
    channels = image[3]
    check_gradients(Gate(excitation(channels, 2, seed)), x)
    pixelwise = Sequential(Conv2D(channels, channels, 1, rng=rng), BatchNorm(channels), Sigmoid())
    check_gradients(Gate(pixelwise), x, Mode(train=True))


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
    layer = Gate(excitation(4, 2))
    assert list(layer.parameters()) == [
        "path.reduce.weight",
        "path.reduce.bias",
        "path.expand.weight",
        "path.expand.bias",
    ]
    assert layer.output_shape((5, 6, 4)) == (5, 6, 4)
    assert layer.multiply_adds((5, 6, 4)) == 4 * 2 + 2 * 4
    visited = [(name, shape) for name, _, shape in layer.walk((5, 6, 4), "block")]
    assert visited[0] == ("block.path.squeeze", (5, 6, 4))
    assert visited[-1] == ("block.path.gate", (4,))
    assert repr(Gate(ReLU())) == "Gate(ReLU())"
    x = np.ones((2, 5, 6, 4), np.float32)
    layer.to(dtype="float32")
    y, cache = layer.forward(x)
    assert y.dtype == layer.backward(y, cache).dtype == np.float32


def test_errors_name_the_container_what_came_and_what_was_wanted():
    rng = np.random.default_rng(0)
    x = np.zeros((2, 3, 3, 4), np.float32)
    wide = Gate(Sequential(GlobalAvgPool2D(), Dense(4, 5, rng=rng)))
    with pytest.raises(
        ValueError, match=r"Gate: the gates are \(2, 5\) .* want \(2, 4\), one gate"
    ):
        wide.forward(x)
    with pytest.raises(
        ValueError, match=r"Gate: the gates are \(N, 5\) .* want \(N, 4\), one gate"
    ):
        wide.output_shape((3, 3, 4))
    with pytest.raises(ValueError, match=r"Gate: the gates are \(2, 3\) .*, want \(2, 4\)"):
        Gate(Dense(4, 3, rng=rng)).forward(x[:, 0, 0])
    with pytest.raises(ValueError, match=r"gate: the gates are \(1, 4\)"):
        gate_forward(x, x[:1, 0, 0])
    with pytest.raises(TypeError, match="Gate: position 0 is a class Sigmoid, want a Layer"):
        Gate(Sigmoid)
