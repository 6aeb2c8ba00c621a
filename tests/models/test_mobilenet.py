"""tinynet/models/mobilenet.py, against Keras's and timm's networks with the same weights."""

import numpy as np
import pytest

from tests.models.peers import (
    assert_close,
    assert_gradients_equal_torchs,
    assert_logits_equal_torchs,
    images,
    kept,
    learned,
    stirred,
)
from tests.oracles import (
    keras_in_float64,
    keras_outputs,
    randomise,
    randomise_keras,
    timm_or_skip,
    torch_or_skip,
)
from tinynet.gradient_check import check_gradients
from tinynet.interop.convert import converted, settings_mismatch
from tinynet.interop.names import names_of
from tinynet.layer import EVAL, Mode
from tinynet.layers import BatchNorm, Conv2D, Dropout
from tinynet.models import mobilenet
from tinynet.models.mobilenet import separable

TRAIN = Mode(train=True)
SHAPE = (34, 64, 3)  # odd and even sizes: 34, 17, 9 or 8, …
CLASSES = 7
modes = pytest.mark.parametrize("mode", [TRAIN, EVAL], ids=["train", "eval"])
paddings = pytest.mark.parametrize("padding", ["keras", "symmetric"])


def build(*args, **settings):
    return mobilenet(*args, rng=np.random.default_rng(0), **settings)


def test_parameters_are_as_many_as_published():
    model = build(1000, (224, 224, 3))
    assert kept(model) == 4_253_864  # Keras
    assert learned(model) == 4_231_976  # timm


@pytest.mark.parametrize(("width", "keras"), [(0.75, 2_601_976), (0.5, 1_342_536), (0.25, 475_544)])
def test_parameters_of_the_narrower_ones_that_keras_has(width, keras):
    assert kept(build(1000, (224, 224, 3), width=width)) == keras


def test_sizes_and_channels_are_those_of_the_papers_table():
    base = build(10, (224, 224, 3)).base
    shape, shapes = (224, 224, 3), []
    for layer in base.children().values():
        shape = layer.output_shape(shape)
        shapes.append(shape)
    assert shapes[0] == (112, 112, 32)
    assert shapes[3:] == [
        (112, 112, 64),
        *[(56, 56, 128)] * 2,
        *[(28, 28, 256)] * 2,
        *[(14, 14, 512)] * 6,
        *[(7, 7, 1024)] * 2,
    ]


# tables 6 and 7 of the paper, in millions
@pytest.mark.parametrize(
    ("width", "side", "published"),
    [(1.0, 224, 569), (0.75, 224, 325), (0.5, 224, 149), (0.25, 224, 41), (1.0, 160, 290)],
)
def test_multiply_adds_are_those_of_the_papers_tables(width, side, published):
    model = build(1000, (side, side, 3), width=width)
    assert abs(model.multiply_adds((side, side, 3)) / 1e6 - published) < 1


def test_every_3x3_but_the_first_sees_one_channel():
    layers = build(2, (32, 32, 3), width=1 / 8).named_layers()
    for name, layer in layers.items():
        if isinstance(layer, Conv2D):
            separate = layer.groups == layer.in_channels == layer.out_channels
            assert separate == (name != "base.conv1" and layer.kernel_size == (3, 3))


@pytest.fixture(scope="module")
def pair():
    """Our network and timm's, in float64."""
    torch, timm = torch_or_skip(), timm_or_skip()
    torch.manual_seed(0)
    theirs = randomise(timm.create_model("mobilenetv1_100", num_classes=CLASSES))
    names = names_of("mobilenet", "torch")
    ours = build(CLASSES, SHAPE, **names.requires, epsilon=names.epsilon).to(dtype="float64")
    return ours, theirs, names, SHAPE


def test_logits_equal_timms(pair):
    assert_logits_equal_torchs(*pair)


def test_gradients_equal_torchs_in_training(pair):
    assert_gradients_equal_torchs(*pair)


