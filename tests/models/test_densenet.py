"""tinynet/models/densenet.py, against torchvision's and Keras's networks with the same weights."""

import re

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
    torch_arrays,
    torch_or_skip,
    torchvision_or_skip,
)
from tinynet.gradient_check import check_gradients
from tinynet.interop import load_torch
from tinynet.interop.convert import converted, settings_mismatch
from tinynet.interop.names import names_of
from tinynet.layer import EVAL, Mode
from tinynet.layers import BatchNorm, Conv2D, Dense
from tinynet.models import densenet121, densenet169
from tinynet.models.densenet import dense_block, dense_layer, transition

BUILDERS = {"densenet121": densenet121, "densenet169": densenet169}
TRAIN = Mode(train=True)
SHAPE = (65, 75, 3)  # 2 × 2 cells in the last block: batch norm over 2 images alone is near a step
CLASSES = 7
both = pytest.mark.parametrize("name", BUILDERS)
modes = pytest.mark.parametrize("mode", [TRAIN, EVAL], ids=["train", "eval"])


def build(name, *args, **settings):
    return BUILDERS[name](*args, rng=np.random.default_rng(0), **settings)


# torchvision counts what is learned, Keras the moving statistics too
@pytest.mark.parametrize(
    ("name", "torchvision", "keras"),
    [("densenet121", 7_978_856, 8_062_504), ("densenet169", 14_149_480, 14_307_880)],
)
def test_parameters_are_as_many_as_published(name, torchvision, keras):
    model = build(name, 1000, (224, 224, 3))
    assert learned(model) == torchvision
    assert kept(model) == keras


@both
def test_depth_is_in_the_name(name):
    layers = build(name, 2, (32, 32, 1), width=1 / 32).named_layers().values()
    assert sum(isinstance(layer, Conv2D | Dense) for layer in layers) == int(name[-3:])


def test_sizes_and_channels_are_those_of_the_papers_table():
    base = build("densenet169", 10, (224, 224, 3)).base
    shape, shapes = (224, 224, 3), {}
    for name, layer in base.children().items():
        shape = shapes[name] = layer.output_shape(shape)
    assert shapes["conv0"] == (112, 112, 64)
    assert shapes["pool0"] == (56, 56, 64)
    assert shapes["denseblock1"] == (56, 56, 64 + 6 * 32)
    assert shapes["transition1"] == (28, 28, 128)
    assert shapes["denseblock2"] == (28, 28, 128 + 12 * 32)
    assert shapes["denseblock3"] == (14, 14, 256 + 32 * 32)
    assert shapes["denseblock4"] == shape == (7, 7, 640 + 32 * 32)


@pytest.fixture(scope="module")
def pair():
    """Our network and torchvision's, in float64."""
    torch = torch_or_skip()
    torchvision = torchvision_or_skip()
    torch.manual_seed(0)
    theirs = randomise(torchvision.models.densenet169(num_classes=CLASSES))
    ours = build("densenet169", CLASSES, SHAPE).to(dtype="float64")
    names = names_of("densenet169", "torch")
    assert settings_mismatch(ours.architecture.settings, names) is None
    return ours, theirs, names, SHAPE


def test_logits_equal_torchvisions(pair):
    assert_logits_equal_torchs(*pair)


def test_gradients_equal_torchs_in_training(pair):
    assert_gradients_equal_torchs(*pair)


@both
def test_logits_equal_kerass(name):
    with keras_in_float64() as keras:
        theirs = getattr(keras.applications, name.replace("densenet", "DenseNet"))(
            weights=None, input_shape=SHAPE, classes=CLASSES, classifier_activation=None
        )
        arrays = randomise_keras(theirs)
        want = keras_outputs(theirs, images(SHAPE))

    names = names_of(name, "keras")
    ours = build(name, CLASSES, SHAPE, epsilon=names.epsilon).to(dtype="float64")
    ours.load_state(converted(ours, arrays, names, SHAPE))
    assert len(arrays) == len(ours.state())
    assert_close(ours.forward(images(SHAPE))[0], want)


