"""Nodes to places on the page: how large each is drawn, and the drawing of it.

Every drawing has an axis, the vertical line on which the flow enters at its top and leaves at its
bottom; ``left`` and ``right`` are how far it reaches to both sides.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tinynet.layer import Shape
from tinynet.seeing.structure import ASIDE, CONCAT, Block, Fork, Node, Repeat, Row
from tinynet.seeing.svg import FRAME, INK, SMALL, SOFT, Canvas, text_width
from tinynet.seeing.words import (
    ACTIVATION,
    CONVOLUTION,
    DENSE,
    NORM,
    OTHER,
    POOLING,
    SHAPE,
    size,
)

# fill and border: tints of the colours of Okabe & Ito 2008, which the colour-blind can tell apart
COLOURS = {
    CONVOLUTION: ("#CFE3F3", "#0072B2"),
    DENSE: ("#F7D3B8", "#C04E00"),
    NORM: ("#E9E9E9", "#777777"),
    ACTIVATION: ("#FBEFB0", "#A98600"),
    POOLING: ("#C6E9DD", "#008A66"),
    SHAPE: ("#EFDCE9", "#A0527F"),
    OTHER: ("#FFFFFF", "#222222"),
}
ROW, STRIP = 24, 15  # heights of a box and of a strip below it
NARROWEST = 112  # width of a box
ARROW, LABELLED = 18, 36  # lengths of an arrow, without and with the shape on it
SPLIT = 24  # from where paths part to their first boxes
BESIDE = 16  # between paths side by side
ARC = 24  # from a path to the shortcut past it
RING, BAR = 9, 20  # radius of the circle, height of the bar where paths meet
PAD, TITLE, BADGE, LINE_HEIGHT = 12, 24, 18, 13  # of the frame around a block


@dataclass(frozen=True)
class Drawing:
    """Something that can be drawn with its axis at x and its top at y."""

    left: float
    right: float
    height: float
    put: Callable[[Canvas, float, float], None]
    boxed: bool = False  # begins with a box, to which an arrow can point

    @property
    def width(self) -> float:
        """From side to side."""
        return self.left + self.right


def arrow_length(label: Shape | None) -> float:
    """Length of an arrow that bears a shape, or none."""
    return LABELLED if label else ARROW


def arrow(canvas: Canvas, x: float, top: float, bottom: float, label: Shape | None) -> None:
    """Down from ``top`` to ``bottom``; the shape stands in the line, which gives way to it."""
    if label is None:
        canvas.line([(x, top), (x, bottom)], head=True)
        return
    middle = (top + bottom) / 2 - 3
    canvas.line([(x, top), (x, middle - 7)])
    canvas.text(x, middle, size(label), SMALL, colour=SOFT)
    canvas.line([(x, middle + 7), (x, bottom)], head=True)


def chain(nodes: Sequence[Node], shown: Shape, framed: bool = False) -> Drawing:
    """Nodes below each other, arrows between them.

    shown    the shape that stands above; an arrow is labelled where the shape is another one
    framed   whether blocks with paths have a frame and a name
    """
    width = box_width(nodes)
    parts = [draw_node(node, width, framed) for node in nodes]
    labels: list[Shape | None] = []
    for node in nodes:
        labels.append(None if node.input_shape == shown else node.input_shape)
        shown = node.input_shape
    labels[:1] = []  # what leads to the first one is drawn by whoever puts this somewhere
    gaps = [arrow_length(label) for label in labels]

    def put(canvas: Canvas, x: float, y: float) -> None:
        for i, part in enumerate(parts):
            part.put(canvas, x, y)
            y += part.height
            if i < len(gaps):
                arrow(canvas, x, y, y + gaps[i], labels[i])
                y += gaps[i]

    widest = [text_width(size(label), SMALL) / 2 for label in labels if label]
    return Drawing(
        max([part.left for part in parts] + widest),
        max([part.right for part in parts] + widest),
        sum(part.height for part in parts) + sum(gaps),
        put,
        boxed=parts[0].boxed,
    )


def draw_node(node: Node, width: float, framed: bool) -> Drawing:
    """One node; ``width`` is that of a box."""
    if isinstance(node, Block):
        return block(node.rows, width)
    if isinstance(node, Repeat):
        inside = chain(node.parts, node.input_shape)
        title = short_name(node.name)
        if isinstance(node.parts[0], Fork):
            title = f"{title} … {last_number(node.last)}"
        first, last = node.input_shape[-1], node.output_shape[-1]
        note = f"channels {first} → {last}" if node.grows else ""
        return frame(inside, title, f"× {node.times}", note)
    inside = aside(node) if node.meet == ASIDE else fork(node)
    return frame(inside, short_name(node.name)) if framed and node.meet != ASIDE else inside


def last_number(name: str) -> str:
    """What the last of a run of names ends in: "12" of "block2.layer12"."""
    tail = name.rsplit(".", 1)[-1]
    digits = re.search(r"\d+$", tail)
    return digits[0] if digits else tail


def short_name(name: str) -> str:
    """A dotted name without the part that all of a base's layers share."""
    return name.removeprefix("base.").removeprefix("head.")


