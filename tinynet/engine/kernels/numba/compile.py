"""How the kernels of this package are compiled.

``compiled`` turns a plain Python function over arrays into machine code at its first call, and
keeps the code on disk beside the source (or in NUMBA_CACHE_DIR), so that a machine compiles once.
It lets go of the interpreter's lock, so that threads run side by side, and may join a
multiplication and an addition into one instruction; nothing else is reordered, and NaN stays NaN.

Numba compiles again when the function's own file has changed. But compiled code holds that of the
functions it calls, from whatever file, so the name that code is kept under ends with a digest of
this whole package: neither an upgrade nor an edit leaves old code in use.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba

from tinynet.engine.kernels.numba.digest import DIGEST

OPTIONS: dict[str, Any] = {
    "nogil": True,
    "cache": True,
    "boundscheck": False,
    "error_model": "numpy",
    "fastmath": {"contract"},
}


def compiled(function: Callable[..., Any]) -> Any:
    """``function``, compiled at its first call with arrays of each kind."""
    return _compile(function, **OPTIONS)


def inlined(function: Callable[..., Any]) -> Any:
    """The same, but its lines are written into each function that calls it."""
    return _compile(function, **OPTIONS, inline="always")


def _compile(function: Callable[..., Any], **options: Any) -> Any:
    function.__qualname__ += f"_{DIGEST}"
    return numba.njit(**options)(function)
