"""How activations are kept between the layers of a plan: as they are, or in bfloat16.

    stored    to bfloat16, where the precision is "bf16"
    widened   back to float32

Layers that have no kernels for bfloat16 get float32, and what they give is stored again:
``in_float32``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np

from tinynet.backend import Array, swappable
from tinynet.engine.precision import bfloat16, is_bfloat16


@swappable
def converted(x: Array, dtype: Any) -> Array:
    """x (any shape) in another dtype, each number rounded to the nearest; x itself if it is."""
    return x.astype(dtype, copy=False)


@swappable
def added(a: Array, b: Array) -> Array:
    """a + b, both of one shape and dtype, in which the sum is stored."""
    return a + b


def stored(x: Any, precision: str) -> Any:
    """x, or each of a tuple of arrays, as ``precision`` keeps activations."""
    if precision != "bf16":
        return x
    if isinstance(x, tuple):
        return tuple(stored(part, precision) for part in x)
    return converted(x, bfloat16())


def widened(x: Any) -> Any:
    """x, or each of a tuple of arrays, in float32 where it is stored in bfloat16."""
    if isinstance(x, tuple):
        return tuple(widened(part) for part in x)
    return converted(x, np.dtype(np.float32)) if is_bfloat16(x) else x


def in_float32(function: Callable[..., Any], x: Any, *more: Any) -> Any:
    """function(x, …) with x in float32; the first thing it returns is stored in bfloat16 again."""
    result = function(widened(x), *more)
    if isinstance(result, tuple):
        return (stored(result[0], "bf16"), *result[1:])
    return cast(Array, stored(result, "bf16"))