def block_width(node: Block) -> float:
    """What the words of a box need."""
    return max(text_width(r.text, 10 if r.strip else 12) for r in node.rows) + 18


def block(rows: Sequence[Row], width: float) -> Drawing:
    """A box of rows."""
    heights = [STRIP if row.strip else ROW for row in rows]

    def put(canvas: Canvas, x: float, y: float) -> None:
        for row, height in zip(rows, heights, strict=True):
            fill, stroke = COLOURS[row.kind]
            canvas.box(x - width / 2, y, width, height, fill, stroke, tip=row.tip)
            canvas.text(x, y + height / 2, row.text, 10 if row.strip else 12)
            y += height

    return Drawing(width / 2, width / 2, sum(heights), put, boxed=True)


def frame(inside: Drawing, title: str, badge: str = "", note: str = "") -> Drawing:
    """A pale frame with the block's name, how often it comes, and a note at its foot."""
    pill = text_width(badge) + 14 if badge else 0
    room = inside.left + PAD + 4  # a little wider than what is inside, rather than another line
    above, below = wrapped(title, room), wrapped(note, room)
    left = max([inside.left + PAD, *(text_width(t, SMALL) + 14 for t in above + below)])
    right = max(inside.right + PAD, pill + 12)
    head = TITLE + LINE_HEIGHT * (len(above) - 1)
    foot = PAD + (LINE_HEIGHT * len(below) - 4 if note else 0)
    height = inside.height + head + foot

    def put(canvas: Canvas, x: float, y: float) -> None:
        canvas.box(x - left, y, left + right, height, FRAME, "#C4C4C0", 6, under=True)
        for i, line in enumerate(above):
            canvas.text(x - left + 7, y + TITLE / 2 + i * LINE_HEIGHT, line, SMALL, "start", SOFT)
        for i, line in enumerate(reversed(below)):
            low = y + height - 9 - i * LINE_HEIGHT
            canvas.text(x - left + 7, low, line, SMALL, "start", SOFT)
        if badge:
            edge = x + right - pill - 5
            canvas.box(edge, y + 4, pill, BADGE, INK, INK, BADGE / 2)
            canvas.text(edge + pill / 2, y + 4 + BADGE / 2, badge, colour="white", bold=True)
        canvas.line([(x, y), (x, y + head)], head=inside.boxed)
        inside.put(canvas, x, y + head)
        canvas.line([(x, y + head + inside.height), (x, y + height)])

    return Drawing(left, right, height, put)


def wrapped(text: str, room: float) -> list[str]:
    """A dotted name, or words, in lines of at most ``room``, broken after dots and at spaces."""
    lines: list[str] = []
    for part in re.findall(r"[^. ]+(?: … \w+| → \w+|\.)?|\S+", text):
        longer = f"{lines[-1]}{'' if lines[-1].endswith('.') else ' '}{part}" if lines else part
        if lines and text_width(longer, SMALL) <= room:
            lines[-1] = longer
        else:
            lines.append(part)
    return lines


