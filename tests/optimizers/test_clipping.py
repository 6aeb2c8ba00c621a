"""Gradient clipping against hand-worked numbers and torch's, and as each optimiser uses it."""

import numpy as np
import pytest

from tinynet.backend import use_kernels
from tinynet.layer import Parameter
from tinynet.optimizers import SGD, Adam, RMSProp, clip_by_norm, clip_by_value

WAYS = ("value", "norm", "global_norm")


def gradients(dtype="float64", scale=1.0):
    rng = np.random.default_rng(3)
    return [(scale * rng.normal(size=shape)).astype(dtype) for shape in ((4, 3), (3,), (2, 1, 2))]


def clipped(g, limit, by):
    """A copy of the arrays, clipped."""
    g = [a.copy() for a in g]
    if by == "value":
        clip_by_value(g, limit)
    for group in {"norm": [[a] for a in g], "global_norm": [g]}.get(by, []):
        clip_by_norm(group, limit)
    return g


def test_known_numbers():
    a, b = np.array([3.0, 0.0]), np.array([[-4.0]])
    assert [x.tolist() for x in clipped([a, b], 1.5, "value")] == [[1.5, 0], [[-1.5]]]
    both = clipped([a, b], 1.0, "global_norm")
    np.testing.assert_allclose([both[0][0], both[1][0, 0]], [0.6, -0.8], rtol=1e-6)
    each = clipped([a, b], 3.5, "norm")
    np.testing.assert_allclose([each[0][0], each[1][0, 0]], [3.0, -3.5], rtol=1e-6)
    assert clip_by_norm([a, b], 10.0) == 5
    assert (a.tolist(), b.tolist()) == ([3, 0], [[-4]])  # below the limit: the same bits
    assert clip_by_norm([], 1.0) == 0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("limit", [0.3, 2.0, 50.0])
@pytest.mark.parametrize("by", WAYS)
def test_equals_torch(torch, by, limit, dtype):
    g = gradients(dtype)
    twins = [torch.zeros(a.shape, dtype=getattr(torch, dtype), requires_grad=True) for a in g]
    for twin, a in zip(twins, g, strict=True):
        twin.grad = torch.tensor(a)
    utils = torch.nn.utils
    if by == "value":
        utils.clip_grad_value_(twins, limit)
    elif by == "norm":
        for twin in twins:
            utils.clip_grad_norm_([twin], limit)
    else:
        norm = utils.clip_grad_norm_(twins, limit)
        assert clip_by_norm([a.copy() for a in g], limit) == pytest.approx(float(norm), rel=1e-6)
    rough = 1e-6 if dtype == "float32" else 1e-14
    for a, twin in zip(clipped(g, limit, by), twins, strict=True):
        np.testing.assert_allclose(a, twin.grad.numpy(), rtol=rough)
        assert a.dtype == dtype


def test_the_squares_of_float32_do_not_overflow():
    got = clipped(gradients("float32", 1e25), 1e22, "global_norm")
    assert np.sqrt(sum((a.astype(float) ** 2).sum() for a in got)) == pytest.approx(1e22, rel=1e-6)


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("by", WAYS)
def test_what_is_not_finite_is_not_made_to_look_right(by, bad):
    g = gradients()
    g[0][1, 1] = bad
    assert np.isnan(clipped(g, 1.0, by)[0][1, 1])


@pytest.mark.parametrize("kernels", ["reference", "numpy", "numba"])
@pytest.mark.parametrize("make", [SGD, RMSProp, Adam])
@pytest.mark.parametrize("by", WAYS)
def test_a_step_clips_what_is_trained_before_decay_and_the_rule(by, make, kernels):
    shared = {"weight_decay": 0.1}
    names = ("a.weight", "a.bias", "b.weight")
    made, twins = (
        {n: Parameter(1 + a) for n, a in zip(names, gradients(), strict=True)} for _ in range(2)
    )
    frozen = Parameter(np.ones(2))
    frozen.trainable, frozen.grad[...] = False, 1e6
    optimizer, plain = make(0.1, clip=0.5, clip_by=by, **shared), make(0.1, **shared)
    for step in range(3):
        g = gradients(scale=1 + step)
        for parameters, arrays in ((made, g), (twins, clipped(g, 0.5, by))):
            for p, a in zip(parameters.values(), arrays, strict=True):
                p.grad[...] = a
        with use_kernels(kernels):
            optimizer.step(made | {"frozen": frozen})
            plain.step(twins)
    for name in names:
        np.testing.assert_array_equal(made[name].value, twins[name].value)
    assert frozen.grad[0] == 1e6


@pytest.mark.parametrize(
    ("settings", "error", "match"),
    [
        ({"clip": 0}, ValueError, "clip is 0, want a number above 0"),
        ({"clip": -1.0}, ValueError, "clip is -1.0, want a number above 0"),
        ({"clip": "1"}, TypeError, "clip is '1', want a finite number"),
        ({"clip_by": "size"}, ValueError, "clip_by is 'size', want one of value, norm, global"),
    ],
)
def test_settings_out_of_range_are_errors(settings, error, match):
    with pytest.raises(error, match=match):
        SGD(0.1, **settings)


@pytest.mark.parametrize("clip", [clip_by_norm, clip_by_value])
def test_what_is_no_list_of_gradients_is_refused(clip):
    for wrong, match in (([np.arange(3)], "int64, want floating"), (gradients()[0], "want a list")):
        with pytest.raises(TypeError, match=match):
            clip(wrong, 1.0)
    with pytest.raises(ValueError, match="limit is -1.0, want a number from 0"):
        clip(gradients(), -1.0)