def test_the_published_files_older_names(pair, tmp_path):
    ours, theirs, names, shape = pair
    older = re.compile(r"(denselayer\d+\.(?:norm|conv))([12])")
    arrays = {older.sub(r"\1.\2", name): x for name, x in theirs.state_dict().items()}
    assert "features.denseblock4.denselayer32.conv.2.weight" in arrays
    torch_or_skip().save(arrays, tmp_path / "older.pth")
    for x in ours.state().values():
        x[...] = 0
    load_torch(ours, tmp_path / "older.pth")
    want = converted(ours, torch_arrays(theirs), names, shape)
    assert all(np.array_equal(x, want[name]) for name, x in ours.state().items())


def test_a_layer_keeps_its_input_and_adds_to_it():
    layer = dense_layer(3, 2, rng=np.random.default_rng(0))
    x = images((4, 5, 3)).astype(np.float32)
    y, _ = layer.forward(x, TRAIN)
    assert np.array_equal(y[..., :3], x)
    new, _ = layer.branches[1].forward(x, TRAIN)
    assert np.array_equal(y[..., 3:], new)
    assert new.shape == (2, 4, 5, 2)


@modes
@pytest.mark.parametrize(
    "block",
    [
        dense_layer(3, 1, rng=np.random.default_rng(0)),
        dense_block(3, 3, 1, rng=np.random.default_rng(0)),
        transition(3, 2, rng=np.random.default_rng(0)),
    ],
    ids=["layer", "block", "transition"],
)
def test_gradients_of_a_block(block, mode):
    assert check_gradients(stirred(block), images((5, 3, 3), count=3), mode).undecidable == 0


@modes
def test_gradients_of_the_whole_network_at_reduced_width(mode):
    model = stirred(build("densenet169", 2, (29, 29, 1), width=1 / 32))
    assert check_gradients(model, images((29, 29, 1), count=4), mode, elements=10).undecidable == 0


@both
def test_too_small_an_image_names_the_layer_and_the_smallest_side(name):
    message = (
        rf"{name}: an image of 28 × 60 is too small, its size runs out at transition3\.pool "
        r"\(.*\), whose input is 1 × 3: the smallest square that works is 29 × 29"
    )
    with pytest.raises(ValueError, match=message):
        build(name, 2, (28, 60, 3), width=1 / 32)
    assert build(name, 2, (29, 29, 3), width=1 / 32).base.output_shape((29, 29, 3))[:2] == (1, 1)


def test_grey_images_and_other_classes():
    model = build("densenet169", 3, (32, 40, 1), width=1 / 8)
    x = images((32, 40, 1)).astype(np.float32)
    y, cache = model.forward(x, TRAIN)
    assert y.shape == (2, *model.output_shape((32, 40, 1))) == (2, 3)
    assert model.backward(y, cache).shape == x.shape


def test_settings_reach_the_layers():
    model = build("densenet121", 3, (32, 32, 1), width=1 / 4, epsilon=2e-3)
    layers = model.named_layers()
    norms = [layer for layer in layers.values() if isinstance(layer, BatchNorm)]
    assert {layer.epsilon for layer in norms} == {2e-3}
    assert {layer.momentum for layer in norms} == {0.9}
    assert layers["base.conv0"].out_channels == 16
    assert layers["base.denseblock1.denselayer1.new.conv2"].out_channels == 8
    with pytest.raises(ValueError, match="densenet121: width is 0, want a number above 0"):
        build("densenet121", 2, (32, 32, 1), width=0)


def test_the_settings_build_the_same_network_again():
    model = build("densenet169", 2, (32, 32, 1), width=1 / 32, epsilon=2e-5)
    again = model.architecture.build()
    assert again.architecture == model.architecture
    assert again.architecture.name == "densenet169"
    assert again.state().keys() == model.state().keys()
