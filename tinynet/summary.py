"""A table of a network: what each layer makes, holds, costs and keeps for the backward pass."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, NamedTuple

import numpy as np

from tinynet.backend import Array, array_module
from tinynet.layer import Layer, Mode, Shape


class SummaryRow(NamedTuple):
    """One innermost layer; counts are for one example."""

    name: str  # dotted
    layer: str
    output_shape: Shape
    parameters: int
    multiply_adds: int
    bytes_cached: int


def summary_rows(layer: Layer, input_shape: Shape) -> list[SummaryRow]:
    """A row for each innermost layer, in forward order, for one input of ``input_shape``.

    Bytes cached are measured: each layer is run in training mode on one input of zeros, and the
    distinct arrays in its cache, parameters aside, are added up. A layer's input stands in its
    cache only where the layer itself needs it.
    """
    rows = []
    dtype, xp = _dtype_and_library(layer)
    for name, part, shape in layer.walk(tuple(input_shape)):
        rows.append(
            SummaryRow(
                name,
                repr(part),
                part.output_shape(shape),
                sum(p.value.size for p in part.parameters().values()),
                part.multiply_adds(shape),
                _bytes_cached(part, xp.zeros((1, *shape), dtype=dtype)),
            )
        )
    return rows


def summary(layer: Layer, input_shape: Shape) -> str:
    """``summary_rows`` as text, with a line of totals."""
    rows = summary_rows(layer, input_shape)
    header = ("name", "layer", "output shape", "parameters", "multiply-adds", "bytes cached")
    totals = [sum(column) for column in zip(*(row[3:] for row in rows), strict=True)] or [0, 0, 0]
    output = " × ".join(map(str, layer.output_shape(tuple(input_shape))))
    body = [
        (r.name, r.layer, " × ".join(map(str, r.output_shape)), *(f"{n:,}" for n in r[3:]))
        for r in rows
    ]
    last = ("total", "", output, *(f"{n:,}" for n in totals))
    widths = [max(len(line[i]) for line in [header, *body, last]) for i in range(len(header))]

    def text(line: tuple[str, ...]) -> str:
        left = [cell.ljust(width) for cell, width in zip(line[:3], widths[:3], strict=True)]
        right = [cell.rjust(width) for cell, width in zip(line[3:], widths[3:], strict=True)]
        return "  ".join(left + right).rstrip()

    rule = "─" * (sum(widths) + 2 * (len(widths) - 1))
    return "\n".join([text(header), rule, *map(text, body), rule, text(last)])


def _dtype_and_library(layer: Layer) -> tuple[Any, Any]:
    """What the network's parameters are made of; float32 and NumPy where it has none."""
    for parameter in layer.parameters().values():
        return parameter.value.dtype, array_module(parameter.value)
    return "float32", np


def _bytes_cached(layer: Layer, x: Array) -> int:
    layer = deepcopy(layer)  # a forward pass in training moves batch norm's statistics
    _, cache = layer.forward(x, Mode(train=True, rng=np.random.default_rng(0)))
    parameters = {id(p.value) for p in layer.parameters().values()}
    return sum(int(a.nbytes) for a in arrays_in(cache) if id(a) not in parameters)


def arrays_in(cache: Any) -> list[Array]:
    """The distinct arrays in a layer's cache."""
    if hasattr(cache, "nbytes"):
        return [cache]
    if not isinstance(cache, tuple | list):
        return []
    return list({id(a): a for part in cache for a in arrays_in(part)}.values())
