import numpy as np
import pytest

from tests.layers.support import assert_close, normal, torch_pass
from tinynet.gradient_check import check_gradients
from tinynet.layer import Mode
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

TRAIN = Mode(train=True, rng=np.random.default_rng(5))
EVAL = Mode()


def dense(n_in, n_out):
    return Dense(n_in, n_out, rng=np.random.default_rng([n_in, n_out]), dtype="float64")


def two_layers():
    return Sequential(dense(4, 3), Sigmoid(), dense(3, 4))


# each container, and its output by torch from x, two(x) and one(x)
CONTAINERS = {
    "sequential": (two_layers, lambda t, x, two, one: two),
    "residual": (lambda: Residual(two_layers()), lambda t, x, two, one: two + x),
    "projected": (lambda: Residual(two_layers(), dense(4, 4)), lambda t, x, two, one: two + one),
    "concat": (
        lambda: Concat(two_layers(), dense(4, 2)),
        lambda t, x, two, one: t.cat([two, one], dim=-1),
    ),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_equals_torch(torch, name):
    make, combined = CONTAINERS[name]
    layer = make()

    def oracle(x, w1, b1, w2, b2, w=None, b=None):
        two = torch.sigmoid(x @ w1 + b1) @ w2 + b2
        return combined(torch, x, two, None if w is None else x @ w + b)

    (x,) = normal(0, (3, 4))
    y, cache = layer.forward(x)
    (dy,) = normal(1, y.shape)
    dx = layer.backward(dy, cache)
    parameters = list(layer.parameters().values())
    wanted = torch_pass(torch, oracle, dy, x, *(p.value for p in parameters))
    for got, want in zip((y, dx, *(p.grad for p in parameters)), wanted, strict=True):
        assert_close(got, want)


def conv(channels, filters, kernel=3, *, seed=0, padding="same", **settings):
    rng = np.random.default_rng(seed)
    return Conv2D(channels, filters, kernel, padding=padding, rng=rng, dtype="float64", **settings)


def block():
    """A network with every kind of container and layer in it."""
    return Sequential(
        Concat(conv(2, 3), Sequential(conv(2, 2, 1), BatchNorm(2), ReLU())),
        Residual(Sequential(conv(5, 5, bias=False), BatchNorm(5))),
        Residual(conv(5, 4, 1), skip=conv(5, 4, 1, seed=1)),
        *(ReLU(), MaxPool2D(2), Flatten(), Dropout(0.8), dense(16, 3), Softmax()),
    ).to(dtype="float64")


@pytest.mark.parametrize("mode", [TRAIN, EVAL], ids=["training", "outside training"])
def test_gradients_of_a_network_with_everything_in_it(mode):
    (x,) = normal(0, (3, 4, 4, 2))
    report = check_gradients(block(), x, mode, fraction=0.2)
    assert len(report.arrays) == 1 + 15
    assert report.undecidable == 0


@pytest.mark.parametrize(
    "twice",
    [
        lambda shared: Sequential(shared, Sigmoid(), shared),
        lambda shared: Residual(shared, skip=shared),
    ],
)
@pytest.mark.parametrize("shared", [dense(3, 3), BatchNorm(3)])
def test_gradients_of_one_layer_applied_twice(twice, shared):
    """A batch norm is checked with the statistics of each of its batches."""
    assert check_gradients(twice(shared), normal(0, (4, 3))[0], TRAIN).ok


def test_empty_sequential_is_the_identity():
    (x,) = normal(0, (2, 3))
    y, cache = Sequential().forward(x)
    assert np.array_equal(y, x)
    assert np.array_equal(Sequential().backward(y, cache), x)
    assert Sequential().output_shape((3,)) == (3,)


def test_keywords_name_the_layers_and_change_nothing_else():
    (x,) = normal(1, (2, 4))
    first, second = dense(4, 3), dense(3, 5)
    plain, named = Sequential(first, second), Sequential(first, wide=second)
    assert list(named.parameters()) == ["0.weight", "0.bias", "wide.weight", "wide.bias"]
    assert [name for name, _, _ in named.walk((4,))] == ["0", "wide"]
    np.testing.assert_array_equal(named.forward(x)[0], plain.forward(x)[0])
    assert repr(named) == repr(plain).replace(", Dense(3", ", wide=Dense(3")

    side_by_side = Concat(left=first, right=dense(4, 2))
    assert list(side_by_side.parameters())[::2] == ["left.weight", "right.weight"]
    for container in (Sequential, Concat):
        with pytest.raises(ValueError, match="a layer is named '0', want letters"):
            container(first, **{"0": second})


def test_declared_output_shape_and_cost_are_the_computed_ones():
    model, x = block(), np.zeros((3, 4, 4, 2))
    y, cache = model.forward(x)
    assert y.shape == (3, *model.output_shape((4, 4, 2))) == (3, 3)
    assert model.backward(y, cache).shape == x.shape
    costs = [9 * 2 * 3, 2 * 2, 9 * 5 * 5, 5 * 4, 5 * 4]
    assert model.multiply_adds((4, 4, 2)) == 16 * sum(costs) + 16 * 3


def test_walk_visits_the_innermost_layers_with_their_input_shapes():
    model = Sequential(
        conv(1, 2, padding="valid"),
        Residual(conv(2, 2, 1)),
        *(Concat(ReLU(), Sequential(Sigmoid())), GlobalAvgPool2D()),
    )
    visited = [(name, type(part).__name__, shape) for name, part, shape in model.walk((5, 5, 1))]
    assert visited == [
        ("0", "Conv2D", (5, 5, 1)),
        ("1.main", "Conv2D", (3, 3, 2)),
        ("2.0", "ReLU", (3, 3, 2)),
        ("2.1.0", "Sigmoid", (3, 3, 2)),
        ("3", "GlobalAvgPool2D", (3, 3, 4)),
    ]


X = np.zeros((2, 4))
IMAGES = np.zeros((1, 5, 5, 1))
BRANCHES = Concat(conv(1, 1, 3, padding="valid"), conv(1, 1, 2, padding="valid"))
ENDS = r"Residual: .* ends in \(3,\), the shortcut in \(4,\)"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Residual(dense(4, 3)).forward(X), ValueError, ENDS),
        (lambda: Residual(dense(4, 3)).output_shape((4,)), ValueError, ENDS),
        (
            lambda: BRANCHES.output_shape((5, 5, 1)),
            ValueError,
            r"Concat: .*\(3, 3, 1\), \(4, 4, 1\)",
        ),
        (lambda: BRANCHES.forward(IMAGES), ValueError, r"Concat: .*\(3, 3, 1\), \(4, 4, 1\)"),
        (lambda: Concat(), ValueError, "Concat: got no branches"),
        (lambda: Sequential(ReLU(), ReLU), TypeError, "Sequential: position 1 is a class ReLU"),
        (lambda: Residual([ReLU()]), TypeError, "Residual: main is a list, want a layer"),
        (
            lambda: Sequential(ReLU(), dense(4, 3)).forward(X[:, :3]),
            ValueError,
            r"Dense\(4, 3\): input is \(2, 3\)",
        ),
    ],
)
def test_errors_name_the_container_what_came_and_what_was_wanted(call, error, message):
    with pytest.raises(error, match=message):
        call()
