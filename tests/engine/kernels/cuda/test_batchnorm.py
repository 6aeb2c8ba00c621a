"""engine/kernels/cuda/batchnorm.cu, run on the processor, against the references in float64."""

import numpy as np
import pytest

from tests.engine.kernels.cuda.few_threads import few_threads
from tests.engine.kernels.cuda.on_cpu import cupy_kernels
from tinynet.backend import to_device
from tinynet.engine.kernels.cuda.batchnorm_passes import statistics
from tinynet.engine.plan.epilogues import TAILS, batchnorm_block_backward, batchnorm_block_forward
from tinynet.engine.precision import bfloat16
from tinynet.layers.batchnorm import (
    batchnorm_backward,
    batchnorm_forward,
    batchnorm_frozen_backward,
    batchnorm_frozen_forward,
)

__all__ = ["cupy_kernels", "few_threads"]  # fixtures
pytestmark = pytest.mark.usefixtures("few_threads")

# of numbers near 1; bfloat16: half a step of what is stored, while statistics are float32
TOLERANCE = {"float32": 2e-5, "float64": 1e-12, "bfloat16": 2.0**-8}
ODD, PACKED, CELL = (2, 5, 7, 3), (1, 3, 6, 40), (1, 1, 1, 1)


def on(x):
    return to_device(x, "cupy")


def off(x):
    return to_device(x, "numpy").astype("float64")


def exact(values):
    return [a.astype("float64") for a in values]


def close(got, want, dtype, many=1):
    tolerance = TOLERANCE[np.dtype(dtype).name]
    np.testing.assert_allclose(off(got), want, rtol=tolerance, atol=many * tolerance)


def arrays(shape, dtype, seed=1):
    """x in dtype, gamma (of both signs) and beta in the dtype of weights."""
    rng = np.random.default_rng(seed)
    weights = "float64" if dtype == "float64" else "float32"
    x = (2 * rng.standard_normal(shape) + 1).astype(dtype)
    gamma, beta = rng.standard_normal((2, shape[-1])).astype(weights)
    return x, gamma, beta


def upstream(shape, dtype):
    return np.random.default_rng(2).standard_normal(shape).astype(dtype)


CASES = [
    *(("float64", ODD, tail) for tail in TAILS),
    *(("float64", PACKED, tail) for tail in TAILS),
    *((bfloat16(), PACKED, tail) for tail in TAILS),
    (bfloat16(), ODD, "relu_pool"),
    ("float32", PACKED, "relu_pool"),
    ("float32", ODD, "relu"),
    ("float64", CELL, "relu"),
]


@pytest.mark.parametrize(("dtype", "shape", "tail"), CASES, ids=str)
def test_blocks(dtype, shape, tail):
    x, gamma, beta = arrays(shape, dtype)
    want, cache = batchnorm_block_forward.reference(*exact((x, gamma, beta)), 1e-3, tail)
    y, kept = batchnorm_block_forward(on(x), on(gamma), on(beta), 1e-3, tail)
    assert y.dtype == dtype
    assert y.shape == want.shape
    close(y, want, dtype)
    for name in ("mean", "variance", "inv_std"):
        got = getattr(kept, name)
        assert got.dtype == gamma.dtype
        close(got, getattr(cache, name), gamma.dtype)
    assert kept.tail.kind == tail
    assert kept.tail.size == shape[1:3]
    assert (kept.tail.y is None) == (tail != "relu")
    if tail == "relu_pool":
        assert kept.tail.winner.dtype == np.uint8
        np.testing.assert_array_equal(off(kept.tail.winner), cache.tail.winner)

    dy = upstream(want.shape, dtype)
    wanted = batchnorm_block_backward.reference(dy.astype("float64"), cache)
    found = batchnorm_block_backward(on(dy), kept)
    for got, wish, like in zip(found, wanted, (x, gamma, gamma), strict=True):
        assert got.dtype == like.dtype
        assert got.shape == wish.shape
        close(got, wish, got.dtype, many=4)  # sums over many rows


