"""tinynet/models/alexnet.py, against torchvision's network, and the original written in torch."""

from importlib import import_module

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
    randomise,
    to_torch,
    torch_arrays,
    torch_gradients,
    torch_or_skip,
)
from tinynet.gradient_check import check_gradients
from tinynet.initializers import zeros
from tinynet.interop.convert import converted, settings_mismatch, slots
from tinynet.interop.names import WeightNames, names_of
from tinynet.layer import Mode
from tinynet.layers import Conv2D, Dropout, LocalResponseNorm
from tinynet.models import alexnet
from tinynet.models.alexnet import ONE_TOWER, TWO_TOWERS

TRAIN = Mode(train=True, rng=np.random.default_rng(1))
CLASSES, HIDDEN = 7, 24


def build(*args, **settings):
    return alexnet(*args, rng=np.random.default_rng(0), **settings)


def kinds(layer):
    return [type(part).__name__ for part in layer.layers]


def learned(model):
    return sum(p.value.size for p in model.parameters().values())


def assert_close(ours, theirs, name=""):
    assert ours.shape == theirs.shape
    assert abs(ours - theirs).max() <= 1e-8 * abs(theirs).max(), name


@pytest.fixture
def no_time(monkeypatch):
    """Starting weights of 0, which take no time."""
    monkeypatch.setattr(import_module("tinynet.models.alexnet"), "he_normal", zeros)


def test_parameters_are_as_many_as_published(no_time):
    """One tower as torchvision has it; two counted by hand from the paper's §3.5, "60 million"."""
    assert learned(build(1000, (224, 224, 3), one_tower=True)) == 61_100_840
    convolutions = [
        (11 * 11 * 3 + 1) * 96,
        (5 * 5 * 48 + 1) * 256,
        (3 * 3 * 256 + 1) * 384,
        (3 * 3 * 192 + 1) * 384,
        (3 * 3 * 192 + 1) * 256,
    ]
    dense = [(6 * 6 * 256 + 1) * 4096, (4096 + 1) * 4096, (4096 + 1) * 1000]
    assert sum(convolutions) + sum(dense) == 60_965_224
    assert learned(build(1000, (227, 227, 3))) == 60_965_224


def test_sizes_are_the_papers(no_time):
    shape, shapes = (227, 227, 3), {}
    for name, layer in build(1000, shape).base.children().items():
        shape = shapes[name] = layer.output_shape(shape)
    assert shapes["conv1"] == (55, 55, 96)
    assert shapes["pool1"] == (27, 27, 96)
    assert shapes["conv2"] == (27, 27, 256)
    assert shapes["pool2"] == (13, 13, 256)
    assert shapes["conv4"] == (13, 13, 384)
    assert shapes["pool5"] == (6, 6, 256)


def test_every_weight_has_its_place_in_torchvisions_file(no_time):
    theirs = {n: tuple(x.shape) for n, x in on_no_device("alexnet").state_dict().items()}
    model = build(1000, (224, 224, 3), one_tower=True)
    ours = slots(model, names_of("alexnet", "torch"), (224, 224, 3)).values()
    assert {slot.name: slot.there for slot in ours} == theirs
    original = build(2, (67, 67, 1), width=1 / 32, hidden=2)
    names = names_of("alexnet", "torch")
    assert settings_mismatch(model.architecture.settings, names) is None
    message = settings_mismatch(original.architecture.settings, names)
    assert message == "build it with one_tower=True"


def original_in_torch(features):
    """The paper's network; torch divides the sum of the squares by their number, 5."""
    nn = torch_or_skip().nn
    norm = {"size": 5, "alpha": 5 * 1e-4, "beta": 0.75, "k": 2}

    def stage(*convolution, **settings):
        return [nn.Conv2d(*convolution, **settings), nn.ReLU()]

    def dense(*sizes):
        return [nn.Linear(*sizes), nn.ReLU(), nn.Dropout()]

    theirs = nn.Sequential(
        *[*stage(3, 96, 11, 4), nn.LocalResponseNorm(**norm), nn.MaxPool2d(3, 2)],
        *[*stage(96, 256, 5, 1, 2, groups=2), nn.LocalResponseNorm(**norm), nn.MaxPool2d(3, 2)],
        *stage(256, 384, 3, 1, 1),
        *stage(384, 384, 3, 1, 1, groups=2),
        *[*stage(384, 256, 3, 1, 1, groups=2), nn.MaxPool2d(3, 2)],
        *[nn.Flatten(), *dense(features, HIDDEN), *dense(HIDDEN, HIDDEN)],
        nn.Linear(HIDDEN, CLASSES),
    )
    numbers = [n for n, m in theirs.named_children() if hasattr(m, "weight")]
    ours = [f"base.conv{i}" for i in range(1, 6)] + ["head.fc6", "head.fc7", "head.classes"]
    names = WeightNames("torch", "the paper", dict(zip(ours, numbers, strict=True)).__getitem__)
    return he_normal(randomise(theirs)), names


def peer(one_tower):
    """(network, names, image shape): 2 × 3 cells are flattened, whose order counts."""
    if one_tower:
        theirs = with_small_head(on_no_device("alexnet"), 2 * 3 * 256, HIDDEN, CLASSES)
        return theirs, names_of("alexnet", "torch"), (95, 127, 3)
    return *original_in_torch(2 * 3 * 256), (99, 131, 3)


