"""Faster replacements for the report's functions, one operation a file; importing registers them.

``numpy``   NumPy and SciPy alone
``numba``   compiled by Numba, where it is installed
``cuda``    CUDA sources for CuPy's arrays

Each has its reference's signature, results (to rounding) and cache, and hands the cases it does not
cover to the reference.
"""

from tinynet.engine.kernels import cuda, numba, numpy
from tinynet.engine.kernels.explain import explain

__all__ = ["cuda", "explain", "numba", "numpy"]
