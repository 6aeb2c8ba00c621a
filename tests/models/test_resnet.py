"""tinynet/models/resnet.py, against torchvision's and Keras's networks with the same weights."""

import numpy as np
import pytest

from tests.oracles import (
    from_torch,
    keras_in_float64,
    keras_outputs,
    randomise,
    randomise_keras,
    to_torch,
    torch_arrays,
    torch_gradients,
    torch_or_skip,
    torchvision_or_skip,
)
from tinynet.gradient_check import check_gradients
from tinynet.interop.convert import converted, settings_mismatch
from tinynet.interop.names import names_of
from tinynet.layer import Mode
from tinynet.layers import BatchNorm, Conv2D
from tinynet.models import resnet50, resnet101, resnet152
from tinynet.models.architecture import ARCHITECTURES
from tinynet.models.resnet import EPSILON, Parts, bottleneck

BUILDERS = {"resnet50": resnet50, "resnet101": resnet101, "resnet152": resnet152}
TRAIN = Mode(train=True)
SHAPE = (35, 42, 3)  # odd sizes at every stride but one: 35, 18, 9, 5, 3, 2
CLASSES = 1000  # so that the parameters are as many as published

# torchvision counts what is learned; Keras the biases of its convolutions and the moving statistics
PUBLISHED = {
    "resnet50": (25_557_032, 25_636_712),
    "resnet101": (44_549_160, 44_707_176),
    "resnet152": (60_192_808, 60_419_944),
}


def build(name, *args, **settings):
    return BUILDERS[name](*args, rng=np.random.default_rng(0), **settings)


def size(arrays):
    return sum(x.size for x in arrays)


def learned(model):
    return size(p.value for p in model.parameters().values())


def assert_close(ours, theirs, largest=1e-8, name=""):
    assert ours.shape == theirs.shape
    assert abs(ours - theirs).max() <= largest * abs(theirs).max(), name


@pytest.mark.parametrize("name", BUILDERS)
def test_depth_is_in_the_name(name):
    model = build(name, 2, (32, 32, 1), width=1 / 64)
    shortcuts = sum("skip" in path for path, *_ in model.walk((32, 32, 1)) if "conv" in path)
    convolutions = sum(isinstance(layer, Conv2D) for _, layer, _ in model.walk((32, 32, 1)))
    assert shortcuts == 4
    assert convolutions - shortcuts + 1 == int(name.removeprefix("resnet"))


def test_sizes_and_channels_are_those_of_the_papers_table():
    base = build("resnet50", 10, (224, 224, 3)).base
    shape, shapes = (224, 224, 3), {}
    for name, layer in base.children().items():
        shape = shapes[name] = layer.output_shape(shape)
    assert shapes["conv1"] == (112, 112, 64)
    assert shapes["maxpool"] == (56, 56, 64)
    assert shapes["layer1"] == (56, 56, 256)
    assert shapes["layer2"] == (28, 28, 512)
    assert shapes["layer3"] == (14, 14, 1024)
    assert shapes["layer4"] == (7, 7, 2048)


@pytest.mark.parametrize(("stride_in", "convolution"), [("3x3", "conv2"), ("1x1", "conv1")])
def test_the_stride_is_in_one_convolution_of_a_stages_first_bottleneck(stride_in, convolution):
    model = build("resnet50", 2, (64, 64, 1), width=1 / 16, stride_in=stride_in)
    strided = [
        name
        for name, layer, _ in model.walk((64, 64, 1))
        if isinstance(layer, Conv2D) and layer.stride == (2, 2)
    ]
    assert strided == [
        "base.conv1",
        *(
            f"base.layer{stage}.0.residual.{path}"
            for stage in (2, 3, 4)
            for path in (f"main.{convolution}", "skip.conv")
        ),
    ]


@pytest.fixture(scope="module", params=BUILDERS)
def pair(request):
    """Our network and torchvision's with the same random weights and statistics, float64."""
    torch = torch_or_skip()
    torchvision = torchvision_or_skip()
    torch.manual_seed(0)
    theirs = randomise(getattr(torchvision.models, request.param)(num_classes=CLASSES))
    ours = build(request.param, CLASSES, SHAPE).to(dtype="float64")
    names = names_of(request.param, "torch")
    assert settings_mismatch(ours.architecture.settings, names) is None
    ours.load_state(converted(ours, torch_arrays(theirs), names, SHAPE))
    return ours, theirs, names


def images(count=2, shape=SHAPE):
    return np.random.default_rng(1).standard_normal((count, *shape))


def test_logits_and_count_equal_torchvisions(pair):
    ours, theirs, _ = pair
    torch = torch_or_skip()
    x = images()
    assert learned(ours) == PUBLISHED[ours.architecture.name][0]
    with torch.no_grad():
        want = theirs.eval()(to_torch(x)).numpy()
    assert_close(ours.forward(x)[0], want)


def test_gradients_equal_torchs_in_training(pair):
    ours, theirs, names = pair
    torch = torch_or_skip()
    x, dy = images(), np.random.default_rng(2).standard_normal((2, CLASSES))
    before = torch_arrays(theirs)
    t_x = to_torch(x)
    theirs.train().zero_grad()
    t_y = theirs(t_x)
    t_y.backward(torch.from_numpy(dy))

    ours.zero_grad()
    y, cache = ours.forward(x, TRAIN)
    dx = ours.backward(dy, cache)
    assert_close(y, t_y.detach().numpy())
    assert_close(dx, from_torch(t_x.grad))
    gradients = converted(ours, before | torch_gradients(theirs), names, SHAPE)
    for name, p in ours.parameters().items():
        assert_close(p.grad, gradients[name], name=name)
    theirs.load_state_dict({name: torch.from_numpy(np.asarray(x)) for name, x in before.items()})


