"""A network's loss, predictions and metrics over a whole set."""

import gc
import weakref

import numpy as np
import pytest

from tests.small_run import assert_same, copy_of
from tinynet.engine.predict import _workspaces
from tinynet.layers import BatchNorm, Dense, Dropout, Sequential
from tinynet.losses import CrossEntropy, SoftmaxCrossEntropy
from tinynet.models import vgg_like
from tinynet.train.data import ArrayDataset
from tinynet.train.evaluation import METRICS, evaluate, metric_functions, predict

LOSS = SoftmaxCrossEntropy()


def network():
    rng = np.random.default_rng(0)
    layers = [Dense(3, 4, rng=rng), BatchNorm(4), Dropout(0.5), Dense(4, 2, rng=rng)]
    return Sequential(*layers).to(dtype="float64")


def examples(n=23):
    rng = np.random.default_rng(1)
    return rng.normal(size=(n, 3)), rng.integers(0, 2, n)


@pytest.mark.parametrize("batch_size", [1, 7, 23, 256, None])
@pytest.mark.parametrize(
    "loss", [LOSS, SoftmaxCrossEntropy(class_weight=[0.2, 3.0], mean_over="weights")]
)
def test_the_loss_is_that_of_the_whole_set_whatever_the_batches(loss, batch_size):
    x, y = examples()
    model = network()
    z, _ = model.forward(x)
    for labels in (y, np.eye(2)[y]):  # one-hot labels come back as classes
        value, found, probabilities = evaluate(model, loss, (x, labels), batch_size)
        assert value == pytest.approx(float(loss.forward(z, labels)[0]), rel=1e-12)
        assert np.array_equal(found, y)
        np.testing.assert_allclose(probabilities, loss.probabilities(z), rtol=1e-12)


def test_nothing_is_augmented_and_nothing_in_the_model_moves():
    def augment(x, rng):
        raise AssertionError("evaluation augments")

    model = network()
    evaluate(model, LOSS, ArrayDataset(*examples(), augment))
    assert_same(copy_of(network()), model.state())


@pytest.mark.parametrize("batch_size", [1, 7, 256, None])
def test_predictions_of_an_array_and_of_a_dataset_agree(batch_size):
    x, y = examples()
    of_array = predict(network(), LOSS, x, batch_size)
    of_dataset = predict(network(), LOSS, ArrayDataset(x, y), batch_size)
    assert of_array.shape == (23, 2)
    assert np.array_equal(of_array, of_dataset)
    np.testing.assert_allclose(of_array.sum(axis=1), 1)


def test_the_loss_decides_what_the_probabilities_are():
    x, _ = examples()
    assert np.array_equal(predict(network(), CrossEntropy(), x), network().forward(x)[0])


def test_a_wrong_dtype_is_the_layers_error_and_no_example_is_refused():
    with pytest.raises(TypeError, match=r"Dense.* input is float32"):
        predict(network(), LOSS, examples()[0].astype("float32"))
    with pytest.raises(ValueError, match="empty"):
        predict(network(), LOSS, np.zeros((0, 3)))


def test_metrics_by_name():
    y = np.array([0, 0, 1, 1])
    p = np.array([[0.9, 0.1], [0.4, 0.6], [0.45, 0.55], [0.2, 0.8]])
    values = {name: function(y, p) for name, function in metric_functions(list(METRICS)).items()}
    assert values == {"accuracy": 0.75, "kappa": 0.5, "auc": 0.75}


def test_a_metric_of_ones_own_is_named_after_its_function():
    def sureness(y, p):
        return p.max()

    both = {"kappa": METRICS["kappa"], "sureness": sureness}
    assert metric_functions(["kappa", sureness]) == both


@pytest.mark.parametrize(
    ("metrics", "match"),
    [
        (["acuracy"], "metric is 'acuracy', want one of accuracy, kappa, auc"),
        ([lambda y, p: 0.0], "use def"),
        (["kappa", "kappa"], "want a different name for each"),
    ],
)
def test_metrics_that_cannot_be_named(metrics, match):
    with pytest.raises(ValueError, match=match):
        metric_functions(metrics)


def test_a_network_keeps_the_memory_of_its_predictions(monkeypatch):
    # one thread: how much two need at a time differs from run to run
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    model = vgg_like(2, (48, 48, 1), (8, 8), 8, rng=np.random.default_rng(0))
    x = np.zeros((8, 48, 48, 1), np.float32)
    sizes = []
    for _ in range(3):
        predict(model, LOSS, x)
        sizes.append(_workspaces[model].allocated)
    assert sizes[0] > 0
    assert sizes[1] == sizes[2]
    kept = weakref.ref(_workspaces[model])
    del model
    gc.collect()
    assert kept() is None
