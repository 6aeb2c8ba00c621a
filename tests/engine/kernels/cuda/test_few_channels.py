"""engine/kernels/cuda/few_channels.cu, on the processor and on a GPU, against the reference."""

import numpy as np
import pytest

from tests.engine.kernels.cuda.on_cpu import cupy_kernels
from tests.layers.support import assert_close, normal
from tinynet.backend import to_device
from tinynet.engine.kernels.cuda import few_channels, launch
from tinynet.engine.plan.epilogues import conv2d_block_backward, conv2d_block_forward
from tinynet.engine.precision import bfloat16
from tinynet.layers.window import pair, window_over

__all__ = ["cupy_kernels"]  # a fixture

# x, (kernel height, kernel width, C, K), stride, padding, dilation
GEOMETRIES = {
    "3x3": ((2, 6, 5, 1), (3, 3, 1, 8), 1, "same", 1),
    "an odd number of filters": ((2, 5, 6, 1), (3, 3, 1, 5), 1, "valid", 1),
    "two filters": ((1, 5, 4, 2), (2, 3, 2, 2), 1, 1, 1),
    "three channels, stride 2": ((2, 9, 8, 3), (7, 7, 3, 4), 2, 3, 1),
    "dilated": ((1, 9, 8, 2), (3, 2, 2, 12), (1, 2), 2, (2, 3)),
    "asymmetric": ((1, 5, 9, 4), (1, 7, 4, 4), (1, 2), ((0, 0), (3, 2)), 1),
    "one of each": ((1, 1, 1, 1), (1, 1, 1, 1), 1, "valid", 1),
}


@pytest.fixture(autouse=True)
def few_threads(cupy_kernels, monkeypatch):
    """Blocks of 8 threads, and several of them."""
    for module in (launch, few_channels):
        monkeypatch.setattr(module, "THREADS", 8)
    monkeypatch.setattr(launch, "MOST_BLOCKS", 3)
    monkeypatch.setattr(few_channels, "ROUNDS", 3)
    monkeypatch.setattr(few_channels, "MOST_PARTS", 4)


def arrays(name):
    shape, w_shape, stride, padding, dilation = GEOMETRIES[name]
    x, w, b = normal(1, shape, w_shape, w_shape[-1:])
    window = window_over(shape[1:3], w_shape[:2], pair(stride, ""), padding, pair(dilation, ""))
    return x, w, b, window, (stride, padding, dilation)


def on(*arrays):
    return [to_device(np.asarray(a), "cupy") for a in arrays]


def off(x):
    return to_device(x, "numpy").astype("float64")


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("name", GEOMETRIES)
def test_forward_and_weight_gradient(name, bias, relu):
    x, w, b, window, more = arrays(name)
    b = b if bias else None
    want, cache = conv2d_block_forward.reference(x, w, b, *more, 1, "relu" if relu else "none")
    xd, wd = on(x, w)
    z = few_channels.convolve(xd, wd, None if b is None else on(b)[0], window, relu)
    assert_close(off(z), want)
    (dz,) = normal(2, want.shape)
    _, dw, _ = conv2d_block_backward.reference(
        dz, cache._replace(tail=cache.tail._replace(kind="none", y=None))
    )
    assert_close(off(few_channels.weight_gradient(on(dz)[0], xd, wd, window)), dw)


def test_bfloat16():
    x, w, b, window, more = arrays("3x3")
    x, dz = (a.astype(bfloat16()) for a in (x, normal(2, (2, 6, 5, 8))[0]))
    w, b = w.astype("float32"), b.astype("float32")
    exact = x.astype("float64"), w.astype("float64"), b.astype("float64")
    want, cache = conv2d_block_forward.reference(*exact, *more, 1, "none")
    xd, dzd, wd, bd = on(x, dz, w, b)
    z = few_channels.convolve(xd, wd, bd, window)
    assert z.dtype == bfloat16()
    np.testing.assert_allclose(off(z), want, rtol=2**-8, atol=1e-5)  # rounded once, when stored
    _, dw, _ = conv2d_block_backward.reference(dz.astype("float64"), cache)
    found = few_channels.weight_gradient(dzd, xd, wd, window)
    assert found.dtype == np.float32
    np.testing.assert_allclose(off(found), dw, rtol=1e-4, atol=1e-4)


def test_nan_is_not_hidden():
    x, w, b, window, more = arrays("3x3")
    x = x.copy()
    x[0, 3, 3, 0] = np.nan
    want, _ = conv2d_block_forward.reference(x, w, b, *more, 1, "relu")
    xd, wd, bd = on(x, w, b)
    found = off(few_channels.convolve(xd, wd, bd, window, relu=True))
    np.testing.assert_array_equal(np.isnan(found), np.isnan(want))


def test_what_it_covers(monkeypatch):
    monkeypatch.setattr(few_channels, "THREADS", 256)
    x, w = np.empty((1, 8, 8, 3), "float32"), np.empty((3, 3, 3, 64), "float32")
    assert few_channels.covers(x, w, 1)
    assert not few_channels.covers(x, w, 3)
    assert not few_channels.covers(np.empty((1, 8, 8, 5), "f4"), np.empty((3, 3, 5, 4), "f4"), 1)
    assert not few_channels.covers(x, np.empty((7, 7, 3, 128), "f4"), 1)  # 75 KB of filters
    assert not few_channels.covers(x, w.astype("float64"), 1)
