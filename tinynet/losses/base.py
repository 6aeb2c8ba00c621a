"""Base of the losses: labels made into targets, smoothing, class weights.  Report §2.3.1."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import reduce
from math import prod
from operator import mul
from typing import Any, ClassVar, Literal, cast, get_args

import numpy as np

from tinynet.backend import (
    Array,
    Checked,
    Output,
    array_module,
    check_array,
    check_choice,
    check_gradient,
    check_number,
    described,
    library_of,
    to_device,
)
from tinynet.layer import Shape

__all__ = ["Loss", "one_hot"]

MeanOver = Literal["batch", "weights"]
Reduction = Literal["mean", "sum", "none"]


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
    """Base of the losses: forward, backward, probabilities, and the settings that they share.

    class_weight      one weight per class; w_i is that of example i's true class. None: all 1
    label_smoothing   s: the target is y' = (1 - s) y + s / K  (Szegedy et al. 2016, "Rethinking
                      the Inception architecture", §7)
    mean_over         "batch": divide Σ_i w_i L_i by N, as Keras does. "weights": PyTorch's form,
                      in which every class's term has its own weight, -Σ_j w_j y'_ij log ŷ_ij, and
                      the sum is divided by Σ_i w_i for integer labels, by N for targets (N, K).
                      The weights v_i given to ``forward`` multiply the w_i.
    ignore_index      examples with this label have no part in the loss, nor in the N of the mean
    reduction         "mean"; "sum", which is not divided; "none", an array of the terms w_i L_i
    All of them are part of what ``forward`` returns and of its gradient. Of a batch with nothing
    but ``ignore_index`` the loss and its gradient are 0, as of any sum over nothing, so that such
    a batch cannot stop a training run (in PyTorch it is NaN).
    Raises ValueError for settings out of range.
    """

    passes: ClassVar[tuple[Callable[..., tuple[Array, Any]], Callable[..., Array]]]
    each_number: ClassVar[bool] = False  # a term for each number of z, not for each row
    ignore_index: int | None = None
    reduction: Reduction = "mean"

    def __init__(
        self,
        class_weight: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
        *,
        mean_over: MeanOver = "batch",
        ignore_index: int | None = None,
        reduction: Reduction = "mean",
    ) -> None:
        check_number("label_smoothing", label_smoothing, 0, 1)
        if ignore_index is not None:
            check_number("ignore_index", ignore_index, whole=True)
        self.class_weight = None if class_weight is None else _class_weight(class_weight)
        self.label_smoothing, self.mean_over = label_smoothing, mean_over
        self.ignore_index, self.reduction = ignore_index, reduction
        self._moved: dict[tuple[str, str], tuple[bytes, Array]] = {}  # class_weight elsewhere

    def forward(self, z: Array, y: Array, sample_weight: Any = None) -> tuple[Array, Any]:
        """Return L, a scalar of z's dtype or the terms (N,), and the cache for ``backward``.

        z               (N, K)           the network's output
        y               (N,) or (N, K)   integer labels, or one-hot, or rows that sum to 1
        sample_weight   (N,)             v_i >= 0, the weight of each example; None: all 1
        Raises ValueError for labels that do not fit z or are not distributions, and for weights
        that are not one number from 0 for each example.
        """
        self.check_labels(z, y)
        self.check_predictions(z)
        if sample_weight is None:
            return self.compute(z, y)
        return self.compute(z, y, _example_weights(sample_weight, len(as_labels(y))))

    def compute(self, z: Array, y: Array, sample_weight: Any = None) -> tuple[Array, Any]:
        """``forward`` for labels that have passed ``check_labels``; nothing is checked again."""
        if hasattr(self, "passes"):
            targets, weights = self.targets(z, y, sample_weight)
            return self.passes[0](z, targets, weights, reduction=self.reduction)
        if type(self).forward is not Loss.forward:  # a loss that checks and computes in one
            return self.forward(z, y)
        raise NotImplementedError(f"{type(self).__name__}: write compute, or forward")

    def backward(self, cache: Any, dy: Any = None) -> Array:
        """∂L/∂z (the shape of z) of what ``forward`` returned.

        dy   the upstream gradient, of the loss's shape, where L is not the last function; with
             "none" that of each term. None: 1
        """
        if not hasattr(self, "passes"):
            raise NotImplementedError(f"{type(self).__name__} has no backward pass: write one")
        dz = self.passes[1](cache)
        if dy is None:
            return dz
        xp, axes = array_module(dz), dz.ndim if self.each_number else 1
        shape = dz.shape[:axes] if self.reduction == "none" else ()
        dy = xp.asarray(dy, dtype=dz.dtype)
        check_gradient(type(self).__name__, dy, Output(shape))
        return dz * dy.reshape(shape + (1,) * (dz.ndim - len(shape)))

    @abstractmethod
    def probabilities(self, z: Array) -> Array:
        """Probability of each class (N, K) from the network's output z (N, K)."""

    def check_predictions(self, z: Array) -> None:  # noqa: B027 - most losses take any
        """Raise ValueError for an output z that no network of this loss returns."""

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
        counted = self.counted(y)
        check_labels(y if counted is None else array_module(y).where(counted, y, 0), z.shape)
        if y.ndim == 2:
            _check_distribution(y)
        if self.class_weight is None:
            return
        if self.class_weight.shape != (z.shape[1],):
            raise ValueError(
                f"class_weight has {len(self.class_weight)} numbers, the predictions have "
                f"{z.shape[1]} classes: want one number for each class"
            )
        some = bool(len(y)) if counted is None else bool(counted.any())
        if some and not self.weight_of(y):
            raise ValueError(
                "every label of this batch has class weight 0, so their weighted mean is "
                "undefined: use larger batches, or mean_over='batch'"
            )

    def counted(self, y: Array) -> Array | None:
        """Booleans of the shape of y, False where it is ``ignore_index``; None if all count."""
        if self.ignore_index is None or (y.ndim == 2 and not self.each_number):
            return None
        return cast(Array, y != self.ignore_index)

    def weight_of(self, y: Array, sample_weight: Any = None) -> float:
        """What the mean over a batch with labels y divides by: the N that count, or Σ_i w_i.

        The loss of several batches together is the mean of theirs by these weights.
        """
        y, v = to_device(y, "numpy"), None if sample_weight is None else np.asarray(sample_weight)
        counted, own = self.counted(y), None
        if self.class_weight is not None and y.ndim == 1:
            numbers = y + 0  # of booleans, which are no mask here
            own = self.class_weight[numbers if counted is None else np.where(counted, numbers, 0)]
        if v is not None and y.ndim == 2 and self.each_number:
            v = np.broadcast_to(v[:, None], y.shape)
        divisors = self._divisors(v, counted, own)
        terms = y.size if self.each_number else len(y)
        return float(terms if divisors is None else divisors.sum())

    def mean_of(self, value: Any, weight: float) -> float:
        """The mean over labels of this ``weight_of``, from what ``forward`` returned of them."""
        total = float(value.sum()) if hasattr(value, "sum") else float(value)
        return total if self.reduction == "mean" else total / (weight or 1.0)

    def targets(self, z: Array, y: Array, sample_weight: Any = None) -> tuple[Array, Array | None]:
        """Targets y' (N, K) and the weight of each example, (N,) or None, for the pure pair.

            y' = (1 - s) y + s / K,   w_i = v_i Σ_j y_ij w_j: of the true class, times v_i

        With mean_over="weights" the class weights are part of y', and the w_i are scaled so that
        their sum is N. An ignored example's y' is 0.  y has passed ``check_labels``.
        """
        y = array_module(z, y).asarray(y)
        labels, counted = one_hot(y, z, checked=True), self.counted(y)
        s = self.label_smoothing
        smoothed = (1 - s) * labels + s / labels.shape[1] if s else labels
        if counted is not None:
            smoothed = smoothed * counted[:, None]
        v, own = _moved(sample_weight, labels), None
        if self.class_weight is not None:
            class_weight = self._class_weight(labels)
            own = (labels * class_weight).sum(axis=1)
            if self.mean_over == "weights":
                smoothed, own = smoothed * class_weight, own if y.ndim == 1 else None
        return smoothed, self._weights(labels[:, 0], v, counted, own)

    def _divisors(self, v: Any, counted: Any, own: Any = None) -> Any:
        """What a mean divides by, summed; None if that is the number of terms."""
        return counted if self.mean_over == "batch" else _product(v, counted, own)

    def _weights(self, like: Array, v: Any, counted: Any, own: Any = None) -> Array | None:
        """The weights of terms in a mean over ``like.size``, so that it is one over Σ divisors."""
        each = _product(v, counted, own if self.mean_over == "batch" else None)
        divisors = self._divisors(v, counted, own)
        if self.reduction != "mean" or divisors is None:
            return each
        xp, dtype = array_module(like), np.promote_types(like.dtype, np.float32)
        total = divisors.sum(dtype=dtype)
        share = (like.size / xp.where(total == 0, 1, total)).astype(like.dtype)
        return share * (xp.ones_like(like) if each is None else each)

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
        classes = f"class_weight={weight}, label_smoothing={self.label_smoothing}, "
        return (
            f"{type(self).__name__}({'' if self.each_number else classes}"
            f"mean_over={self.mean_over!r}, ignore_index={self.ignore_index}, "
            f"reduction={self.reduction!r})"
        )


