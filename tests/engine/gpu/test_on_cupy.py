"""Everything of a training run on CuPy's arrays, by a stand-in: the numbers are NumPy's.

No GPU is needed: ``fake_cupy`` shows what would fail there, a NumPy array in between or a function
of NumPy called on CuPy's arrays, and counts how often the processor waits.
"""

import numpy as np
import pytest

from tests.engine.gpu.fake_cupy import fake_cupy, waits
from tests.layers.examples import EXAMPLES
from tests.layers.support import assert_close
from tests.small_run import LOSS
from tinynet import losses, metrics, optimizers
from tinynet.backend import library_of, to_device
from tinynet.layer import Mode
from tinynet.layers import AvgPool2D, BatchNorm, Conv2D, MaxPool2D
from tinynet.models import vgg_like
from tinynet.models.architecture import ARCHITECTURES, Architecture
from tinynet.regularizers import L2
from tinynet.train import find_learning_rate, fit
from tinynet.train.checkpoint import load_arrays, save_arrays
from tinynet.train.evaluation import evaluate, predict
from tinynet.train.step import TrainStep

__all__ = ["fake_cupy"]  # a fixture

IMAGES, VECTORS = (3, 7, 6, 4), (5, 4)


def rng(seed=0):
    return np.random.default_rng(seed)


def conv(filters, kernel, **more):
    return lambda: Conv2D(4, filters, kernel, rng=rng(), dtype="float64", **more)


LAYERS = EXAMPLES | {
    "conv, same": (conv(3, 3, padding="same"), IMAGES),
    "conv, stride 2": (conv(3, 3, stride=2, padding=1), IMAGES),
    "conv, dilated": (conv(2, 2, dilation=2, bias=False), IMAGES),
    "conv, depthwise": (conv(4, 3, groups=4, padding="same"), IMAGES),
    "max pool, padded": (lambda: MaxPool2D(3, 2, 1), IMAGES),
    "average pool, padded": (lambda: AvgPool2D(3, 2, 1), IMAGES),
    "batch norm of vectors": (lambda: BatchNorm(4, dtype="float64"), VECTORS),
}


def on(device, x):
    return to_device(x, device)


def all_results(layer, x, device):
    """y outside training; y, dx, gradients and buffers in training: on the device, as NumPy's."""
    layer.to(device)
    results = [layer.forward(on(device, x))[0]]
    y, cache = layer.forward(on(device, x), Mode(train=True, rng=rng(3)))
    dy = on(device, rng(9).standard_normal(y.shape))
    results += [y, layer.backward(dy, cache), *(p.grad for p in layer.parameters().values())]
    results += layer.buffers().values()
    assert {library_of(a) for a in results} == {device}
    return [on("numpy", a) for a in results]


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name, fake_cupy):
    make, shape = LAYERS[name]
    x = rng(1).standard_normal(shape)
    both = [all_results(make(), x, device) for device in ("cupy", "numpy")]
    for got, want in zip(*both, strict=True):
        assert_close(got, want)


@pytest.mark.parametrize("one_hot", [False, True])
@pytest.mark.parametrize("weights", [None, (1.0, 2.0, 0.5)])
@pytest.mark.parametrize("kind", [losses.SoftmaxCrossEntropy, losses.CrossEntropy])
def test_losses(kind, weights, one_hot, fake_cupy):
    z, y = rng(1).dirichlet(np.ones(3), 6), rng(2).integers(0, 3, 6)
    found = []
    for device in ("numpy", "cupy"):
        loss, z_there = kind(class_weight=weights), on(device, z)
        value, cache = loss.forward(z_there, on(device, np.eye(3)[y] if one_hot else y))
        arrays = value, loss.backward(cache), loss.probabilities(z_there)
        found.append([on("numpy", a) for a in arrays])
    for want, got in zip(*found, strict=True):
        assert_close(np.asarray(got), want)


OPTIMIZERS = {
    "gradient descent": lambda: optimizers.SGD(0.1, weight_decay=0.01),
    "Nesterov": lambda: optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "RMSProp": lambda: optimizers.RMSProp(0.01),
    "AdamW": lambda: optimizers.Adam(0.01, weight_decay=0.1, decoupled=True),
}


def network(device="numpy"):
    model = vgg_like(3, (12, 12, 1), (4, 6), 8, batch_norm=True, rng=rng())
    return model.to(device, "float64")


def data(count=8):
    return rng(3).standard_normal((count, 12, 12, 1)), rng(4).integers(0, 3, count)


