"""tinynet/models/inception_v4.py, against timm's network with the same weights."""

import numpy as np
import pytest

from tests.models.peers import (
    assert_gradients_equal_torchs,
    assert_logits_equal_torchs,
    kept,
    learned,
    stirred,
)
from tests.oracles import randomise, timm_or_skip, torch_or_skip
from tinynet.gradient_check import check_gradients
from tinynet.interop.convert import settings_mismatch
from tinynet.interop.names import names_of
from tinynet.layer import Mode
from tinynet.layers import BatchNorm, Conv2D, Dense, Dropout
from tinynet.models import inception_v4
from tinynet.models.inception_blocks import Builder
from tinynet.models.inception_v4 import (
    INCEPTION_A,
    INCEPTION_B,
    INCEPTION_C,
    REDUCTION_A,
    REDUCTION_B,
)

TRAIN = Mode(train=True)
SHAPE = (107, 139, 3)  # leaves 2 × 3 of the image, so that heights and widths cannot be swapped
SMALL = {"repeats": (1, 1, 1), "width": 1 / 64}


def build(num_classes=3, input_shape=(75, 75, 1), **settings):
    return inception_v4(num_classes, input_shape, rng=np.random.default_rng(0), **settings)


@pytest.fixture(scope="module")
def pair():
    """Our network and timm's with the same random weights and statistics, float64."""
    torch, timm = torch_or_skip(), timm_or_skip()
    torch.manual_seed(0)
    theirs = randomise(timm.create_model("inception_v4"))
    ours = build(1000, SHAPE).to(dtype="float64")
    names = names_of("inception_v4", "torch")
    assert settings_mismatch(ours.architecture.settings, names) is None
    return ours, theirs, names


def test_parameters_are_as_many_as_published(pair):
    ours, theirs, _ = pair
    assert learned(ours) == 42_679_816
    assert sum(p.numel() for p in theirs.parameters()) == 42_679_816
    assert kept(ours) == 42_742_984
    assert len(ours.state()) == sum("num_batches" not in name for name in theirs.state_dict())


def test_sizes_and_channels_are_those_of_the_papers_figure_9(pair):
    shape, shapes = (299, 299, 3), {}
    for name, layer in pair[0].base.children().items():
        shape = shapes[name] = layer.output_shape(shape)
    assert shapes == {
        "stem": (35, 35, 384),
        "inception_a": (35, 35, 384),
        "reduction_a": (17, 17, 1024),
        "inception_b": (17, 17, 1024),
        "reduction_b": (8, 8, 1536),
        "inception_c": (8, 8, 1536),
    }
    assert pair[0].base.output_shape(SHAPE) == (2, 3, 1536)


def test_logits_equal_timms(pair):
    assert_logits_equal_torchs(*pair, SHAPE)


def test_gradients_equal_torchs_in_training(pair):
    assert_gradients_equal_torchs(*pair, SHAPE)


@pytest.mark.parametrize("mode", [TRAIN, Mode()])
@pytest.mark.parametrize(
    ("plan", "shape"),
    [
        (INCEPTION_A, (4, 3, 3)),
        (REDUCTION_A, (5, 6, 3)),
        (INCEPTION_B, (4, 3, 3)),
        (REDUCTION_B, (5, 5, 2)),
        (INCEPTION_C, (3, 4, 2)),
    ],
    ids=["A", "reduction A", "B", "reduction B", "C"],
)
def test_gradients_of_every_block(plan, shape, mode):
    build_plan = Builder(1 / 96, True, 1e-3, np.random.default_rng(0))
    block = stirred(build_plan(plan, shape[-1]))
    x = np.random.default_rng(1).standard_normal((3, *shape))
    report = check_gradients(block, x, mode)
    assert report.undecidable == 0
    assert {check.name for check in report.arrays} == {"x", *block.parameters()}


