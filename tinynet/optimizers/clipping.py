"""Gradients made smaller before an update, so that one batch cannot throw the weights far off."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinynet.backend import Array, array_module, check_array, check_number, checked

__all__ = ["clip_by_norm", "clip_by_value"]

STRIP = 1 << 20  # numbers that are squared at a time, in float64


@checked
def clip_by_value(gradients: Sequence[Array], limit: float) -> None:
    """Cut each number to −limit … limit, in place; PyTorch's ``clip_grad_value_``.  See §2.3.3.

        g ← min(max(g, −c), c)

    What is not finite becomes NaN: an overflow is not made a gradient that looks right.
    """
    check_number("clip_by_value: limit", limit, 0)
    for g in gradients:
        check_array("clip_by_value", "a gradient", g)
        g[...] = array_module(g).clip(g, -limit, limit) + (g - g)


@checked
def clip_by_norm(gradients: Sequence[Array], limit: float) -> Any:
    """Scale arrays to a norm, of all of them together, of at most ``limit``, in place.  See §2.3.3.

        g ← g · min(1, c / (‖g‖ + 10⁻⁶)),   ‖g‖ = √(Σ g²) over all numbers of all arrays

    Returns ‖g‖ as it was, a float64 scalar; on a GPU nothing waits for it. One number that is not
    finite makes all of them NaN.
    Source: Pascanu, Mikolov & Bengio 2013, "On the difficulty of training recurrent neural
    networks", §3.2; the 10⁻⁶ is PyTorch's, ``clip_grad_norm_``.
    """
    check_number("clip_by_norm: limit", limit, 0)
    xp = array_module(*gradients)
    norm = xp.sqrt(sum((_squares(g) for g in gradients), start=xp.zeros(())))
    factor = xp.minimum(1, limit / (norm + 1e-6)) + (norm - norm)
    for g in gradients:
        g *= factor.astype(np.promote_types(g.dtype, np.float32))
    return norm


def _squares(g: Array) -> Any:
    """Σ g² in float64: the squares of float32 overflow from 2e19 on."""
    check_array("clip_by_norm", "a gradient", g)
    flat, xp = g.reshape(-1), array_module(g)
    parts = [flat[first : first + STRIP] for first in range(0, g.size, STRIP)]
    return sum(xp.square(part, dtype=np.float64).sum() for part in parts)