def assert_states_agree(states):
    for key, value in states[0].items():
        np.testing.assert_allclose(states[1][key], value, rtol=1e-6, atol=1e-9, err_msg=key)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_steps(name, fake_cupy):
    x, y = data()
    states, values = [], []
    for device in ("numpy", "cupy"):
        model = network(device)
        step = TrainStep(model, LOSS, OPTIMIZERS[name](), regularizer=L2(1e-3))
        values.append([step(on(device, x), on(device, y)) for _ in range(5)])
        states.append({name: on("numpy", a) for name, a in model.state().items()})
        assert library_of(step.last_probabilities()) == device
    np.testing.assert_allclose(*values, rtol=1e-9)
    assert_states_agree(states)


def test_a_training_step_waits_for_its_labels_and_for_its_loss(fake_cupy):
    step = TrainStep(network("cupy"), LOSS, optimizers.Adam(0.01))
    x, y = (on("cupy", a) for a in data())
    step(x, y)
    waits.clear()
    step(x, y)
    assert waits == ["__bool__", "__float__"]  # are they in range? is it finite?


def test_evaluation_and_prediction(fake_cupy):
    x, y = data()
    want_loss, want_y, want_p = evaluate(network(), LOSS, (x, y), batch_size=3)
    got_loss, got_y, got_p = evaluate(network("cupy"), LOSS, (x, y), batch_size=3)
    assert got_loss == pytest.approx(want_loss, rel=1e-9)
    np.testing.assert_array_equal(got_y, want_y)
    assert_close(got_p, want_p)
    assert_close(predict(network("cupy"), LOSS, x), want_p)


@pytest.mark.parametrize("more", [{}, {"average": 0.7, "micro_batch": 2}])
def test_fit_and_a_checkpoint_that_moves_between_the_two(more, fake_cupy, tmp_path):
    (x, y), found = data(20), []
    settings = {"epochs": 2, "batch_size": 5, "seed": 1, "progress": False} | more
    for device in ("numpy", "cupy"):
        model, file = network(device), tmp_path / f"{device}.safetensors"
        fit(model, LOSS, optimizers.Adam(0.01), (x, y), (x[:8], y[:8]), **settings)
        save_arrays(file, model.state())
        found.append(load_arrays(file)[0])
    assert {type(a) for a in found[1].values()} == {np.ndarray}
    assert_states_agree(found)


def test_the_search_for_a_learning_rate(fake_cupy):
    found = [
        find_learning_rate(network(device), LOSS, optimizers.SGD(clip=1.0), data(20), steps=6)[1]
        for device in ("numpy", "cupy")
    ]
    np.testing.assert_allclose(*found, rtol=1e-9)


@pytest.mark.parametrize("name", ["accuracy", "cohen_kappa", "confusion_matrix"])
def test_metrics(name, fake_cupy):
    function, arrays = getattr(metrics, name), rng(1).integers(0, 3, (2, 30))
    np.testing.assert_array_equal(function(*(on("cupy", a) for a in arrays)), function(*arrays))


SIDES = {"alexnet": 67, "inception_v4": 75, "inception_resnet_v2": 75}
LONG = {"alexnet", "vgg16", "vgg19"}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in LONG)) for name in ARCHITECTURES],
)
def test_architectures(name, fake_cupy):
    side = SIDES.get(name, 32)
    settings = {"num_classes": 3, "input_shape": (side, side, 1)}
    if name not in ("vgg_like", "small_resnet"):
        settings["width"] = 1 / 64
    x = rng(1).standard_normal((2, side, side, 1))
    found = []
    for device in ("numpy", "cupy"):
        model = Architecture(name, settings).build().to(device, "float64")
        y, cache = model.forward(on(device, x), Mode(train=True, rng=rng(2)))
        y = y if isinstance(y, tuple) else (y,)
        dy = tuple(on(device, rng(3).standard_normal(part.shape)) for part in y)
        dx = model.backward(dy if len(dy) > 1 else dy[0], cache)
        grads = [p.grad for p in model.parameters().values()]
        found.append([on("numpy", a) for a in (*y, dx, *grads)])
    for want, got in zip(*found, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6 * abs(want).max() + 1e-9)


def test_mistakes_are_caught(fake_cupy):
    x, y = on("cupy", np.ones((2, 3))), np.ones((2, 3))
    for mistake in (
        lambda: x + y,
        lambda: y + x,
        lambda: np.exp(x),
        lambda: np.concatenate([x, x]),
        lambda: np.asarray(x),
        lambda: np.zeros_like(x),
        lambda: fake_cupy.add(x, y),
        lambda: fake_cupy.errstate,
    ):
        with pytest.raises((TypeError, AttributeError)):
            mistake()
    assert waits == []
    assert bool(x.sum() > 5)
    assert waits == ["__bool__"]
    assert [float(v) for v in x[0]] == [1, 1, 1]
