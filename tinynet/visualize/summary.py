"""A table of a network: what each layer makes, holds, costs and keeps for the backward pass."""

from __future__ import annotations

from collections.abc import Sequence
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
    """Return a row for each innermost layer, in forward order, for one input of ``input_shape``.

    Bytes cached are measured: each layer is run in training mode on one input of zeros, and the
    distinct arrays in its cache, parameters aside, are added up. A layer's input stands in its
    cache only where the layer itself needs it.
    """
    first = next(iter(layer.parameters().values()), None)
    dtype, xp = ("float32", np) if first is None else (first.value.dtype, array_module(first.value))
    return [
        SummaryRow(
            name,
            repr(part),
            part.output_shape(shape),
            sum(p.value.size for p in part.parameters().values()),
            part.multiply_adds(shape),
            _bytes_cached(part, xp.zeros((1, *shape), dtype=dtype)),
        )
        for name, part, shape in layer.walk(tuple(input_shape))
    ]


def summary(layer: Layer, input_shape: Shape) -> str:
    """Return ``summary_rows`` as text, with a line of totals."""
    shape = tuple(input_shape)
    rows = summary_rows(layer, shape)
    totals = [sum(column) for column in zip(*(row[3:] for row in rows), strict=True)] or [0, 0, 0]
    return table(
        ("name", "layer", "output shape", "parameters", "multiply-adds", "bytes cached"),
        [(r.name, r.layer, shape_text(r.output_shape), *(f"{n:,}" for n in r[3:])) for r in rows],
        ("total", "", shape_text(layer.output_shape(shape)), *(f"{n:,}" for n in totals)),
    )


def _bytes_cached(layer: Layer, x: Array) -> int:
    layer = deepcopy(layer)  # a forward pass in training moves batch norm's statistics
    _, cache = layer.forward(x, Mode(train=True, rng=np.random.default_rng(0)))
    parameters = {id(p.value) for p in layer.parameters().values()}
    return sum(int(a.nbytes) for a in arrays_in(cache) if id(a) not in parameters)


def arrays_in(cache: Any) -> list[Array]:
    """Return the distinct arrays in a layer's cache."""
    if hasattr(cache, "nbytes"):
        return [cache]
    if not isinstance(cache, tuple | list):
        return []
    return list({id(a): a for part in cache for a in arrays_in(part)}.values())


def table(
    header: Sequence[str], rows: Sequence[Sequence[str]], last: Sequence[str] | None = None
) -> str:
    """Return text in columns, the first three to the left; rules set off header and last line."""
    lines = [header, *rows] if last is None else [header, *rows, last]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = []
    for line in lines:
        left = map(str.ljust, line[:3], widths)
        text.append("  ".join([*left, *map(str.rjust, line[3:], widths[3:])]).rstrip())
    rule = "─" * (sum(widths) + 2 * (len(widths) - 1))
    text[1:1] = [rule]
    if last is not None:
        text[-1:-1] = [rule]
    return "\n".join(text)


def shape_text(shape: Shape) -> str:
    """224 × 224 × 3."""
    return " × ".join(map(str, shape))
