"""What both losses share: labels made into targets, smoothing, the weights of the classes.

The losses themselves are in ``tinynet.losses``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np

from tinynet.backend import Array, array_module, library_of
from tinynet.capture import capturing
from tinynet.precision import is_bfloat16

MeanOver = Literal["batch", "weights"]


def one_hot(targets: Array, like: Array) -> Array:
    """Labels coded as in the report, 1 for the true class and 0 elsewhere.  Report §2.3.1.

    targets   (N,) integers 0 to K - 1, or (N, K), which keep their values
    like      (N, K) the predictions, whose dtype (its real part; float32 for bfloat16) and size
              the result has
    Returns y (N, K).
    Raises ValueError for other shapes, for labels that are not integers and for labels outside
    0 to K - 1; these last are not looked at while a step is captured (``tinynet.capture``).
    """
    xp = array_module(targets, like)
    targets = xp.asarray(targets)
    if like.ndim != 2:
        raise ValueError(f"predictions are {like.shape}, want (N, K): one row for each example")
    dtype = np.dtype(np.float32) if is_bfloat16(like) else like.real.dtype
    if dtype.kind != "f":
        raise ValueError(f"predictions are {like.dtype}, want floating point, such as float32")
    examples, classes = like.shape
    if targets.shape == like.shape:
        return targets.astype(dtype, copy=False)
    if targets.shape != (examples,):
        raise ValueError(
            f"labels are {targets.shape} for predictions {like.shape}: "
            f"want ({examples},) integers, or ({examples}, {classes}) one-hot"
        )
    if targets.dtype.kind not in "biu":
        raise ValueError(
            f"labels are {targets.dtype}, want integers: convert with y.astype('int64')"
        )
    # one question, for which a GPU stops once
    if not capturing() and ((targets < 0) | (targets >= classes)).any():
        raise ValueError(
            f"labels run from {int(targets.min())} to {int(targets.max())}, want 0 to "
            f"{classes - 1} for {classes} classes: renumber them, or give the model more outputs"
        )
    return (targets[:, None] == xp.arange(classes)).astype(dtype)


class Loss(ABC):
    """Base of the losses: forward, backward, probabilities, and the settings both forms share.

    class_weight      one weight per class; w_i is that of example i's true class. None: all 1
    label_smoothing   s: the target is y' = (1 - s) y + s / K  (Szegedy et al. 2016, "Rethinking
                      the Inception architecture", §7)
    mean_over         "batch": divide Σ_i w_i L_i by N, as Keras does. "weights": PyTorch's form,
                      which divides by Σ_i w_i and, where labels are smoothed too, gives every
                      class's term its own weight, Σ_j w_j y'_ij log ŷ_ij.
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
        if not 0 <= label_smoothing <= 1:
            raise ValueError(f"label_smoothing is {label_smoothing}, want 0 to 1")
        if mean_over not in get_args(MeanOver):
            raise ValueError(f"mean_over is {mean_over!r}, want 'batch' or 'weights'")
        self.class_weight = None if class_weight is None else np.asarray(class_weight, np.float64)
        if self.class_weight is not None and not (
            self.class_weight.ndim == 1
            and np.isfinite(self.class_weight).all()
            and (self.class_weight >= 0).all()
        ):
            raise ValueError(f"class_weight is {class_weight}, want one number >= 0 for each class")
        self.label_smoothing = label_smoothing
        self.mean_over = mean_over
        self._moved: dict[tuple[str, str], tuple[bytes, Array]] = {}  # class_weight elsewhere

    @abstractmethod
    def forward(self, z: Array, y: Array) -> tuple[Array, Any]:
        """L, a scalar of z's dtype, and the cache for ``backward``.

        z   (N, K)           the network's output
        y   (N,) or (N, K)   integer labels, or one-hot, or rows that sum to 1
        Raises ValueError for labels that do not fit z or are not distributions.
        """

    @abstractmethod
    def backward(self, cache: Any) -> Array:
        """∂L/∂z (N, K) of the number that ``forward`` returned."""

    @abstractmethod
    def probabilities(self, z: Array) -> Array:
        """Probability of each class (N, K) from the network's output z (N, K)."""

    def targets(self, z: Array, y: Array) -> tuple[Array, Array | None]:
        """Targets y' (N, K) and the weight of each example, (N,) or None, for the pure pair.

            y' = (1 - s) y + s / K,   w_i = Σ_j y_ij w_j: that of the true class

        Raises ValueError as ``forward`` does.
        """
        if isinstance(z, tuple):
            name = type(self).__name__
            raise TypeError(
                f"{name}: the network gave {len(z)} outputs, its own and auxiliary ones, want one: "
                f"use WithAuxiliary({name}()), or a network without auxiliary classifiers"
            )
        xp = array_module(z, y)
        y = xp.asarray(y)
        labels = one_hot(y, z)
        if y.ndim == 2 and not capturing():
            _check_distribution(labels)
        examples, classes = labels.shape
        s = self.label_smoothing
        smoothed = (1 - s) * labels + s / classes if s else labels
        if self.class_weight is None:
            return smoothed, None
        if self.class_weight.shape != (classes,):
            raise ValueError(
                f"class_weight has {len(self.class_weight)} numbers, the predictions have "
                f"{classes} classes: want one number for each class"
            )
        class_weight = self._class_weight(labels)
        weights = (labels * class_weight).sum(axis=1)
        if self.mean_over == "batch":
            return smoothed, weights
        total = weights.sum()
        if not capturing() and total == 0:
            raise ValueError(
                "every label of this batch has class weight 0, so their weighted mean is "
                "undefined: use larger batches, or mean_over='batch'"
            )
        return smoothed * class_weight, xp.ones_like(weights) * (examples / total)

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


def _check_distribution(targets: Array) -> None:
    """Raise ValueError unless every row is a distribution: nothing negative, a sum of 1."""
    tolerance = 1e3 * float(np.finfo(targets.dtype).eps)
    bad = (targets < 0).any(axis=1) | ~(abs(targets.sum(axis=1) - 1) <= tolerance)
    if bad.any():
        row = int(bad.argmax())
        raise ValueError(
            f"row {row} of the labels is {targets[row].tolist()}, want one-hot, or numbers >= 0 "
            "that sum to 1"
        )
