"""Replacements for NumPy arrays: blocks of images that stay in the cache, a thread per core."""

from tinynet.engine.kernels.numpy import (
    activations,
    batchnorm,
    batchnorm_block,
    conv,
    conv_block,
    dense,
    optimizers,
    pooling,
    sum_pooling,
)

__all__ = [
    "activations",
    "batchnorm",
    "batchnorm_block",
    "conv",
    "conv_block",
    "dense",
    "optimizers",
    "pooling",
    "sum_pooling",
]
