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
    try:
        kernels.import_all(__name__)
    except ImportError as error:
        raise ImportError(
            f"Numba is installed but does not work ({error}): pip install --upgrade numba, or set "
            "TINYNET_KERNELS=numpy to do without"
        ) from error
