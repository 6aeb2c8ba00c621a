"""How exactly a GPU multiplies: "fp32", "tf32" or "bf16".

    fp32   float32 throughout; the default, and the only one on NumPy's arrays
    tf32   float32 arrays, whose products are made by tensor cores of numbers rounded to 11 bits
           of significand; sums are float32
    bf16   activations are stored in bfloat16 (8 bits of significand) and multiplied by tensor
           cores; weights, their gradients, statistics, all sums and the loss stay float32

Source of the formats: NVIDIA, "PTX ISA", alternate floating point data formats.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

PRECISIONS = ("fp32", "tf32", "bf16")

_precision: ContextVar[str] = ContextVar("precision", default=PRECISIONS[0])


def precision_in_use() -> str:
    """The precision that is chosen: "fp32", "tf32" or "bf16"."""
    return _precision.get()


def check_precision(name: str, library: str = "cupy") -> str:
    """``name`` itself; ValueError, with the choices, if arrays of ``library`` have none such."""
    if name not in PRECISIONS:
        raise ValueError(f"precision is {name!r}, want one of {', '.join(PRECISIONS)}")
    if library == "numpy" and name != PRECISIONS[0]:
        raise ValueError(
            f"precision is {name!r} and the model on the processor, want {PRECISIONS[0]!r}: "
            "or move it to a GPU with model.to('cupy')"
        )
    return name


@contextmanager
def use_precision(name: str) -> Iterator[None]:
    """Within this block, and this thread, products on a GPU are made so.

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
    """Whether an array is stored in bfloat16."""
    return bool(x.dtype.name == "bfloat16")
