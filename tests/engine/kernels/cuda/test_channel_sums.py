"""engine/kernels/cuda/channel_sums.cu, run on the processor, against NumPy's sums."""

import numpy as np
import pytest

from tests.engine.kernels.cuda.few_threads import few_threads
from tests.engine.kernels.cuda.on_cpu import cupy_kernels
from tinynet.backend import to_device
from tinynet.engine.kernels.cuda import columns
from tinynet.engine.kernels.cuda.channel_sums import channel_sums
from tinynet.engine.precision import bfloat16

__all__ = ["cupy_kernels", "few_threads"]  # fixtures

# float32: some ten additions of numbers near 1; bfloat16 is added up as float32
TOLERANCE = {"float32": 1e-5, "float64": 1e-13, "bfloat16": 1e-5}
SHAPES = [
    (37, 1),  # one channel
    (101, 3),  # several parts
    (2, 5, 7, 8),  # by packs, and
    (2, 5, 7, 24),  # a last group of channels that is not full
    (1, 1, 1, 7),
]


def normal(shape, dtype, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64", bfloat16()], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_sums(shape, dtype, few_threads):
    x = normal(shape, dtype)
    sums = channel_sums(to_device(x, "cupy"))
    assert sums.dtype == ("float64" if dtype == "float64" else "float32")
    want = x.astype("float64").reshape(-1, shape[-1]).sum(axis=0)
    tolerance = TOLERANCE[np.dtype(dtype).name]
    np.testing.assert_allclose(to_device(sums, "numpy"), want, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", ["float32", bfloat16()], ids=str)
def test_an_array_that_begins_in_between_or_has_gaps(dtype, few_threads):
    """No load of 16 bytes then: a GPU would refuse it."""
    whole = to_device(normal((11, 9, 8), dtype), "cupy")
    shifted = whole.reshape(-1)[1:-7].reshape(98, 8)
    assert not columns.aligned(shifted)
    for x in (shifted, whole[:, ::2]):
        want = to_device(x, "numpy").astype("float64").reshape(-1, 8).sum(axis=0)
        np.testing.assert_allclose(to_device(channel_sums(x), "numpy"), want, rtol=1e-4, atol=1e-5)


def test_full_blocks(cupy_kernels):
    """As a GPU runs them: 256 threads, two parts, the second stage of 8 × 32 threads."""
    x = normal((1100, 40), "float32")
    by = columns.divide(*x.shape, x.itemsize)
    assert (by.vec, by.block, by.grid) == (4, (10, 25), (1, 11))
    sums = channel_sums(to_device(x[:210], "cupy"))
    np.testing.assert_allclose(to_device(sums, "numpy"), x[:210].sum(axis=0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("itemsize", [2, 4, 8])
@pytest.mark.parametrize("channels", [1, 3, 8, 32, 33, 64, 250, 728, 2048])
@pytest.mark.parametrize("rows", [1, 31, 3136, 10_000_000])
def test_the_division_covers_every_row_and_channel_once(rows, channels, itemsize):
    by = columns.divide(rows, channels, itemsize)
    (across, parts), (wide, high) = by.grid, by.block
    assert wide * high <= 256
    assert across * parts <= 1056
    assert by.vec in (1, 16 // itemsize)
    assert channels % by.vec == 0
    packs = channels // by.vec
    assert (across - 1) * wide < packs <= across * wide
    assert by.chunk % high == 0
    assert (parts - 1) * by.chunk < rows <= parts * by.chunk
    if rows == 10_000_000 and channels <= 64:
        assert across * parts > 1000, "too few blocks to keep a GPU busy"


def test_nan_whole_numbers_and_none(few_threads):
    x = normal((9, 3), "float64")
    x[4, 1] = np.nan
    assert np.isnan(to_device(channel_sums(to_device(x, "cupy")), "numpy")).tolist() == [0, 1, 0]
    whole = to_device(np.arange(6).reshape(3, 2), "cupy")
    np.testing.assert_array_equal(to_device(channel_sums(whole), "numpy"), [6, 9])
    nothing = channel_sums(to_device(np.empty((0, 2), "float32"), "cupy"))
    np.testing.assert_array_equal(to_device(nothing, "numpy"), [0, 0])


def test_the_same_bits_twice(few_threads):
    x = to_device(normal((101, 24), "float32"), "cupy")
    first, second = (to_device(channel_sums(x), "numpy") for _ in range(2))
    np.testing.assert_array_equal(first, second)
