"""Everything of a training run on CuPy's arrays, by a stand-in: the numbers are NumPy's.

No GPU is needed: ``fake_cupy`` shows what would fail there, a NumPy array in between or a function
of NumPy called on CuPy's arrays, and counts how often the processor waits.
"""

import numpy as np
import pytest

from tests.engine.gpu.fake_cupy import fake_cupy, waits
from tests.layers.examples import EXAMPLES
from tests.layers.support import assert_close
from tinynet import losses, metrics, optimizers
from tinynet.backend import library_of, to_device
from tinynet.layer import Mode
from tinynet.layers import (
    AvgPool2D,
    BatchNorm,
    Conv2D,
    Dense,
    MaxPool2D,
)
from tinynet.models import vgg_like
from tinynet.models.architecture import ARCHITECTURES, Architecture
from tinynet.regularizers import L2
from tinynet.train import fit
from tinynet.train.checkpoint import load_arrays, save_arrays
from tinynet.train.evaluation import evaluate, predict
from tinynet.train.step import TrainStep

__all__ = ["fake_cupy"]  # a fixture

IMAGES, VECTORS = (3, 7, 6, 4), (5, 4)


def rng(seed=0):
    return np.random.default_rng(seed)


def conv(*args, **more):
    return Conv2D(*args, rng=rng(), dtype="float64", **more)


def dense(*sizes):
    return Dense(*sizes, rng=rng(), dtype="float64")


LAYERS = EXAMPLES | {
    "conv, same": (lambda: conv(4, 3, 3, padding="same"), IMAGES),
    "conv, stride 2": (lambda: conv(4, 3, 3, stride=2, padding=1), IMAGES),
    "conv, dilated": (lambda: conv(4, 2, 2, dilation=2, bias=False), IMAGES),
    "conv, groups": (lambda: conv(4, 4, 3, groups=2), IMAGES),
    "conv, depthwise": (lambda: conv(4, 4, 3, groups=4, padding="same"), IMAGES),
    "max pool, padded": (lambda: MaxPool2D(3, 2, 1), IMAGES),
    "average pool, padded": (lambda: AvgPool2D(3, 2, 1), IMAGES),
    "batch norm of vectors": (lambda: BatchNorm(4, dtype="float64"), VECTORS),
}


def on(device, x):
    return to_device(x, device)


def both_passes(layer, x, mode_seed, device):
    """[y, dx, gradients…], NumPy's."""
    layer.to(device)
    mode = Mode(train=True, rng=rng(mode_seed))
    y, cache = layer.forward(on(device, x), mode)
    dy = on(device, rng(9).standard_normal(y.shape))
    results = [y, layer.backward(dy, cache), *(p.grad for p in layer.parameters().values())]
    results += layer.buffers().values()
    assert {library_of(a) for a in results} == {device}
    return [on("numpy", a) for a in results]


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name, fake_cupy):
    make, shape = LAYERS[name]
    x = rng(1).standard_normal(shape)
    for got, want in zip(
        both_passes(make(), x, 3, "cupy"), both_passes(make(), x, 3, "numpy"), strict=True
    ):
        assert_close(got, want)


@pytest.mark.parametrize("name", LAYERS)
def test_layers_outside_training(name, fake_cupy):
    make, shape = LAYERS[name]
    x = rng(1).standard_normal(shape)
    want, _ = make().forward(x)
    got, _ = make().to("cupy").forward(on("cupy", x))
    assert_close(on("numpy", got), want)


@pytest.mark.parametrize("one_hot", [False, True])
@pytest.mark.parametrize("weights", [None, (1.0, 2.0, 0.5)])
@pytest.mark.parametrize("kind", [losses.SoftmaxCrossEntropy, losses.CrossEntropy])
def test_losses(kind, weights, one_hot, fake_cupy):
    z, y = abs(rng(1).standard_normal((6, 3))), rng(2).integers(0, 3, 6)
    z, y = z / z.sum(axis=1, keepdims=True), np.eye(3)[y] if one_hot else y
    found = []
    for device in ("numpy", "cupy"):
        loss = kind(class_weight=weights)
        value, cache = loss.forward(on(device, z), on(device, y))
        found.append(
            (
                float(value),
                on("numpy", loss.backward(cache)),
                on("numpy", loss.probabilities(on(device, z))),
            )
        )
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-12)
    for a, b in zip(found[0][1:], found[1][1:], strict=True):
        assert_close(b, a)


