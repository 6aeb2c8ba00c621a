"""Replacements for NumPy arrays, compiled by Numba: the set "fast".

Importing this package registers them, if Numba is installed (the extra ``fast``); without it
the package is empty, and the NumPy kernels run.
"""

from importlib.util import find_spec

HAVE_NUMBA = find_spec("numba") is not None

__all__ = ["HAVE_NUMBA"]
