"""engine/kernels/cuda/tensor_conv.cu, run on the processor, against the reference.

The reference gets in float64 what tensor cores get: operands rounded to bfloat16 or TF32. What is
left is the rounding of float32 sums, and of results stored in bfloat16, half a step of 2⁻⁷.
"""

from functools import partial

import numpy as np
import pytest

from tests.engine.gpu import fake_cupy as stand_in
from tests.engine.kernels.cuda.on_cpu import Module, cupy_kernels
from tests.layers.support import normal
from tinynet.backend import load_library, to_device
from tinynet.doctor import read_gpu
from tinynet.engine.kernels.cuda import conv, source, tensor_conv
from tinynet.engine.plan.epilogues import (
    EPILOGUES,
    conv2d_fused_backward,
    conv2d_fused_forward,
    epilogue_backward,
    epilogue_forward,
)
from tinynet.engine.precision import bfloat16, use_precision
from tinynet.layers.conv import conv2d_backward, conv2d_forward
from tinynet.layers.window import pair, window_over

__all__ = ["cupy_kernels"]  # a fixture

# x, (kernel height, kernel width, C, K), stride, padding
GEOMETRIES = {
    "3x3": ((2, 5, 6, 8), (3, 3, 8, 16), 1, "same"),
    "1x1": ((1, 4, 5, 24), (1, 1, 24, 8), 1, "valid"),
    "one cell": ((1, 1, 1, 8), (1, 1, 8, 8), 1, "valid"),
    "stride 2": ((2, 7, 6, 8), (3, 3, 8, 8), 2, 1),
    "1x1, stride 2": ((2, 5, 4, 8), (1, 1, 8, 24), 2, "valid"),
    "7x7, stride 2": ((1, 9, 8, 8), (7, 7, 8, 8), 2, 3),
    "three channels": ((2, 5, 6, 3), (3, 3, 3, 16), 1, 1),
    "one channel, stride 2": ((1, 9, 8, 1), (7, 7, 1, 8), 2, 3),
    "asymmetric": ((1, 5, 9, 8), (1, 5, 8, 8), (1, 2), ((0, 0), (3, 2))),
    "columns past a tile": ((1, 3, 4, 40), (2, 2, 40, 40), 1, "valid"),
    "padding larger than the kernel": ((1, 3, 3, 8), (2, 2, 8, 8), 1, 3),
    "stride over the kernel": ((1, 7, 8, 8), (2, 2, 8, 8), 3, 0),
}
SMALL = tensor_conv.Tile(32, 16, 2, 1, 4, 3)
KINDS = ["bf16", "tf32"]


def use_tile(monkeypatch, tile):
    monkeypatch.setattr(tensor_conv, "tile_for", lambda rows, columns: tile)


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch, cupy_kernels):
    """Several tiles, the end of one, and several parts of a weight gradient, in a small product."""
    use_tile(monkeypatch, SMALL)
    monkeypatch.setattr(tensor_conv, "WANTED_BLOCKS", 10**6)  # as many parts as can be
    source.forget()
    yield
    source.forget()


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
    if not tensor_conv.covers_input_gradient(on(x), on(w), window, 1):  # conv.cu rounds nothing
        dx, _, _ = conv2d_backward.reference(dz.astype("float64"), cache._replace(w=w))
    got = conv.input_gradient(on(dz), on(x), on(w), window, 1)
    assert got.dtype == x.dtype
    assert_near(got, dx, kind, w[..., 0, :].size)
    got = conv.weight_gradient(on(dz), on(x), on(w), window, 1)
    assert got.dtype == np.float32
    assert_near(got, dw, kind, dz[..., 0].size)


@pytest.fixture(params=KINDS)
def kind(request):
    with use_precision(request.param):  # bf16 is told by the arrays
        yield request.param


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        pytest.param(kind, name, marks=[] if name == "3x3" else [pytest.mark.slow])
        for kind, names in (
            ("bf16", GEOMETRIES),
            ("tf32", ("3x3", "1x1, stride 2", "three channels", "columns past a tile")),
        )
        for name in names
    ],
    indirect=["kind"],
)
def test_forward_and_gradients(name, kind):
    compare(name, kind, bias=name != "1x1")


TILES = {name: getattr(tensor_conv, name) for name in ("WIDE", "NARROW", "SLIM", "SHORT")}


@pytest.mark.parametrize("name", TILES)
@pytest.mark.slow
def test_tiles_in_use(name, kind, monkeypatch):
    """What a GPU is given; copies made as early as they may be, no two rows in the same banks."""
    use_tile(monkeypatch, TILES[name])
    tile = TILES[name]
    assert tile.shared_bytes(4) <= 113 * 1024  # two blocks on a processor of Hopper
    flags = ("-DEAGER", "-DNO_CONFLICTS")
    monkeypatch.setattr(load_library("cupy"), "RawModule", partial(Module, flags=flags))
    compare("stride 2" if name == "SHORT" else "columns past a tile", kind)


