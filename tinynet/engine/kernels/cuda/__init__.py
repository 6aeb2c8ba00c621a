"""Replacements for CuPy's arrays: CUDA sources (``.cu``) that can be read, and what starts them.

Importing this package registers them and needs neither CuPy nor a GPU; a source is compiled for a
geometry when that is first met.
"""

from tinynet.engine.kernels.cuda import (
    activations,
    batchnorm,
    cast,
    channel_sums,
    conv,
    dense,
    dropout,
    few_channels,
    losses,
    optimizers,
    pooling,
    source,
    tails,
)

__all__ = [
    "activations",
    "batchnorm",
    "cast",
    "channel_sums",
    "conv",
    "dense",
    "dropout",
    "few_channels",
    "losses",
    "optimizers",
    "pooling",
    "source",
    "tails",
]
