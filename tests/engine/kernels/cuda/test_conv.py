"""engine/kernels/cuda/conv.cu, run on the processor, against the reference."""

import numpy as np
import pytest

from tests.engine.kernels.cuda.on_cpu import cupy_kernels
from tests.layers.support import assert_close, normal
from tinynet.backend import to_device
from tinynet.engine.kernels.cuda import conv, source
from tinynet.engine.plan.epilogues import conv2d_block_backward, conv2d_block_forward
from tinynet.engine.precision import bfloat16
from tinynet.layers.conv import conv2d_backward, conv2d_forward

__all__ = ["cupy_kernels"]  # a fixture

# x, (kernel height, kernel width, C / groups, K), stride, padding, dilation, groups
GEOMETRIES = {
    "3x3": ((2, 7, 6, 3), (3, 3, 3, 5), 1, "same", 1, 1),
    "1x1": ((2, 4, 5, 7), (1, 1, 7, 3), 1, "valid", 1, 1),
    "one of each": ((1, 1, 1, 1), (1, 1, 1, 1), 1, "valid", 1, 1),
    "one tile and a number": ((1, 4, 4, 17), (1, 1, 17, 17), 1, "valid", 1, 1),
    "stride 2": ((2, 7, 8, 2), (3, 3, 2, 4), 2, 1, 1, 1),
    "stride over the kernel": ((1, 8, 9, 2), (2, 2, 2, 3), 3, 0, 1, 1),
    "7x7, stride 2": ((1, 11, 12, 1), (7, 7, 1, 4), 2, 3, 1, 1),
    "asymmetric": ((2, 5, 9, 2), (1, 7, 2, 3), (1, 2), ((0, 0), (3, 2)), 1, 1),
    "dilated": ((1, 9, 8, 2), (3, 2, 2, 3), 1, 2, (2, 3), 1),
    "groups": ((2, 5, 5, 6), (3, 3, 2, 9), 1, "same", 1, 3),
    "depthwise": ((2, 6, 5, 5), (3, 3, 1, 5), 2, 1, 1, 5),
    "padding larger than the kernel": ((1, 3, 3, 2), (2, 2, 2, 2), 1, 3, 1, 1),
}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch, cupy_kernels):
    """Blocks of 4 × 4 threads: several tiles, and the end of one, in a small product."""
    monkeypatch.setattr(conv, "SIDE", 4)
    monkeypatch.setattr(conv, "PART", 16)
    source.forget()
    yield
    source.forget()


def on(x):
    return None if x is None else to_device(x, "cupy")


def off(x):
    return None if x is None else to_device(x, "numpy")


def arrays(name, dtype="float64"):
    shape, w_shape, *more = GEOMETRIES[name]
    x, w, b = (a.astype(dtype) for a in normal(1, shape, w_shape, w_shape[-1:]))
    return x, w, b, more


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", GEOMETRIES)
def test_forward_and_gradients(name, bias):
    x, w, b, more = arrays(name)
    b = b if bias else None
    want, cache = conv2d_forward.reference(x, w, b, *more)
    (dz,) = normal(2, want.shape)
    wanted = conv2d_backward.reference(dz, cache)

    z, kept = conv2d_forward(on(x), on(w), on(b), *more)
    assert_close(off(z), want)
    assert_close(off(kept.padded), cache.padded)
    for got, wish in zip(conv2d_backward(on(dz), kept), wanted, strict=True):
        assert (got is None) == (wish is None)
        if got is not None:
            assert_close(off(got), wish)


@pytest.mark.parametrize("tail", ["none", "relu", "relu_pool"])
@pytest.mark.parametrize("name", ["3x3", "stride 2", "groups"])
def test_blocks(name, tail):
    x, w, b, more = arrays(name)
    want, cache = conv2d_block_forward.reference(x, w, b, *more, tail)
    (dy,) = normal(2, want.shape)
    y, kept = conv2d_block_forward(on(x), on(w), on(b), *more, tail)
    assert_close(off(y), want)
    for need_dx in (True, False):
        wanted = conv2d_block_backward.reference(dy, cache, need_dx)
        for got, wish in zip(conv2d_block_backward(on(dy), kept, need_dx), wanted, strict=True):
            assert (got is None) == (wish is None)
            if got is not None:
                assert_close(off(got), wish)


def test_float32():
    x, w, b, more = arrays("3x3", "float32")
    want, cache = conv2d_forward.reference(x, w, b, *more)
    z, kept = conv2d_forward(on(x), on(w), on(b), *more)
    assert z.dtype == np.float32
    np.testing.assert_allclose(off(z), want, rtol=1e-5, atol=1e-5)
    for got, wish in zip(
        conv2d_backward(z, kept), conv2d_backward.reference(want, cache), strict=True
    ):
        assert got.dtype == np.float32
        np.testing.assert_allclose(off(got), wish, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["3x3", "stride 2", "groups"])
def test_bfloat16(name):
    """Stored in eight bits of significand, multiplied in float32: rounded once, on the way out."""
    x, w, b, more = arrays(name, "float32")
    x = x.astype(bfloat16())
    want, cache = conv2d_block_forward.reference(x.astype("float64"), w, b, *more)
    z, kept = conv2d_block_forward(on(x), on(w), on(b), *more)
    assert z.dtype == bfloat16()
    (dz,) = normal(2, want.shape)
    dz = dz.astype(bfloat16())
    dx, dw, _ = conv2d_block_backward(on(dz), kept)
    wanted = conv2d_block_backward.reference(dz.astype("float64"), cache)
    assert (dx.dtype, dw.dtype) == (bfloat16(), np.float32)
    half_a_step = 2.0**-8
    for got, wish in ((z, want), (dx, wanted[0])):
        np.testing.assert_allclose(
            off(got).astype("float64"), wish, rtol=1.01 * half_a_step, atol=1e-5
        )
    np.testing.assert_allclose(off(dw), wanted[1], rtol=1e-5, atol=1e-5)


def test_nan_is_not_hidden():
    x, w, b, more = arrays("3x3")
    x[0, 3, 3, 1] = np.nan
    want, _ = conv2d_block_forward.reference(x, w, b, *more, "relu")
    y, _ = conv2d_block_forward(on(x), on(w), on(b), *more, "relu")
    np.testing.assert_array_equal(np.isnan(off(y)), np.isnan(want))


def test_arrays_with_gaps_and_what_is_not_covered():
    x, w, b, more = arrays("3x3")
    want, _ = conv2d_forward.reference(x, w, b, *more)
    wide = np.repeat(x, 2, axis=2)
    z, _ = conv2d_forward(on(wide)[:, :, ::2], on(w), on(b), *more)
    assert_close(off(z), want)
    whole, _ = conv2d_forward(on(x.astype(int)), on(w.astype(int)), None, *more)
    np.testing.assert_array_equal(
        off(whole), conv2d_forward.reference(x.astype(int), w.astype(int), None, *more)[0]
    )
    with pytest.raises(ValueError, match="conv2d: "):
        conv2d_forward(on(x), on(w[:, :, :2]))


def test_bits_do_not_change_from_run_to_run():
    x, w, _, more = arrays("3x3", "float32")
    (dz,) = normal(2, (2, 7, 6, 5))
    found = []
    for _ in range(3):
        z, cache = conv2d_forward(on(x), on(w), None, *more)
        found.append([off(a) for a in (z, *conv2d_backward(on(dz.astype("float32")), cache)[:2])])
    for arrays_ in found[1:]:
        for a, b in zip(arrays_, found[0], strict=True):
            np.testing.assert_array_equal(a, b)
