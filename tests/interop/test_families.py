"""Every architecture whose names are known: a file of the other library, loaded, gives its numbers.

The networks have random weights and statistics and five classes; images are small. The files are
written by torch.save, safetensors and Keras itself.
"""

import numpy as np
import pytest

import tinynet.models
from tests.models.dense_heads import with_small_head
from tests.oracles import keras_or_skip, package, timm_or_skip, torch_or_skip, torchvision_or_skip
from tinynet.interop import load_keras, load_torch
from tinynet.interop.names import NAMES, names_of

CLASSES = 5
# what the peer calls an architecture, where the name is another
TORCHVISION = {"shufflenet_v2": "shufflenet_v2_x1_0"}
TIMM = {"se_resnet50": "seresnet50", "mobilenet": "mobilenetv1_100"}
TIMM |= {name: name for name in ("inception_v4", "inception_resnet_v2")}
KERAS = {"vgg16": "VGG16", "vgg19": "VGG19", "resnet50": "ResNet50", "resnet101": "ResNet101"}
KERAS |= {"resnet152": "ResNet152", "densenet121": "DenseNet121", "densenet169": "DenseNet169"}
KERAS |= {"mobilenet": "MobileNet", "inception_resnet_v2": "InceptionResNetV2"}
SIDES = {"inception_v4": 75, "inception_resnet_v2": 75, "alexnet": 95}  # others: 32
HIDDEN = 16  # of the dense heads of VGG and AlexNet, whose own would be 100 million numbers
FEATURES = {"vgg16": 512, "vgg19": 512, "alexnet": 2 * 2 * 256}  # at those sides


def quick(names, default):
    """All but one of the architectures are slow."""
    return [
        name if name == default else pytest.param(name, marks=pytest.mark.slow) for name in names
    ]


class NoNumbers(np.random.Generator):
    """Starting weights of 0, in no time: the file's come next."""

    def normal(self, loc=0.0, scale=1.0, size=None):
        return np.zeros(size)

    def standard_normal(self, size=None, *args, **kwargs):
        return np.zeros(size)

    def uniform(self, low=0.0, high=1.0, size=None):
        return np.zeros(size)


def ours(name, library):
    """Our network with the settings that the library's weights require."""
    settings = dict(names_of(name, library).requires)
    settings |= {"hidden": HIDDEN} if name in FEATURES else {}
    settings |= {"auxiliary": False} if name == "googlenet" else {}
    side = SIDES.get(name, 32)
    rng = NoNumbers(np.random.PCG64(0))
    return getattr(tinynet.models, name)(CLASSES, (side, side, 3), rng=rng, **settings)


def images(name):
    side = SIDES.get(name, 32)
    return np.random.default_rng(1).standard_normal((2, side, side, 3)).astype("float32")


def drawn(rng, kind, shape, inputs):
    """Numbers for a weight, scale, shift or statistic that keep signals at their size."""
    if len(shape) > 1:
        return rng.standard_normal(shape, "float32") * np.float32(np.sqrt(2 / inputs))
    if kind in ("gamma", "moving_variance", "running_var", "weight"):
        return rng.uniform(0.7, 1.3, shape)
    return rng.uniform(-0.2, 0.2, shape)


def torch_network(name):
    """torchvision's or timm's network, from names and shapes alone and then numbers."""
    torch, torchvision = torch_or_skip(), torchvision_or_skip()
    with torch.device("meta"):
        if name in TIMM:
            theirs = timm_or_skip().create_model(TIMM[name], num_classes=CLASSES)
        else:  # GoogLeNet with the auxiliary classifiers, as in the official file
            options = {"init_weights": False} if name == "googlenet" else {}
            builder = getattr(torchvision.models, TORCHVISION.get(name, name))
            theirs = builder(num_classes=CLASSES, **options)
    if name in FEATURES:
        theirs = with_small_head(theirs, FEATURES[name], HIDDEN, CLASSES).float()
    theirs.to_empty(device="cpu")
    rng = np.random.default_rng(2)
    with torch.no_grad():
        for key, x in theirs.state_dict().items():
            shape = tuple(x.shape)
            values = drawn(rng, key.rpartition(".")[2], shape, np.prod(shape[1:]))
            x.copy_(torch.from_numpy(np.asarray(values)))
    return theirs.eval()


