"""Drawn geometries are legal, every kind of them is drawn, and counter-examples are small."""

import sys

import numpy as np
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from tinynet.testing.strategies import (
    ConvGeometry,
    PoolGeometry,
    conv_geometries,
    labels,
    pool_geometries,
    probabilities,
    tie_free_arrays,
    tie_full_arrays,
)

drawn = settings(max_examples=60)
search = settings(max_examples=2000)
search_only = settings(search, phases=[Phase.generate])  # not shrunk, which takes longer
SHAPES = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple)


@drawn
@given(g=conv_geometries())
def test_convolutions_are_legal(g):
    assert min(g.output_shape) >= 1
    assert g.channels % g.groups == g.filters % g.groups == 0
    assert g.weight_shape == (*g.kernel, g.channels // g.groups, g.filters)


@drawn
@given(g=pool_geometries())
def test_no_pooling_window_lies_in_padding_alone(g):
    for n, k, s, d, sides, count in zip(
        (g.height, g.width), *g.window(), g.sides, g.output_size, strict=True
    ):
        assert count >= 1
        for first in range(-sides[0], -sides[0] + count * s, s):
            assert set(range(first, first + k * d, d)) & set(range(n))


def remainder(g):
    """Rows at the end, padding included, that lie under no window."""
    (kernel, _), (stride, _), (dilation, _) = g.window()
    last = (g.output_size[0] - 1) * stride + (kernel - 1) * dilation  # the last row under a window
    return g.height + sum(g.sides[0]) - 1 - last


CONVOLUTIONS = {
    "a 1×n kernel": lambda g: g.kernel[0] == 1 and g.kernel[1] > 1,
    "an n×1 kernel": lambda g: g.kernel[1] == 1 and g.kernel[0] > 1,
    "one image": lambda g: g.batch == 1,
    "asymmetric padding": lambda g: g.sides[0][0] != g.sides[0][1],
    "padding beyond the kernel": lambda g: g.sides[0][0] > g.kernel[0],
    "same padding with an odd cell": lambda g: g.padding == "same" and sum(g.sides[1]) % 2,
    "same padding with a stride": lambda g: g.padding == "same" and g.stride == 2,
    "ceil padding with a row": lambda g: g.padding == "ceil" and g.sides[0] == (0, 1),
    "ceil padding that leaves a window out": lambda g: g.padding == "ceil" and remainder(g) > 0,
    "dilation": lambda g: g.kernel[0] > 1 and g.window()[2][0] == 3,
    "groups": lambda g: g.groups == 3 and g.channels == 6,
    "depthwise": lambda g: g.groups == g.channels > 1,
    "a remainder": lambda g: remainder(g) > 0,
    "a stride beyond the kernel": lambda g: g.window()[1][0] > g.kernel[0],
    "no bias": lambda g: not g.bias,
}
POOLINGS = {
    "overlap": lambda g: g.window()[0][0] > g.window()[1][0] and g.output_size[0] > 1,
    "gaps": lambda g: g.window()[1][0] > g.window()[0][0] and g.output_size[0] > 1,
    "stride left out": lambda g: g.stride is None,
    "gaps in the window": lambda g: g.window()[0][1] > 1 and g.window()[2][1] > 1,
    "padding above alone": lambda g: g.sides[0][0] > g.sides[0][1] == 0,
    "same padding, an odd cell at the end": lambda g: g.padding == "same" and sum(g.sides[1]) % 2,
}


@pytest.mark.parametrize("kind", [*CONVOLUTIONS, *POOLINGS])
def test_every_kind_is_drawn(kind):
    strategy, kinds = conv_geometries(), CONVOLUTIONS
    if kind not in kinds:
        strategy, kinds = pool_geometries(), POOLINGS
    assert kinds[kind](find(strategy, kinds[kind], settings=search_only))


def test_counter_examples_shrink_to_the_smallest_case():
    plain = find(conv_geometries(), lambda g: True, settings=search)
    ones = {"batch": 1, "height": 1, "width": 1, "channels": 1, "padding": "valid"}
    assert plain == ConvGeometry(
        **ones, filters=1, kernel=(1, 1), stride=1, dilation=1, groups=1, bias=False
    )
    plain = find(pool_geometries(), lambda g: True, settings=search)
    assert plain == PoolGeometry(**ones, pool_size=1, stride=None)
    grouped = find(conv_geometries(), lambda g: g.groups == 2 and g.stride == 2, settings=search)
    assert grouped.input_shape == (1, 1, 1, 2)  # what does not matter is as small as it can be
    assert grouped.weight_shape == (1, 1, 1, 2)


def test_same_padding_is_tensorflow_s():
    # TensorFlow's guide: 5 cells, kernel 3, stride 2 take 1 and 1; 6 cells take 0 and 1
    for height, sides in ((5, (1, 1)), (6, (0, 1))):
        g = PoolGeometry(
            batch=1, height=height, width=1, channels=1, padding="same", pool_size=(3, 1), stride=2
        )
        assert g.sides == (sides, (0, 0))
        assert g.output_size == (3, 1)


@drawn
@given(data=st.data(), shape=SHAPES)
def test_tie_free_arrays_keep_their_margin_and_tie_full_ones_have_few_levels(data, shape):
    x = data.draw(tie_free_arrays(shape, margin=0.1))
    assert (x.shape, x.dtype) == (shape, np.float64)
    assert (np.diff(np.sort(x.ravel())) > 0.0999).all()
    assert (abs(x) > 0.0499).all()
    x = data.draw(tie_full_arrays(shape, levels=3, dtype="float32"))
    assert (x.shape, x.dtype) == (shape, np.float32)
    assert set(np.unique(x)) <= {-1, 0, 1}


@drawn
@given(data=st.data(), n=st.integers(1, 6), k=st.integers(1, 5))
def test_labels_and_probabilities(data, n, k):
    y = data.draw(labels(n, k))
    assert (y.shape, y.dtype) == ((n,), np.int64)
    assert ((y >= 0) & (y < k)).all()
    rows = data.draw(labels(n, k, one_hot=True))
    assert rows.shape == (n, k)
    assert (np.sort(rows, axis=1) == [0] * (k - 1) + [1]).all()
    p = data.draw(probabilities(n, k, minimum=0.01))
    np.testing.assert_allclose(p.sum(axis=1), np.ones(n), rtol=1e-12)
    assert (p >= 0.01 - 1e-15).all()


def test_probabilities_are_sometimes_nearly_certain_and_sometimes_not():
    for kind in (lambda p: p.max() > 0.99, lambda p: p.max() < 0.4):
        assert find(probabilities(1, 3), kind, settings=search).shape == (1, 3)
    with pytest.raises(ValueError, match="sum to more than 1: want a minimum of at most 0.25"):
        find(probabilities(1, 4, minimum=0.5), lambda p: True, settings=search)


def test_without_hypothesis_the_import_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    monkeypatch.delitem(sys.modules, "tinynet.testing.strategies")
    with pytest.raises(ImportError, match="needs hypothesis: pip install hypothesis"):
        __import__("tinynet.testing.strategies")
