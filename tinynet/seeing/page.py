"""``draw``: a network as a picture, its blocks and shapes, for a slide."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from tinynet.layer import Layer, Shape
from tinynet.seeing.layout import (
    ARROW,
    COLOURS,
    LABELLED,
    ROW,
    arrow,
    box_width,
    draw_node,
    end,
    wrapped,
)
from tinynet.seeing.structure import Block, Fork, Node, Repeat, folded, read
from tinynet.seeing.svg import SMALL, SOFT, Canvas, text_width
from tinynet.seeing.words import KINDS, quantity, size

MARGIN, HEADER, GUTTER = 24, 62, 44
SHAPE_OF_PAGE = 1.5  # width over height that the number of columns is chosen for
MOST_COLUMNS = 16


def draw(
    model: Layer,
    file: str | Path,
    input_shape: Shape | None = None,
    *,
    fold: bool = True,
    title: str | None = None,
) -> Path:
    """Write the network as an SVG picture: its layers, what joins them, the shapes between them.

    model         any layer; what writes its own forward pass is drawn by its children
    file          where to, ending in .svg
    input_shape   (H, W, C) of one input; by default that of ``model.architecture``
    fold          draw repeated blocks once, with their number; False: every one of them
    title         the heading; by default the architecture's name
    An arrow bears the shape of what flows there, height × width × channels, where it changes.
    Returns the file. The same model gives the same file.
    Raises ValueError if the file is no .svg, if there is no input shape, or if it does not fit.
    """
    path = Path(file)
    if path.suffix.lower() != ".svg":
        raise ValueError(f"draw writes SVG, the file is {path}: name it {path.stem}.svg")
    path.write_text(svg(model, input_shape, fold=fold, title=title), encoding="utf-8")
    return path


def svg(
    model: Layer, input_shape: Shape | None = None, *, fold: bool = True, title: str | None = None
) -> str:
    """What ``draw`` writes.  Arguments and errors as there."""
    shape = input_shape_of(model, input_shape)
    nodes = read(model, shape)
    if not nodes:
        raise ValueError(f"{model!r} has no layers, so there is nothing to draw")
    nodes = folded(nodes) if fold else nodes
    known = getattr(model, "architecture", None)
    heading = title or (known.name if known is not None else type(model).__name__)
    page = Page(nodes, shape, tuple(model.output_shape(shape)))
    parameters = sum(p.value.size for p in model.parameters().values())
    work = sum(layer.multiply_adds(given) for _, layer, given in model.walk(shape))
    totals = f"{parameters:,} parameters · {quantity(work)} multiply-adds for one input"
    return page.document(heading, totals)


def input_shape_of(model: Layer, input_shape: Shape | None) -> Shape:
    """``input_shape``, or what the model was built for.  Raises ValueError if neither is known."""
    known = getattr(model, "architecture", None)
    if input_shape is None and known is not None:
        input_shape = known.settings.get("input_shape")
    if input_shape is None:
        raise ValueError(
            f"{type(model).__name__} does not say what its input is: give "
            "input_shape=(height, width, channels)"
        )
    return tuple(input_shape)


class Page:
    """The flow broken into columns, side by side, each going on at the top of the next."""

    def __init__(self, nodes: Sequence[Node], input_shape: Shape, output_shape: Shape) -> None:
        self.input_shape, self.output_shape = input_shape, output_shape
        self.kinds = [kind for kind in KINDS if kind in set(kinds_of(nodes))]
        width = box_width(nodes)
        self.items = [draw_node(node, width, framed=True) for node in nodes]
        self.entering = [node.input_shape for node in nodes]
        shown = [input_shape, *self.entering]
        self.labels = [
            s if s != before else None for before, s in zip(shown, self.entering, strict=False)
        ]
        self.columns = self._best_columns()

    def document(self, heading: str, totals: str) -> str:
        """The SVG file."""
        canvas = Canvas()
        canvas.text(MARGIN, MARGIN + 8, heading, 20, "start", bold=True)
        canvas.text(MARGIN, MARGIN + 32, totals, 12, "start", SOFT)
        top = MARGIN + HEADER
        x, height = float(MARGIN), 0.0
        exits: tuple[float, float] | None = None
        for number, column in enumerate(self.columns):
            left, right = self._reach(column)
            axis, y = x + left, float(top)
            if exits is None:
                words = f"input {size(self.input_shape)}"
                end(canvas, axis, y, words)
                y += ROW
            else:
                gutter = x - GUTTER / 2
                canvas.line(
                    [
                        exits,
                        (exits[0], exits[1] + 14),
                        (gutter, exits[1] + 14),
                        (gutter, top),
                        (axis, top),
                        (axis, top + 12),
                    ]
                )
                y += 12
            for k in column:
                first = k == column[0] and number > 0
                label = self.entering[k] if first else self.labels[k]
                gap = LABELLED if label else ARROW
                arrow(canvas, axis, y, y + gap, label)
                self.items[k].put(canvas, axis, y + gap)
                y += gap + self.items[k].height
            height = max(height, y + 14)
            exits = axis, y
            if number + 1 == len(self.columns):
                arrow(canvas, axis, y, y + ARROW, None)
                end(canvas, axis, y + ARROW, f"output {size(self.output_shape)}")
                height = max(height, y + ARROW + ROW)
            x += left + right + GUTTER
        width = max(
            x - GUTTER + MARGIN,
            2 * MARGIN + text_width(heading, 20) * 1.1,
            2 * MARGIN + text_width(totals, 12),
        )
        foot = self._legend(canvas, height + 34, width)
        return canvas.document(width, foot + MARGIN, f"{heading}: {totals}")

    def _legend(self, canvas: Canvas, y: float, width: float) -> float:
        """The colours, in as many lines as they need; returns where it ends."""
        x = float(MARGIN)
        for kind in self.kinds:
            step = 16 + 6 + text_width(kind, 11) + 18
            if x + step > width - MARGIN and x > MARGIN:
                x, y = MARGIN, y + 20
            canvas.box(x, y - 6, 16, 12, *COLOURS[kind], radius=2)
            canvas.text(x + 22, y, kind, 11, "start")
            x += step
        y += 20
        for words in wrapped(
            "shapes: height × width × channels; an arrow without one carries the shape before it",
            width - 2 * MARGIN,
        ):
            canvas.text(MARGIN, y, words, SMALL, "start", SOFT)
            y += 14
        return y - 14 + 6

    def _reach(self, column: Sequence[int]) -> tuple[float, float]:
        labels = [text_width(size(self.entering[k]), SMALL) / 2 for k in column]
        if 0 in column:
            labels.append(text_width(f"input {size(self.input_shape)}") / 2 + 12)
        if len(self.items) - 1 in column:
            labels.append(text_width(f"output {size(self.output_shape)}") / 2 + 12)
        return (
            max([self.items[k].left for k in column] + labels),
            max([self.items[k].right for k in column] + labels),
        )

    def _best_columns(self) -> list[list[int]]:
        """The number of columns whose page comes nearest to the wanted proportions."""
        heights = [item.height + LABELLED for item in self.items]
        best, off = [list(range(len(heights)))], math.inf
        for count in range(1, min(MOST_COLUMNS, len(heights)) + 1):
            columns = balanced(heights, count)
            width = sum(sum(self._reach(column)) + GUTTER for column in columns) + 2 * MARGIN
            height = max(sum(heights[k] for k in column) for column in columns) + HEADER + 120
            distance = abs(math.log(width / height / SHAPE_OF_PAGE))
            if distance < off - 1e-9:
                best, off = columns, distance
        return best


def balanced(heights: Sequence[float], count: int) -> list[list[int]]:
    """Indices in order, parted into at most ``count`` runs, the tallest as low as it can be."""

    def parted(limit: float) -> list[list[int]]:
        columns: list[list[int]] = [[]]
        total = 0.0
        for k, height in enumerate(heights):
            if columns[-1] and total + height > limit:
                columns.append([])
                total = 0.0
            columns[-1].append(k)
            total += height
        return columns

    limits = sorted(
        {sum(heights[i:j]) for i in range(len(heights)) for j in range(i + 1, len(heights) + 1)}
    )
    low, high = 0, len(limits) - 1
    while low < high:
        middle = (low + high) // 2
        fits = limits[middle] >= max(heights) and len(parted(limits[middle])) <= count
        low, high = (low, middle) if fits else (middle + 1, high)
    return parted(limits[low]) if limits else [[]]


def kinds_of(nodes: Sequence[Node]) -> Iterator[str]:
    """The kinds of all layers."""
    for node in nodes:
        if isinstance(node, Block):
            yield from (row.kind for row in node.rows)
        elif isinstance(node, Fork):
            yield from (row.kind for row in node.after)
            for path in node.paths:
                yield from kinds_of(path)
        elif isinstance(node, Repeat):
            yield from kinds_of(node.parts)
