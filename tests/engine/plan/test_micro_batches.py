"""engine/plan/micro_batches.py: a batch in pieces is the batch."""

import numpy as np
import pytest

from tests.engine.plan.test_build import conv, images, moved_statistics, network
from tests.layers.support import assert_close
from tinynet.engine.plan import micro_batches
from tinynet.engine.plan.build import inference_plan
from tinynet.engine.plan.micro_batches import MicroBatches, acts_per_image, in_micro_batches
from tinynet.engine.predict import _workspaces
from tinynet.layer import Layer
from tinynet.layers import (
    BatchNorm,
    Dense,
    Dropout,
    Flatten,
    Gate,
    GlobalAvgPool2D,
    MaxPool2D,
    ReLU,
    Residual,
    Sequential,
)
from tinynet.losses import SoftmaxCrossEntropy
from tinynet.models import vgg_like
from tinynet.models.architecture import Architecture
from tinynet.train import predict


@pytest.fixture(autouse=True)
def one_image_a_piece(monkeypatch):
    monkeypatch.setattr(micro_batches, "MICRO_BATCH_BYTES", 1)


def test_every_kind_of_block_and_batch_norm():
    model = moved_statistics(network(np.random.default_rng(0)))
    x = images(5)
    plan = in_micro_batches(inference_plan(model), x)
    assert plan.layers[0].count == 5
    assert_close(plan.run(x), model.forward(x)[0])


@pytest.mark.parametrize("name", ["googlenet", "se_resnet50", "densenet169", "shufflenet_v2"])
def test_predictions_of_the_large_networks(name, monkeypatch):
    settings = {"num_classes": 3, "input_shape": (32, 32, 1), "width": 1 / 16}
    model = Architecture(name, settings).build().to(dtype="float64")
    x = np.random.default_rng(0).standard_normal((5, 32, 32, 1))
    found = []
    for bytes_ in (1, 1 << 40):
        monkeypatch.setattr(micro_batches, "MICRO_BATCH_BYTES", bytes_)
        found.append(predict(model, SoftmaxCrossEntropy(), x))
    assert_close(*found)


def test_predictions_need_less_memory(monkeypatch):
    model = vgg_like(2, (32, 32, 1), (16, 16), 8, rng=np.random.default_rng(0))
    x = np.random.default_rng(0).standard_normal((64, 32, 32, 1), dtype=np.float32)
    largest, found = 64 * 32 * 32 * 16 * 4, []
    for bytes_ in (largest, largest // 8):
        monkeypatch.setattr(micro_batches, "MICRO_BATCH_BYTES", bytes_)
        _workspaces.pop(model, None)
        predict(model, SoftmaxCrossEntropy(), x)
        found.append(_workspaces[model].allocated)
    assert found[0] > largest
    assert found[1] < 0.6 * largest


@pytest.mark.parametrize(
    ("layer", "does"),
    [
        (ReLU(), True),
        (BatchNorm(2), True),
        (Dropout(0.5), True),
        (Residual(Sequential(ReLU(), BatchNorm(2))), True),
        (Gate(GlobalAvgPool2D()), True),
        (type("Own", (Layer,), {})(), False),
        (type("OwnName", (ReLU,), {})(), True),
        (type("OwnPass", (ReLU,), {"forward": Layer.forward})(), False),
        (Residual(type("Own", (Layer,), {})()), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_which_layers_look_at_one_image(layer, does):
    assert acts_per_image(layer) == does


def test_pieces_end_where_the_images_do():
    rng = np.random.default_rng(0)
    own = type("Own", (Layer,), {})()
    plan = inference_plan(Sequential(conv(2, 3, rng), ReLU(), own, conv(3, 3, rng), Flatten()))
    x = images(4)
    cut = in_micro_batches(plan, x)
    assert cut.layers[1:] == plan.layers[1:]
    assert cut.layers[0].plan.layers == plan.layers[:1]
    assert in_micro_batches(plan, x[:1]) is plan
    assert in_micro_batches(plan, x[:0]) is plan
    vectors = inference_plan(Sequential(Dense(5, 2, rng=rng), ReLU()))
    assert in_micro_batches(vectors, np.zeros((4, 5), "float32")) is vectors


def test_pieces_end_with_the_layer_behind_the_last_large_output(monkeypatch):
    rng = np.random.default_rng(0)
    x = images(8, side=4)  # 4 × 6
    plan = inference_plan(
        Sequential(conv(2, 5, rng), ReLU(), conv(5, 5, rng), MaxPool2D(2), conv(5, 5, rng))
    )
    monkeypatch.setattr(micro_batches, "MICRO_BATCH_BYTES", 3 * 4 * 6 * 5 * 8)
    cut = in_micro_batches(plan, x)
    assert (cut.layers[0].count, len(cut.layers[0].plan.layers)) == (3, 3)
    assert cut.layers[1:] == plan.layers[3:]
    monkeypatch.setattr(micro_batches, "MICRO_BATCH_BYTES", 8 * 4 * 6 * 5 * 8)
    assert in_micro_batches(plan, x) is plan


def test_too_small_an_image_is_an_error_of_the_forward_pass():
    model = Sequential(conv(2, 3, np.random.default_rng(0)), MaxPool2D(2))
    with pytest.raises(ValueError, match=r"MaxPool2D\(2×2\): the window covers"):
        predict(model, SoftmaxCrossEntropy(), np.zeros((3, 1, 1, 2)))
    with pytest.raises(ValueError, match=r"Conv2D\(2, 3, 3×3\): input is \(3, 4, 4, 1\), want"):
        predict(model, SoftmaxCrossEntropy(), np.zeros((3, 4, 4, 1)))


def test_pieces_are_as_equal_as_can_be():
    x = np.arange(10)
    assert [len(piece) for piece in MicroBatches(None, 4).cut(x)] == [2, 3, 2, 3]
    np.testing.assert_array_equal(np.concatenate(MicroBatches(None, 4).cut(x)), x)
