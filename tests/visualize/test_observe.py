"""What a layer puts out and what gradient comes back to it, for any tree of layers."""

from copy import deepcopy

import numpy as np
import pytest

from tests.visualize.networks import WithSide, batch, dense, everything
from tinynet.layer import EVAL, Mode
from tinynet.layers import ReLU, Sequential
from tinynet.visualize import activation_and_gradient, activation_at

UPSTREAM = np.random.default_rng(5).standard_normal((4, 3))
NAMES = ["base.conv", "base.block.main.relu", "base.stack", "base.gate.path.1", "base", ""]


@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_is_the_slope_along_the_layers_output(name):
    """Adding t·v to the layer's output changes the logits as ∂L/∂A · v says."""
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
    mode = Mode(train=True, rng=np.random.default_rng(0))
    for parameter in model.parameters().values():
        parameter.grad += 1

    def arrays():
        gradients = {f"d{n}": p.grad for n, p in model.parameters().items()}
        return {n: a.copy() for n, a in (model.state() | gradients).items()}

    before = arrays()
    attributes = [dict(vars(part)) for part in model.named_layers().values()]
    activation_and_gradient(model, x, "base.bn", lambda z: UPSTREAM, mode)
    activation_at(model, x, "base.block")
    for name, a in arrays().items():
        np.testing.assert_array_equal(a, before[name], err_msg=name)
    for part, kept in zip(model.named_layers().values(), attributes, strict=True):
        assert vars(part).keys() == kept.keys()
        assert all(vars(part)[key] is value for key, value in kept.items())


def test_a_network_written_by_hand():
    model, x = WithSide(), batch()
    a, da = activation_and_gradient(model, x, "base.first", lambda z: UPSTREAM)
    np.testing.assert_array_equal(a, model.base.layers[0].forward(x)[0])
    first, side, second, head = model.forward(x)[1]
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
