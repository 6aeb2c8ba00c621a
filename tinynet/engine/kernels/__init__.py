"""Faster replacements for the report's functions; importing registers them.

``numpy``   NumPy alone
``numba``   compiled by Numba, where it is installed; imported at its first use
``cuda``    CUDA sources for CuPy's arrays

Each has its reference's signature, results (to rounding) and cache, and hands the cases it does not
cover to the reference. A set is a package whose modules register themselves: there is no list.
"""

from importlib import import_module
from pkgutil import iter_modules

from tinynet.backend import load_at_first_use
from tinynet.engine.kernels import cuda, numba, numpy


def import_all(package: str) -> None:
    """Import every module of a package of kernels."""
    for module in iter_modules(import_module(package).__path__):
        import_module(f"{package}.{module.name}")


import_all(numpy.__name__)
import_all(cuda.__name__)
if numba.HAVE_NUMBA:
    load_at_first_use("numba", numba.load)

from tinynet.engine.kernels.explain import explain  # noqa: E402 - reads which kernels there are

__all__ = ["cuda", "explain", "numba", "numpy"]
