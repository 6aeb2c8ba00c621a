"""Which kernels a network's training step runs, and what they save: ``explain``.

The choice depends on shapes and types alone, never on a measurement, so it is the same on every
run; TINYNET_KERNELS and TINYNET_WINOGRAD change it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinynet.backend import kernels_in_use, load_kernels
from tinynet.engine.kernels.numba import HAVE_NUMBA
from tinynet.engine.kernels.numpy.conv import module_for, strip_algorithm
from tinynet.engine.plan.build import training_plans
from tinynet.engine.plan.nodes import (
    FusedBatchNorm,
    FusedConv2D,
    FusedDense,
    Plan,
    PlannedConcat,
    PlannedResidual,
)
from tinynet.layer import Layer, Shape
from tinynet.layers import Conv2D
from tinynet.layers.window import window_over

HEAD = ("layers", "input", "one operation", "kernels", "multiplications")

# algorithm -> its name, and its multiplications as a share of a plain sum's over the taps
ALGORITHMS = {
    "WinogradTiles": ("Winograd F(4×4, 3×3), NumPy", 36 / 144),
    "WinogradRows": ("Winograd F(4, 3) down the columns, NumPy", 1 / 2),
    "FewChannels": ("sums over the taps, NumPy", 1.0),
    "im2col": ("im2col, NumPy", 1.0),
    "grouped": ("im2col by groups, NumPy", 1.0),
    "depthwise": ("sums over the taps, NumPy", 1.0),
}


def explain(model: Layer, input_shape: Shape, batch: int = 32) -> str:
    """A table of a training step's operations: the layers in each, and what computes it.

    input_shape   of one example, (H, W, C)
    batch         examples in a step; the choice of an algorithm depends on it
    "multiplications" is the share that is left of a plain sum's.
    """
    shapes = {id(layer): (name, shape) for name, layer, shape in model.walk(tuple(input_shape))}
    before, rest = training_plans(model)
    rows = [row for plan in (before, rest) for row in _rows(plan, shapes, batch)]
    lines = [HEAD, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEAD))]
    text = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    return "\n".join([_which_set(), "", text[0], "─" * max(map(len, text)), *text[1:]])


def _which_set() -> str:
    chosen = kernels_in_use()
    if chosen in ("reference", "numpy") or HAVE_NUMBA:
        return f"kernels: {chosen}"
    return 'kernels: numpy (Numba is not installed: pip install "tinynet-dl[fast]")'


def _rows(layer: Layer, shapes: dict[int, Any], batch: int) -> list[tuple[str, ...]]:
    """A row for every operation of a plan."""
    if isinstance(layer, Plan):
        return [row for part in layer.layers for row in _rows(part, shapes, batch)]
    if isinstance(layer, PlannedResidual):
        paths = [path for path in (layer.main, layer.skip) if path is not None]
        return [row for path in paths for row in _rows(path, shapes, batch)]
    if isinstance(layer, PlannedConcat):
        return [row for branch in layer.branches for row in _rows(branch, shapes, batch)]
    single = (
        layer.conv
        if isinstance(layer, FusedConv2D)
        else layer.norm
        if isinstance(layer, FusedBatchNorm)
        else layer.dense
        if isinstance(layer, FusedDense)
        else layer
    )
    epilogue = layer.epilogue.layers if isinstance(layer, FusedConv2D | FusedBatchNorm) else []
    name, shape = shapes.get(id(single), ("", ()))
    joined = " → ".join(type(part).__name__ for part in (single, *epilogue))
    algorithm, share = "", ""
    if isinstance(single, Conv2D):
        algorithm, multiplications = _algorithm(single, shape, batch, layer)
        share = f"{multiplications:.2g}"
    return [(name, " × ".join(map(str, shape)), joined, algorithm, share)]


def _algorithm(conv: Conv2D, shape: Shape, batch: int, layer: Layer) -> tuple[str, float]:
    """What convolves, and the share of multiplications that it needs."""
    chosen, w = kernels_in_use(), conv.weight.value
    if chosen == "reference" or not isinstance(layer, FusedConv2D):
        return "the report's sum", 1.0
    window = window_over(
        (shape[0], shape[1]), conv.kernel_size, conv.stride, conv.padding, conv.dilation
    )
    compiled = chosen != "numpy" and HAVE_NUMBA and w.dtype == np.float32
    if compiled and conv.groups == 1:
        load_kernels("numba")
        from tinynet.engine.kernels.numba.conv import fits_winograd  # Numba is known to be there

        if fits_winograd(w, window, layer.epilogue.kind):
            return "Winograd F(4×4, 3×3), compiled", 36 / 144
        return "im2col in registers, compiled", 1.0
    if compiled and conv.groups == conv.in_channels == conv.out_channels:
        return "sums over the taps, compiled", 1.0
    x = np.broadcast_to(np.zeros((), w.dtype), (batch, *shape))
    by_strips = strip_algorithm(x, w, conv.groups, window, layer.need_dx)
    algorithm = by_strips[0] if by_strips is not None else module_for(w, conv.groups)
    return ALGORITHMS[algorithm.__name__.rpartition(".")[2]]
