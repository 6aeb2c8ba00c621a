import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.layers.support import (
    assert_close,
    channels_first,
    channels_last,
    drawn,
    drawn_few,
    normal,
    torch_pass,
)
from tinynet.gradient_check import GradientError, check_gradients
from tinynet.layer import Layer, Mode, Parameter
from tinynet.layers import (
    BatchNorm,
    Concat,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool2D,
    MaxPool2D,
    ReLU,
    Residual,
    Sequential,
    Sigmoid,
    Softmax,
)
from tinynet.testing.strategies import seeds

TRAIN = Mode(train=True, rng=np.random.default_rng(5))
SIZES = st.lists(st.integers(1, 5), min_size=2, max_size=5)
IMAGES = st.tuples(*[st.integers(1, 3)] * 2, st.integers(1, 4), st.integers(1, 3))


def generator():
    return np.random.default_rng(0)


def conv(channels, filters, kernel=3, seed=0):
    layer = Conv2D(channels, filters, kernel, padding="same", rng=np.random.default_rng(seed))
    return layer.to(dtype="float64")


def dense(n_in, n_out, seed=0):
    return Dense(n_in, n_out, rng=np.random.default_rng(seed)).to(dtype="float64")


def torch_conv(torch, x, w, b):
    """A same convolution of odd kernel, on (N, H, W, C) and our order of filters."""
    filters = w.permute(3, 2, 0, 1).clone(memory_format=torch.contiguous_format)
    z = torch.nn.functional.conv2d(channels_first(x), filters, b, padding=w.shape[0] // 2)
    return channels_last(z)


def assert_equals_torch(torch, layer, oracle, dy, x):
    """Output, input gradient and every parameter's gradient; oracle(x, *values)."""
    parameters = list(layer.parameters().values())
    y, cache = layer.forward(x)
    layer.zero_grad()
    dx = layer.backward(dy, cache)
    wanted = torch_pass(torch, oracle, dy, x, *(p.value for p in parameters))
    for got, want in zip((y, dx, *(p.grad for p in parameters)), wanted, strict=True):
        assert_close(got, want)


@drawn
@given(n=st.integers(1, 4), sizes=SIZES, seed=seeds())
def test_sequential_equals_torch(torch, n, sizes, seed):
    layers = []
    for n_in, n_out in zip(sizes, sizes[1:], strict=False):
        layers += [dense(n_in, n_out, seed), Sigmoid()]
    x, dy = normal(seed, (n, sizes[0]), (n, sizes[-1]))

    def oracle(x, *values):
        for w, b in zip(values[::2], values[1::2], strict=True):
            x = torch.sigmoid(x @ w + b)
        return x

    assert_equals_torch(torch, Sequential(*layers), oracle, dy, x)


@drawn
@given(shape=IMAGES, filters=st.integers(1, 3), projected=st.booleans(), seed=seeds())
def test_residual_equals_torch(torch, shape, filters, projected, seed):
    channels = shape[-1]
    filters = filters if projected else channels
    main = Sequential(conv(channels, 2, seed=seed), Sigmoid(), conv(2, filters, seed=seed + 1))
    layer = Residual(main, conv(channels, filters, kernel=1, seed=seed + 2) if projected else None)
    x, dy = normal(seed, shape, (*shape[:-1], filters))

    def oracle(x, w1, b1, w2, b2, *skip):
        y = torch_conv(torch, torch.sigmoid(torch_conv(torch, x, w1, b1)), w2, b2)
        return y + (torch_conv(torch, x, *skip) if skip else x)

    assert_equals_torch(torch, layer, oracle, dy, x)


@drawn
@given(shape=IMAGES, widths=st.lists(st.integers(1, 3), min_size=1, max_size=4), seed=seeds())
def test_concat_equals_torch(torch, shape, widths, seed):
    branches = [conv(shape[-1], width, seed=seed + i) for i, width in enumerate(widths)]
    x, dy = normal(seed, shape, (*shape[:-1], sum(widths)))

    def oracle(x, *values):
        pairs = zip(values[::2], values[1::2], strict=True)
        return torch.cat([torch_conv(torch, x, w, b) for w, b in pairs], dim=-1)

    assert_equals_torch(torch, Concat(*branches), oracle, dy, x)


def block(rng, channels=2):
    """A network with every kind of container and layer in it."""
    return Sequential(
        Concat(
            Conv2D(channels, 3, 3, padding="same", rng=rng),
            Sequential(Conv2D(channels, 2, 1, rng=rng), BatchNorm(2), ReLU()),
        ),
        Residual(Sequential(Conv2D(5, 5, 3, padding="same", bias=False, rng=rng), BatchNorm(5))),
        Residual(Conv2D(5, 4, 1, rng=rng), skip=Conv2D(5, 4, 1, rng=rng)),
        ReLU(),
        MaxPool2D(2),
        Flatten(),
        Dropout(0.8),
        Dense(16, 3, rng=rng),
        Softmax(),
    )


@pytest.mark.parametrize("mode", [TRAIN, Mode()])
def test_gradients_of_a_network_with_everything_in_it(mode):
    (x,) = normal(0, (3, 4, 4, 2))
    report = check_gradients(block(generator()), x, mode)
    assert len(report.arrays) == 1 + 15
    assert report.undecidable == 0


@drawn_few
@given(
    shape=st.tuples(*[st.integers(1, 2)] * 2, st.integers(1, 3), st.integers(1, 2)), seed=seeds()
)
def test_gradients(shape, seed):
    channels = shape[-1]
    (x,) = normal(seed, shape)
    main = conv(channels, channels, seed=seed)
    check_gradients(Residual(main), x)
    check_gradients(Residual(main, skip=conv(channels, channels, 1, seed + 1)), x)
    check_gradients(Concat(main, Sigmoid(), conv(channels, 2, 1, seed + 1)), x)
    check_gradients(Sequential(main, Sigmoid(), BatchNorm(channels)), x, TRAIN)
    check_gradients(Sequential(), x)


@pytest.mark.parametrize("mode", [TRAIN, Mode()])
def test_one_layer_applied_twice_adds_both_gradients(mode):
    shared = conv(2, 2)
    model = Sequential(shared, Sigmoid(), shared)
    x, dy = normal(0, (2, 3, 3, 2), (2, 3, 3, 2))
    y, cache = model.forward(x, mode)
    dx = model.backward(dy, cache)
    twice = shared.weight.grad.copy()

    # two layers with the same weights: the gradient of the shared weight is their sum
    first, last = conv(2, 2), conv(2, 2)
    apart = Sequential(first, Sigmoid(), last)
    y_apart, cache = apart.forward(x, mode)
    assert_close(y, y_apart)
    assert_close(dx, apart.backward(dy, cache))
    assert_close(twice, first.weight.grad + last.weight.grad)


def test_gradients_of_one_layer_applied_twice():
    shared = conv(2, 2)
    (x,) = normal(0, (2, 3, 3, 2))
    report = check_gradients(Sequential(shared, Sigmoid(), shared), x)
    assert report.ok
    report = check_gradients(Residual(shared, skip=shared), x)
    assert report.ok


def test_a_batch_norm_applied_twice_is_checked_with_each_batch_s_statistics():
    shared = BatchNorm(3)
    (x,) = normal(0, (4, 3))
    assert check_gradients(Sequential(shared, Sigmoid(), shared), x, TRAIN).ok


def test_a_wrong_layer_is_found_inside_a_network():
    class Doubled(Sigmoid):
        def backward(self, dy, cache):
            return 2 * super().backward(dy, cache)

    (x,) = normal(0, (2, 3))
    with pytest.raises(GradientError, match="0.weight"):
        check_gradients(Sequential(Dense(3, 2, rng=generator()), Doubled()), x)


def test_empty_sequential_is_the_identity():
    (x,) = normal(0, (2, 3))
    y, cache = Sequential().forward(x)
    assert np.array_equal(y, x)
    assert np.array_equal(Sequential().backward(y, cache), x)
    assert Sequential().output_shape((3,)) == (3,)


def test_names_are_dotted_paths():
    model = Sequential(
        Residual(
            Sequential(Dense(3, 3, rng=generator()), BatchNorm(3)), Dense(3, 3, rng=generator())
        ),
        Concat(Dense(3, 1, bias=False, rng=generator()), ReLU()),
    )
    assert list(model.parameters()) == [
        "0.main.0.weight",
        "0.main.0.bias",
        "0.main.1.gamma",
        "0.main.1.beta",
        "0.skip.weight",
        "0.skip.bias",
        "1.0.weight",
    ]
    assert list(model.buffers()) == ["0.main.1.running_mean", "0.main.1.running_var"]


def test_keywords_name_the_layers_and_change_nothing_else():
    x = np.random.default_rng(1).normal(size=(2, 4))

    def layers():
        rng = np.random.default_rng(0)
        return Dense(4, 3, rng=rng), Dense(3, 5, rng=rng)

    plain = Sequential(*layers()).to(dtype="float64")
    first, second = layers()
    named = Sequential(first, wide=second).to(dtype="float64")
    assert list(named.parameters()) == ["0.weight", "0.bias", "wide.weight", "wide.bias"]
    assert [name for name, _, _ in named.walk((4,))] == ["0", "wide"]
    np.testing.assert_array_equal(named.forward(x)[0], plain.forward(x)[0])
    assert repr(named) == repr(plain).replace(", Dense(3", ", wide=Dense(3")

    side_by_side = Concat(left=first, right=Dense(4, 2, rng=np.random.default_rng(2)))
    assert list(side_by_side.parameters())[::2] == ["left.weight", "right.weight"]
    for container in (Sequential, Concat):
        with pytest.raises(ValueError, match="a layer is named '0', want letters"):
            container(first, **{"0": second})


def test_declared_output_shape_and_cost_are_the_computed_ones():
    model = block(generator())
    x = np.zeros((3, 4, 4, 2), np.float32)
    y, cache = model.forward(x)
    assert y.shape == (3, *model.output_shape((4, 4, 2))) == (3, 3)
    assert model.backward(y, cache).shape == x.shape
    pixels = 16
    costs = [9 * 2 * 3, 2 * 2, 9 * 5 * 5, 5 * 4, 5 * 4]
    assert model.multiply_adds((4, 4, 2)) == pixels * sum(costs) + 16 * 3


def test_walk_visits_the_innermost_layers_with_their_input_shapes():
    model = Sequential(
        Conv2D(1, 2, 3, rng=generator()),
        Residual(Conv2D(2, 2, 1, rng=generator())),
        Concat(ReLU(), Sequential(Sigmoid())),
        GlobalAvgPool2D(),
    )
    visited = [(name, type(part).__name__, shape) for name, part, shape in model.walk((5, 5, 1))]
    assert visited == [
        ("0", "Conv2D", (5, 5, 1)),
        ("1.main", "Conv2D", (3, 3, 2)),
        ("2.0", "ReLU", (3, 3, 2)),
        ("2.1.0", "Sigmoid", (3, 3, 2)),
        ("3", "GlobalAvgPool2D", (3, 3, 4)),
    ]


def test_an_inner_layer_that_modifies_what_the_other_path_reads_is_found():
    class Careless(Layer):
        """Writes to its input, which the shortcut reads too."""

        def __init__(self):
            self.weight = Parameter(np.ones(1))

        def forward(self, x, mode=None):
            x *= 2
            return x, None

        def backward(self, dy, cache):
            return 2 * dy

        def output_shape(self, input_shape):
            return input_shape

    with pytest.raises(GradientError, match="forward modifies x"):
        check_gradients(Residual(Careless()), np.ones((2, 3)))


def test_errors_name_the_container_what_came_and_what_was_wanted():
    rng = generator()
    x = np.zeros((2, 4), np.float32)
    with pytest.raises(ValueError, match=r"Residual: .* ends in \(3,\), the shortcut in \(4,\)"):
        Residual(Dense(4, 3, rng=rng)).forward(x)
    with pytest.raises(ValueError, match=r"Residual: .* ends in \(3,\), the shortcut in \(4,\)"):
        Residual(Dense(4, 3, rng=rng)).output_shape((4,))
    branches = Concat(Conv2D(1, 1, 3, rng=rng), Conv2D(1, 1, 2, rng=rng))
    for call in (
        lambda: branches.output_shape((5, 5, 1)),
        lambda: branches.forward(np.zeros((1, 5, 5, 1), np.float32)),
    ):
        with pytest.raises(ValueError, match=r"Concat: .* \(3, 3, 1\), \(4, 4, 1\)"):
            call()
    with pytest.raises(ValueError, match="Concat: got no branches"):
        Concat()
    with pytest.raises(TypeError, match="Sequential: position 1 is a class ReLU"):
        Sequential(Dense(1, 1, rng=rng), ReLU)
    with pytest.raises(TypeError, match="Residual: position 0 is a list"):
        Residual([ReLU()])
    with pytest.raises(ValueError, match=r"Dense\(4, 3\): input is \(2, 5\)"):
        Sequential(ReLU(), Dense(4, 3, rng=rng)).forward(np.zeros((2, 5), np.float32))
