"""Backward passes that are right in float64, and wrong in float32 alone."""

from __future__ import annotations

import numpy as np

from tinynet.backend import Array
from tinynet.layer import Shape
from tinynet.testing.planted.bench import db, dw, dx, pair


def far(rng: np.random.Generator, shape: Shape) -> tuple[Array]:
    """x up to ±120 or so: its exponential is finite in float64 alone."""
    x = 40 * rng.standard_normal(shape)
    x[0, 0] = -110
    return (x,)


def _half(a: Array) -> Array:
    """Narrowed to float16, if it is float32."""
    return a.astype("float16").astype("float32") if a.dtype == "float32" else a


def _softmax(x: Array) -> Array:
    e = np.exp(x + 2 * abs(x).max())
    return e / e.sum(axis=-1, keepdims=True)


def _softmax_dx(dy: Array, y: Array) -> Array:
    return y * (dy - (dy * y).sum(axis=-1, keepdims=True))


softmax = pair("softmax in float32", (3, 4), "softmax", far, keep_x=True)
softmax.plant(
    "exp without the maximum: y is computed again, and exp x overflows in float32.",
    dx(lambda g, dy, c: _softmax_dx(dy, _softmax(c.x))),
)

sigmoid = pair("sigmoid in float32", (3, 4), "sigmoid", far, keep_x=True)
sigmoid.plant(
    "slope by exp: dx = dy e⁻ˣ / (1 + e⁻ˣ)², which is ∞ / ∞ in float32 far below zero.",
    dx(lambda g, dy, c: dy * np.exp(-c.x) / (1 + np.exp(-c.x)) ** 2),
)

dense = pair(
    "dense in float32",
    (6, 4),
    "dense",
    lambda rng, s: (
        rng.standard_normal(s),
        rng.standard_normal((s[-1], 3)),
        rng.standard_normal(3),
    ),
)
dense.plant(
    "input narrowed: Of float32 arrays dw is computed from x rounded to float16.",
    dw(lambda g, dz, c: _half(c.x).T @ dz),
    "gradient narrowed: Of float32 arrays dz passes through float16 on its way to dx.",
    dx(lambda g, dz, c: _half(dz) @ c.w.T),
    "sum in half precision: Of float32 arrays db is accumulated in float16.",
    db(
        lambda g, dz, c: (
            dz.sum(axis=0, dtype="float16").astype("float32") if dz.dtype == "float32" else g
        )
    ),
)