def keras_network(name):
    """Keras's network; VGG's without its dense layers."""
    side = SIDES.get(name, 32)
    top = {"classes": CLASSES, "classifier_activation": "linear"}
    options = {"include_top": False} if name in FEATURES else top
    builder = getattr(keras_or_skip().applications, KERAS[name])
    theirs = builder(weights=None, input_shape=(side, side, 3), **options)
    rng = np.random.default_rng(2)
    for layer in theirs.layers:
        for variable in layer.variables:
            shape = tuple(variable.shape)
            depthwise = variable.name == "kernel" and len(shape) == 4 and shape[3] == 1
            inputs = np.prod(shape[:2] if depthwise else shape[:-1])
            variable.assign(drawn(rng, variable.name, shape, inputs))
    return theirs


def save_old_h5(theirs, file):
    legacy = package("keras.src.legacy.saving.legacy_h5_format")
    with package("h5py").File(file, "w") as opened:
        legacy.save_weights_to_hdf5_group(opened, theirs)


TORCH_FORMATS = {
    "weights.pth": lambda theirs, file: torch_or_skip().save(theirs.state_dict(), file),
    "weights.safetensors": lambda theirs, file: package("safetensors.torch").save_file(
        theirs.state_dict(), file
    ),
    "old.pth": lambda theirs, file: torch_or_skip().save(
        theirs.state_dict(), file, _use_new_zipfile_serialization=False
    ),
}
KERAS_FORMATS = {
    "network.weights.h5": lambda theirs, file: theirs.save_weights(file),
    "network.keras": lambda theirs, file: theirs.save(file),
    "network.h5": save_old_h5,
}


def probabilities(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def assert_loads(name, library, theirs, folder, expected, skip=()):
    """A file of theirs, in a format that differs from one architecture to the next, gives the
    probabilities expected."""
    formats = list((TORCH_FORMATS if library == "torch" else KERAS_FORMATS).items())
    file, save = formats[list(NAMES).index(name) % len(formats)]
    save(theirs, folder / file)
    model = ours(name, library)
    report = (load_torch if library == "torch" else load_keras)(model, folder / file, skip=skip)
    assert report.missing == () or skip
    assert len(report.loaded) + len(report.skipped) == len(model.state())
    epsilon = names_of(name, library).epsilon
    assert epsilon is None or model.architecture.settings["epsilon"] == epsilon
    if skip:
        y = model.base.forward(images(name))[0]
        np.testing.assert_allclose(y, expected, atol=1e-5 * abs(expected).max())
        return
    # a deep residual network of random weights has logits in the thousands, whose probabilities
    # are 0 and 1 whatever the image: they are brought to the size of a trained network's
    scale = 5 / abs(expected).max()
    y, expected = scale * model.forward(images(name))[0], scale * expected
    assert abs(probabilities(y) - probabilities(expected)).max() < 1e-5
    assert np.ptp(probabilities(expected), axis=0).max() > 1e-4  # they depend on the image


@pytest.mark.parametrize("name", quick(NAMES, "shufflenet_v2"))
def test_torch_files(name, tmp_path):
    torch = torch_or_skip()
    theirs = torch_network(name)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(images(name).transpose(0, 3, 1, 2).copy())).numpy()
    assert_loads(name, "torch", theirs, tmp_path, expected)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # in Keras
@pytest.mark.parametrize("name", quick(KERAS, "mobilenet"))
def test_keras_files(name, tmp_path):
    package("h5py")
    theirs = keras_network(name)
    with torch_or_skip().no_grad():
        expected = theirs(images(name), training=False).numpy()
    skip = ("head",) if name in FEATURES else ()
    assert_loads(name, "keras", theirs, tmp_path, expected, skip)


def test_no_library_of_an_architecture_is_left_out():
    libraries = {name: {names.library for names in known} for name, known in NAMES.items()}
    assert libraries == {name: {"torch", "keras"} if name in KERAS else {"torch"} for name in NAMES}
