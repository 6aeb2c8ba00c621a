"""What a layer puts out and what gradient comes back to it, for any tree of layers."""

from copy import deepcopy

import numpy as np
import pytest

from tests.visualize.networks import WithSide, batch, conv, dense, everything
from tinynet.layer import EVAL, Mode
from tinynet.layers import Flatten, GlobalAvgPool2D, MaxPool2D, ReLU, Sequential
from tinynet.models import googlenet, small_resnet, vgg_like
from tinynet.visualize.cam import last_spatial
from tinynet.visualize.observe import (
    activation_and_gradient,
    activation_at,
    shadow,
)

UPSTREAM = np.random.default_rng(5).standard_normal((4, 3))
NAMES = [
    "base.conv", "base.bn", "base.pool", "base.block", "base.block.main.relu", "base.stack",
    "base.stack.1.0", "base.gate", "base.gate.path.1", "head.hidden", "head.classes", "base", "",
]  # fmt: skip


def everything_of(model):
    """Copies of all that training could change."""
    arrays = {n: a.copy() for n, a in model.state().items()}
    return arrays | {f"d{n}": p.grad.copy() for n, p in model.parameters().items()}


@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_is_the_slope_along_the_layers_output(name):
    """Adding t·v to what the layer puts out changes the logits as ∂L/∂A · v says."""
    model, x = everything(), batch()
    a, da = activation_and_gradient(model, x, name, lambda z: UPSTREAM)
    v = np.random.default_rng(1).standard_normal(a.shape)

    def loss(t):
        moved = deepcopy(model)
        layer = moved.named_layers()[name]
        inner = layer.forward
        layer.forward = lambda x, mode=EVAL: ((r := inner(x, mode))[0] + t * v, r[1])
        return float((moved.forward(x)[0] * UPSTREAM).sum())

    slope = (loss(1e-5) - loss(-1e-5)) / 2e-5
    np.testing.assert_allclose(slope, (da * v).sum(), rtol=1e-6)
    np.testing.assert_array_equal(a, activation_at(model, x, name))


def test_what_was_watched_is_as_before():
    model, x = everything(), batch()
    model.forward(x, Mode(train=True, rng=np.random.default_rng(0)))
    for parameter in model.parameters().values():
        parameter.grad += 1
    before, attributes = (
        everything_of(model),
        [dict(vars(p)) for p in model.named_layers().values()],
    )
    activation_and_gradient(
        model, x, "base.bn", lambda z: UPSTREAM, Mode(train=True, rng=np.random.default_rng(0))
    )
    activation_at(model, x, "base.block")
    after = everything_of(model)
    assert after.keys() == before.keys()
    for name, a in before.items():
        np.testing.assert_array_equal(after[name], a, err_msg=name)
    for part, kept in zip(model.named_layers().values(), attributes, strict=True):
        assert vars(part).keys() == kept.keys()
        assert all(vars(part)[key] is value for key, value in kept.items())


def test_a_shadow_has_the_same_weights_and_other_gradients():
    model = everything()
    copy = shadow(model)
    for mine, theirs in zip(model.parameters().values(), copy.parameters().values(), strict=True):
        assert mine.value is theirs.value
        assert mine.grad is not theirs.grad


def test_a_network_written_by_hand():
    model, x = WithSide(), batch()
    a, da = activation_and_gradient(model, x, "base.first", lambda z: UPSTREAM)
    np.testing.assert_array_equal(a, model.base.layers[0].forward(x)[0])
    z, cache = model.forward(x)
    first, side, second, head = cache
    through = model.base.layers[1].backward(model.head.backward(UPSTREAM, head), second)
    np.testing.assert_array_equal(da, through + model.side.backward(UPSTREAM, side))
    with pytest.raises(ValueError, match="does not run layer 'base'"):
        activation_at(model, x, "base")  # only its children are run


def test_of_a_layer_used_twice_the_last_use_counts():
    layer = dense(3, 3)
    model = Sequential(layer, ReLU(), layer)
    x = np.random.default_rng(0).standard_normal((4, 3))
    a, da = activation_and_gradient(model, x, "0", lambda z: UPSTREAM)
    np.testing.assert_array_equal(a, model.forward(x)[0])
    np.testing.assert_array_equal(da, UPSTREAM)


def test_an_unknown_name_is_an_error_that_names_similar_ones():
    with pytest.raises(ValueError, match="no layer 'base.cnov': did you mean base.conv"):
        activation_at(everything(), batch(), "base.cnov")


@pytest.mark.parametrize(
    ("model", "shape", "wanted"),
    [
        (everything(), (10, 10, 2), "base.gate"),
        (WithSide(), (10, 10, 2), "base.second"),
        (Sequential(conv(2, 3), ReLU(), MaxPool2D(2), Flatten()), (4, 4, 2), "1"),
        (Sequential(Sequential(conv(2, 3), GlobalAvgPool2D()), ReLU()), (4, 4, 2), "0.0"),
    ],
)
def test_the_last_layer_with_places(model, shape, wanted):
    assert last_spatial(model, shape) == wanted


@pytest.mark.parametrize(
    ("builder", "wanted"),
    [(vgg_like, "base.18"), (small_resnet, "base.layer3"), (googlenet, "base.inception5b")],
)
def test_the_last_layer_with_places_of_known_networks(builder, wanted):
    settings = {"filters": (2, 2, 2, 2), "hidden": 4} if builder is vgg_like else {}
    settings |= {"width": 0.05} if builder is googlenet else {}
    model = builder(3, (64, 64, 1), **settings, rng=np.random.default_rng(0))
    assert last_spatial(model, (64, 64, 1)) == wanted


def test_no_layer_with_places():
    with pytest.raises(ValueError, match="has an output with places"):
        last_spatial(Sequential(dense(4, 3)), (4,))
