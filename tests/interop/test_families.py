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
from tinynet.interop.names import NAMES as FAMILIES, names_of

CLASSES = 5
TIMM = {
    "se_resnet50": "seresnet50",
    "inception_v4": "inception_v4",
    "inception_resnet_v2": "inception_resnet_v2",
    "mobilenet": "mobilenetv1_100",
}
KERAS = {
    "vgg16": "VGG16",
    "vgg19": "VGG19",
    "resnet50": "ResNet50",
    "resnet101": "ResNet101",
    "resnet152": "ResNet152",
    "densenet121": "DenseNet121",
    "densenet169": "DenseNet169",
    "mobilenet": "MobileNet",
    "inception_resnet_v2": "InceptionResNetV2",
}
SIDES = {"inception_v4": 75, "inception_resnet_v2": 75, "alexnet": 95}  # others: 32
HIDDEN = 16  # of the dense heads of VGG and AlexNet, whose own would be 100 million numbers
FEATURES = {"vgg16": 512, "vgg19": 512, "alexnet": 2 * 2 * 256}  # at those sides
LARGE = ["resnet101", "resnet152", "vgg19", "densenet169", "alexnet", "se_resnet50"]
LARGE += ["inception_v4", "densenet121", "inception_resnet_v2"]


def ours(name, library):
    """Our network with the settings that the library's weights require."""
    names = names_of(name, library)
    settings = dict(names.requires)
    if name in FEATURES:
        settings["hidden"] = HIDDEN
    if name == "googlenet":
        settings["auxiliary"] = False
    side = SIDES.get(name, 32)
    rng = NoNumbers(np.random.PCG64(0))
    return getattr(tinynet.models, name)(CLASSES, (side, side, 3), rng=rng, **settings)


class NoNumbers(np.random.Generator):
    """Starting weights of 0, in no time: the file's come next."""

    def normal(self, loc=0.0, scale=1.0, size=None):
        return np.zeros(size)

    def standard_normal(self, size=None, *args, **kwargs):
        return np.zeros(size)

    def uniform(self, low=0.0, high=1.0, size=None):
        return np.zeros(size)


def images(name):
    side = SIDES.get(name, 32)
    return np.random.default_rng(1).standard_normal((2, side, side, 3)).astype("float32")


def drawn(rng, name, shape):
    """Numbers for a weight, scale, shift or statistic that keep signals at their size."""
    kind = name.rsplit(".", 1)[-1].rsplit("/", 1)[-1]
    if len(shape) > 1:
        inputs = np.prod(shape[1:]) if "." in name else np.prod(shape[:-1])
        if kind == "kernel" and len(shape) == 4 and shape[3] == 1:  # Keras's depthwise
            inputs = np.prod(shape[:2])
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
        elif name == "googlenet":  # with the auxiliary classifiers, as in the official file
            theirs = torchvision.models.googlenet(num_classes=CLASSES, init_weights=False)
        else:
            builder = {"shufflenet_v2": "shufflenet_v2_x1_0"}.get(name, name)
            theirs = getattr(torchvision.models, builder)(num_classes=CLASSES)
    if name in FEATURES:
        theirs = with_small_head(theirs, FEATURES[name], HIDDEN, CLASSES).float()
    theirs.to_empty(device="cpu")
    rng = np.random.default_rng(2)
    with torch.no_grad():
        for key, x in theirs.state_dict().items():
            x.copy_(torch.from_numpy(np.asarray(drawn(rng, f".{key}", tuple(x.shape)))))
    return theirs.eval()


def keras_network(name):
    """Keras's network; VGG's without its dense layers."""
    keras = keras_or_skip()
    side = SIDES.get(name, 32)
    if name in FEATURES:
        top = {"include_top": False}
    else:
        top = {"classes": CLASSES, "classifier_activation": None}
        if name == "mobilenet":
            top = {"classes": CLASSES, "classifier_activation": "linear"}
    theirs = getattr(keras.applications, KERAS[name])(
        weights=None, input_shape=(side, side, 3), **top
    )
    rng = np.random.default_rng(2)
    for layer in theirs.layers:
        for variable in layer.variables:
            variable.assign(drawn(rng, f"/{variable.name}", tuple(variable.shape)))
    return theirs


def save_pth(theirs, folder):
    torch_or_skip().save(theirs.state_dict(), folder / "weights.pth")
    return folder / "weights.pth"


def save_old_pth(theirs, folder):
    torch = torch_or_skip()
    file = folder / "old.pth"
    torch.save(theirs.state_dict(), file, _use_new_zipfile_serialization=False)
    return file


def save_safetensors(theirs, folder):
    package("safetensors.torch").save_file(theirs.state_dict(), folder / "weights.safetensors")
    return folder / "weights.safetensors"


def save_weights_h5(theirs, folder):
    theirs.save_weights(folder / "network.weights.h5")
    return folder / "network.weights.h5"


def save_keras(theirs, folder):
    theirs.save(folder / "network.keras")
    return folder / "network.keras"


def save_old_h5(theirs, folder):
    legacy = package("keras.src.legacy.saving.legacy_h5_format")
    with package("h5py").File(folder / "network.h5", "w") as file:
        legacy.save_weights_to_hdf5_group(file, theirs)
    return folder / "network.h5"


TORCH_FORMATS = (save_pth, save_safetensors, save_old_pth)
KERAS_FORMATS = (save_weights_h5, save_keras, save_old_h5)


def formats_of(name, formats):
    """All formats, or one for a large network, which is another for the next."""
    if name in LARGE:
        return [formats[LARGE.index(name) % len(formats)]]
    return formats


def probabilities(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def assert_loads(name, library, load, files, expected, skip=()):
    """Every file gives the same network; its probabilities are those expected."""
    model = ours(name, library)
    first = None
    for file in files:
        report = load(model, file, skip=skip)
        file.unlink()
        assert report.missing == () or skip
        assert len(report.loaded) + len(report.skipped) == len(model.state())
        epsilon = names_of(name, library).epsilon
        assert epsilon is None or model.architecture.settings["epsilon"] == epsilon
        if first is None:
            first = {key: x.copy() for key, x in model.state().items()}
        else:
            assert all(np.array_equal(first[key], x) for key, x in model.state().items())
        if file is not files[-1]:
            for ours_now in report.loaded:
                model.state()[ours_now][...] = 0.5
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


@pytest.mark.parametrize("name", FAMILIES)
def test_torch_files(name, tmp_path):
    torch = torch_or_skip()
    theirs = torch_network(name)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(images(name).transpose(0, 3, 1, 2).copy())).numpy()
    files = [save(theirs, tmp_path) for save in formats_of(name, TORCH_FORMATS)]
    assert_loads(name, "torch", load_torch, files, expected)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # in Keras
@pytest.mark.parametrize("name", KERAS)
def test_keras_files(name, tmp_path):
    package("h5py")
    theirs = keras_network(name)
    with torch_or_skip().no_grad():
        expected = theirs(images(name), training=False).numpy()
    files = [save(theirs, tmp_path) for save in formats_of(name, KERAS_FORMATS)]
    skip = ("head",) if name in FEATURES else ()
    assert_loads(name, "keras", load_keras, files, expected, skip)


def test_no_library_of_an_architecture_is_left_out():
    known = {name for name in FAMILIES for library in ("torch", "keras") if knows(name, library)}
    assert known == set(FAMILIES)
    assert {name for name in FAMILIES if knows(name, "keras")} == set(KERAS)
    assert all(knows(name, "torch") for name in FAMILIES)


def knows(name, library):
    try:
        return names_of(name, library).library == library
    except tinynet.interop.WeightsError:
        return False
