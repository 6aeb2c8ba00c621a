"""tinynet/models/vgg.py, against torchvision's and Keras's networks with the same weights."""

import numpy as np
import pytest

from tests.models.dense_heads import (
    he_normal,
    livened,
    on_no_device,
    with_small_head,
    without_dropout,
)
from tests.oracles import (
    from_torch,
    keras_in_float64,
    randomise,
    randomise_keras,
    to_torch,
    torch_arrays,
    torch_gradients,
    torch_or_skip,
    torchvision_or_skip,
)
from tinynet.gradient_check import check_gradients
from tinynet.initializers import zeros
from tinynet.interop.convert import converted, settings_mismatch, slots
from tinynet.interop.names import WeightNames, names_of
from tinynet.layer import Mode
from tinynet.layers import BatchNorm, Conv2D, Dense, Dropout
from tinynet.models import vgg, vgg16, vgg19

BUILDERS = {"vgg16": vgg16, "vgg19": vgg19}
TRAIN = Mode(train=True, rng=np.random.default_rng(1))
SHAPE = (64, 97, 3)  # 2 × 3 cells are flattened: the order counts
CLASSES, HIDDEN = 7, 24


def build(name, *args, **settings):
    return BUILDERS[name](*args, rng=np.random.default_rng(0), **settings)


def images(shape=SHAPE):
    return np.random.default_rng(1).standard_normal((2, *shape))


def learned(model):
    return sum(p.value.size for p in model.parameters().values())


def assert_close(ours, theirs, name=""):
    assert ours.shape == theirs.shape
    assert abs(ours - theirs).max() <= 1e-8 * abs(theirs).max(), name


@pytest.fixture(params=BUILDERS)
def full_size(request, monkeypatch):
    """(name, the network at its native size), its weights all 0, which takes no time."""
    monkeypatch.setattr(vgg, "he_normal", zeros)
    return request.param, build(request.param, 1000, (224, 224, 3))


# published: the papers' networks have no batch norm, so nothing but weights and biases is counted
def test_parameters_and_multiply_adds_are_as_many_as_published(full_size):
    name, model = full_size
    assert learned(model) == {"vgg16": 138_357_544, "vgg19": 143_667_240}[name]
    billions = model.multiply_adds((224, 224, 3)) / 1e9  # as torchvision's documentation has them
    assert round(billions, 2) == {"vgg16": 15.47, "vgg19": 19.63}[name]
    weighted = [p for p in model.named_layers().values() if isinstance(p, Conv2D | Dense)]
    assert len(weighted) == int(name.removeprefix("vgg"))


def test_every_weight_has_its_place_in_torchvisions_file(full_size):
    name, model = full_size
    theirs = {n: tuple(x.shape) for n, x in on_no_device(name).state_dict().items()}
    ours = slots(model, names_of(name, "torch"), (224, 224, 3)).values()
    assert {slot.name: slot.there for slot in ours} == theirs


@pytest.fixture(scope="module", params=BUILDERS)
def pair(request):
    """Our network and torchvision's with the same random weights, float64, nothing dropped."""
    name = request.param
    theirs = without_dropout(with_small_head(on_no_device(name), 2 * 3 * 512, HIDDEN, CLASSES))
    ours = build(name, CLASSES, SHAPE, hidden=HIDDEN).to(dtype="float64")
    ours.freeze(parameters=False, statistics=False)
    names = names_of(name, "torch")
    assert settings_mismatch(ours.architecture.settings, names) is None
    ours.load_state(converted(ours, torch_arrays(theirs), names, SHAPE))
    return ours, theirs, names


def assert_same_passes(ours, theirs, names, x, mode):
    torch = torch_or_skip()
    dy = np.random.default_rng(2).standard_normal((len(x), CLASSES))
    before, t_x = torch_arrays(theirs), to_torch(x)
    t_y = theirs.train(mode.train)(t_x)
    t_y.backward(torch.from_numpy(dy))
    y, cache = ours.forward(x, mode)
    dx = ours.backward(dy, cache)
    assert_close(y, t_y.detach().numpy())
    assert_close(dx, from_torch(t_x.grad))
    gradients = converted(ours, before | torch_gradients(theirs), names, x.shape[1:])
    for name, p in ours.parameters().items():
        assert_close(p.grad, gradients[name], name)


def test_logits_and_gradients_equal_torchvisions(pair):
    assert_same_passes(*pair, images(), TRAIN)
    ours, _, _ = pair
    y, _ = ours.forward(images())
    assert abs(y[0] - y[1]).max() > 0.01 * abs(y).max()  # the images are told apart


def test_with_batch_norm_equals_torchvisions(monkeypatch):
    """torchvision's convolutions keep biases before a batch norm; at 0 it is the same network."""
    torch, torchvision = torch_or_skip(), torchvision_or_skip()
    theirs = randomise(torchvision.models.vgg.make_layers([8, 8, "M", 16, "M"], batch_norm=True))
    theirs.extend([torch.nn.Flatten(), torch.nn.Linear(2 * 3 * 16, CLASSES)])
    he_normal(theirs.double())
    with torch.no_grad():
        for name in ("0.bias", "3.bias", "7.bias"):
            theirs.get_parameter(name).zero_()
    monkeypatch.setattr(vgg, "BLOCKS", (("block1", 8, ()), ("block2", 16, ())))
    shape = (8, 13, 3)
    ours = vgg.vgg("vgg", (2, 1), CLASSES, shape, True, 4, 1, 1e-5, 1, np.random.default_rng(0))
    ours.head = type(ours.head)(
        flatten=ours.head.layers[0], classes=Dense(96, CLASSES, rng=np.random.default_rng(0))
    )
    layers = {"block1.conv1": 0, "block1.bn1": 1, "block1.conv2": 3, "block1.bn2": 4}
    layers |= {"block2.conv1": 7, "block2.bn1": 8}
    where = {f"base.{path}": str(number) for path, number in layers.items()}
    names = WeightNames("torch", "torchvision", (where | {"head.classes": "12"}).__getitem__)
    ours.to(dtype="float64").load_state(converted(ours, torch_arrays(theirs), names, shape))
    assert_same_passes(ours, theirs, names, images(shape), Mode())
    ours.zero_grad()
    theirs.zero_grad()
    assert_same_passes(ours, theirs, names, images(shape), TRAIN)


