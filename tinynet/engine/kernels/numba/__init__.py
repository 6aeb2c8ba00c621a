"""Kernels for NumPy's arrays, compiled by Numba if that is installed (the extra ``fast``).

Numba takes as long to import (0.5 s and more) as all of tinynet, so this package's modules are
imported when a function first asks for a kernel of the set "numba".
"""

from importlib import import_module
from importlib.util import find_spec

HAVE_NUMBA = find_spec("numba") is not None


def load() -> None:
    """Import all modules of this package, and Numba with them, so that its kernels are registered.

    Raises ImportError, with the remedy, where Numba is installed but does not work.
    """
    kernels = import_module("tinynet.engine.kernels")
    without = "or set TINYNET_KERNELS=numpy to do without Numba"
    try:
        disabled = import_module("numba").config.DISABLE_JIT
        if not disabled:
            kernels.import_all(__name__)
    except Exception as error:  # its installation or its settings, of whatever kind
        remedy = "pip install --upgrade numba"
        if "cannot cache" in str(error):
            remedy = "set NUMBA_CACHE_DIR to a folder that can be written to"
        raise ImportError(
            f"Numba is installed but does not work ({error}): {remedy}, {without}"
        ) from error
    if disabled:
        raise ImportError(f"NUMBA_DISABLE_JIT is set, and nothing is compiled: unset it, {without}")