@pytest.mark.parametrize("name", BUILDERS)
def test_logits_and_count_equal_kerass(name):
    with keras_in_float64() as keras:
        theirs = getattr(keras.applications, name.replace("resnet", "ResNet"))(
            weights=None, input_shape=SHAPE, classes=CLASSES, classifier_activation=None
        )
        arrays = randomise_keras(theirs)
        want = keras_outputs(theirs, images())

    names = names_of(name, "keras")
    ours = build(name, CLASSES, SHAPE, **names.requires, epsilon=names.epsilon)
    ours.to(dtype="float64").load_state(converted(ours, arrays, names, SHAPE))
    assert len(arrays) == len(ours.state())
    assert size(ours.state().values()) == size(arrays.values()) == PUBLISHED[name][1]
    assert_close(ours.forward(images())[0], want)


def test_weights_of_the_other_library_ask_for_its_settings():
    model = build("resnet50", 2, (32, 32, 1), width=1 / 64)
    message = settings_mismatch(model.architecture.settings, names_of("resnet50", "keras"))
    assert message == "build it with stride_in='1x1', conv_bias=True"


@pytest.mark.parametrize("mode", [TRAIN, Mode()])
@pytest.mark.parametrize(("channels", "stride"), [(8, 1), (3, 1), (8, 2)])
@pytest.mark.parametrize("stride_in", ["3x3", "1x1"])
def test_gradients_of_a_bottleneck(channels, stride, stride_in, mode):
    parts = Parts(stride_in, stride_in == "1x1", EPSILON, False, np.random.default_rng(0))
    block = bottleneck(parts, channels, 2, stride)
    assert (block.layers[0].skip is None) == (channels == 8 and stride == 1)
    x = np.random.default_rng(1).standard_normal((3, 5, 4, channels))
    report = check_gradients(block, x, mode)
    assert report.undecidable == 0


@pytest.mark.parametrize(
    ("name", "mode"),
    [("resnet50", TRAIN), ("resnet50", Mode()), ("resnet101", TRAIN), ("resnet152", TRAIN)],
)
def test_gradients_of_the_whole_network_at_reduced_width(name, mode):
    model = build(name, 2, (17, 17, 1), width=1 / 64)
    x = np.random.default_rng(1).standard_normal((4, 17, 17, 1))
    fill_statistics(model, x.astype(np.float32))
    elements = 40 if name == "resnet50" else 15
    report = check_gradients(model, x, mode, elements=elements)
    assert report.undecidable == 0


def fill_statistics(model, x):
    """Moving statistics as the batch has them; with 0 and 1 each block would add to the size."""
    for layer in model.named_layers().values():
        if isinstance(layer, BatchNorm):
            layer.momentum = 0
    model.forward(x, TRAIN)


def test_zero_last_gamma_starts_the_bottlenecks_as_the_identity():
    model = build("resnet50", 2, (33, 33, 1), width=1 / 16, zero_last_gamma=True)
    zero = [n for n, p in model.parameters().items() if n.endswith("gamma") and not p.value.any()]
    assert len(zero) == 16
    assert all(name.endswith("main.bn3.gamma") for name in zero)
    block = model.base.children()["layer1"].layers[1]
    x = abs(np.random.default_rng(0).standard_normal((2, 4, 4, 16))).astype(np.float32)
    assert np.array_equal(block.forward(x, TRAIN)[0], x)


def test_settings_reach_the_layers():
    model = build("resnet50", 3, (33, 33, 1), width=1 / 16, conv_bias=True, epsilon=2e-3)
    layers = model.named_layers().values()
    assert {layer.epsilon for layer in layers if isinstance(layer, BatchNorm)} == {2e-3}
    assert {layer.momentum for layer in layers if isinstance(layer, BatchNorm)} == {0.9}
    assert all(layer.bias is not None for layer in layers if isinstance(layer, Conv2D))
    assert learned(build("resnet50", 3, (33, 33, 1), width=0.5)) < 0.26 * 25_557_032


def test_any_image_down_to_one_pixel_grey_or_coloured():
    # every window is padded by half of itself, so the strides round up and nothing runs out
    for shape in [(1, 1, 1), (1, 50, 3), (7, 8, 4)]:
        model = build("resnet50", 5, shape, width=1 / 16)
        assert model.base.output_shape(shape) == (1, 2 if shape[1] == 50 else 1, 128)
        x = np.random.default_rng(0).standard_normal((2, *shape)).astype(np.float32)
        y, cache = model.forward(x)
        assert y.shape == (2, 5)
        assert model.backward(y, cache).shape == x.shape
    with pytest.raises(ValueError, match=r"resnet50: input_shape is \(0, 8, 1\), want \(height"):
        build("resnet50", 2, (0, 8, 1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stride_in": "2x2"}, r"resnet101: stride_in is '2x2', want '3x3' .* or '1x1'"),
        ({"width": 0}, "resnet101: width is 0, want a number above 0"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        build("resnet101", 2, (32, 32, 1), **settings)


def test_the_settings_build_the_same_network_again():
    model = build("resnet50", 2, (32, 32, 1), width=1 / 64, stride_in="1x1")
    again = model.architecture.build()
    assert again.architecture == model.architecture
    assert again.state().keys() == model.state().keys()
    assert ARCHITECTURES["resnet50"] is resnet50
