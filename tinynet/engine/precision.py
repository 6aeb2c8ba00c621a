"""Precision on a GPU: "fp32", "tf32" or "bf16", and activations stored in bfloat16.

    fp32   float32 throughout; the default, and the only one on NumPy's arrays
    tf32   float32 arrays, whose products are made by tensor cores of numbers rounded to 11 bits
           of significand; sums are float32
    bf16   activations are stored in bfloat16 (8 bits of significand) and multiplied by tensor
           cores; weights, their gradients, statistics, all sums and the loss stay float32

Between the layers of a plan activations are ``stored`` in bfloat16 where the precision is "bf16",
and ``widened`` back to float32 for layers that have no kernels for bfloat16.

Source of the formats: NVIDIA, "PTX ISA", alternate floating point data formats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, cast

import numpy as np

from tinynet.backend import Array, check_choice, swappable

PRECISIONS = ("fp32", "tf32", "bf16")

_precision: ContextVar[str] = ContextVar("precision", default=PRECISIONS[0])


def precision_in_use() -> str:
    """The precision that is chosen: "fp32", "tf32" or "bf16"."""
    return _precision.get()


def check_precision(name: str, library: str = "cupy") -> str:
    """``name`` itself; ValueError, with the choices, if arrays of ``library`` have none such."""
    check_choice("precision", name, PRECISIONS)
    if library == "numpy" and name != PRECISIONS[0]:
        raise ValueError(
            f"precision is {name!r} and the model on the processor, want {PRECISIONS[0]!r}: "
            "or move it to a GPU with model.to('cupy')"
        )
    return name


@contextmanager
def use_precision(name: str) -> Iterator[None]:
    """Within this block, and this thread, products on a GPU have this precision.

    Raises ValueError for another name.
    """
    token = _precision.set(check_precision(name))
    try:
        yield
    finally:
        _precision.reset(token)


def bfloat16() -> np.dtype[Any]:
    """The dtype bfloat16; ImportError, with the command that installs it, without ml_dtypes."""
    try:
        from ml_dtypes import bfloat16 as kind
    except ImportError as error:
        raise ImportError(
            "bfloat16 needs ml_dtypes, which is not installed: pip install ml_dtypes"
        ) from error
    return np.dtype(kind)


def is_bfloat16(x: Any) -> bool:
    """Return True if an array is stored in bfloat16."""
    return bool(x.dtype.name == "bfloat16")


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