@pytest.mark.parametrize("name", BUILDERS)
def test_logits_and_gradients_equal_kerass(name):
    shape = (32, 64, 3)
    torch = torch_or_skip()
    x, dy = images(shape), np.random.default_rng(2).standard_normal((2, CLASSES))
    with keras_in_float64() as keras:
        theirs = getattr(keras.applications, name.upper())(
            weights=None, input_shape=shape, classes=CLASSES, classifier_activation=None
        )
        arrays = randomise_keras(theirs)
        t_x = torch.from_numpy(x).requires_grad_()
        t_y = theirs(t_x)
        t_y.backward(torch.from_numpy(dy))
        theirs_by_name = {
            f"{layer.name}/{v.name}": v.value.grad.numpy()
            for layer in theirs.layers
            for v in layer.variables
        }

    names = names_of(name, "keras")
    ours = build(name, CLASSES, shape).to(dtype="float64")
    ours.load_state(converted(ours, arrays, names, shape))
    assert len(arrays) == len(ours.state())
    y, cache = ours.forward(x)
    dx = ours.backward(dy, cache)
    assert_close(y, t_y.detach().numpy())
    assert_close(dx, t_x.grad.numpy())
    gradients = converted(ours, theirs_by_name, names, shape)
    for path, p in ours.parameters().items():
        assert_close(p.grad, gradients[path], path)


@pytest.mark.parametrize("mode", [TRAIN, Mode()])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_gradients_of_a_block(batch_norm, mode):
    model = build("vgg19", 2, (32, 32, 3), hidden=2, width=1 / 64, batch_norm=batch_norm)
    block = livened(model.base.children()["block3"])
    x = np.random.default_rng(1).standard_normal((2, 4, 5, 2))
    report = check_gradients(block, x, mode)
    assert report.undecidable == 0
    assert {check.name for check in report.arrays} == {"x", *block.parameters()}


@pytest.mark.parametrize(("name", "batch_norm"), [("vgg16", True), ("vgg19", False)])
def test_gradients_of_the_whole_network_at_reduced_width(name, batch_norm):
    model = build(name, 2, (32, 32, 1), hidden=8, width=1 / 64, batch_norm=batch_norm)
    x = np.random.default_rng(1).standard_normal((2, 32, 32, 1))
    report = check_gradients(livened(model), x, TRAIN, elements=150)
    assert {check.name for check in report.arrays} == {"x", *model.parameters()}
    y, cache = model.forward(x, TRAIN)
    model.backward(np.ones_like(y), cache)
    assert all(p.grad.any() for p in model.parameters().values())  # nothing is dead


def test_blocks_are_those_of_the_papers_table(full_size):
    name, model = full_size
    shape, shapes = (224, 224, 3), []
    for block in model.base.layers:
        shape = block.output_shape(shape)
        shapes.append(shape)
    assert shapes == [(112, 112, 64), (56, 56, 128), (28, 28, 256), (14, 14, 512), (7, 7, 512)]
    for block in model.base.layers:
        for layer in block.layers:
            if isinstance(layer, Conv2D):
                assert layer.kernel_size == (3, 3)
                assert layer.padding == "same"
    counts = [sum(isinstance(part, Conv2D) for part in b.layers) for b in model.base.layers]
    assert counts == ([2, 2, 3, 3, 3] if name == "vgg16" else [2, 2, 4, 4, 4])


def test_settings_reach_the_layers():
    settings = {"hidden": 5, "width": 1 / 32, "keep_prob": 0.7, "epsilon": 2e-3}
    model = build("vgg16", 3, (32, 32, 1), batch_norm=True, **settings)
    layers = model.named_layers().values()
    norms = [part for part in layers if isinstance(part, BatchNorm)]
    assert len(norms) == 13
    assert {(part.epsilon, part.momentum) for part in norms} == {(2e-3, 0.9)}
    assert [part.keep_prob for part in layers if isinstance(part, Dropout)] == [0.7, 0.7]
    assert all(part.bias is None for part in layers if isinstance(part, Conv2D))
    assert model.head.layers[-1].weight.shape == (5, 3)
    assert model.architecture.build().architecture == model.architecture
    with pytest.raises(ValueError, match="vgg19: width is 0, want a number above 0"):
        build("vgg19", 3, (32, 32, 1), width=0)


def test_grey_images_down_to_the_smallest():
    model = build("vgg16", 5, (32, 45, 1), hidden=4, width=1 / 32)
    x = images((32, 45, 1)).astype(np.float32)
    y, cache = model.forward(x)
    assert y.shape == (2, *model.output_shape((32, 45, 1))) == (2, 5)
    assert y.dtype == np.float32
    assert model.backward(y, cache).shape == x.shape
    with pytest.raises(
        ValueError, match=r"vgg16: an image of 31 × 45 .* at block5\.pool .* works is 32 × 32"
    ):
        build("vgg16", 5, (31, 45, 1), hidden=4, width=1 / 32)