class NumberLoss(Loss):
    """Base of the losses with a term for each number: z (N, 1) with y (N,), or y of z's shape.

    mean_over, ignore_index, reduction   as in ``Loss``, of numbers where that says examples
    """

    each_number = True

    def __init__(
        self,
        *,
        mean_over: MeanOver = "batch",
        ignore_index: int | None = None,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(mean_over=mean_over, ignore_index=ignore_index, reduction=reduction)

    def check_labels(self, z: Array, y: Array) -> None:
        check_array(self, "z", z)
        y = as_labels(y)
        if y.shape != z.shape and (z.ndim != 2 or z.shape != (*y.shape, 1)):
            raise ValueError(
                f"labels are {y.shape} for predictions {z.shape}: want (N,) for (N, 1), or the "
                "same shape"
            )

    def targets(self, z: Array, y: Array, sample_weight: Any = None) -> tuple[Array, Array | None]:
        """The labels, and the weight of each, both of z's shape; None for weights of 1."""
        y = array_module(z, y).asarray(y).reshape(z.shape)
        counted, v = self.counted(y), _moved(sample_weight, z.real)
        v = None if v is None else v.reshape(-1, *[1] * (z.ndim - 1)) + 0 * z.real
        if counted is not None:
            y = y * counted  # ignore_index need not be a label
        return y, self._weights(z.real, v, counted)


def shares(weights: Array | None, shape: Shape, like: Array, reduction: str) -> Array:
    """w / M, the share of each of M terms of this shape in their mean; w itself in a sum."""
    check_choice("reduction", reduction, get_args(Reduction))
    count = prod(shape)
    if not count:
        raise ValueError("the batch is empty: a mean over no examples is undefined")
    divisor = count if reduction == "mean" else 1
    if weights is None:
        return cast(Array, array_module(like).full(shape, 1 / divisor, like.real.dtype))
    if weights.shape != shape:
        raise ValueError(f"weights are {weights.shape}, want {shape}: one for each example")
    return weights.astype(like.real.dtype, copy=False) / divisor


def _product(*factors: Array | None) -> Array | None:
    """The product of those that are not None; None if all are."""
    given = [factor for factor in factors if factor is not None]
    return reduce(mul, given) if given else None


def _moved(sample_weight: Any, like: Array) -> Array | None:
    """Weights in the library and dtype of ``like``."""
    if sample_weight is None:
        return None
    return cast(Array, array_module(like).asarray(sample_weight, dtype=like.dtype))


def _example_weights(weights: Any, examples: int) -> Array:
    v = as_labels(weights, "sample_weight")
    if v.shape != (examples,) or not ((v >= 0) & (v < np.inf)).all():
        raise ValueError(
            f"sample_weight is {described(weights)} of {v.shape}, want ({examples},): a number "
            "from 0 for each example"
        )
    return v


def as_labels(y: Any, name: str = "labels") -> Array:
    """y, an array or a list, as an array of numbers; TypeError for anything else."""
    y = array_module(y).asarray(y) if isinstance(y, list) or hasattr(y, "dtype") else y
    if getattr(getattr(y, "dtype", None), "kind", "O") not in "biuf":
        raise TypeError(f"{name} are {described(y)}, want an array of numbers")
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
