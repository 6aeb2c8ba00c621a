"""One layer's line in a backward trace, and the table of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tinynet.layer import Shape
from tinynet.seeing.words import size


@dataclass(frozen=True)
class TraceRow:
    """One innermost layer at work; None where a figure has no meaning for it.

    name, layer       dotted name and text; a layer that is applied again has " (2)" after its name
    output_shape      of one example
    activation_rms    √ mean y², over the batch
    gradient_rms      √ mean (∂L/∂y)²; None if no gradient came back to it
    zeros             share of y that is exactly 0
    dead              of a ReLU: share of its units (channels, neurons) that are 0 for the whole
                      batch, at every place: no gradient passes
    weight_norm       √ Σ w² over its parameters
    weight_gradient   √ Σ (∂L/∂w)²
    update_ratio      √ Σ Δw² / √ Σ w² of the optimiser's next step; None if it is frozen
    bytes_cached      what it keeps for the backward pass
    """

    name: str
    layer: str
    output_shape: Shape
    activation_rms: float
    gradient_rms: float | None
    zeros: float
    dead: float | None
    weight_norm: float | None
    weight_gradient: float | None
    update_ratio: float | None
    bytes_cached: int


def table(rows: Sequence[TraceRow]) -> str:
    """A line for each layer, below a header and a rule."""
    lines = [_HEADER, *(_cells(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = ["  ".join(_aligned(line, widths)).rstrip() for line in lines]
    text.insert(1, "─" * (sum(widths) + 2 * (len(widths) - 1)))
    return "\n".join(text)


_HEADER = (
    "name", "layer", "output shape", "rms y", "rms ∂L/∂y", "zeros", "dead", "‖∂L/∂w‖",
    "update/weight", "bytes cached",
)  # fmt: skip


def _cells(row: TraceRow) -> tuple[str, ...]:
    def number(value: float | None) -> str:
        return "–" if value is None else f"{value:.1e}"

    def share(value: float | None) -> str:
        return "–" if value is None else f"{value:.0%}"

    return (
        row.name, row.layer, size(row.output_shape), number(row.activation_rms),
        number(row.gradient_rms), share(row.zeros), share(row.dead),
        number(row.weight_gradient), number(row.update_ratio), f"{row.bytes_cached:,}",
    )  # fmt: skip


def _aligned(line: tuple[str, ...], widths: list[int]) -> list[str]:
    return [
        cell.ljust(width) if i < 3 else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(line, widths, strict=True))
    ]
