"""Convolutions written with NumPy: which algorithm takes what, its pieces, and how it rounds."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.layers.support import assert_close, drawn_some, normal
from tinynet.engine import threads
from tinynet.engine.kernels.numpy import conv, depthwise, grouped, im2col
from tinynet.engine.kernels.numpy.few_channels import FewChannels
from tinynet.engine.kernels.numpy.strips import Strip, frame_of, strips
from tinynet.engine.kernels.numpy.winograd import (
    A_T,
    B_T,
    G,
    WinogradRows,
    WinogradTiles,
    over_rows,
)
from tinynet.engine.plan.epilogues import (
    EPILOGUES,
    NO_EPILOGUE,
    conv2d_fused_backward,
    conv2d_fused_forward,
)
from tinynet.layers.window import window_over
from tinynet.testing.strategies import conv_geometries, seeds


def algorithm_of(x_shape, w_shape, dtype="float32", groups=1, padding="same", need_dx=True):
    x, w = np.empty(x_shape, dtype), np.empty(w_shape, dtype)
    window = window_over(x_shape[1:3], w_shape[:2], padding=padding)
    chosen = conv.strip_algorithm(x, w, groups, window, need_dx)
    return conv.module_for(w, groups) if chosen is None else chosen[0]


def test_each_shape_has_its_algorithm(monkeypatch):
    wide, deep, image = (16, 24, 24, 32), (16, 24, 24, 64), (16, 24, 24, 1)
    assert algorithm_of(wide, (3, 3, 32, 64)) is WinogradRows
    assert algorithm_of(deep, (3, 3, 64, 64)) is WinogradTiles
    assert algorithm_of((1, 8, 8, 64), (3, 3, 64, 64)) is WinogradRows  # too few tiles
    assert algorithm_of(image, (3, 3, 1, 32), need_dx=False) is FewChannels
    assert algorithm_of(image, (3, 3, 1, 32)) is im2col
    assert algorithm_of(wide, (3, 3, 32, 4)) is im2col
    assert algorithm_of(wide, (3, 3, 32, 32), "float64") is im2col
    assert algorithm_of(wide, (3, 3, 16, 32), groups=2) is grouped
    assert algorithm_of(wide, (3, 3, 1, 32), groups=32) is depthwise
    assert algorithm_of(wide, (3, 3, 1, 64), groups=32) is depthwise
    assert algorithm_of(wide, (5, 5, 32, 32)) is im2col
    assert algorithm_of(wide, (3, 3, 32, 32), padding=3) is im2col
    for off in ("0", "false", "No", " off "):
        monkeypatch.setenv("TINYNET_WINOGRAD", off)
        assert algorithm_of(deep, (3, 3, 64, 64)) is im2col
        assert algorithm_of(image, (3, 3, 1, 32), need_dx=False) is FewChannels
    for on in ("", "1", "TRUE"):
        monkeypatch.setenv("TINYNET_WINOGRAD", on)
        assert algorithm_of(deep, (3, 3, 64, 64)) is WinogradTiles
    monkeypatch.setenv("TINYNET_WINOGRAD", "maybe")
    with pytest.raises(ValueError, match="TINYNET_WINOGRAD is 'maybe': unset it, or export 1 or 0"):
        algorithm_of(deep, (3, 3, 64, 64))


THREE = {"max_kernel": 3, "max_stride": 1, "max_dilation": 1, "max_groups": 1, "max_padding": 3}


def assert_near(got, want):
    """Equal to 2e-5 of the largest element: float32, and numbers as large as 100."""
    assert (got is None) == (want is None)
    if got is not None:
        assert (got.dtype, got.shape) == (np.float32, want.shape)
        assert abs(got - want).max(initial=0) <= 2e-5 * max(1e-3, abs(want).max(initial=0))


@pytest.mark.parametrize("many", [False, True])
@drawn_some
@given(
    g=conv_geometries(**THREE),
    epilogue=st.sampled_from(EPILOGUES),
    channels=st.sampled_from([1, 5]),
    seed=seeds(),
)
def test_strips_of_drawn_geometries(many, g, epilogue, channels, seed):
    """By Winograd's algorithm: down and across if channels are many, else down only."""
    shapes = (*g.input_shape[:3], channels), (3, 3, channels, 6), (6,)
    padded = [n + sum(side) for n, side in zip(g.input_shape[1:3], g.sides, strict=True)]
    assume(min(padded) >= (4 if epilogue == "relu_pool" else 3))
    x, w, b = (a.astype(np.float32) for a in normal(seed, *shapes))
    more = 1, g.sides, 1, 1, epilogue
    exact = [a.astype(np.float64) for a in (x, w, b)]
    want, exact_cache = conv2d_fused_forward.reference(*exact, *more)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conv, "FEWEST_CHANNELS", 1)
        patch.setattr(conv, "TILES_CHANNELS", 1 if many else 99)
        patch.setattr(conv, "TILES_POSITIONS", 1)
        patch.setattr(conv, "MOST_CHANNELS", 1)
        y, cache = conv2d_fused_forward.kernels["numpy"](x, w, b, *more)
        assert_near(y, want)
        (dy,) = normal(seed + 1, y.shape)
        need_dx = channels > 1
        # rounding may not decide which cells win
        gradients = conv2d_fused_backward.reference(dy, (exact_cache[0], cache[1]), need_dx)
        got = conv2d_fused_backward.kernels["numpy"](dy.astype(np.float32), cache, need_dx)
        for one, other in zip(got, gradients, strict=True):
            assert_near(one, other)


