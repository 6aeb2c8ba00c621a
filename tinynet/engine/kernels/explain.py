"""Which kernels a network's training step runs, and what they save: ``explain``.

The choice depends on shapes and types alone, never on a measurement, so it is the same on every
run; TINYNET_KERNELS and TINYNET_WINOGRAD change it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinynet.backend import kernels_in_use
from tinynet.engine.kernels.numba import HAVE_NUMBA, load
from tinynet.engine.kernels.numpy.conv_ways import strip_way, way_for
from tinynet.engine.plan.build import training_plans
from tinynet.engine.plan.nodes import BatchNormBlock, ConvBlock, DenseBlock, Plan, Stack, Sum
from tinynet.layer import Layer, Shape
from tinynet.layers import Conv2D
from tinynet.layers.window import window_over

HEAD = ("layers", "input", "one operation", "kernels", "multiplications")

# what a way multiplies, as a share of a plain sum over the taps
WAYS = {
    "Tiles": ("Winograd F(4×4, 3×3), NumPy", 36 / 144),
    "Rows": ("Winograd F(4, 3) down the columns, NumPy", 1 / 2),
    "Planes": ("sums over the taps, NumPy", 1.0),
    "im2col": ("im2col, NumPy", 1.0),
    "grouped": ("im2col by groups, NumPy", 1.0),
    "depthwise": ("sums over the taps, NumPy", 1.0),
}


def explain(model: Layer, input_shape: Shape, batch: int = 32) -> str:
    """A table of a training step's operations: the layers in each, and what computes it.

    input_shape   of one example, (H, W, C)
    batch         examples in a step; few may be too few for a way
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
    if chosen == "fast" and not HAVE_NUMBA:
        return 'kernels: numpy (Numba is not installed: pip install "tinynet-dl[fast]")'
    return f"kernels: {chosen}"


def _rows(layer: Layer, shapes: dict[int, Any], batch: int) -> list[tuple[str, ...]]:
    """A row for every operation of a plan."""
    if isinstance(layer, Plan):
        return [row for part in layer.layers for row in _rows(part, shapes, batch)]
    if isinstance(layer, Sum):
        paths = [path for path in (layer.main, layer.skip) if path is not None]
        return [row for path in paths for row in _rows(path, shapes, batch)]
    if isinstance(layer, Stack):
        return [row for branch in layer.branches for row in _rows(branch, shapes, batch)]
    single = (
        layer.conv
        if isinstance(layer, ConvBlock)
        else layer.norm
        if isinstance(layer, BatchNormBlock)
        else layer.dense
        if isinstance(layer, DenseBlock)
        else layer
    )
    tail = layer.tail.layers if isinstance(layer, ConvBlock | BatchNormBlock) else []
    name, shape = shapes.get(id(single), ("", ()))
    joined = " → ".join(type(part).__name__ for part in (single, *tail))
    way, share = _way(single, shape, batch, layer) if isinstance(single, Conv2D) else ("", None)
    sizes = " × ".join(map(str, shape))
    return [(name, sizes, joined, way, "" if share is None else f"{share:.2g}")]


def _way(conv: Conv2D, shape: Shape, batch: int, layer: Layer) -> tuple[str, float | None]:
    """What convolves, and the share of multiplications that it needs."""
    chosen, w = kernels_in_use(), conv.weight.value
    if chosen == "reference" or not isinstance(layer, ConvBlock):
        return "the report's sum", 1.0
    window = window_over(
        (shape[0], shape[1]), conv.kernel_size, conv.stride, conv.padding, conv.dilation
    )
    compiled = chosen == "fast" and HAVE_NUMBA
    if compiled and w.dtype == np.float32 and conv.groups == 1:
        load("conv_block")
        from tinynet.engine.kernels.numba import conv_by_winograd  # Numba is known to be there

        if conv_by_winograd.fits(w, window, layer.tail.kind):
            return "Winograd F(4×4, 3×3), compiled", 36 / 144
        return "im2col in registers, compiled", 1.0
    one_filter_a_channel = conv.groups == conv.in_channels == conv.out_channels
    if compiled and one_filter_a_channel and w.dtype == np.float32:
        return "sums over the taps, compiled", 1.0
    x = np.broadcast_to(np.zeros((), w.dtype), (batch, *shape))
    chosen_way = strip_way(x, w, conv.groups, window, layer.need_dx)
    way = chosen_way[0] if chosen_way is not None else way_for(w, conv.groups)
    return WAYS[way.__name__.rpartition(".")[2]]
