"""Running a network without training it: its loss, its predictions, their metrics.  Report §2.6."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any, TypeAlias

import numpy as np

from tinynet.backend import (
    Array,
    array_module,
    check_array,
    check_instance,
    checked,
    described,
    library_of,
    to_device,
)
from tinynet.engine import Predictor, one_blas_thread, uploaded
from tinynet.layer import Layer
from tinynet.losses import Loss
from tinynet.metrics import accuracy, auc, cohen_kappa
from tinynet.optimizers import Optimizer
from tinynet.regularizers import Regularizer
from tinynet.train.data import ArrayDataset, Dataset, as_dataset, batches, prefetch

Metric: TypeAlias = Callable[[Array, Array], float]

METRICS: dict[str, Metric] = {
    "accuracy": lambda y, p: accuracy(y, p.argmax(axis=1)),
    "kappa": lambda y, p: cohen_kappa(y, p.argmax(axis=1)),
    "auc": lambda y, p: auc(y, p[:, 1]),
}


@one_blas_thread()
@checked
def evaluate(
    model: Layer,
    loss: Loss,
    data: Dataset | tuple[Array, Array],
    batch_size: int | None = 256,
    *,
    precision: str = "fp32",
) -> tuple[float, Array, Array]:
    """The loss of ``model`` over a whole set, and its predictions, outside training.

    data        a dataset, or a pair (x, y) of arrays
    precision   on a GPU "fp32", "tf32" or "bf16", see ``tinynet.engine.precision``
    Returns the mean loss, whatever the loss's reduction, not an average of batches' averages; the
    true classes (N,); the probabilities (N, K); both NumPy's, without the examples that the loss
    ignores. Raises ValueError if it ignores all of them.
    """
    check_parts(model, loss)
    outputs, labels = [], []
    for z, y in _outputs(model, as_dataset(data), batch_size, precision):
        outputs.append(z)
        labels.append(y)
    xp = array_module(*outputs)
    z, y = xp.concatenate(outputs), xp.concatenate(labels)
    value, _ = loss.forward(z, y)
    if not (weight := loss.weight_of(y)):
        raise ValueError("no label of the set counts in the loss: the mean over them is undefined")
    return (loss.mean_of(value, weight), *labelled(loss, y, loss.probabilities(z)))


@one_blas_thread()
@checked
def predict(
    model: Layer,
    loss: Loss,
    data: Dataset | Array,
    batch_size: int | None = 256,
    *,
    precision: str = "fp32",
) -> Array:
    """Probability of each class (N, K), NumPy's, for a dataset or an array x (N, ...).

    loss        the one that the model was trained with: it knows whether outputs are logits
    precision   as in ``evaluate``
    """
    check_parts(model, loss)
    if not hasattr(data, "batch"):
        check_array("predict", "x", data, floating=False)
        data = ArrayDataset(data, np.zeros(len(data), np.int64))
    outputs = _outputs(model, as_dataset(data), batch_size, precision)
    parts = [loss.probabilities(z) for z, _ in outputs]
    return np.concatenate([to_device(p, "numpy") for p in parts])


def metric_functions(metrics: Sequence[str | Metric]) -> dict[str, Metric]:
    """Name -> function of true classes (N,) and probabilities (N, K).

    Raises ValueError for an unknown name, a function without one, or a name that comes twice.
    """
    functions: dict[str, Metric] = {}
    if isinstance(metrics, str) or not hasattr(metrics, "__iter__"):
        raise TypeError(f"metrics are {described(metrics)}, want a list, such as ['accuracy']")
    for metric in metrics:
        if isinstance(metric, type) or not (isinstance(metric, str) or callable(metric)):
            raise TypeError(f"a metric is {described(metric)}, want a name or a function")
        name = metric if isinstance(metric, str) else getattr(metric, "__name__", "<lambda>")
        if isinstance(metric, str) and metric not in METRICS:
            raise ValueError(
                f"metric is {metric!r}, want one of {', '.join(METRICS)}, or a function"
            )
        if name == "<lambda>" or name in functions:
            raise ValueError(
                f"metrics are {[*functions, name]}, want a different name for each: use def"
            )
        functions[name] = METRICS[metric] if isinstance(metric, str) else metric
    return functions


def check_parts(model: Any, loss: Any, optimizer: Any = None, regularizer: Any = None) -> None:
    """Raise TypeError for anything that is not what its name says; None passes for the last two."""
    check_instance("model", model, Layer, "a layer, such as Sequential(...)")
    check_instance("loss", loss, Loss, "a loss, such as SoftmaxCrossEntropy()")
    if optimizer is not None and loss.reduction == "none":
        raise ValueError(f"{loss!r} returns a loss for each example, want one: reduction='mean'")
    if optimizer is not None:
        check_instance("optimizer", optimizer, Optimizer, "an optimizer, such as Adam(1e-3)")
    if regularizer is not None:
        check_instance("regularizer", regularizer, Regularizer, "a regularizer, such as L2(1e-4)")


def class_numbers(y: Array) -> Array:
    """Labels (N,) or (N, K) as class numbers (N,), NumPy's."""
    return to_device(y if y.ndim == 1 else y.argmax(axis=1), "numpy")


def labelled(loss: Loss, y: Array, probabilities: Array) -> tuple[Array, Array]:
    """The class numbers (N,) and the probabilities (N, K), NumPy's, where labels (N,) count."""
    classes, p, counted = class_numbers(y), to_device(probabilities, "numpy"), loss.counted(y)
    if counted is None or y.ndim != 1:
        return classes, p
    counted = to_device(counted, "numpy")
    return classes[counted], p[counted]


def device_of(model: Layer) -> str:
    """Where a model's parameters are, "numpy" or "cupy"."""
    return library_of(next(iter(model.state().values()), None))


def _outputs(
    model: Layer, data: Dataset, batch_size: int | None, precision: str
) -> Iterator[tuple[Array, Array]]:
    """The model's outputs z, and the labels y, batch by batch, in order."""
    order, device = batches(len(data), batch_size, None), device_of(model)
    outputs = Predictor(model, precision)
    reading = (data.batch(indices, None) for indices in order)
    with closing(prefetch(uploaded(reading, device))) as loaded:
        for x, y in loaded:
            yield outputs(x), to_device(y, device)
