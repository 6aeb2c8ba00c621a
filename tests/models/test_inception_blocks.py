"""tinynet/models/inception_blocks.py: plans, and the stem that two networks share."""

import numpy as np
import pytest

from tests.models.peers import stirred
from tinynet.gradient_check import check_gradients
from tinynet.layer import Mode
from tinynet.layers import AvgPool2D, BatchNorm, Concat, Conv2D, MaxPool2D, ReLU, Sequential
from tinynet.models.inception_blocks import (
    STEM,
    STEM_AS_DRAWN,
    Builder,
    channels_after,
    check_settings,
    turned,
    with_turned,
)


def builder(width=1.0, batch_norm_scale=True, epsilon=1e-3):
    return Builder(width, batch_norm_scale, epsilon, np.random.default_rng(0))


def convolutions(layer, input_shape):
    return [part for _, part, _ in layer.walk(input_shape) if isinstance(part, Conv2D)]


def test_a_tuple_is_a_convolution_with_batch_norm_and_relu():
    layer = builder(epsilon=0.5)((6, (1, 7), 2, "valid"), 3)
    conv, bn, relu = layer.layers
    assert layer.names == ["conv", "bn", "relu"]
    assert conv.weight.shape == (1, 7, 3, 6)
    assert (conv.stride, conv.padding, conv.bias) == ((2, 2), "valid", None)
    assert (bn.channels, bn.epsilon, bn.momentum) == (6, 0.5, 0.99)
    assert isinstance(relu, ReLU)
    assert builder()((6, 3), 3).output_shape((9, 8, 3)) == (9, 8, 6)  # same, stride 1


def test_texts_are_the_two_pools():
    build = builder()
    average, largest = build("average", 3), build("max", 3)
    assert isinstance(average, AvgPool2D)
    assert isinstance(largest, MaxPool2D)
    assert average.output_shape((9, 8, 3)) == (9, 8, 3)
    assert largest.output_shape((9, 8, 3)) == (4, 3, 3)
    ones = np.ones((1, 4, 4, 3), np.float32)
    assert np.array_equal(average.forward(ones)[0], ones)  # padding is not counted


def test_lists_are_in_turn_and_dictionaries_side_by_side_in_their_order():
    plan = [(4, 1), {"b": (2, 3), "a": ["average", (5, 1)], "c": "average"}, (7, 1)]
    layer = builder()(plan, 3)
    first, concat, last = layer.layers
    assert isinstance(layer, Sequential)
    assert isinstance(concat, Concat)
    assert concat.names == ["b", "a", "c"]
    assert channels_after(first, 3) == 4
    assert channels_after(concat, 4) == 2 + 5 + 4
    assert last.layers[0].in_channels == 11
    assert layer.output_shape((6, 6, 3)) == (6, 6, 7)

    layer.to(dtype="float64")
    x = np.random.default_rng(1).standard_normal((2, 6, 6, 3))
    y = first.forward(x)[0]
    parts = [branch.forward(y)[0] for branch in concat.branches]
    want = last.forward(np.concatenate(parts, axis=-1))[0]
    assert np.array_equal(layer.forward(x)[0], want)


def test_width_scales_the_filters_and_leaves_one():
    build = builder(width=0.25)
    assert [build.scaled(n) for n in (1, 6, 10, 96)] == [1, 2, 2, 24]
    assert build((96, 3), 5).layers[0].weight.shape == (3, 3, 5, 24)


def test_batch_norm_has_a_gamma_or_none():
    for scale in (True, False):
        layer = builder(batch_norm_scale=scale)(STEM, 3)
        norms = [part for _, part, _ in layer.walk((99, 99, 3)) if isinstance(part, BatchNorm)]
        assert len(norms) == 11
        assert {norm.gamma is not None for norm in norms} == {scale}


def test_turning_swaps_rows_and_columns_and_nothing_else():
    block = {"a": [(1, 3), (2, (1, 7), 2, "valid"), {"c": (3, (3, 1))}], "b": "max"}
    want = {"a": [(1, 3), (2, (7, 1), 2, "valid"), {"c": (3, (1, 3))}], "b": "max"}
    assert turned(block) == want
    assert turned(want) == block
    assert with_turned({**block, "d": (4, (1, 3))}, "a") == {**want, "d": (4, (1, 3))}


def test_the_stem_makes_35_x_35_x_384_of_the_papers_image():
    shapes = []
    shape = (299, 299, 3)
    for layer in builder()(STEM, 3).layers:
        shape = layer.output_shape(shape)
        shapes.append(shape)
    assert shapes == [
        (149, 149, 32),
        (147, 147, 32),
        (147, 147, 64),
        (73, 73, 160),
        (71, 71, 192),
        (35, 35, 384),
    ]


def test_the_drawn_stem_has_its_columns_before_its_rows():
    kernels = [
        [conv.kernel_size for conv in convolutions(builder()(stem, 3), (99, 99, 3))]
        for stem in (STEM, STEM_AS_DRAWN)
    ]
    other = [(number, a, b) for number, (a, b) in enumerate(zip(*kernels, strict=True)) if a != b]
    assert other == [(7, (1, 7), (7, 1)), (8, (7, 1), (1, 7))]


@pytest.mark.parametrize("mode", [Mode(train=True), Mode()])
@pytest.mark.parametrize(
    ("plan", "shape"), [(STEM[:4], (11, 12, 1)), (STEM[4], (5, 6, 3)), (STEM[5], (5, 4, 3))]
)
def test_gradients_of_the_stem(plan, shape, mode):
    part = stirred(builder(width=1 / 32)(plan, shape[-1]))
    x = np.random.default_rng(1).standard_normal((3, *shape))
    report = check_gradients(part, x, mode)
    assert report.undecidable == 0
    assert {check.name for check in report.arrays} == {"x", *part.parameters()}


@pytest.mark.parametrize("repeats", [(1, 2), (1, 2, -1), (1, 2, 0.5), 3, "123"])
def test_repeats_that_are_not_three_numbers_are_refused(repeats):
    with pytest.raises(ValueError, match=r"net: repeats is .*, want three whole numbers from 0"):
        check_settings("net", repeats, 1.0)


def test_a_width_of_nothing_is_refused():
    assert check_settings("net", [np.int64(1), 0, 2], 0.1) == (1, 0, 2)
    with pytest.raises(ValueError, match="net: width is 0, want a number above 0"):
        check_settings("net", (1, 1, 1), 0)
