"""engine/kernels/cuda/pooling.cu, run on the processor, against the reference."""

import numpy as np
import pytest

from tests.engine.kernels.cuda.on_cpu import cupy_kernels
from tests.layers.support import assert_close
from tinynet.backend import to_device
from tinynet.engine.kernels.cuda import launch, pooling
from tinynet.engine.precision import bfloat16
from tinynet.layers.pooling import max_pool2d_backward, max_pool2d_forward

__all__ = ["cupy_kernels"]  # a fixture

# shape of x, pool_size, stride, padding
GEOMETRIES = {
    "2x2": ((2, 4, 6, 3), 2, None, "valid"),
    "2x2 of an odd size": ((1, 5, 7, 2), 2, None, "valid"),
    "3x3, stride 2": ((2, 7, 6, 2), 3, 2, 1),
    "overlapping": ((1, 4, 5, 2), (2, 3), 1, "same"),
    "ceil": ((1, 6, 7, 1), 3, 2, "ceil"),
    "stride over the window": ((1, 8, 8, 2), 2, 3, "valid"),
    "one": ((1, 1, 1, 1), 1, None, "valid"),
}


@pytest.fixture(autouse=True)
def few_threads(cupy_kernels, monkeypatch):
    """Two blocks of 8 threads, so that a thread takes several numbers, and some none at the end."""
    for module in (launch, pooling):
        monkeypatch.setattr(module, "THREADS", 8)
    monkeypatch.setattr(launch, "MOST_BLOCKS", 2)


def images(shape, kind, dtype="float64"):
    """Standard normal, with many equal cells, or with NaN and infinities."""
    rng = np.random.default_rng(1)
    if kind == "ties":
        return rng.integers(0, 2, shape).astype(dtype)
    x = rng.standard_normal(shape).astype(dtype)
    if kind == "not finite":
        x.reshape(-1)[::5], x.reshape(-1)[1::7] = np.nan, -np.inf
    return x


@pytest.mark.parametrize("kind", ["normal", "ties", "not finite"])
@pytest.mark.parametrize("name", GEOMETRIES)
def test_both_passes(name, kind):
    shape, *more = GEOMETRIES[name]
    x = images(shape, kind)
    want, cache = max_pool2d_forward.reference(x, *more)
    y, kept = max_pool2d_forward(to_device(x, "cupy"), *more)
    np.testing.assert_array_equal(to_device(y, "numpy"), want)
    np.testing.assert_array_equal(to_device(kept.winner, "numpy"), cache.winner)
    assert kept.winner.dtype == np.uint8
    dy = images(want.shape, "normal")
    dx = max_pool2d_backward(to_device(dy, "cupy"), kept)
    assert_close(to_device(dx, "numpy"), max_pool2d_backward.reference(dy, cache))


def test_a_nan_from_above_is_not_hidden():
    shape, *more = GEOMETRIES["3x3, stride 2"]
    want, cache = max_pool2d_forward.reference(images(shape, "normal"), *more)
    dy = np.full(want.shape, np.nan)
    wanted = max_pool2d_backward.reference(dy, cache)
    kept = cache._replace(winner=to_device(cache.winner, "cupy"))
    dx = max_pool2d_backward(to_device(dy, "cupy"), kept)
    np.testing.assert_array_equal(np.isnan(to_device(dx, "numpy")), np.isnan(wanted))


def test_float32_and_what_is_not_covered():
    shape, *more = GEOMETRIES["2x2"]
    x = to_device(images(shape, "normal", "float32"), "cupy")
    assert max_pool2d_forward(x, *more)[0].dtype == np.float32
    whole = images(shape, "ties", "int64")
    for x, args in ((whole, more), (images((1, 18, 18, 1), "normal"), (17, 1))):
        y, cache = max_pool2d_forward(to_device(x, "cupy"), *args)
        want, reference = max_pool2d_forward.reference(x, *args)
        np.testing.assert_array_equal(to_device(y, "numpy"), want)
        dx = max_pool2d_backward(y, cache)
        np.testing.assert_array_equal(
            to_device(dx, "numpy"), max_pool2d_backward.reference(want, reference)
        )


@pytest.mark.parametrize("name", ["3x3, stride 2", "overlapping"])
def test_bfloat16(name):
    """Compared exactly, and gradients added up in float32: the results are rounded once."""
    shape, *more = GEOMETRIES[name]
    x = images(shape, "normal").astype(bfloat16())
    want, cache = max_pool2d_forward.reference(x.astype("float64"), *more)
    y, kept = max_pool2d_forward(to_device(x, "cupy"), *more)
    assert y.dtype == bfloat16()
    np.testing.assert_array_equal(to_device(y, "numpy").astype("float64"), want)
    np.testing.assert_array_equal(to_device(kept.winner, "numpy"), cache.winner)
    dx = max_pool2d_backward(y, kept)
    wanted = max_pool2d_backward.reference(want.astype("float32"), cache).astype(bfloat16())
    assert dx.dtype == bfloat16()
    np.testing.assert_array_equal(
        to_device(dx, "numpy").astype("float64"), wanted.astype("float64")
    )