def test_which_tile(monkeypatch):
    monkeypatch.undo()
    images = 64
    assert tensor_conv.tile_for(images * 224**2, 64) == tensor_conv.NARROW
    assert tensor_conv.tile_for(images * 224**2, 32) == tensor_conv.SLIM
    assert tensor_conv.tile_for(images * 14**2, 512) == tensor_conv.WIDE
    assert tensor_conv.tile_for(images * 7**2, 512) == tensor_conv.SHORT


@pytest.mark.parametrize(
    ("kind", "shape"), [("bf16", (2, 5, 6, 8)), ("tf32", (1, 6, 9, 8))], indirect=["kind"]
)
def test_fused_epilogues(kind, shape):
    """The same bits as the convolution, then the epilogue; ties, NaN and infinities among them."""
    x, w, b = normal(3, shape, (3, 3, 8, 24), (24,))
    x, w, b = stored(x, kind), w.astype("float32"), b.astype("float32")
    x[0, 2, 2, 1], x[0, 0, 0, 0], x[-1, 3, 4, 2] = np.nan, np.inf, -np.inf
    w[..., :4] = 0  # equals: the first cell wins, or none
    b[:2] = 1, -1
    z, _ = conv2d_fused_forward(on(x), on(w), on(b), 1, 1)
    (dy,) = normal(4, (len(z), z.shape[1] // 2, z.shape[2] // 2, 24))
    for epilogue in EPILOGUES[1:]:
        want, kept = epilogue_forward(off(z).astype("float32"), epilogue)
        y, cache = conv2d_fused_forward(on(x), on(w), on(b), 1, 1, epilogue=epilogue)
        assert y.dtype == x.dtype
        np.testing.assert_array_equal(off(y).astype("float32"), want)
        if epilogue == "relu_pool":
            np.testing.assert_array_equal(off(cache[1].winner), kept.winner)
            assert cache[1].winner.dtype == np.uint8
            assert set(np.unique(kept.winner)) == {0, 1, 2, 3, 4}
            assert np.isnan(want).any()
            assert not np.isnan(want).all()
            dz = epilogue_backward(dy.astype("float32"), kept)
            got = epilogue_backward(on(dy.astype("float32")), cache[1])
            np.testing.assert_array_equal(off(got), dz)


def test_through_the_registered_functions(kind):
    """Through the registered functions: the path that a training step takes."""
    x, w, b, more = arrays("3x3", kind)
    exact = rounded(x, kind), rounded(w, kind), b, *more
    want, _ = conv2d_fused_forward.reference(*exact, epilogue="relu")
    y, cache = conv2d_fused_forward(on(x), on(w), on(b), *more, epilogue="relu")
    assert_near(y, want, kind, w[..., 0].size)
    (dy,) = (stored(a, kind) for a in normal(2, want.shape))
    dz = epilogue_backward(dy.astype("float64"), cache[1]._replace(y=off(y).astype("float64")))
    wanted = conv2d_backward.reference(rounded(dz, kind), conv2d_forward.reference(*exact)[1])
    dx, dw, _ = conv2d_fused_backward(on(dy), cache)
    assert_near(dx, wanted[0], kind, w[..., 0, :].size)
    assert_near(dw, wanted[1], kind, dy[..., 0].size)


def test_bits_do_not_change_and_parts_are_added_in_order(kind, monkeypatch):
    x, w, _, more = arrays("3x3", kind)
    window = window_over((5, 6), (3, 3), (1, 1), "same")
    (dz,) = (stored(a, kind) for a in normal(2, (2, 5, 6, 16)))
    found = [off(conv.weight_gradient(on(dz), on(x), on(w), window, 1)) for _ in range(3)]
    for again in found[1:]:
        np.testing.assert_array_equal(again, found[0])
    monkeypatch.setattr(tensor_conv, "WANTED_BLOCKS", 1)  # one part
    whole = off(conv.weight_gradient(on(dz), on(x), on(w), window, 1))
    np.testing.assert_allclose(found[0], whole, rtol=1e-4, atol=1e-5)


def test_split(monkeypatch):
    monkeypatch.setattr(tensor_conv, "WANTED_BLOCKS", 264)
    assert tensor_conv.split(tiles=5, most=1000) == 48  # 240 of 264 blocks
    assert tensor_conv.split(tiles=144, most=100) == 5  # 720 blocks, in three rounds
    assert tensor_conv.split(tiles=144, most=2) == 1
    assert tensor_conv.split(tiles=264, most=100) == 1


def test_nothing_waits_for_the_gpu(kind):
    """What a captured graph cannot hold."""
    x, w, b, more = arrays("3x3", kind)
    x, w, b = on(x), on(w), on(b)
    stand_in.waits.clear()
    y, cache = conv2d_fused_forward(x, w, b, *more, epilogue="relu")
    conv2d_fused_backward(y, cache)
    assert stand_in.waits == []


def test_an_array_at_an_odd_address_is_copied():
    x, w, b, more = arrays("3x3", "bf16")
    longer = np.zeros(x.size + 1, bfloat16())
    longer[1:] = x.reshape(-1)
    moved = on(longer)[1:].reshape(x.shape)
    assert moved.data.ptr % 16
    window = window_over((5, 6), (3, 3), (1, 1), "same")
    z = conv.convolve(moved, on(w), on(b), window, 1)
    np.testing.assert_array_equal(off(z), off(conv.convolve(on(x), on(w), on(b), window, 1)))


def test_covers():
    def covered(shape, w_shape, kind, dilation=1, groups=1, weights="float32"):
        x, w = np.empty(shape, kind), np.empty(w_shape, weights)
        window = window_over(shape[1:3], w_shape[:2], dilation=pair(dilation, ""), padding=1)
        return tensor_conv.covers(on(x), on(w), window, groups)

    bf16, good = bfloat16(), ((2, 5, 6, 8), (3, 3, 8, 16))
    assert covered(*good, bf16)
    assert not covered(*good, "float32")  # nobody asked for less than float32
    with use_precision("tf32"):
        assert covered(*good, "float32")
        assert covered((2, 5, 6, 4), (3, 3, 4, 12), "float32")
        assert not covered(*good, "float64", weights="float64")
    assert covered((2, 5, 6, 3), (3, 3, 3, 8), bf16)
    assert not covered((2, 5, 6, 12), (3, 3, 12, 8), bf16)
    assert not covered((2, 5, 6, 8), (3, 3, 8, 12), bf16)
    assert not covered((2, 5, 6, 16), (3, 3, 8, 16), bf16, groups=2)
    assert not covered(*good, bf16, dilation=2)
    assert not covered(*good, bf16, weights="float64")
    assert not covered((0, 5, 6, 8), (3, 3, 8, 16), bf16)


def test_a_kernel_that_does_not_wait_is_noticed(monkeypatch):
    whole = source.text

    def text(name):
        return whole(name).replace("wait_for_all_but<STAGES - 2>();", "")

    monkeypatch.setattr(source, "text", text)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        compare("3x3", "bf16")


# x, (kernel height, kernel width, C, K), stride, padding: one for each tile, and first layers
LARGER = {
    "wide": ((4, 57, 55, 64), (3, 3, 64, 256), 1, "same"),
    "narrow": ((3, 57, 55, 64), (3, 3, 64, 64), 1, "same"),
    "slim": ((3, 57, 55, 32), (3, 3, 32, 32), 1, "same"),
    "short": ((5, 7, 7, 512), (3, 3, 512, 136), 1, "same"),
    "short rows": ((2, 14, 14, 64), (1, 1, 64, 256), 1, "valid"),
    "stride 2": ((4, 29, 28, 128), (3, 3, 128, 128), 2, 1),
    "1x1, stride 2, larger": ((4, 28, 28, 64), (1, 1, 64, 128), 2, "valid"),
    "stem": ((2, 64, 60, 3), (7, 7, 3, 64), 2, 3),
    "first layer": ((2, 64, 60, 1), (3, 3, 1, 64), 1, "same"),
}


on_gpu = pytest.mark.skipif(not read_gpu().devices, reason="there is no NVIDIA GPU with CuPy")


@on_gpu
@pytest.mark.gpu
@pytest.mark.parametrize("name", [*GEOMETRIES, *LARGER])
def test_tiles_and_sizes_of_real_networks(name, kind, monkeypatch):
    monkeypatch.undo()
    if name in LARGER:
        monkeypatch.setitem(GEOMETRIES, name, LARGER[name])
    compare(name, kind)


@on_gpu
@pytest.mark.gpu
@pytest.mark.parametrize("name", ["wide", "narrow", "slim"])
def test_fused_pool_has_the_bits_of_two_steps(name, kind, monkeypatch):
    monkeypatch.undo()
    shape, w_shape, *more = LARGER[name]
    x, w, b = normal(3, shape, w_shape, w_shape[-1:])
    x, w, b = stored(x, kind), w.astype("float32"), b.astype("float32")
    z, _ = conv2d_fused_forward(on(x), on(w), on(b), *more)
    want, kept = epilogue_forward(off(z).astype("float32"), "relu_pool")
    y, cache = conv2d_fused_forward(on(x), on(w), on(b), *more, epilogue="relu_pool")
    np.testing.assert_array_equal(off(y).astype("float32"), want)
    np.testing.assert_array_equal(off(cache[1].winner), kept.winner)


@on_gpu
@pytest.mark.gpu
def test_a_long_sum_in_few_parts(monkeypatch):
    """Tensor cores cut off where they add: 100,000 products to a sum, of numbers of one sign."""
    shape, w_shape = (8, 112, 112, 8), (1, 1, 8, 8)
    x, dz = (np.abs(a).astype("float32") for a in normal(6, shape, shape))
    window = window_over(shape[1:3], w_shape[:2])
    monkeypatch.setattr(tensor_conv, "WANTED_BLOCKS", 1)
    x, dz, w = stored(x, "bf16"), stored(dz, "bf16"), np.zeros(w_shape, "float32")
    dw = off(conv.weight_gradient(on(dz), on(x), on(w), window, 1))
    rows, columns = (a.astype("float64").reshape(-1, 8) for a in (x, dz))
    np.testing.assert_allclose(dw[0, 0], rows.T @ columns, rtol=2e-3)