@pytest.mark.parametrize("one_tower", [False, True])
def test_logits_and_gradients_equal_torchs(one_tower):
    torch = torch_or_skip()
    theirs, names, shape = peer(one_tower)
    ours = build(CLASSES, shape, hidden=HIDDEN, one_tower=one_tower).to(dtype="float64")
    ours.freeze(parameters=False, statistics=False)
    arrays = torch_arrays(theirs)
    ours.load_state(converted(ours, arrays, names, shape))

    rng = np.random.default_rng(1)
    x, dy = rng.standard_normal((2, *shape)), rng.standard_normal((2, CLASSES))
    t_x = to_torch(x)
    t_y = without_dropout(theirs).train()(t_x)
    t_y.backward(torch.from_numpy(dy))
    y, cache = ours.forward(x, TRAIN)
    dx = ours.backward(dy, cache)
    assert abs(y[0] - y[1]).max() > 0.01 * abs(y).max()  # the images are told apart
    assert_close(ours.forward(x)[0], t_y.detach().numpy())
    assert_close(y, t_y.detach().numpy())
    assert_close(dx, from_torch(t_x.grad))
    gradients = converted(ours, arrays | torch_gradients(theirs), names, shape)
    for name, p in ours.parameters().items():
        assert_close(p.grad, gradients[name], name)


@pytest.mark.parametrize("one_tower", [False, True])
def test_gradients_of_the_whole_network_at_reduced_width(one_tower):
    side = 63 if one_tower else 67
    model = build(2, (side, side, 1), width=1 / 32, hidden=5, one_tower=one_tower)
    rng = np.random.default_rng(0)
    report = check_gradients(
        livened(model), rng.standard_normal((2, side, side, 1)), TRAIN, elements=150
    )
    assert {check.name for check in report.arrays} == {"x", *model.parameters()}
    y, cache = model.forward(rng.standard_normal((2, side, side, 1)), Mode())
    model.backward(np.ones_like(y), cache)
    assert all(p.grad.any() for p in model.parameters().values())  # nothing is dead


@pytest.mark.parametrize("mode", [TRAIN, Mode()])
def test_gradients_of_the_stages(mode):
    """From the second stage on, and the head: the first has a large image and few weights."""
    model = build(2, (67, 67, 1), width=1 / 64, hidden=6)
    livened(model)
    x = np.random.default_rng(1).standard_normal((2, 7, 7, 2))
    stages = type(model.base)(**dict(list(model.base.children().items())[4:]))
    report = check_gradients(stages, x, mode)
    assert {check.name for check in report.arrays} == {"x", *stages.parameters()}
    x = np.random.default_rng(2).standard_normal((3, *model.base.output_shape((67, 67, 1))))
    assert check_gradients(model.head, x, mode).undecidable == 0


def test_two_towers_are_two_groups_that_the_third_convolution_joins(no_time):
    convolutions = [
        layer for layer in build(2, (67, 67, 3)).base.layers if isinstance(layer, Conv2D)
    ]
    assert [layer.groups for layer in convolutions] == [1, 2, 1, 2, 2]
    assert [layer.out_channels for layer in convolutions] == [96, 256, 384, 384, 256]
    one = build(2, (67, 67, 3), one_tower=True).base
    assert {layer.groups for layer in one.layers if isinstance(layer, Conv2D)} == {1}
    assert not any(isinstance(layer, LocalResponseNorm) for layer in one.layers)


def test_the_order_of_the_layers():
    model = build(2, (67, 67, 1), width=1 / 32, hidden=2)
    conv, normed = ["Conv2D", "ReLU"], ["LocalResponseNorm", "MaxPool2D"]
    assert kinds(model.base) == (conv + normed) * 2 + conv * 3 + ["MaxPool2D"]
    dense = ["Dense", "ReLU"]
    assert kinds(model.head) == ["Flatten", *(dense + ["Dropout"]) * 2, "Dense"]
    one = build(2, (67, 67, 1), width=1 / 32, hidden=2, one_tower=True)
    assert kinds(one.base) == (conv + ["MaxPool2D"]) * 2 + conv * 3 + ["MaxPool2D"]
    assert kinds(one.head) == ["Flatten", *(["Dropout"] + dense) * 2, "Dense"]


def test_settings_reach_the_layers():
    model = build(3, (67, 67, 1), width=1 / 100, hidden=4, keep_prob=0.7)
    for (name, layer), stage in zip(
        ((n, part) for n, part in model.base.children().items() if isinstance(part, Conv2D)),
        TWO_TOWERS,
        strict=True,
    ):
        assert layer.out_channels % 2 == 0, name  # two groups
        assert layer.kernel_size == (stage.kernel, stage.kernel)
    assert [p.keep_prob for p in model.head.layers if isinstance(p, Dropout)] == [0.7, 0.7]
    assert model.architecture.build().architecture == model.architecture
    assert len(ONE_TOWER) == len(TWO_TOWERS) == 5
    with pytest.raises(ValueError, match="alexnet: width is -1, want a number above 0"):
        build(3, (67, 67, 1), width=-1)


@pytest.mark.parametrize(("one_tower", "side"), [(False, 67), (True, 63)])
def test_grey_images_down_to_the_smallest(one_tower, side):
    settings = {"one_tower": one_tower, "width": 1 / 32, "hidden": 4}
    shape = (side, side + 9, 1)
    model = build(5, shape, **settings)
    x = np.random.default_rng(0).standard_normal((2, *shape)).astype(np.float32)
    y, cache = model.forward(x)
    assert y.shape == (2, *model.output_shape(shape)) == (2, 5)
    assert model.backward(y, cache).shape == x.shape
    with pytest.raises(
        ValueError, match=rf"alexnet: an image of {side - 1} × 80 .* at pool5 .* {side} × {side}$"
    ):
        build(5, (side - 1, 80, 1), **settings)
