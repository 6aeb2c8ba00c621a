"""Single operations beside PyTorch's and beside their floors, one kind of operation a file."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from benchmarks.ops.op import Op

MODULES = (
    "conv_forward",
    "conv_weight_gradient",
    "conv_backward",
    "conv_block",
    "depthwise",
    "max_pool",
    "avg_pool",
    "batch_norm",
    "relu",
    "dense",
    "softmax_cross_entropy",
    "adam",
)


def load(module: str) -> dict[str, Op[Any]]:
    """Name -> operation, of one file."""
    ops: tuple[Op[Any], ...] = import_module(f"benchmarks.ops.{module}").OPS
    return {op.name: op for op in ops}
