"""tinynet/kernels/cuda/tensor_conv.cu, run on the processor, against the reference.

The reference gets in float64 what tensor cores get: operands rounded to bfloat16 or TF32. What is left
is the rounding of float32 sums, and of results that are stored in bfloat16, half a step of 2⁻⁸.
"""

import numpy as np
import pytest

from tests.kernels.cuda.on_cpu import cupy_on_cpu
from tests.layers.support import normal
from tinynet.backend import to_device
from tinynet.blocks import (
    TAILS,
    conv2d_block_backward,
    conv2d_block_forward,
    tail_backward,
    tail_forward,
)
from tinynet.kernels.cuda import conv, source, tensor_conv
from tinynet.layers.conv import conv2d_backward, conv2d_forward
from tinynet.layers.window import pair, window_over
from tinynet.precision import bfloat16, use_precision

__all__ = ["cupy_on_cpu"]  # a fixture

# x, (kernel height, kernel width, C, K), stride, padding
GEOMETRIES = {
    "3x3": ((2, 5, 6, 8), (3, 3, 8, 16), 1, "same"),
    "1x1": ((1, 4, 5, 24), (1, 1, 24, 8), 1, "valid"),
    "one cell": ((1, 1, 1, 8), (1, 1, 8, 8), 1, "valid"),
    "stride 2": ((2, 7, 6, 8), (3, 3, 8, 8), 2, 1),
    "1x1, stride 2": ((2, 5, 4, 8), (1, 1, 8, 24), 2, "valid"),
    "7x7, stride 2": ((1, 9, 8, 8), (7, 7, 8, 8), 2, 3),
    "asymmetric": ((1, 5, 9, 8), (1, 5, 8, 8), (1, 2), ((0, 0), (3, 2))),
    "columns past a tile": ((1, 3, 4, 40), (2, 2, 40, 40), 1, "valid"),
    "padding larger than the kernel": ((1, 3, 3, 8), (2, 2, 8, 8), 1, 3),
    "stride over the kernel": ((1, 7, 8, 8), (2, 2, 8, 8), 3, 0),
}
SMALL = tensor_conv.Tile(32, 16, 2, 1, 4, 3)
KINDS = ["bf16", "tf32"]


def use_tile(monkeypatch, tile):
    monkeypatch.setattr(tensor_conv, "tile_for", lambda columns: tile)


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch, cupy_on_cpu):
    """Several tiles, the end of one, and several parts of a weight gradient, in a small product."""
    use_tile(monkeypatch, SMALL)
    monkeypatch.setattr(tensor_conv, "WANTED_BLOCKS", 10**6)
    for cached in (source.function, source._module):
        cached.cache_clear()
    yield
    for cached in (source.function, source._module):
        cached.cache_clear()


def on(x):
    return None if x is None else to_device(x, "cupy")


def off(x):
    return None if x is None else to_device(x, "numpy")


def rounded(x, kind):
    """x as a tensor core takes it, in float64."""
    if kind == "bf16":
        return x.astype(bfloat16()).astype("float64")
    bits = x.astype("float32").view(np.uint32)
    return ((bits + 0x1000) & 0xFFFFE000).astype(np.uint32).view("float32").astype("float64")


def stored(x, kind):
    return x.astype(bfloat16() if kind == "bf16" else "float32")


def arrays(name, kind):
    shape, w_shape, *more = GEOMETRIES[name]
    x, w, b = normal(1, shape, w_shape, w_shape[-1:])
    return stored(x, kind), w.astype("float32"), b.astype("float32"), more


def assert_near(got, want, kind, depth):
    """Within the rounding of a sum of ``depth`` products in float32, and of storing it."""
    got = off(got)
    step = 2.0**-8 if got.dtype == bfloat16() else 0
    np.testing.assert_allclose(
        got.astype("float64"), want, rtol=1.01 * step + 1e-6, atol=1e-6 * (4 + depth)
    )


def compare(name, kind, bias=True):
    """Forward pass and gradients, by the launchers of conv.py, against the reference."""
    x, w, b, more = arrays(name, kind)
    b = b if bias else None
    window = window_over(x.shape[1:3], w.shape[:2], pair(more[0], ""), more[1])
    assert tensor_conv.covers(on(x), on(w), window, 1)
    want, cache = conv2d_forward.reference(rounded(x, kind), rounded(w, kind), b, *more)
    z = conv.convolve(on(x), on(w), on(b), window, 1)
    assert z.dtype == x.dtype
    depth = w[..., 0].size
    assert_near(z, want, kind, depth)

    (dz,) = (stored(a, kind) for a in normal(2, want.shape))
    dx, dw, _ = conv2d_backward.reference(rounded(dz, kind), cache)
    got = conv.input_gradient(on(dz), on(x), on(w), window, 1)
    assert got.dtype == x.dtype
    assert_near(got, dx, kind, w[..., 0, :].size)
    got = conv.weight_gradient(on(dz), on(x), on(w), window, 1)
    assert got.dtype == np.float32
    assert_near(got, dw, kind, dz[..., 0].size)


@pytest.fixture(params=KINDS)
def kind(request):
    with use_precision(request.param):
        yield request.param


@pytest.mark.parametrize("name", GEOMETRIES)
def test_forward_and_gradients(name, kind):
    compare(name, kind, bias=name != "1x1")
