"""Base of the losses: labels made into targets, smoothing, class weights.  Report §2.3.1."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Literal, cast, get_args

import numpy as np

from tinynet.backend import (
    Array,
    Checked,
    array_module,
    check_array,
    check_choice,
    check_number,
    described,
    library_of,
    to_device,
)

__all__ = ["Loss", "one_hot"]

MeanOver = Literal["batch", "weights"]


def check_labels(targets: Array, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless ``targets`` are labels for predictions of ``shape`` (N, K).

    targets   (N,) integers 0 to K - 1, or (N, K), whose values are not checked here
    """
    if len(shape) != 2:
        raise ValueError(f"predictions are {shape}, want (N, K): one row for each example")
    examples, classes = shape
    if targets.shape == shape:
        return
    if targets.shape != (examples,):
        raise ValueError(
            f"labels are {targets.shape} for predictions {shape}: "
            f"want ({examples},) integers, or ({examples}, {classes}) one-hot"
        )
    if targets.dtype.kind not in "biu":
        whole = targets.dtype.kind == "f" and (targets == targets.round()).all()
        raise ValueError(
            f"labels are {targets.dtype}, want integers from 0 to {classes - 1}"
            + (": convert with y.astype('int64')" if whole else "")
        )
    if ((targets < 0) | (targets >= classes)).any():
        raise ValueError(
            f"labels run from {int(targets.min())} to {int(targets.max())}, want 0 to "
            f"{classes - 1} for {classes} classes: renumber them, or give the model more outputs"
        )


def one_hot(targets: Array, like: Array, *, checked: bool = False) -> Array:
    """Labels coded as in the report, 1 for the true class and 0 elsewhere.  Report §2.3.1.

    targets   (N,) integers 0 to K - 1, or (N, K), which keep their values
    like      (N, K) the predictions, whose dtype (its real part) and size the result has
    checked   True: the labels have passed ``check_labels``, which is not called again
    Returns y (N, K).
    Raises ValueError for other shapes, for labels that are not integers and for labels outside
    0 to K - 1.
    """
    xp = array_module(targets, like)
    targets = xp.asarray(targets)
    if not checked:
        check_labels(targets, like.shape)
    dtype = like.real.dtype
    if dtype.kind != "f":
        raise ValueError(f"predictions are {like.dtype}, want floating point, such as float32")
    if targets.shape == like.shape:
        return targets.astype(dtype, copy=False)
    return (targets[:, None] == xp.arange(like.shape[1])).astype(dtype)


