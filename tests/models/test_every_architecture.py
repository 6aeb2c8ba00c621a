"""What every builder of tinynet.models promises, on narrow networks and small images.

Numbers are compared with other libraries' in test_parity.py, blocks' gradients with slopes in
test_gradients.py, every element of whole networks' by benchmarks/zoo/gradients.py.
"""

import copy

import numpy as np
import pytest

from tests.interop.test_onnx_export import in_onnxruntime, statistics_drawn
from tests.models.peers import build, layers_of
from tests.oracles import package
from tinynet import EVAL
from tinynet.interop import export_onnx, load_weights, save_weights
from tinynet.layers import BatchNorm, Conv2D, Dropout
from tinynet.losses import SoftmaxCrossEntropy, WithAuxiliary
from tinynet.models.architecture import ARCHITECTURES
from tinynet.models.googlenet import GoogLeNet
from tinynet.optimizers import Adam
from tinynet.train import TrainStep

NARROW = {
    "vgg_like": {"filters": (3, 4), "hidden": 5},
    "small_resnet": {"depth": 8, "filters": (3, 4, 5)},
    "vgg16": {"width": 0.05, "hidden": 6},
    "vgg19": {"width": 0.05, "hidden": 6, "batch_norm": True},
    "alexnet": {"width": 0.06, "hidden": 6},
    "inception_v4": {"width": 0.06, "repeats": (1, 1, 1)},
    "inception_resnet_v2": {"width": 0.06, "repeats": (1, 1, 1)},
    "resnet152": {"width": 0.06},
}
SIDES = {"inception_v4": 80, "inception_resnet_v2": 80, "alexnet": 99, "googlenet": 64}
CLASSES = 3
each = pytest.mark.parametrize("name", ARCHITECTURES)
# one of each family on every run, the others in the slow ones
DEEP = ("vgg19", "resnet101", "resnet152", "densenet121", "densenet169", "inception_resnet_v2")
each_family = pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n in DEEP)) for n in ARCHITECTURES]
)


def image_shape(name, channels=1):
    side = SIDES.get(name, 40)
    return side, side + 3, channels  # not square


def narrow(name, channels=1, **settings):
    settings = NARROW.get(name, {"width": 0.12}) | settings
    return build(name, CLASSES, image_shape(name, channels), **settings)


def images(name, count=2, channels=1):
    rng = np.random.default_rng(1)
    return rng.normal(size=(count, *image_shape(name, channels))).astype(np.float32)


def loss_for(model):
    loss = SoftmaxCrossEntropy()
    return WithAuxiliary(loss) if isinstance(model, GoogLeNet) else loss


@each
def test_shapes_are_declared_and_numbers_stay_float32(name):
    model, x = narrow(name, channels=3), images(name, channels=3)
    y, _ = model.forward(x, EVAL)
    assert y.shape == (2, CLASSES) == (2, *model.output_shape(x.shape[1:]))
    assert y.dtype == np.float32
    assert np.isfinite(y).all()
    walked = [path for path, _, _ in model.walk(x.shape[1:])]
    assert len(set(walked)) == len(walked)
    assert set(walked) <= set(model.named_layers())
    table = model.summary(x.shape[1:]).splitlines()
    assert len(table) == len(walked) + 4
    assert f"{sum(p.value.size for p in model.parameters().values()):,}" in table[-1]


@each_family
def test_a_training_step_reaches_every_parameter_and_can_lower_the_loss(name):
    model, x = narrow(name), images(name, 4)
    model.freeze(parameters=False, statistics=False)  # no dropout: the same function at each step
    y = np.array([0, 1, 2, 0])
    before = {key: x.copy() for key, x in model.state().items()}
    step = TrainStep(model, loss_for(model), Adam(1e-3))
    losses = [step(x, y) for _ in range(6)]
    assert losses[-1] < losses[0]
    unmoved = [key for key, x in model.state().items() if (x == before[key]).all()]
    assert not unmoved
    assert {x.dtype for x in model.state().values()} == {np.dtype("float32")}


@each
def test_weights_come_back_from_a_file_that_names_the_network(name, tmp_path):
    model, x = statistics_drawn(narrow(name)), images(name)
    save_weights(model, tmp_path / "weights.safetensors")
    again = load_weights(tmp_path / "weights.safetensors")
    assert again.architecture == model.architecture
    np.testing.assert_array_equal(again.forward(x)[0], model.forward(x)[0])


@each_family
def test_onnxruntime_gives_the_same_numbers(name, tmp_path):
    package("onnx")
    model, x = statistics_drawn(narrow(name)), images(name)
    want = model.forward(x)[0]
    got = in_onnxruntime(export_onnx(model, tmp_path / "model.onnx"), x)
    np.testing.assert_allclose(got, want, atol=1e-4 * abs(want).max())


