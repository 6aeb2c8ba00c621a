"""Wrong backward passes of the fully-connected layer."""

from __future__ import annotations

import numpy as np

from tinynet.backend import Array
from tinynet.layer import Shape
from tinynet.layers.dense import DenseCache, dense_backward, dense_forward
from tinynet.testing.planted.bench import FunctionBench, Gradients


def square(rng: np.random.Generator, shape: Shape) -> tuple[Array, ...]:
    """x (N, n), w (n, n), b (n,): square, so that a transposed w keeps its shape."""
    n = shape[1]
    return rng.standard_normal(shape), rng.standard_normal((n, n)), rng.standard_normal(n)


dense = FunctionBench("dense", dense_forward, dense_backward, square, shape=(3, 4))


@dense.plant()
def dw_transposed(dz: Array, cache: DenseCache) -> Gradients:
    """dw = dzᵀ x, the transpose; a square w hides it from the shape."""
    dx, _, db = dense_backward(dz, cache)
    return dx, dz.T @ cache.x, db


@dense.plant()
def dx_by_w_not_transposed(dz: Array, cache: DenseCache) -> Gradients:
    """dx = dz w, where it is dz wᵀ."""
    _, dw, db = dense_backward(dz, cache)
    return dz @ cache.w, dw, db


@dense.plant()
def dw_of_the_wrong_array(dz: Array, cache: DenseCache) -> Gradients:
    """dw = xᵀ x: the input stands where the upstream gradient belongs."""
    dx, _, db = dense_backward(dz, cache)
    return dx, cache.x.T @ cache.x, db


@dense.plant()
def dw_averaged(dz: Array, cache: DenseCache) -> Gradients:
    """dw divided by N, although the loss has taken its mean over the batch already."""
    dx, dw, db = dense_backward(dz, cache)
    return dx, dw / len(dz), db


@dense.plant()
def db_averaged(dz: Array, cache: DenseCache) -> Gradients:
    """db is the mean over the batch, where it is the sum."""
    dx, dw, _ = dense_backward(dz, cache)
    return dx, dw, dz.mean(axis=0)


@dense.plant()
def db_of_the_first_example(dz: Array, cache: DenseCache) -> Gradients:
    """db = dz[0]: right for a batch of one, never summed."""
    dx, dw, _ = dense_backward(dz, cache)
    return dx, dw, dz[0].copy()


@dense.plant(shape=(4, 4))
def db_along_the_wrong_axis(dz: Array, cache: DenseCache) -> Gradients:
    """db summed over the neurons; where N is their number, the shape does not tell."""
    dx, dw, _ = dense_backward(dz, cache)
    return dx, dw, dz.sum(axis=1)


@dense.plant()
def db_forgotten(dz: Array, cache: DenseCache) -> Gradients:
    """db is left at zero."""
    dx, dw, db = dense_backward(dz, cache)
    return dx, dw, np.zeros_like(db)


@dense.plant()
def last_example_dropped(dz: Array, cache: DenseCache) -> Gradients:
    """dw sums over all examples but the last: range(N - 1)."""
    dx, _, db = dense_backward(dz, cache)
    return dx, cache.x[:-1].T @ dz[:-1], db


@dense.plant()
def sign_of_dx(dz: Array, cache: DenseCache) -> Gradients:
    """dx with the other sign."""
    dx, dw, db = dense_backward(dz, cache)
    return -dx, dw, db


@dense.plant()
def gradient_clipped(dz: Array, cache: DenseCache) -> Gradients:
    """dw clipped to [-1, 1] in the backward pass, out of sight of the optimiser."""
    dx, dw, db = dense_backward(dz, cache)
    return dx, np.clip(dw, -1, 1), db


@dense.plant()
def weight_decay_in_the_gradient_only(dz: Array, cache: DenseCache) -> Gradients:
    """dw with 0.01 w added, a penalty that the forward pass does not have."""
    dx, dw, db = dense_backward(dz, cache)
    return dx, dw + 0.01 * cache.w, db


@dense.plant(shape=(4, 32))
def one_weight_off_by_a_thousandth(dz: Array, cache: DenseCache) -> Gradients:
    """One element of 1,024 of dw is 0.1% too large."""
    dx, dw, db = dense_backward(dz, cache)
    dw[-1, 0] *= 1.001
    return dx, dw, db


@dense.plant(shape=(4, 32))
def one_weight_doubled(dz: Array, cache: DenseCache) -> Gradients:
    """One element of 1,024 of dw is counted twice."""
    dx, dw, db = dense_backward(dz, cache)
    dw[-1, 0] *= 2
    return dx, dw, db


@dense.plant(shape=(8, 8))
def dw_in_half_precision(dz: Array, cache: DenseCache) -> Gradients:
    """dw multiplied out in float16 and cast back: right dtype, three digits."""
    dx, dw, db = dense_backward(dz, cache)
    half = cache.x.astype("float16").T @ dz.astype("float16")
    return dx, half.astype(dw.dtype), db


@dense.plant(shape=(8, 8))
def dw_in_single_precision(dz: Array, cache: DenseCache) -> Gradients:
    """dw multiplied out in float32 and cast back: right dtype, seven digits."""
    dx, dw, db = dense_backward(dz, cache)
    single = cache.x.astype("float32").T @ dz.astype("float32")
    return dx, single.astype(dw.dtype), db


@dense.plant(shape=(3, 4))
def dx_in_another_dtype(dz: Array, cache: DenseCache) -> Gradients:
    """dx is float32, whatever x is."""
    dx, dw, db = dense_backward(dz, cache)
    return dx.astype("float32"), dw, db


@dense.plant(shape=(3, 4))
def dw_one_row_short(dz: Array, cache: DenseCache) -> Gradients:
    """dw lacks its last row, as if the bias were among the weights."""
    dx, dw, db = dense_backward(dz, cache)
    return dx, dw[:-1], db
