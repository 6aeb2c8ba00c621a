"""Single operations beside PyTorch's and beside their floors, one kind of operation a file."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from benchmarks.gpu.ops.op import Op

MODULES = ("conv", "batch_norm", "max_pool", "relu", "softmax_cross_entropy", "dense", "adam")


def load_all() -> dict[str, Op[Any]]:
    """Name -> operation."""
    ops = [op for module in MODULES for op in import_module(f"benchmarks.gpu.ops.{module}").OPS]
    return {op.name: op for op in ops}