def test_bundles_hold_whole_groups_and_every_channel_once(monkeypatch):
    monkeypatch.setattr(grouped, "BUNDLE", 32)
    w = np.zeros((3, 3, 12, 20))  # five groups of 12 channels and 4 filters, two to a bundle
    parts = list(grouped.bundles(60, w))
    assert [(c.start, c.stop) for c, _ in parts] == [(0, 24), (24, 48), (48, 60)]
    assert [(k.start, k.stop) for _, k in parts] == [(0, 8), (8, 16), (16, 20)]
    wide = list(grouped.bundles(128, np.zeros((3, 3, 64, 10))))
    assert [c.stop - c.start for c, _ in wide] == [64, 64]


def test_filters_of_a_bundle_are_0_between_the_groups():
    (w,) = normal(0, (2, 3, 2, 6))
    dense = grouped.dense_filters(w, 4)
    assert_close(dense[:, :, :2, :3], w[..., :3])
    assert_close(dense[:, :, 2:, 3:], w[..., 3:])
    assert not dense[:, :, :2, 3:].any()
    assert not dense[:, :, 2:, :3].any()
    assert_close(grouped.blocks_of(dense, 2), w)


def test_pieces_cover_every_row_once_and_stay_small(monkeypatch):
    monkeypatch.setattr(threads, "BLOCK_BYTES", 1 << 20)
    w = np.zeros((3, 3, 64, 64), np.float32)  # VGG16's second layer: A of one image is 110 MiB
    window = window_over((224, 224), (3, 3), padding="same")
    pieces = list(im2col.pieces(slice(0, 2), window, w))
    rows = [(some.start, row) for some, out, _, _ in pieces for row in range(out.start, out.stop)]
    assert rows == [(n, row) for n in range(2) for row in range(224)]
    for _, out, under, part in pieces:
        assert part.output_size == (out.stop - out.start, 224)
        assert under.stop - under.start == part.size[0] == out.stop - out.start + 2
        assert part.output_size[0] * 224 * w[..., 0].nbytes <= 1 << 20
    wide = np.zeros((3, 3, 512, 512), np.float32)  # 9 MiB, read for every piece: no strips
    deep = window_over((14, 14), (3, 3), padding="same")
    assert [out for _, out, _, _ in im2col.pieces(slice(0, 2), deep, wide)] == [slice(0, 14)] * 2


def test_strips_cover_every_tile_once():
    frame = frame_of(window_over((30, 9), (3, 3), padding="same"))
    assert frame.tiles == 8
    cut = strips(5, frame, 2, 3)
    covered = np.zeros((5, 8), int)
    for strip in cut:
        covered[strip.images, strip.start : strip.stop] += 1
    assert (covered == 1).all()
    assert cut[0] == Strip(slice(0, 2), 0, 3)


def test_winograds_matrices_and_their_transposes():
    """Six products give four outputs of three taps, and the transposed steps the gradient."""
    d, g, dy, wide = normal(0, (6,), (3,), (4,), (3, 2, 5))
    y = A_T @ ((G @ g) * (B_T @ d))
    np.testing.assert_allclose(y, np.correlate(d, g, "valid"), rtol=1e-12)
    dg = G.T @ ((B_T @ d) * (A_T.T @ dy))
    np.testing.assert_allclose(dg, np.correlate(d, dy, "valid"), rtol=1e-12)
    np.testing.assert_allclose(over_rows(wide, G), np.tensordot(G, wide, 1), rtol=1e-12)


@pytest.mark.parametrize("channels", [1, 8, 64, pytest.param(512, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("algorithm", "tolerance"), [(WinogradRows, 6e-6), (WinogradTiles, 2e-5)])
def test_rounding_stays_within_twice_what_is_stated(algorithm, tolerance, channels):
    """Largest error over largest number of z, dx and dw, against float64."""
    x, w, dz = normal(3, (2, 16, 16, channels), (3, 3, channels, 16), (2, 16, 16, 16))
    z, cache = conv2d_fused_forward.reference(x, w, None, 1, "same")
    dx, dw, _ = conv2d_fused_backward.reference(dz, cache)
    x, w, dz = (a.astype(np.float32) for a in (x, w, dz))
    frame = frame_of(cache[0].window)
    got_z, _ = conv.strips_forward(algorithm, frame, x, w, None, "none")
    got_dx, got_dw, _ = conv.strips_backward(algorithm, frame, dz, x, w, NO_EPILOGUE, True)
    for got, want in ((got_z, z), (got_dx, dx), (got_dw, dw)):
        assert abs(got - want).max() < tolerance * abs(want).max()
