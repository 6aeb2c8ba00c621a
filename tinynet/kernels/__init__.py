"""Faster replacements for the references in tinynet.layers, one operation a file.

Importing this package registers them. Each has its reference's signature, results (to rounding)
and cache, and hands the cases it does not cover to the reference.
"""

from tinynet.kernels import compiled, cpu, cuda
from tinynet.kernels.choices import explain

__all__ = ["compiled", "cpu", "cuda", "explain"]