OPTIMIZERS = {
    "gradient descent": lambda: optimizers.SGD(0.1, weight_decay=0.01),
    "momentum": lambda: optimizers.SGD(0.1, momentum=0.9),
    "Nesterov": lambda: optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "RMSProp": lambda: optimizers.RMSProp(0.01),
    "Adam": lambda: optimizers.Adam(0.01),
    "AdamW": lambda: optimizers.Adam(0.01, weight_decay=0.1, decoupled=True),
}


def network(batch_norm=True):
    return vgg_like(3, (12, 12, 1), (4, 6), 8, batch_norm=batch_norm, rng=rng()).to(dtype="float64")


def data(count=8):
    return rng(3).standard_normal((count, 12, 12, 1)), rng(4).integers(0, 3, count)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_steps(name, fake_cupy):
    x, y = data()
    states, values = [], []
    for device in ("numpy", "cupy"):
        model = network().to(device)
        step = TrainStep(
            model, losses.SoftmaxCrossEntropy(), OPTIMIZERS[name](), regularizer=L2(1e-3)
        )
        values.append([step(on(device, x), on(device, y)) for _ in range(5)])
        states.append({name: on("numpy", a) for name, a in model.state().items()})
        assert library_of(step.last_probabilities()) == device
    np.testing.assert_allclose(*values, rtol=1e-9)
    for key, value in states[0].items():
        np.testing.assert_allclose(states[1][key], value, rtol=1e-6, atol=1e-9, err_msg=key)


def test_a_training_step_waits_for_its_labels_and_for_its_loss(fake_cupy):
    x, y = data()
    step = TrainStep(network().to("cupy"), losses.SoftmaxCrossEntropy(), optimizers.Adam(0.01))
    x, y = on("cupy", x), on("cupy", y)
    step(x, y)
    waits.clear()
    step(x, y)
    assert waits == ["__bool__", "__float__"]  # are they in range? is it finite?


def test_evaluation_and_prediction(fake_cupy):
    x, y = data()
    loss = losses.SoftmaxCrossEntropy()
    want_loss, want_y, want_p = evaluate(network(), loss, (x, y), batch_size=3)
    model = network().to("cupy")
    got_loss, got_y, got_p = evaluate(model, loss, (x, y), batch_size=3)
    assert got_loss == pytest.approx(want_loss, rel=1e-9)
    np.testing.assert_array_equal(got_y, want_y)
    assert_close(got_p, want_p)
    assert_close(predict(model, loss, x), want_p)


def test_fit_and_a_checkpoint_that_moves_between_the_two(fake_cupy, tmp_path):
    x, y = data(20)
    histories, found = [], []
    for device in ("numpy", "cupy"):
        model = network().to(device)
        history = fit(
            model,
            losses.SoftmaxCrossEntropy(),
            optimizers.Adam(0.01),
            (x, y),
            (x[:8], y[:8]),
            epochs=2,
            batch_size=5,
            seed=1,
            progress=False,
        )
        histories.append(history)
        save_arrays(tmp_path / f"{device}.safetensors", model.state())
        found.append(load_arrays(tmp_path / f"{device}.safetensors")[0])
    for key, value in found[0].items():
        assert type(found[1][key]) is np.ndarray
        np.testing.assert_allclose(found[1][key], value, rtol=1e-6, atol=1e-9, err_msg=key)


@pytest.mark.parametrize("name", ["accuracy", "cohen_kappa", "confusion_matrix"])
def test_metrics(name, fake_cupy):
    y, predicted = rng(1).integers(0, 3, 30), rng(2).integers(0, 3, 30)
    function = getattr(metrics, name)
    np.testing.assert_array_equal(
        function(on("cupy", y), on("cupy", predicted)), function(y, predicted)
    )


SIDES = {"alexnet": 67, "inception_v4": 75, "inception_resnet_v2": 75}


@pytest.mark.parametrize("name", ARCHITECTURES)
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
        found.append(
            [on("numpy", a) for a in (*y, dx, *(p.grad for p in model.parameters().values()))]
        )
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