@pytest.mark.parametrize("tail", TAILS)
def test_either_pass_may_be_the_references(tail):
    x, gamma, beta = arrays(ODD, "float64")
    given = on(x), on(gamma), on(beta), 1e-3, tail
    y, of_kernel = batchnorm_block_forward(*given)
    _, of_reference = batchnorm_block_forward.reference(*given)
    dy = on(upstream(y.shape, "float64"))
    wanted = batchnorm_block_backward.reference(dy, of_reference)
    for backward, cache in (
        (batchnorm_block_backward, of_reference),
        (batchnorm_block_backward.reference, of_kernel),
    ):
        for got, want in zip(backward(dy, cache), wanted, strict=True):
            close(got, off(want), "float64")


def test_every_number_of_rows():
    """None left out and none twice, whatever blocks and threads the rows end in."""
    for m in range(1, 70):
        x, gamma, beta = arrays((m, 3), "float64", seed=m)
        want, cache = batchnorm_forward.reference(x, gamma, beta)
        y, kept = batchnorm_forward(on(x), on(gamma), on(beta))
        close(y, want, "float64")
        close(kept.variance, cache.variance, "float64")
        dy = upstream(x.shape, "float64")
        wanted = batchnorm_backward.reference(dy, cache)
        for got, wish in zip(batchnorm_backward(on(dy), kept), wanted, strict=True):
            close(got, wish, "float64", many=10)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize(
    ("dtype", "shape"),
    [("float64", (7, 3)), ("float64", (2, 3, 5, 40)), (bfloat16(), (11, 40)), ("float32", ODD)],
    ids=str,
)
def test_by_itself(dtype, shape, frozen):
    x, gamma, beta = arrays(shape, dtype)
    forward, backward = batchnorm_forward, batchnorm_backward
    given = [x, gamma, beta]
    if frozen:
        forward, backward = batchnorm_frozen_forward, batchnorm_frozen_backward
        given += [beta + gamma.dtype.type(0.5), gamma**2 + gamma.dtype.type(0.1)]
    want, cache = forward.reference(*exact(given))
    y, kept = forward(*map(on, given))
    assert type(kept) is type(cache)
    close(y, want, dtype)
    for name in cache._fields:
        close(getattr(kept, name), getattr(cache, name), getattr(kept, name).dtype)
    dy = upstream(shape, dtype)
    # the cache's own x^, which is rounded where it is bfloat16
    rounded = type(cache)(*(off(a) for a in kept))
    wanted = backward.reference(dy.astype("float64"), rounded)
    for got, wish in zip(backward(on(dy), kept), wanted, strict=True):
        close(got, wish, got.dtype)


@pytest.mark.parametrize("level", [0.0, 1e4])
def test_a_variance_far_from_0(level):
    """The mean of x² less the square of the mean would have no figure left."""
    x = (np.random.default_rng(0).standard_normal((900, 3)) + level).astype("float32")
    found = statistics(on(x), 1e-3)
    wide = x.astype("float64")
    np.testing.assert_allclose(off(found.variance), wide.var(axis=0), rtol=3e-6)
    np.testing.assert_allclose(off(found.mean), wide.mean(axis=0), rtol=1e-6, atol=1e-6)


def test_a_first_row_far_from_the_others():
    x = np.random.default_rng(0).standard_normal((900, 3)).astype("float32")
    x[0] = 1000
    found = statistics(on(x), 1e-3)
    np.testing.assert_allclose(off(found.variance), x.astype("float64").var(axis=0), rtol=1e-5)
    np.testing.assert_allclose(off(found.mean), x.astype("float64").mean(axis=0), rtol=1e-4)


def test_constant_channels():
    x = np.full((2, 3, 5, 3), 0.1, "float32")
    found = statistics(on(x), 1e-3)
    np.testing.assert_array_equal(off(found.variance), 0)
    np.testing.assert_array_equal(off(found.mean), np.float64(np.float32(0.1)))


