"""engine/kernels/cuda/tails.cu, run on the processor, against engine.plan.epilogues, to the bit."""

import numpy as np
import pytest

from tests.engine.kernels.cuda.few_threads import few_threads
from tests.engine.kernels.cuda.on_cpu import cupy_kernels
from tinynet.backend import to_device
from tinynet.engine.kernels.cuda.tails import tail_backward_cuda, tail_forward_cuda
from tinynet.engine.plan.epilogues import TAILS, tail_backward, tail_forward
from tinynet.engine.precision import bfloat16

__all__ = ["cupy_kernels", "few_threads"]  # fixtures
pytestmark = pytest.mark.usefixtures("few_threads")

SHAPES = [(2, 4, 6, 8), (1, 5, 7, 24), (2, 2, 3, 3), (1, 3, 2, 1)]


def on(x):
    return to_device(x, "cupy")


def off(x):
    """As float64, exactly: NumPy's functions know no bfloat16."""
    return to_device(x, "numpy").astype("float64")


def images(shape, kind, dtype):
    """Standard normal, with many equal cells and many ≤ 0, or with NaN and infinities."""
    rng = np.random.default_rng(1)
    if kind == "ties":
        return rng.integers(-3, 2, shape).astype(dtype)
    x = rng.standard_normal(shape).astype(dtype)
    if kind == "not finite":
        x.reshape(-1)[::5], x.reshape(-1)[1::7] = np.nan, -np.inf
        x.reshape(-1)[2::11] = np.inf
    return x


@pytest.mark.parametrize("dtype", ["float32", "float64", bfloat16()], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_both_passes(shape, dtype):
    for tail in TAILS:
        for kind in ("normal", "ties", "not finite"):
            z = images(shape, kind, dtype)
            want, kept = tail_forward(z.astype("float64"), tail)
            y, tail_of_y = tail_forward_cuda(on(z), tail)
            assert y.dtype == dtype
            assert y.shape == want.shape
            np.testing.assert_array_equal(off(y), want)
            assert tail_of_y[::3] == kept[::3]
            for got, wish in zip(tail_of_y[1:3], kept[1:3], strict=True):
                assert (got is None) == (wish is None)
                if got is not None:
                    np.testing.assert_array_equal(off(got), wish)
            assert tail_of_y.winner is None or tail_of_y.winner.dtype == np.uint8

            dy = images(want.shape, "normal", dtype)
            dz = tail_backward_cuda(on(dy), tail_of_y)
            assert dz.dtype == dtype
            np.testing.assert_array_equal(off(dz), tail_backward(dy.astype("float64"), kept))


@pytest.mark.parametrize("tail", ["relu", "relu_pool"])
def test_a_nan_from_above_is_not_hidden(tail):
    want, kept = tail_forward(images((1, 5, 7, 3), "normal", "float32"), tail)
    _, tail_of_y = tail_forward_cuda(on(images((1, 5, 7, 3), "normal", "float32")), tail)
    dy = np.full(want.shape, np.nan, "float32")
    dz = off(tail_backward_cuda(on(dy), tail_of_y))
    np.testing.assert_array_equal(np.isnan(dz), np.isnan(tail_backward(dy, kept)))
    assert np.isnan(dz).any()


def test_an_array_with_gaps_and_one_that_begins_in_between():
    z = images((2, 4, 7, 8), "normal", "float32")
    flat = on(np.concatenate([[9], z.reshape(-1)]).astype("float32"))
    for view in (on(z)[:, :, ::2], flat[1:].reshape(z.shape)):
        want, kept = tail_forward(to_device(view, "numpy"), "relu_pool")
        y, tail = tail_forward_cuda(view, "relu_pool")
        np.testing.assert_array_equal(off(y), want)
        np.testing.assert_array_equal(off(tail_backward_cuda(y, tail)), tail_backward(want, kept))


def test_errors_and_what_is_not_covered():
    z = images((2, 1, 3, 8), "ties", "float16")
    with pytest.raises(ValueError, match="tail is 'pool'"):
        tail_forward_cuda(on(z.astype("float32")), "pool")
    with pytest.raises(ValueError, match="covers 2 × 2 cells") as of_reference:
        tail_forward(z.astype("float32"), "relu_pool")
    with pytest.raises(ValueError, match="covers 2 × 2 cells") as of_kernel:
        tail_forward_cuda(on(z.astype("float32")), "relu_pool")
    assert str(of_kernel.value) == str(of_reference.value)
    want, kept = tail_forward(z, "relu")
    y, tail = tail_forward_cuda(on(z), "relu")
    np.testing.assert_array_equal(off(y), want)
    np.testing.assert_array_equal(off(tail_backward_cuda(on(z), tail)), tail_backward(z, kept))
