"""Penalties: the number shown is the function differentiated."""

import numpy as np
import pytest

from tinynet.gradient_check import check_backward
from tinynet.layer import Parameter
from tinynet.optimizers import SGD
from tinynet.regularizers import L1, L2, any_parameter, is_weight


def make_parameters():
    rng = np.random.default_rng(3)
    shapes = {"0.weight": (4, 3), "0.bias": (3,), "1.gamma": (3,), "1.beta": (3,), "weight": (2,)}
    parameters = {name: Parameter(rng.normal(size=shape)) for name, shape in shapes.items()}
    for parameter in parameters.values():
        parameter.grad[...] = rng.normal(size=parameter.shape)
    return parameters


def test_is_weight_is_about_the_last_part_of_the_name():
    chosen = [name for name in make_parameters() if is_weight(name)]
    assert chosen == ["0.weight", "weight"]
    assert not is_weight("weights.0.bias")


def test_penalties_by_hand():
    parameters = {"weight": Parameter(np.array([1.0, -2.0, 0.0])), "bias": Parameter(np.ones(4))}
    assert L1(0.5).penalty(parameters) == pytest.approx(0.5 * 3)
    assert L2(0.5).penalty(parameters) == pytest.approx(0.25 * 5)
    assert L2(0.5, applies=any_parameter).penalty(parameters) == pytest.approx(0.25 * 9)
    assert L2(0.5, applies=lambda name: False).penalty(parameters) == 0.0


@pytest.mark.parametrize("regularizer", [L1(0.3), L2(0.3), L2(0.3, applies=any_parameter)])
def test_gradient_is_that_of_the_penalty_and_is_added(regularizer):
    def named(values):
        return {n: Parameter(a) for n, a in zip(make_parameters(), values, strict=True)}

    def gradients(dy, values):
        parameters = named(values)
        for p in parameters.values():
            p.grad += 1
        regularizer.add_gradients(parameters)
        return tuple(dy * (p.grad - 1) for p in parameters.values())

    values = [p.value for p in make_parameters().values()]
    check_backward(lambda *v: (np.array(regularizer.penalty(named(v))), v), gradients, values)


def test_l1_gradient_at_zero_is_zero():
    parameters = {"weight": Parameter(np.zeros(3))}
    L1(1.0).add_gradients(parameters)
    np.testing.assert_array_equal(parameters["weight"].grad, np.zeros(3))


def test_l2_is_the_weight_decay_of_plain_sgd():
    by_penalty, by_decay = make_parameters(), make_parameters()
    L2(0.1).add_gradients(by_penalty)
    SGD(0.5).step(by_penalty)
    SGD(0.5, weight_decay=0.1, decays=is_weight).step(by_decay)
    for name, parameter in by_penalty.items():
        np.testing.assert_allclose(parameter.value, by_decay[name].value, rtol=1e-14)


def test_float32_stays_float32():
    parameters = {"weight": Parameter(np.ones(3, np.float32))}
    L2(0.1).add_gradients(parameters)
    L1(0.1).add_gradients(parameters)
    assert parameters["weight"].grad.dtype == np.float32
    assert L1(0.1).penalty(parameters).shape == ()


@pytest.mark.parametrize("strength", [-1.0, float("nan")])
def test_strength_out_of_range_is_an_error(strength):
    with pytest.raises(ValueError, match="want a (finite )?number"):
        L1(strength)
