"""tinynet/pieces.py: a batch in pieces is the batch."""

import numpy as np
import pytest

from tests.layers.support import assert_close
from tests.test_planning import conv, images, moved_statistics, network
from tinynet import pieces
from tinynet.evaluation import predict
from tinynet.layer import Layer, Mode
from tinynet.layers import (
    BatchNorm,
    Concat,
    Dense,
    Dropout,
    Flatten,
    Gate,
    GlobalAvgPool2D,
    LocalResponseNorm,
    MaxPool2D,
    ReLU,
    Residual,
    Sequential,
    Sigmoid,
)
from tinynet.losses import SoftmaxCrossEntropy
from tinynet.models import vgg_like
from tinynet.models.architecture import Architecture
from tinynet.optimizers import GradientDescent
from tinynet.pieces import Pieces, in_pieces, looks_at_one_image
from tinynet.planning import inference_plan, training_plans
from tinynet.step import TrainStep

TRAIN = Mode(train=True)


@pytest.fixture(autouse=True)
def one_image_a_piece(monkeypatch):
    monkeypatch.setattr(pieces, "PIECE_BYTES", 1)


def without_batch_norm(rng):
    """Convolutions, sums and branches, a gate, pools."""
    gate = Sequential(GlobalAvgPool2D(), Dense(4, 4, rng=rng, dtype="float64"), Sigmoid())
    return Sequential(
        conv(2, 4, rng),
        ReLU(),
        Residual(Sequential(conv(4, 4, rng), ReLU(), conv(4, 4, rng))),
        Gate(gate),
        LocalResponseNorm(),
        Concat(conv(4, 2, rng), Sequential(conv(4, 3, rng), ReLU())),
        MaxPool2D(2),
        Flatten(),
        Dense(8 * 9 * 5, 6, rng=rng, dtype="float64"),
        ReLU(),
        Dense(6, 3, rng=rng, dtype="float64"),
    )


@pytest.mark.parametrize("bytes_", [1, 2 * 8 * 16 * 18 * 5, 3 * 8 * 16 * 18 * 5])
def test_a_training_pass_is_the_batchs(bytes_, monkeypatch):
    """One image a piece; two, and the seventh alone; three, three and one."""
    monkeypatch.setattr(pieces, "PIECE_BYTES", bytes_)
    x, found = images(7), []
    for cut in (False, True):
        model = without_batch_norm(np.random.default_rng(0))
        _, plan = training_plans(model)
        if cut:
            plan = in_pieces(plan, x, TRAIN)
            assert isinstance(plan.layers[0], Pieces)
        y, cache = plan.forward(x, TRAIN)
        plan.backward(np.random.default_rng(5).standard_normal(y.shape), cache)
        assert all(not left for left in cache)
        found.append((y, {name: p.grad for name, p in model.parameters().items()}))
    (y, grads), (got_y, got) = found
    assert_close(got_y, y)
    for name, grad in grads.items():
        assert abs(grad).max() > 0
        assert_close(got[name], grad)


def test_the_gradient_of_the_images_is_joined():
    x = images(3)
    model = Sequential(Residual(conv(2, 2, np.random.default_rng(0))), MaxPool2D(2))
    _, plan = training_plans(model)
    plan = in_pieces(plan, x, TRAIN)
    (y, cache), (want, other) = plan.forward(x, TRAIN), model.forward(x, TRAIN)
    assert_close(y, want)
    assert_close(plan.backward(y, cache), model.backward(y, other))


def test_inference_with_batch_norm():
    model = moved_statistics(network(np.random.default_rng(0)))
    x = images(5)
    plan = in_pieces(inference_plan(model), x)
    assert isinstance(plan.layers[0], Pieces)
    assert plan.layers[0].count == 5
    assert_close(plan.run(x), model.forward(x)[0])
    assert_close(plan.forward(x)[0], model.forward(x)[0])


