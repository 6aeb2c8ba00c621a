"""What a network must beat: logistic regression on the pixels.

It does not see shapes that move about; a network no better than it has learnt nothing of interest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from examples.mura.model import balanced_weights
from tinynet.layers import dense_backward, dense_forward
from tinynet.losses import SoftmaxCrossEntropy
from tinynet.metrics import auc
from tinynet.train.data import generator

SIDES = (16, 32, 64)
STRENGTHS = (10.0, 1.0, 0.1, 0.01, 0.001)  # of the L2 penalty; each solution starts the next
HELD_OUT = 0.25
LARGEST = 40_000_000  # pixels in memory (160 MB): beyond it the larger sides are not tried
POOL_AT_ONCE = 1024

Pixels = Any  # an array (n, height, width), or ``Selected`` rows of a memory map
Weights = tuple[NDArray[np.floating], NDArray[np.floating]]  # w (d, 1), b (1,)


@dataclass(frozen=True)
class Selected:
    """Some rows of a memory map, read a slice at a time: never all in memory."""

    pixels: NDArray[Any]
    rows: NDArray[np.integer]

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.rows), *self.pixels.shape[1:]

    def __getitem__(self, chunk: slice, /) -> NDArray[Any]:
        return self.pixels[self.rows[chunk]]


@dataclass(frozen=True)
class Chosen:
    """Probabilities (n,) of being abnormal, and the side and penalty chosen for them."""

    probability: NDArray[np.float64]
    side: int
    l2: float
    held_out_auc: float


def logistic_regression(
    train_pixels: Pixels,
    train_labels: NDArray[np.integer],
    train_patients: Sequence[str],
    valid_pixels: Pixels,
    *,
    sides: Iterable[int] = SIDES,
    strengths: Sequence[float] = STRENGTHS,
    seed: int = 0,
) -> Chosen:
    """Logistic regression given its best chance: side and penalty chosen on held-out patients.

    A quarter of the training patients are held out, the pair with the largest AUC of their
    images is kept, and the regression is fitted again on all the training patients. Sides at
    which the training images exceed ``LARGEST`` are passed over (MURA's 36,808 images: 64),
    except the smallest.

    train_pixels (m, side, side), valid_pixels (n, side, side);  train_labels (m,) 0 or 1
    train_patients   (m,)   the patient of each image
    """
    y = np.asarray(train_labels)
    held = held_out(train_patients, seed)
    best: tuple[float, int, float] | None = None  # AUC, side, penalty
    usable = sorted({min(side, train_pixels.shape[1]) for side in sides})
    for side in usable[:1] + [s for s in usable[1:] if len(y) * s * s <= LARGEST]:
        x_all = pooled(train_pixels, side)
        x, v = standardised(x_all[~held], x_all[held])
        start = None
        for l2 in strengths:
            start = fit(x, y[~held], l2=l2, start=start)
            # if all the held-out patients have one label, no pair is better than another
            score = auc(y[held], probability(v, *start)) if len(set(y[held].tolist())) > 1 else 0.5
            if best is None or score > best[0]:
                best = score, side, l2
    if best is None:
        raise ValueError("sides and strengths are empty, want at least one of each")
    score, side, l2 = best
    x, v = standardised(pooled(train_pixels, side), pooled(valid_pixels, side))
    return Chosen(probability(v, *fit(x, y, l2=l2)), side, l2, score)


def fit(
    x: NDArray[np.floating],
    y: NDArray[np.integer],
    *,
    l2: float,
    start: Weights | None = None,
    iterations: int = 100,
) -> Weights:
    """Weights (d, 1) and bias (1,) that minimise the penalised cross-entropy, by L-BFGS.

        J(w, b) = L(softmax([0, x w + b]), y) + (λ / 2) ‖w‖²

    The logit of "normal" is held at 0, so that the softmax is the sigmoid of x w + b; the bias
    is not penalised. Both classes count alike, as for the network.

    x (n, d), y (n,) 0 or 1;  l2 is λ
    """
    loss = SoftmaxCrossEntropy(class_weight=balanced_weights(y))
    d = x.shape[1]

    def objective(theta: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        w, b = theta[:d, None], theta[d:]
        z, cache = dense_forward(x, w.astype(x.dtype), b.astype(x.dtype))
        value, loss_cache = loss.forward(two_logits(z), y)
        dz = loss.backward(loss_cache)[:, 1:]
        _, dw, db = dense_backward(dz.astype(x.dtype), cache)
        j = float(value) + 0.5 * l2 * float(np.sum(w**2))
        return j, np.concatenate([dw[:, 0] + l2 * w[:, 0], db])

    w, b = start if start is not None else (np.zeros((d, 1)), np.zeros(1))
    found = minimize(
        objective,
        np.concatenate([w[:, 0], b]).astype(np.float64),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": iterations},
    )
    return found.x[:d, None].astype(x.dtype), found.x[d:].astype(x.dtype)


def probability(
    x: NDArray[np.floating], w: NDArray[np.floating], b: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Probability (n,) of being abnormal: the sigmoid of x w + b; x (n, d), w (d, 1), b (1,)."""
    z, _ = dense_forward(x, w, b)
    return SoftmaxCrossEntropy().probabilities(two_logits(z))[:, 1].astype(np.float64)


def two_logits(z: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.concatenate([np.zeros_like(z), z], axis=1, dtype=np.float64)


def standardised(
    x: NDArray[np.floating], v: NDArray[np.floating]
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Both less the mean of x, over its deviation, pixel by pixel; constant pixels become 0."""
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    varies = deviation > 1e-6 * np.abs(x).max()  # more than the rounding of a constant
    scale = np.where(varies, deviation, 1)
    return (x - mean) / scale, (v - mean) / scale


def pooled(pixels: Pixels, side: int) -> NDArray[np.float32]:
    """Means over a side × side grid of blocks as equal as whole pixels allow.

    pixels (n, h, w) with h, w ≥ side
    Returns (n, side²) float32.
    """
    n, h, w = pixels.shape
    if min(h, w) < side:
        raise ValueError(f"images are {h} × {w}, want at least {side} × {side} to pool to it")
    rows, columns = (np.arange(side) * size // side for size in (h, w))
    area = np.diff(rows, append=h)[:, None] * np.diff(columns, append=w)
    means = np.empty((n, side, side), dtype=np.float32)
    for start in range(0, n, POOL_AT_ONCE):  # a memory map is never in memory as a whole
        block = np.asarray(pixels[start : start + POOL_AT_ONCE], dtype=np.float32)
        summed = np.add.reduceat(np.add.reduceat(block, rows, axis=1), columns, axis=2)
        means[start : start + POOL_AT_ONCE] = summed / area
    return means.reshape(n, -1)


def held_out(patients: Sequence[str], seed: int) -> NDArray[np.bool_]:
    """(m,) True for the images of a quarter of the patients, at least one."""
    names, index = np.unique(np.asarray(patients), return_inverse=True)
    order = generator(seed, "baseline held-out").permutation(len(names))
    return np.isin(index, order[: max(1, round(HELD_OUT * len(names)))])
