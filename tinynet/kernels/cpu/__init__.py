"""Replacements for NumPy arrays: blocks of images that stay in the cache, a thread per core."""

from tinynet.kernels.cpu import (
    activations,
    batchnorm,
    conv,
    conv_block,
    optimizers,
    pooling,
    threads,
)

__all__ = ["activations", "batchnorm", "conv", "conv_block", "optimizers", "pooling", "threads"]
