"""engine/kernels/cuda/tensor_conv.cu on a GPU, with the tiles and sizes of real networks."""

import numpy as np
import pytest

from tests.engine.kernels.cuda.test_tensor_conv import (
    GEOMETRIES,
    KINDS,
    compare,
    off,
    on,
    stored,
)
from tests.layers.support import normal
from tinynet.doctor.gpu import read_gpu
from tinynet.engine.kernels.cuda import conv, tensor_conv
from tinynet.engine.plan.epilogues import conv2d_block_forward, tail_forward
from tinynet.engine.precision import use_precision
from tinynet.layers.window import window_over

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not read_gpu().devices, reason="there is no NVIDIA GPU with CuPy"),
]

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


@pytest.fixture(params=KINDS)
def kind(request):
    with use_precision(request.param):
        yield request.param


@pytest.mark.parametrize("name", [*GEOMETRIES, *LARGER])
def test_forward_and_gradients(name, kind, monkeypatch):
    if name in LARGER:
        monkeypatch.setitem(GEOMETRIES, name, LARGER[name])
    compare(name, kind)


@pytest.mark.parametrize("name", ["wide", "narrow", "slim"])
def test_fused_pool_has_the_bits_of_two_steps(name, kind):
    shape, w_shape, *more = LARGER[name]
    x, w, b = normal(3, shape, w_shape, w_shape[-1:])
    x, w, b = stored(x, kind), w.astype("float32"), b.astype("float32")
    z, _ = conv2d_block_forward(on(x), on(w), on(b), *more)
    want, kept = tail_forward(off(z).astype("float32"), "relu_pool")
    y, cache = conv2d_block_forward(on(x), on(w), on(b), *more, tail="relu_pool")
    np.testing.assert_array_equal(off(y).astype("float32"), want)
    np.testing.assert_array_equal(off(cache.tail.winner), kept.winner)


def test_bits_do_not_change(kind):
    shape, w_shape, *_ = LARGER["narrow"]
    x, w, dz = normal(5, shape, w_shape, (*shape[:3], w_shape[-1]))
    x, w, dz = on(stored(x, kind)), on(w.astype("float32")), on(stored(dz, kind))
    window = window_over(shape[1:3], w_shape[:2], padding="same")
    found = [
        (
            conv.convolve(x, w, None, window, 1),
            conv.input_gradient(dz, x, w, window, 1),
            conv.weight_gradient(dz, x, w, window, 1),
        )
        for _ in range(5)
    ]
    for again in found[1:]:
        for a, b in zip(again, found[0], strict=True):
            np.testing.assert_array_equal(off(a), off(b))


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