@pytest.mark.parametrize(
    ("layer", "training", "inference"),
    [
        (ReLU(), True, True),
        (BatchNorm(2), False, True),
        (Dropout(0.5), False, True),
        (Residual(Sequential(ReLU(), BatchNorm(2))), False, True),
        (Gate(Sequential(GlobalAvgPool2D(), BatchNorm(2))), False, True),
        (Residual(ReLU()), True, True),
        (type("Own", (Layer,), {})(), False, False),
        (type("OwnReLU", (ReLU,), {})(), False, False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_which_layers_look_at_one_image(layer, training, inference):
    assert looks_at_one_image(layer, TRAIN) == training
    assert looks_at_one_image(layer, Mode()) == inference


def test_a_batch_norm_with_frozen_statistics_looks_at_one_image():
    norm = BatchNorm(2)
    norm.freeze(parameters=False)
    assert looks_at_one_image(norm, TRAIN)


def test_pieces_end_where_the_images_do():
    rng = np.random.default_rng(0)
    layers = [conv(2, 3, rng), ReLU(), Dropout(0.5), conv(3, 3, rng), Flatten()]
    x = images(4)
    _, plan = training_plans(Sequential(*layers))
    cut = in_pieces(plan, x, TRAIN)
    assert cut.layers[1:] == plan.layers[1:]
    assert cut.layers[0].plan.layers == plan.layers[:1]
    # vectors from the start on, one image, or no image at all
    dense = training_plans(Sequential(Dense(5, 2, rng=rng), ReLU()))[1]
    assert in_pieces(dense, np.zeros((4, 5), "float32"), TRAIN) is dense
    assert in_pieces(plan, x[:1], TRAIN) is plan
    assert in_pieces(plan, x[:0], TRAIN) is plan


def test_pieces_are_as_equal_as_can_be():
    x = np.arange(10)
    assert [len(piece) for piece in Pieces(None, 4).cut(x)] == [2, 3, 2, 3]
    np.testing.assert_array_equal(np.concatenate(Pieces(None, 4).cut(x)), x)


def test_a_piece_is_as_large_as_its_largest_array_may_be(monkeypatch):
    x = images(8, side=4)  # 4 × 6 × 2; behind the convolution 4 × 6 × 5 numbers of 8 bytes
    plan = inference_plan(Sequential(conv(2, 5, np.random.default_rng(0)), ReLU()))
    monkeypatch.setattr(pieces, "PIECE_BYTES", 3 * 4 * 6 * 5 * 8)
    assert in_pieces(plan, x).layers[0].count == 3
    monkeypatch.setattr(pieces, "PIECE_BYTES", 8 * 4 * 6 * 5 * 8)
    assert in_pieces(plan, x) is plan


def test_steps_and_predictions_are_those_of_whole_batches(monkeypatch):
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((6, 12, 12, 1)), rng.integers(0, 3, 6)
    states, losses, predictions = [], [], []
    for bytes_ in (1, 1 << 40):
        monkeypatch.setattr(pieces, "PIECE_BYTES", bytes_)
        model = vgg_like(3, (12, 12, 1), (4, 6), 8, rng=np.random.default_rng(0))
        model.to(dtype="float64")
        step = TrainStep(model, SoftmaxCrossEntropy(), GradientDescent(0.1), seed=5)
        losses.append([step(x, y) for _ in range(10)])
        states.append(model.state())
        predictions.append(predict(model, SoftmaxCrossEntropy(), x))
    np.testing.assert_allclose(*losses, rtol=1e-9)
    assert_close(*predictions)
    for name, value in states[0].items():
        np.testing.assert_allclose(value, states[1][name], rtol=1e-6, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("name", ["googlenet", "se_resnet50", "densenet169", "shufflenet_v2"])
def test_predictions_of_the_large_networks(name, monkeypatch):
    settings = {"num_classes": 3, "input_shape": (32, 32, 1), "width": 1 / 16}
    model = Architecture(name, settings).build().to(dtype="float64")
    x = np.random.default_rng(0).standard_normal((5, 32, 32, 1))
    found = []
    for bytes_ in (1, 1 << 40):
        monkeypatch.setattr(pieces, "PIECE_BYTES", bytes_)
        found.append(predict(model, SoftmaxCrossEntropy(), x))
    assert_close(*found)