def fork(node: Fork) -> Drawing:
    """Paths side by side from one point to where they meet; the input itself goes by as an arc."""
    real = [path for path in node.paths if path]
    drawn = [chain(path, node.input_shape) for path in real]
    ends = [path[-1].output_shape for path in real]
    labels = [
        None if out == path[-1].input_shape else out for path, out in zip(real, ends, strict=True)
    ]
    tall = max(d.height + arrow_length(s) for d, s in zip(drawn, labels, strict=True))
    stacked = node.meet == CONCAT
    axes = _axes(drawn, centred=stacked and len(real) > 1)
    arc = axes[-1] + drawn[-1].right + ARC - 6 if len(real) < len(node.paths) else None
    feet = axes if arc is None else [*axes, arc]
    narrow = max(box_width(real[0]), *(text_width(r.text, 10) + 18 for r in node.after), 0)
    bar = feet[0] - narrow / 2, feet[-1] + (box_width(real[-1]) / 2 if arc is None else 12)
    joint = BAR if stacked else 2 * RING
    strips = block(node.after, narrow) if node.after else None
    left = max([drawn[0].left - axes[0], -bar[0] * stacked, narrow / 2])
    right = max([axes[-1] + drawn[-1].right, bar[1] * stacked, feet[-1] + 6, narrow / 2])

    def put(canvas: Canvas, x: float, y: float) -> None:
        merge = y + SPLIT + tall
        for axis, d, label in zip(axes, drawn, labels, strict=True):
            px, top, foot = x + axis, y + SPLIT, y + SPLIT + d.height
            start = [(x, y), (x, y + 6), (px, y + 6)] if axis else [(x, y)]
            canvas.line([*start, (px, top)], head=d.boxed)
            d.put(canvas, px, top)
            down = [(px, foot), (px, merge)]
            if axis and not stacked:
                down = [(px, foot), (px, merge + RING), (x + RING, merge + RING)]
            _down(canvas, down, label)
        if arc is not None:
            around = [(x, y), (x, y + 6), (x + arc, y + 6), (x + arc, merge)]
            if not stacked:
                around[-1:] = [(x + arc, merge + RING), (x + RING, merge + RING)]
            canvas.line(around, radius=20, head=True)
        if stacked:
            canvas.box(x + bar[0], merge, bar[1] - bar[0], BAR, "white", INK, BAR / 2)
            canvas.text(x + sum(bar) / 2, merge + BAR / 2, CONCAT, 10)
        else:
            canvas.circle(x, merge + RING, RING, node.meet)
        if strips:
            canvas.line([(x, merge + joint), (x, merge + joint + 10)])
            strips.put(canvas, x, merge + joint + 10)

    after = 10 + strips.height if strips else 0
    return Drawing(left, right, SPLIT + tall + joint + after, put)


def box_width(nodes: Sequence[Node]) -> float:
    """Width of the boxes of a path."""
    return max([NARROWEST, *(block_width(node) for node in nodes if isinstance(node, Block))])


def _axes(drawn: Sequence[Drawing], centred: bool) -> list[float]:
    """Where the axes of paths are, relative to the axis of the fork."""
    places, edge = [], -drawn[0].left
    for d in drawn:
        places.append(edge + d.left)
        edge += d.width + BESIDE
    if not centred:
        return places
    middle = (edge - BESIDE - drawn[0].left) / 2
    return [place - middle for place in places]


def _down(canvas: Canvas, points: Sequence[tuple[float, float]], label: Shape | None) -> None:
    """From the foot of a path to where it meets the others; a label stands near the foot."""
    (x, foot), *rest = points
    if label is not None:
        middle = foot + LABELLED / 2 - 3
        canvas.line([(x, foot), (x, middle - 7)])
        canvas.text(x, middle, size(label), SMALL, colour=SOFT)
        foot = middle + 7
    canvas.line([(x, foot), *rest], head=True)


def aside(node: Fork) -> Drawing:
    """A side branch: the flow goes straight on, the branch ends in an output of its own."""
    path = node.paths[1]
    d = chain(path, node.input_shape)
    place = max(NARROWEST / 2, 20) + BESIDE + d.left
    height = SPLIT + d.height + ARROW + ROW
    words = size(path[-1].output_shape)

    def put(canvas: Canvas, x: float, y: float) -> None:
        px, top = x + place, y + SPLIT
        canvas.line([(x, y), (x, y + height)])
        canvas.line([(x, y), (x, y + 6), (px, y + 6), (px, top)], head=True)
        d.put(canvas, px, top)
        foot = top + d.height
        arrow(canvas, px, foot, foot + ARROW, None)
        end(canvas, px, foot + ARROW, f"output {words}")
        canvas.text(px + 8, y - 2, short_name(node.name), SMALL, "middle", SOFT)

    return Drawing(NARROWEST / 2, place + d.right, height, put)


def end(canvas: Canvas, x: float, y: float, words: str) -> float:
    """A pill, input or output, with its top at y; returns its width."""
    width = text_width(words) + 24
    canvas.box(x - width / 2, y, width, ROW, "white", INK, ROW / 2)
    canvas.text(x, y + ROW / 2, words)
    return width