@each_family
def test_the_base_can_be_frozen_by_itself(name):
    model, x = narrow(name), images(name)
    model.base.freeze()
    before = copy.deepcopy(model.base.state())
    head = {key: x.copy() for key, x in model.head.state().items()}
    TrainStep(model, loss_for(model), Adam(1e-2))(x, np.array([0, 1]))
    for key, value in model.base.state().items():
        np.testing.assert_array_equal(value, before[key])
    assert any((value != head[key]).any() for key, value in model.head.state().items())


@each
def test_settings_reach_the_layers(name):
    known = narrow(name).architecture.settings
    asked = {"epsilon": 2e-3, "keep_prob": 0.7, "conv_bias": True, "auxiliary_keep_prob": 0.6}
    asked = {key: value for key, value in asked.items() if key in known}
    if name in ("vgg16", "vgg_like"):
        asked["batch_norm"] = True
    model = narrow(name, **asked)
    norms = layers_of(model, BatchNorm).values()
    assert bool(norms) == (name != "alexnet")
    assert {norm.epsilon for norm in norms} <= {asked.get("epsilon", 1e-3)}
    assert {norm.momentum for norm in norms} <= {0.9}
    drops = layers_of(model, Dropout)
    assert bool(drops) == ("keep_prob" in known)
    for path, layer in drops.items():
        assert layer.keep_prob == asked["auxiliary_keep_prob" if "aux" in path else "keep_prob"]
    for path, layer in layers_of(model, Conv2D).items():
        biased = name == "alexnet" or "conv_bias" in asked or path.endswith("conv2d")
        assert (layer.bias is not None) == biased, path
    assert model.architecture.build().state().keys() == model.state().keys()


SMALLEST = [
    ("alexnet", {}, 67, "pool5"),
    ("alexnet", {"one_tower": True}, 63, "pool5"),
    ("vgg16", {}, 32, r"block5\.pool"),
    ("vgg_like", {"filters": (2, 2, 2)}, 8, "14"),
    ("googlenet", {}, 15, "maxpool3"),
    ("googlenet", {"paper_pools": True, "auxiliary": False}, 31, "maxpool4"),
    ("googlenet", {"paper_pools": True}, 79, r"aux1\.pool"),
    ("densenet121", {}, 29, r"transition3\.pool"),
    ("densenet169", {}, 29, r"transition3\.pool"),
    ("mobilenet", {}, 31, r"block12\.conv_dw"),
    ("inception_v4", {}, 75, r"reduction_b\.branch0\.1\.conv"),
    ("inception_resnet_v2", {}, 75, r"mixed_7a\.branch0\.1\.conv"),
    ("inception_resnet_v2", {"as_drawn": True}, 75, r"mixed_7a\.branch0\.1\.conv"),
]


@pytest.mark.parametrize(("name", "settings", "side", "layer"), SMALLEST)
def test_the_smallest_image_and_one_that_is_too_small(name, settings, side, layer):
    settings = NARROW.get(name, {"width": 0.05}) | settings
    model = build(name, CLASSES, (side, side + 9, 2), **settings)
    x = np.random.default_rng(0).standard_normal((2, side, side + 9, 2)).astype(np.float32)
    y, cache = model.forward(x)
    assert y.shape == (2, CLASSES)
    assert model.backward(y, cache).shape == x.shape
    message = (
        rf"^{name}: an image of {side - 1} × 90 is too small, its size runs out at {layer} \(.*\), "
        rf"whose input is \d+ × \d+: the smallest square that works is {side} × {side}$"
    )
    with pytest.raises(ValueError, match=message):
        build(name, CLASSES, (side - 1, 90, 2), **settings)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        *(("resnet50", {}), ("se_resnet50", {}), ("small_resnet", {"depth": 8})),
        *(("shufflenet_v2", {}), ("mobilenet", {"padding": "symmetric"})),
    ],
)
def test_others_take_any_image_down_to_one_pixel(name, settings):
    # every window is padded by half of itself, so the strides round up and nothing runs out
    settings = NARROW.get(name, {"width": 0.05}) | settings
    for shape in [(1, 1, 1), (1, 40, 3), (33, 7, 2)]:
        model = build(name, CLASSES, shape, **settings)
        x = np.random.default_rng(0).standard_normal((2, *shape)).astype(np.float32)
        y, cache = model.forward(x)
        assert y.shape == (2, CLASSES)
        assert model.backward(y, cache).shape == x.shape
