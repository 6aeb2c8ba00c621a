"""What every builder of tinynet.models promises, on narrow networks and small images.

The numbers are compared with other libraries' in each architecture's own test.
"""

import copy

import numpy as np
import pytest

from tests.interop.test_onnx_export import in_onnxruntime, statistics_drawn
from tests.oracles import package
from tinynet import EVAL, Mode
from tinynet.interop import export_onnx, load_weights, save_weights
from tinynet.layer import Layer
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


def image_shape(name, channels=1):
    side = SIDES.get(name, 40)
    return side, side + 3, channels  # not square


def build(name, channels=1, seed=0) -> Layer:
    settings = NARROW.get(name, {"width": 0.12})
    rng = np.random.default_rng(seed)
    return ARCHITECTURES[name](CLASSES, image_shape(name, channels), rng=rng, **settings)


def images(name, count=2, channels=1):
    rng = np.random.default_rng(1)
    return rng.normal(size=(count, *image_shape(name, channels))).astype(np.float32)


@each
def test_shapes_are_declared_and_numbers_stay_float32(name):
    model, x = build(name, channels=3), images(name, channels=3)
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


@each
def test_a_training_step_reaches_every_parameter_and_can_lower_the_loss(name):
    model, x = build(name), images(name, 4)
    model.freeze(parameters=False, statistics=False)  # no dropout: the same function at each step
    y = np.array([0, 1, 2, 0])
    loss = SoftmaxCrossEntropy()
    loss = WithAuxiliary(loss) if isinstance(model, GoogLeNet) else loss
    before = {key: x.copy() for key, x in model.state().items()}
    step = TrainStep(model, loss, Adam(1e-3))
    losses = [step(x, y) for _ in range(6)]
    assert losses[-1] < losses[0]
    unmoved = [key for key, x in model.state().items() if (x == before[key]).all()]
    assert not unmoved
    assert {x.dtype for x in model.state().values()} == {np.dtype("float32")}


@each
def test_a_backward_pass_keeps_its_cache_and_adds(name):
    model, x = build(name).to(dtype="float64"), images(name).astype(np.float64)
    z, cache = model.forward(x, Mode(train=True, rng=np.random.default_rng(0)))
    dz = tuple(map(np.ones_like, z)) if isinstance(z, tuple) else np.ones_like(z)
    first = model.backward(dz, cache)
    gradients = {key: p.grad.copy() for key, p in model.parameters().items()}
    np.testing.assert_array_equal(model.backward(dz, cache), first)
    for key, p in model.parameters().items():
        np.testing.assert_allclose(p.grad, 2 * gradients[key], rtol=1e-12, err_msg=key)


@each
def test_weights_come_back_from_a_file_that_names_the_network(name, tmp_path):
    model, x = statistics_drawn(build(name)), images(name)
    save_weights(model, tmp_path / "weights.safetensors")
    again = load_weights(tmp_path / "weights.safetensors")
    assert again.architecture == model.architecture
    np.testing.assert_array_equal(again.forward(x)[0], model.forward(x)[0])


@each
def test_onnxruntime_gives_the_same_numbers(name, tmp_path):
    package("onnx")
    model, x = statistics_drawn(build(name)), images(name)
    want = model.forward(x)[0]
    got = in_onnxruntime(export_onnx(model, tmp_path / "model.onnx"), x)
    np.testing.assert_allclose(got, want, atol=1e-4 * abs(want).max())


@each
def test_the_base_can_be_frozen_by_itself(name):
    model, x = build(name), images(name)
    model.base.freeze()
    before = copy.deepcopy(model.base.state())
    loss = SoftmaxCrossEntropy()
    loss = WithAuxiliary(loss) if isinstance(model, GoogLeNet) else loss
    head = {key: x.copy() for key, x in model.head.state().items()}
    TrainStep(model, loss, Adam(1e-2))(x, np.array([0, 1]))
    for key, value in model.base.state().items():
        np.testing.assert_array_equal(value, before[key])
    assert any((value != head[key]).any() for key, value in model.head.state().items())


@each
def test_wrong_settings_are_one_clear_line(name):
    shape = image_shape(name)
    with pytest.raises(ValueError, match=rf"{name}.*input_shape is \(40,\), want"):
        ARCHITECTURES[name](CLASSES, (40,), rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match=rf"{name}.*num_classes is 0, want"):
        ARCHITECTURES[name](0, shape, rng=np.random.default_rng(0), **NARROW.get(name, {}))