class Loss(Checked, ABC):
    """Base of the losses: forward, backward, probabilities, and the settings both forms share.

    class_weight      one weight per class; w_i is that of example i's true class. None: all 1
    label_smoothing   s: the target is y' = (1 - s) y + s / K  (Szegedy et al. 2016, "Rethinking
                      the Inception architecture", §7)
    mean_over         "batch": divide Σ_i w_i L_i by N, as Keras does. "weights": PyTorch's form,
                      in which every class's term has its own weight, -Σ_j w_j y'_ij log ŷ_ij, and
                      the sum is divided by Σ_i w_i for integer labels, by N for targets (N, K).
    Smoothing and weights are part of the number that ``forward`` returns and of its gradient.
    Raises ValueError for settings out of range.
    """

    def __init__(
        self,
        class_weight: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
        *,
        mean_over: MeanOver = "batch",
    ) -> None:
        check_number("label_smoothing", label_smoothing, 0, 1)
        check_choice("mean_over", mean_over, get_args(MeanOver))
        self.class_weight = None if class_weight is None else _class_weight(class_weight)
        self.label_smoothing = label_smoothing
        self.mean_over = mean_over
        self._moved: dict[tuple[str, str], tuple[bytes, Array]] = {}  # class_weight elsewhere

    def forward(self, z: Array, y: Array) -> tuple[Array, Any]:
        """Return L, a scalar of z's dtype, and the cache for ``backward``.

        z   (N, K)           the network's output
        y   (N,) or (N, K)   integer labels, or one-hot, or rows that sum to 1
        Raises ValueError for labels that do not fit z or are not distributions.
        """
        self.check_labels(z, y)
        return self.compute(z, y)

    def compute(self, z: Array, y: Array) -> tuple[Array, Any]:
        """``forward`` for labels that have passed ``check_labels``; nothing is checked again."""
        if type(self).forward is not Loss.forward:  # a loss that checks and computes in one
            return self.forward(z, y)
        raise NotImplementedError(f"{type(self).__name__}: write compute, or forward")

    @abstractmethod
    def backward(self, cache: Any) -> Array:
        """∂L/∂z (N, K) of the number that ``forward`` returned."""

    @abstractmethod
    def probabilities(self, z: Array) -> Array:
        """Probability of each class (N, K) from the network's output z (N, K)."""

    def check_labels(self, z: Array, y: Array) -> None:
        """Raise what ``forward`` raises for labels that do not fit z, of which it reads the shape.

        z and y may be of different libraries.
        """
        if isinstance(z, tuple):
            name = type(self).__name__
            raise TypeError(
                f"{name}: the network gave {len(z)} outputs, its own and auxiliary ones, want one: "
                f"use WithAuxiliary({name}()), or a network without auxiliary classifiers"
            )
        y = as_labels(y)
        check_array(type(self).__name__, "z", z, floating=False)
        check_labels(y, z.shape)
        if y.ndim == 2:
            _check_distribution(y)
        if self.class_weight is None:
            return
        if self.class_weight.shape != (z.shape[1],):
            raise ValueError(
                f"class_weight has {len(self.class_weight)} numbers, the predictions have "
                f"{z.shape[1]} classes: want one number for each class"
            )
        if len(y) and not self.weight_of(y):
            raise ValueError(
                "every label of this batch has class weight 0, so their weighted mean is "
                "undefined: use larger batches, or mean_over='batch'"
            )

    def weight_of(self, y: Array) -> float:
        """What the mean over a batch with labels y divides by: N, or Σ_i w_i.

        The loss of several batches together is the mean of theirs by these weights.
        """
        if self.class_weight is None or self.mean_over == "batch" or y.ndim != 1:
            return float(len(y))
        return float(self.class_weight[to_device(y, "numpy")].sum())

    def targets(self, z: Array, y: Array) -> tuple[Array, Array | None]:
        """Targets y' (N, K) and the weight of each example, (N,) or None, for the pure pair.

            y' = (1 - s) y + s / K,   w_i = Σ_j y_ij w_j: that of the true class

        With mean_over="weights" the class weights are part of y', w_i is N / Σ_i w_i or 1.
        y has passed ``check_labels``.
        """
        labels = one_hot(y, z, checked=True)
        examples, classes = labels.shape
        s = self.label_smoothing
        smoothed = (1 - s) * labels + s / classes if s else labels
        if self.class_weight is None:
            return smoothed, None
        class_weight = self._class_weight(labels)
        if self.mean_over == "weights" and array_module(y).ndim(y) == 2:
            return smoothed * class_weight, None
        weights = (labels * class_weight).sum(axis=1)
        if self.mean_over == "batch":
            return smoothed, weights
        total = weights.sum(dtype=np.promote_types(weights.dtype, np.float32))
        share = array_module(weights).ones_like(weights) * (examples / total)
        return smoothed * class_weight, share.astype(weights.dtype, copy=False)

    def _class_weight(self, like: Array) -> Array:
        """class_weight (K,) in the library and dtype of ``like``; copied there once."""
        assert self.class_weight is not None
        key, content = (library_of(like), like.dtype.name), self.class_weight.tobytes()
        known, moved = self._moved.get(key, (b"", like))
        if known != content:
            moved = array_module(like).asarray(self.class_weight, dtype=like.dtype)
            self._moved[key] = content, moved
        return moved

    def __repr__(self) -> str:
        weight = None if self.class_weight is None else self.class_weight.tolist()
        return (
            f"{type(self).__name__}(class_weight={weight}, "
            f"label_smoothing={self.label_smoothing}, mean_over={self.mean_over!r})"
        )


def as_labels(y: Any) -> Array:
    """y, an array or a list, as an array of numbers; TypeError for anything else."""
    y = array_module(y).asarray(y) if isinstance(y, list) or hasattr(y, "dtype") else y
    if getattr(getattr(y, "dtype", None), "kind", "O") not in "biuf":
        raise TypeError(f"labels are {described(y)}, want an array of numbers")
    return cast(Array, y)


def _class_weight(class_weight: Any) -> Array:
    try:
        weight = np.asarray(class_weight, np.float64)
    except (TypeError, ValueError):
        weight = np.array(np.nan)
    if weight.ndim != 1 or not weight.size or not (weight >= 0).all() or np.isinf(weight).any():
        raise ValueError(
            f"class_weight is {described(class_weight)}, want a list of numbers >= 0, one for "
            "each class in the order of their labels"
        )
    return weight


def _check_distribution(targets: Array) -> None:
    """Raise ValueError unless every row is a distribution: nothing negative, a sum of 1."""
    tolerance = 1e3 * float(np.finfo(targets.dtype).eps) if targets.dtype.kind == "f" else 0.0
    bad = (targets < 0).any(axis=1) | ~(abs(targets.sum(axis=1) - 1) <= tolerance)
    if bad.any():
        row = int(bad.argmax())
        raise ValueError(
            f"row {row} of the labels is {targets[row].tolist()}, want one-hot, or numbers >= 0 "
            "that sum to 1"
        )
