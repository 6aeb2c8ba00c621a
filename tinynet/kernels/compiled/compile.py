"""How the kernels of this package are compiled.

``compiled`` turns a plain Python function over arrays into machine code at its first call, and
keeps the code on disk beside the source (or in NUMBA_CACHE_DIR), so that a machine compiles once.
It lets go of the interpreter's lock, so that threads run side by side, and may join a
multiplication and an addition into one instruction; nothing else is reordered, and NaN stays NaN.
"""

from __future__ import annotations

from typing import Any

import numba

OPTIONS: dict[str, Any] = {
    "nogil": True,
    "cache": True,
    "boundscheck": False,
    "error_model": "numpy",
    "fastmath": {"contract"},
}

compiled = numba.njit(**OPTIONS)
inlined = numba.njit(**OPTIONS, inline="always")
