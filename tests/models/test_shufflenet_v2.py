"""tinynet/models/shufflenet_v2.py, against torchvision's network with the same weights."""

import numpy as np
import pytest

from tests.models.peers import (
    assert_gradients_equal_torchs,
    assert_logits_equal_torchs,
    images,
    learned,
    stirred,
)
from tests.oracles import randomise, torch_or_skip, torchvision_or_skip
from tinynet.gradient_check import check_gradients
from tinynet.interop.convert import settings_mismatch
from tinynet.interop.names import names_of
from tinynet.layer import EVAL, Mode
from tinynet.layers import BatchNorm
from tinynet.models import shufflenet_v2
from tinynet.models.shufflenet_v2 import CHANNELS, halving_unit, unit

TRAIN = Mode(train=True)
SHAPE = (64, 90, 3)
CLASSES = 7
modes = pytest.mark.parametrize("mode", [TRAIN, EVAL], ids=["train", "eval"])
multipliers = pytest.mark.parametrize("multiplier", CHANNELS)


def build(*args, **settings):
    return shufflenet_v2(*args, rng=np.random.default_rng(0), **settings)


# as torchvision counts
@pytest.mark.parametrize(
    ("multiplier", "published"),
    [(0.5, 1_366_792), (1.0, 2_278_604), (1.5, 3_503_624), (2.0, 7_393_996)],
)
def test_parameters_are_as_many_as_published(multiplier, published):
    assert learned(build(1000, (224, 224, 3), multiplier)) == published


def test_one_times_is_the_default():
    assert learned(build(1000, (224, 224, 3))) == 2_278_604


def test_sizes_and_channels_are_those_of_the_papers_table():
    base = build(10, (224, 224, 3)).base
    shape, shapes = (224, 224, 3), []
    for layer in base.children().values():
        shape = layer.output_shape(shape)
        shapes.append(shape)
    assert shapes == [
        (112, 112, 24),
        (56, 56, 24),
        (28, 28, 116),
        (14, 14, 232),
        (7, 7, 464),
        (7, 7, 1024),
    ]


@pytest.mark.parametrize(
    ("multiplier", "millions"), [(0.5, 41), (1.0, 146), (1.5, 299), (2.0, 591)]
)
def test_multiply_adds_are_those_of_the_papers_table(multiplier, millions):
    # the paper does not say what it counts beside the products, some 1%
    found = build(1000, (224, 224, 3), multiplier).multiply_adds((224, 224, 3)) / 1e6
    assert abs(found - millions) < 0.02 * millions


@pytest.fixture(scope="module", params=CHANNELS)
def pair(request):
    """Our network and torchvision's, in float64."""
    torch, torchvision = torch_or_skip(), torchvision_or_skip()
    torch.manual_seed(0)
    name = f"shufflenet_v2_x{request.param:.1f}".replace(".", "_")
    theirs = randomise(getattr(torchvision.models, name)(num_classes=CLASSES))
    ours = build(CLASSES, SHAPE, request.param).to(dtype="float64")
    names = names_of("shufflenet_v2", "torch")
    assert settings_mismatch(ours.architecture.settings, names) is None
    assert names.epsilon == ours.architecture.settings["epsilon"]
    return ours, theirs, names, SHAPE


def test_logits_equal_torchvisions(pair):
    assert_logits_equal_torchs(*pair)


def test_gradients_equal_torchs_in_training(pair):
    assert_gradients_equal_torchs(*pair)


def test_half_of_the_channels_pass_through_a_unit_unchanged():
    block = unit(6, rng=np.random.default_rng(0))
    x = images((4, 3, 6)).astype(np.float32)
    y, _ = block.forward(x, TRAIN)
    # shuffled: the first half of x stands at the even places
    assert np.array_equal(y[..., ::2], x[..., :3])
    branch, _ = block.children()["join"].branches[1].forward(x, TRAIN)
    assert np.array_equal(y[..., 1::2], branch)


@modes
@pytest.mark.parametrize("make", [lambda g: unit(4, rng=g), lambda g: halving_unit(4, 6, rng=g)])
def test_gradients_of_a_unit(make, mode):
    block = stirred(make(np.random.default_rng(0)))
    assert check_gradients(block, images((5, 4, 4), count=3), mode).undecidable == 0


@modes
def test_gradients_of_the_whole_network_at_reduced_width(mode):
    model = stirred(build(2, (17, 20, 1), width=1 / 32))
    report = check_gradients(model, images((17, 20, 1), count=4), mode, elements=30)
    assert report.undecidable == 0


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 40, 3), (33, 7, 2)])
def test_any_image_down_to_one_pixel_grey_or_coloured(shape):
    # every window is padded by half of itself, so the strides round up and nothing runs out
    model = build(3, shape, 0.5)
    x = images(shape).astype(np.float32)
    y, cache = model.forward(x)
    assert y.shape == (2, *model.output_shape(shape)) == (2, 3)
    assert model.backward(y, cache).shape == x.shape


def test_settings_reach_the_layers():
    model = build(3, (32, 32, 1), 0.5, width=1 / 2, epsilon=2e-3)
    layers = model.named_layers()
    norms = [layer for layer in layers.values() if isinstance(layer, BatchNorm)]
    assert {layer.epsilon for layer in norms} == {2e-3}
    assert {layer.momentum for layer in norms} == {0.9}
    assert layers["base.stage4.unit1.join.branch2.conv3"].out_channels == 192 / 2 / 2


@multipliers
def test_any_width_leaves_channels_that_can_be_halved(multiplier):
    for width in (0.01, 0.1, 0.33, 0.77, 1.2):
        model = build(2, (32, 32, 1), multiplier, width=width)
        assert model.output_shape((32, 32, 1)) == (2,)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"multiplier": 0.75}, "multiplier is 0.75, want one of 0.5, 1.0, 1.5, 2.0; other sizes"),
        ({"width": -1}, "shufflenet_v2: width is -1, want a number above 0"),
        ({"input_shape": (32, 32)}, r"shufflenet_v2: input_shape is \(32, 32\), want \(height"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        build(**({"num_classes": 2, "input_shape": (32, 32, 1)} | settings))


def test_the_settings_build_the_same_network_again():
    model = build(2, (32, 32, 1), 1.5, width=1 / 8)
    again = model.architecture.build()
    assert again.architecture == model.architecture
    assert again.state().keys() == model.state().keys()