@pytest.mark.parametrize("tail", TAILS)
def test_nan_is_not_hidden(tail):
    x, gamma, beta = arrays(ODD, "float64")
    given = on(gamma), on(beta), 1e-3, tail
    wrong = x.copy()
    wrong[1, 2, 3, 1] = np.nan
    want, cache = batchnorm_block_forward.reference(wrong, gamma, beta, 1e-3, tail)
    y, kept = batchnorm_block_forward(on(wrong), *given)
    np.testing.assert_array_equal(np.isnan(off(y)), np.isnan(want))
    assert np.isnan(want).any()
    assert not np.isnan(want).all()
    if tail == "relu_pool":
        np.testing.assert_array_equal(off(kept.tail.winner), cache.tail.winner)

    want, cache = batchnorm_block_forward.reference(x, gamma, beta, 1e-3, tail)
    _, kept = batchnorm_block_forward(on(x), *given)
    dy = upstream(want.shape, "float64")
    dy[0, 1, 1, 2] = np.nan
    wanted = batchnorm_block_backward.reference(dy, cache)
    for got, wish in zip(batchnorm_block_backward(on(dy), kept), wanted, strict=True):
        np.testing.assert_array_equal(np.isnan(off(got)), np.isnan(wish))


def test_an_array_with_gaps_and_one_that_begins_in_between():
    x, gamma, beta = arrays((2, 3, 6, 40), "float64")
    flat = on(np.concatenate([[9.0], x.reshape(-1)]))
    for view in (on(x)[:, :, ::2], flat[1:].reshape(x.shape)):
        host = to_device(view, "numpy")
        want, cache = batchnorm_block_forward.reference(host, gamma, beta, 1e-3, "relu")
        y, kept = batchnorm_block_forward(view, on(gamma), on(beta), 1e-3, "relu")
        close(y, want, "float64")
        dy = upstream(want.shape, "float64")
        wanted = batchnorm_block_backward.reference(dy, cache)
        for got, wish in zip(batchnorm_block_backward(on(dy), kept), wanted, strict=True):
            close(got, wish, "float64")


def test_what_is_not_covered_goes_to_the_reference():
    x, gamma, beta = arrays(ODD, "float32")
    wide = gamma.astype("float64"), beta.astype("float64")
    want, cache = batchnorm_block_forward.reference(x, *wide, 1e-3, "relu")
    y, kept = batchnorm_block_forward(on(x), *map(on, wide), 1e-3, "relu")
    assert y.dtype == want.dtype == np.float64
    np.testing.assert_allclose(off(y), want)
    dx, *_ = batchnorm_block_backward(on(want), kept)
    np.testing.assert_allclose(off(dx), batchnorm_block_backward.reference(want, cache)[0])


def test_errors_are_the_references():
    x, gamma, beta = map(on, arrays(ODD, "float32"))
    with pytest.raises(ValueError, match="batchnorm: gamma is"):
        batchnorm_block_forward(x, gamma[:2], beta)
    with pytest.raises(ValueError, match="tail is 'pool'"):
        batchnorm_block_forward(x, gamma, beta, 1e-3, "pool")
    with pytest.raises(ValueError, match="covers 2 × 2 cells") as of_reference:
        batchnorm_block_forward.reference(x[:, :1], gamma, beta, 1e-3, "relu_pool")
    with pytest.raises(ValueError, match="covers 2 × 2 cells") as of_kernel:
        batchnorm_block_forward(x[:, :1], gamma, beta, 1e-3, "relu_pool")
    assert str(of_kernel.value) == str(of_reference.value)


def test_the_same_bits_twice():
    x, gamma, beta = map(on, arrays(PACKED, "float32"))
    found = []
    for _ in range(2):
        y, cache = batchnorm_block_forward(x, gamma, beta, 1e-3, "relu_pool")
        found.append([off(a) for a in (y, *cache[2:5], *batchnorm_block_backward(y, cache))])
    for first, second in zip(*found, strict=True):
        np.testing.assert_array_equal(first, second)