@pytest.mark.parametrize(("width", "shape"), [(1.0, (64, 90, 3)), (0.3, (33, 47, 3))])
def test_logits_equal_kerass(width, shape):
    with keras_in_float64() as keras:
        theirs = keras.applications.MobileNet(
            weights=None,
            alpha=width,
            input_shape=shape,
            classes=CLASSES,
            classifier_activation=None,
        )
        arrays = randomise_keras(theirs)
        want = keras_outputs(theirs, images(shape))

    names = names_of("mobilenet", "keras")
    ours = build(CLASSES, shape, width=width).to(dtype="float64")
    assert settings_mismatch(ours.architecture.settings, names) is None
    assert names.epsilon == ours.architecture.settings["epsilon"]
    ours.load_state(converted(ours, arrays, names, shape))
    arrays.pop("dropout/seed_generator_state")
    assert len(arrays) == len(ours.state())
    assert_close(ours.forward(images(shape))[0], want)


def test_weights_of_the_other_library_ask_for_its_padding():
    settings = build(2, (32, 32, 1), width=1 / 8).architecture.settings
    assert settings_mismatch(settings, names_of("mobilenet", "torch")) == (
        "build it with padding='symmetric'"
    )


@modes
@pytest.mark.parametrize(("stride", "padding"), [(1, 1), (2, 1), (2, ((0, 1), (0, 1)))])
def test_gradients_of_a_block(stride, padding, mode):
    block = stirred(separable(3, 4, stride, padding, rng=np.random.default_rng(0)))
    assert check_gradients(block, 3 * images((5, 4, 3), count=3), mode).undecidable == 0


@modes
@paddings
def test_gradients_of_the_whole_network_at_reduced_width(padding, mode):
    shape = (31, 31, 1) if padding == "keras" else (12, 15, 1)
    model = stirred(build(2, shape, width=1 / 32, padding=padding))
    model.freeze(parameters=False, statistics=False)
    report = check_gradients(model, images(shape, count=4), mode, elements=30)
    assert report.undecidable == 0


def test_too_small_an_image_names_the_layer_and_the_smallest_side():
    message = (
        r"mobilenet: an image of 30 × 60 is too small, its size runs out at block12\.conv_dw "
        r"\(.*\), whose input is 1 × 3: the smallest square that works is 31 × 31"
    )
    with pytest.raises(ValueError, match=message):
        build(2, (30, 60, 3), width=1 / 32)
    assert build(2, (31, 31, 3), width=1 / 32).base.output_shape((31, 31, 3))[:2] == (1, 1)
    # with a row on every side nothing runs out
    assert build(2, (1, 1, 3), padding="symmetric").base.output_shape((1, 1, 3)) == (1, 1, 1024)


@paddings
def test_grey_images_and_other_classes(padding):
    model = build(3, (32, 40, 1), width=1 / 4, padding=padding)
    x = images((32, 40, 1)).astype(np.float32)
    y, cache = model.forward(x, Mode(train=True, rng=np.random.default_rng(0)))
    assert y.shape == (2, *model.output_shape((32, 40, 1))) == (2, 3)
    assert model.backward(y, cache).shape == x.shape


def test_settings_reach_the_layers():
    model = build(3, (32, 32, 1), width=1 / 4, keep_prob=0.5, epsilon=2e-5)
    layers = model.named_layers()
    norms = [layer for layer in layers.values() if isinstance(layer, BatchNorm)]
    assert {layer.epsilon for layer in norms} == {2e-5}
    assert {layer.momentum for layer in norms} == {0.99}
    assert [d.keep_prob for d in layers.values() if isinstance(d, Dropout)] == [0.5]
    assert layers["base.block13.conv_pw"].out_channels == 256


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"padding": "same"}, "mobilenet: padding is 'same', want 'keras' .* or 'symmetric'"),
        ({"width": 0}, "mobilenet: width is 0, want a number above 0"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        build(2, (32, 32, 1), **settings)


def test_the_settings_build_the_same_network_again():
    model = build(2, (32, 32, 1), width=1 / 8, padding="symmetric")
    again = model.architecture.build()
    assert again.architecture == model.architecture
    assert again.state().keys() == model.state().keys()