def test_gradients_of_the_whole_network_at_reduced_width():
    model = stirred(build(**SMALL)).to(dtype="float64")
    model.freeze(parameters=False, statistics=False)
    x = np.random.default_rng(1).standard_normal((4, 75, 75, 1))
    y, cache = model.forward(x, TRAIN)
    dx = model.backward(y, cache)
    assert (dx != 0).mean() > 0.9  # the gradient reaches the image
    report = check_gradients(model, x, TRAIN, elements=100)
    assert report.undecidable == 0


def test_every_convolution_is_without_bias_before_a_batch_norm():
    model = build(**SMALL, epsilon=2e-3, keep_prob=0.7)
    layers = [layer for _, layer, _ in model.walk((75, 75, 1))]
    for layer, after in zip(layers, layers[1:], strict=False):
        if isinstance(layer, Conv2D):
            assert layer.bias is None
            assert isinstance(after, BatchNorm)
            assert (after.epsilon, after.channels) == (2e-3, layer.out_channels)
    (dropout,) = (layer for layer in layers if isinstance(layer, Dropout))
    (dense,) = (layer for layer in layers if isinstance(layer, Dense))
    assert dropout.keep_prob == 0.7
    assert dense.bias is not None


def test_as_drawn_turns_the_rows_and_columns_of_three_branches():
    released, drawn = build(**SMALL), build(**SMALL, as_drawn=True)
    assert learned(released) == learned(drawn)
    differ = {
        name.rsplit(".", 2)[0]: (p.shape[:2], drawn.parameters()[name].shape[:2])
        for name, p in released.parameters().items()
        if p.shape != drawn.parameters()[name].shape
    }
    row, column, short_row, short_column = (1, 7), (7, 1), (1, 3), (3, 1)
    assert differ == {
        "base.stem.4.branch1.1": (row, column),
        "base.stem.4.branch1.2": (column, row),
        "base.inception_b.0.branch2.1": (column, row),
        "base.inception_b.0.branch2.2": (row, column),
        "base.inception_b.0.branch2.3": (column, row),
        "base.inception_b.0.branch2.4": (row, column),
        "base.inception_c.0.branch2.1": (short_column, short_row),
        "base.inception_c.0.branch2.2": (short_row, short_column),
        "base.inception_c.0.branch2.3.a": (short_row, short_column),
        "base.inception_c.0.branch2.3.b": (short_column, short_row),
    }
    message = settings_mismatch(drawn.architecture.settings, names_of("inception_v4", "torch"))
    assert message == "build it with repeats=(4, 7, 3), as_drawn=False"


def test_repeats_are_the_numbers_of_blocks():
    model = build(repeats=[2, 0, 3], width=1 / 64)
    assert [len(model.base.children()[f"inception_{kind}"].layers) for kind in "abc"] == [2, 0, 3]
    assert model.architecture.settings["repeats"] == (2, 0, 3)
    again = model.architecture.build()
    assert again.state().keys() == model.state().keys()
    with pytest.raises(ValueError, match=r"inception_v4: repeats is \(4, 7\), want three"):
        build(repeats=(4, 7))


def test_the_smallest_image_has_a_side_of_75():
    message = (
        r"inception_v4: an image of 90 × 74 is too small, its size runs out at reduction_b\."
        r"branch0\.1\.conv \(Conv2D\(3, 3, 3×3\)\), whose input is 3 × 2: "
        r"the smallest square that works is 75 × 75"
    )
    with pytest.raises(ValueError, match=message):
        build(2, (90, 74, 3), **SMALL)
    assert build(2, (75, 75, 3), **SMALL).base.output_shape((75, 75, 3))[:2] == (1, 1)
    with pytest.raises(ValueError, match=r"inception_v4: input_shape is \(75, 75\), want"):
        build(2, (75, 75), **SMALL)


def test_grey_and_coloured_images_and_any_number_of_classes():
    for classes, shape in [(2, (75, 80, 1)), (5, (107, 75, 4))]:
        model = build(classes, shape, **SMALL)
        x = np.random.default_rng(0).standard_normal((2, *shape)).astype(np.float32)
        y, cache = model.forward(x)
        assert y.shape == (2, *model.output_shape(shape)) == (2, classes)
        assert y.dtype == np.float32
        assert model.backward(y, cache).shape == x.shape
