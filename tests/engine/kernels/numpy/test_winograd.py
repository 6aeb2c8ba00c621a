"""Winograd's algorithm in NumPy: the matrices, and how it rounds."""

import numpy as np
import pytest

from tests.layers.support import normal
from tinynet.engine.kernels.numpy import conv_strips
from tinynet.engine.kernels.numpy.frame import Strip, frame_of, strips
from tinynet.engine.kernels.numpy.winograd_matrices import A_T, B_T, G, over_rows
from tinynet.engine.kernels.numpy.winograd_rows import Rows
from tinynet.engine.kernels.numpy.winograd_tiles import Tiles
from tinynet.engine.plan.epilogues import Tail, conv2d_block_backward, conv2d_block_forward
from tinynet.layers.window import window_over


def test_six_multiplications_give_four_outputs_of_three_taps():
    d, g = normal(0, (6,), (3,))
    y = A_T @ ((G @ g) * (B_T @ d))
    np.testing.assert_allclose(y, np.correlate(d, g, "valid"), rtol=1e-12)


def test_the_transposed_steps_are_the_gradient():
    d, g, dy = normal(1, (6,), (3,), (4,))
    dg = G.T @ ((B_T @ d) * (A_T.T @ dy))
    np.testing.assert_allclose(dg, np.correlate(d, dy, "valid"), rtol=1e-12)


def test_over_rows_is_a_product_along_the_first_axis():
    (g,) = normal(2, (3, 2, 5))
    np.testing.assert_allclose(over_rows(g, G), np.tensordot(G, g, 1), rtol=1e-12)


def test_strips_cover_every_tile_once():
    frame = frame_of(window_over((30, 9), (3, 3), padding="same"))
    assert frame.tiles == 8
    cut = strips(5, frame, 2, 3)
    cells = [
        (n, t)
        for s in cut
        for n in range(s.images.start, s.images.stop)
        for t in range(8)
        if s.start <= t < s.stop
    ]
    assert sorted(cells) == [(n, t) for n in range(5) for t in range(8)]
    assert cut[0] == Strip(slice(0, 2), 0, 3)


def errors(way, channels):
    """Largest error over largest number of z, dx and dw, against float64."""
    x, w, dz = normal(3, (2, 16, 16, channels), (3, 3, channels, 16), (2, 16, 16, 16))
    window = window_over((16, 16), (3, 3), padding="same")
    z, cache = conv2d_block_forward.reference(x, w, None, 1, "same")
    dx, dw, _ = conv2d_block_backward.reference(dz, cache)
    x, w, dz = (a.astype(np.float32) for a in (x, w, dz))
    frame = frame_of(window)
    got_z, _ = conv_strips.forward(way, frame, x, w, None, "none")
    none = Tail("none", None, None, window.output_size)
    got_dx, got_dw, _ = conv_strips.backward(way, frame, dz, x, w, none, True)
    pairs = ((got_z, z), (got_dx, dx), (got_dw, dw))
    return [abs(got - want).max() / abs(want).max() for got, want in pairs]


@pytest.mark.parametrize("channels", [1, 8, 64, 512])
@pytest.mark.parametrize(("way", "tolerance"), [(Rows, 6e-6), (Tiles, 2e-5)])
def test_rounding_stays_within_twice_what_is_stated(way, tolerance, channels):
    assert max(errors(way, channels)) < tolerance
