"""``draw``: a network as a picture, its blocks and shapes, for a slide.

Lengths are in points, y grows downwards. A part of the flow begins at a point (x, y) with the arrow
that leads to it, and ends straight below.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tinynet.layer import Layer, Shape, shape_text
from tinynet.visualize.figures import INK, matplotlib, new_figure
from tinynet.visualize.structure import ASIDE, REPEAT, Node, Placed, folded, read

# kind of layer -> fill and border: tints of the colours of Okabe & Ito 2008, which the colour-blind
# can tell apart
COLOURS = {
    "convolution": ("#CFE3F3", "#0072B2"),
    "dense": ("#F7D3B8", "#C04E00"),
    "pooling": ("#C6E9DD", "#008A66"),
    "normalisation": ("#E9E9E9", "#777777"),
    "activation": ("#FBEFB0", "#A98600"),
    "dropout": ("#EFDCE9", "#A0527F"),
    "reshape": ("#E2E0F5", "#6A5FB0"),
    "merge": ("white", INK),
    "other": ("white", INK),
}
SOFT, LINE, FRAME = "#555555", "#666666", ("#F6F6F4", "#C4C4C0")
SMALL, TEXT, HEADING = 10, 12, 20  # sizes of letters
ROW, STRIP, NARROWEST = 24, 15, 90  # heights of a box and of a strip, least width
ARROW, LABELLED, SPLIT, JOINT = 18, 36, 12, 20  # lengths: arrows, where paths part, where they meet
BESIDE, PAD, MARGIN, HEADER, GUTTER = 18, 12, 24, 56, 40  # gaps: paths, frames, page, columns
PROPORTIONS, LOWEST = 4 / 3, 300  # of the page: width over height; height of its lowest columns
SIGNS = {"sum": "+", "gate": "x"}  # where paths meet: matplotlib's markers
TIP = "layer "  # begins the id of a box, which goes on with what a pointer is told
NOTE = "shapes: height × width × channels; an arrow without one carries the shape before it"
STYLE = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Arial"],  # the wider one is measured, so both fit
    "svg.fonttype": "none",
    "svg.hashsalt": "tinynet",
    "text.usetex": False,
    "text.parse_math": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "auto",
}


def draw(
    model: Layer,
    file: str | Path,
    input_shape: Shape | None = None,
    *,
    fold: bool = True,
    title: str | None = None,
) -> Path:
    """Draw the network: its layers, how they are joined, the shapes between them.

    model         any layer; one with its own forward pass is drawn by its children
    file          the file to write; its ending is the format: .svg, .pdf or .png
    input_shape   (H, W, C) of one input; by default that of ``model.architecture``
    fold          draw repeated blocks once, with their number; False: every one of them
    title         the heading; by default the architecture's name
    An arrow bears the shape of what flows there, height × width × channels, where it changes. In an
    SVG, a pointer resting on a layer shows its name, parameters and multiply-adds.
    Returns the file. The same model gives the same SVG.
    Raises ValueError for another format, or if the input shape is not known or does not fit;
    ImportError, with the command that installs it, if matplotlib is missing.
    """
    path = Path(file)
    if path.suffix.lower() not in (".svg", ".pdf", ".png"):
        raise ValueError(f"draw writes .svg, .pdf or .png, not {path}: name it {path.stem}.svg")
    known = getattr(model, "architecture", None)
    if input_shape is None and known is not None:
        input_shape = known.settings.get("input_shape")
    if input_shape is None:
        raise ValueError(
            f"{type(model).__name__} does not say what its input is: give "
            "input_shape=(height, width, channels)"
        )
    shape = tuple(input_shape)
    nodes = read(model, shape)
    if not nodes:
        raise ValueError(f"{model!r} has no layers, so there is nothing to draw")
    count = sum(p.value.size for p in model.parameters().values())
    work = sum(layer.multiply_adds(given) for _, layer, given in model.walk(shape))
    with matplotlib().rc_context(STYLE):
        page = _Page()
        page.draw(
            folded(nodes) if fold else nodes,
            tuple(model.output_shape(shape)),
            title or (type(model).__name__ if known is None else known.name),
            f"{count:,} parameters · {quantity(work)} multiply-adds for one input",
        )
        content = page.content(path.suffix.lower()[1:])
    path.write_bytes(content)
    return path


def quantity(n: int) -> str:
    """4.1 billion, 320 million, 12,345."""
    for unit, name in ((10**9, "billion"), (10**6, "million")):
        if n >= unit:
            return f"{n / unit:.3g} {name}"
    return f"{n:,}"


def width_of(text: str, letters: float = TEXT) -> float:
    font = matplotlib("font_manager").FontProperties(family="DejaVu Sans", size=letters)
    measure = matplotlib("textpath").text_to_path.get_text_width_height_descent
    return float(measure(text, font, ismath=False)[0])


def _short(name: str) -> str:
    """A dotted name without "base." or "head.", which almost all layers share."""
    return re.sub(r"^(base|head)\.", "", name)


class _Part(NamedTuple):
    """What ``put(x, y)`` draws, and how far that reaches from (x, y)."""

    left: float
    right: float
    height: float
    put: Callable[[float, float], None]


class _Page:
    """The parts of a network, drawn by matplotlib."""

    def __init__(self) -> None:
        self.figure = new_figure(1, 1, layout="none")
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set_axis_off()

    def text(self, x: float, y: float, text: str, letters: float = TEXT, **style: Any) -> None:
        style = {"color": INK, "ha": "center", "va": "center_baseline", **style}
        self.axes.text(x, y, text, fontsize=letters, **style)

    def box(
        self, corner: tuple[float, float], width: float, height: float, fill: str = "white",
        edge: str = INK, radius: float = 3, **style: Any,
    ) -> None:  # fmt: skip
        shape = "circle,pad=0" if width == height else f"round,pad=0,rounding_size={radius}"
        style = {"facecolor": fill, "edgecolor": edge, "zorder": 2, "clip_on": False, **style}
        box = matplotlib("patches").FancyBboxPatch(corner, width, height, shape, **style)
        self.axes.add_artist(box)

    def line(self, *points: tuple[float, float], head: bool = False, bend: float = 8) -> None:
        """A line along the axes with round corners; ``head`` ends it in an arrow head."""
        curve = matplotlib("path").Path
        p = np.array(points, dtype=float)
        vertices, codes = [p[0]], [curve.MOVETO]
        for a, b, c in zip(p, p[1:], p[2:], strict=False):
            before, after = (b + (e - b) * min(0.5, bend / abs(e - b).sum()) for e in (a, c))
            vertices += [before, b, after]
            codes += [curve.LINETO, curve.CURVE3, curve.CURVE3]
        style = "-|>,head_length=6,head_width=2.6" if head else "-"
        arrow = matplotlib("patches").FancyArrowPatch(
            path=curve([*vertices, p[-1]], [*codes, curve.LINETO]), arrowstyle=style, color=LINE,
            mutation_scale=1, shrinkB=0, linewidth=1.1, capstyle="butt", joinstyle="miter",
            snap=False, clip_on=False,
        )  # fmt: skip
        self.axes.add_artist(arrow)

    def shape(self, x: float, y: float, shape: Shape | None) -> float:
        """The line down from (x, y) with a shape in it; returns where it goes on."""
        if shape is None:
            return y
        self.line((x, y), (x, y + 8))
        self.text(x, y + 15, shape_text(shape), SMALL, color=SOFT)
        return y + 22

    def arrow(self, x: float, y: float, shape: Shape | None, head: bool = True) -> float:
        """An arrow down from (x, y) with a shape in it; returns where it ends."""
        end = y + _length(shape)
        self.line((x, self.shape(x, y, shape)), (x, end), head=head)
        return end

    def chain(
        self, nodes: Sequence[Node], shown: Shape, framed: bool = False
    ) -> tuple[list[_Part], float]:
        """The parts of nodes one below another, and the width of their boxes.

        shown    the shape written last; an arrow bears one where it differs from that
        framed   whether blocks with paths get a frame and a name
        """
        layers = [placed for node in nodes if not node.paths for placed in node.layers]
        width = max([NARROWEST, *map(_row_width, layers)])
        parts = []
        for node in nodes:
            shape = None if node.input_shape == shown else node.input_shape
            shown = node.input_shape
            if node.meet == REPEAT:
                part = self.repeat(node, shape)
            elif node.meet == ASIDE:
                part = self.aside(node, shape)
            elif node.paths and framed:
                part = self.frame(self.paths(node, None), shape, _short(node.name))
            elif node.paths:
                part = self.paths(node, shape)
            else:
                part = self.boxes(node.layers, width, shape)
            parts.append(part)
        return parts, width

    def boxes(self, layers: Sequence[Placed], width: float, shape: Shape | None) -> _Part:
        heights = [STRIP if placed.is_strip else ROW for placed in layers]

        def put(x: float, y: float) -> None:
            y = self.arrow(x, y, shape)
            for placed, height in zip(layers, heights, strict=True):
                kind = placed.layer.kind if placed.layer.kind in COLOURS else "other"
                fill, edge = COLOURS[kind]
                corner, tip = (x - width / 2, y), TIP + _tip(placed)
                self.box(corner, width, height, fill, edge, label=kind, gid=tip)
                letters = SMALL if height == STRIP else TEXT
                self.text(x, y + height / 2, placed.layer.label(), letters)
                y += height

        return _Part(width / 2, width / 2, _length(shape) + sum(heights), put)

    def pill(self, text: str, lead: int = ARROW) -> _Part:
        half = width_of(text) / 2 + 12

        def put(x: float, y: float) -> None:
            if lead:
                self.arrow(x, y, None)
            self.box((x - half, y + lead), 2 * half, ROW, radius=ROW / 2)
            self.text(x, y + lead + ROW / 2, text)

        return _Part(half, half, lead + ROW, put)

    def repeat(self, node: Node, shape: Shape | None) -> _Part:
        title, path = _short(node.name), node.paths[0]
        if path[0].paths:
            title += " … " + re.sub(r"^.*?(?=\d+$)", "", node.last)
        before, after = node.input_shape[-1], node.output_shape[-1]
        note = "" if before == after else f"channels {before} → {after}"
        inside = _stacked(self.chain(path, node.input_shape)[0])
        return self.frame(inside, shape, title, f"× {node.times}", note)

    def frame(
        self, inside: _Part, shape: Shape | None, title: str, badge: str = "", note: str = ""
    ) -> _Part:
        """A pale frame with the block's name, how often it comes, and a note at its foot."""
        lines = [title]
        if width_of(title, SMALL) > inside.left + PAD + 10:
            lines = re.split(r"(?<=\.)", title)  # beside the flow rather than across it
        pill = width_of(badge) + 16 if badge else 0
        left = max([inside.left + PAD, *(width_of(line, SMALL) + 14 for line in lines)])
        right = max(inside.right + PAD, pill + 12, width_of(note, SMALL) + 16)
        top, foot = 13 * len(lines) - 6, PAD + 10 if note else PAD
        height = top + inside.height + foot

        def put(x: float, y: float) -> None:
            y = self.arrow(x, y, shape, head=False)
            self.box((x - left, y), left + right, height, *FRAME, radius=6, zorder=0)
            for i, line in enumerate(lines):
                self.text(x - left + 7, y + 11 + 13 * i, line, SMALL, color=SOFT, ha="left")
            self.text(x + right - 7, y + height - 9, note, SMALL, color=SOFT, ha="right")
            if badge:
                self.box((x + right - pill - 5, y + 4), pill, 18, INK, radius=9)
                self.text(x + right - pill / 2 - 5, y + 13, badge, color="white", weight="bold")
            self.line((x, y), (x, y + top))
            inside.put(x, y + top)
            self.line((x, y + height - foot), (x, y + height))

        return _Part(left, right, _length(shape) + height, put)

    def paths(self, node: Node, shape: Shape | None) -> _Part:
        """Paths side by side to where they meet; the input itself goes by as an arc."""
        real = [path for path in node.paths if path]
        chains = [self.chain(path, node.input_shape) for path in real]
        drawn, widths = [_stacked(parts) for parts, _ in chains], [width for _, width in chains]
        ends = [p[-1].output_shape for p in real]
        new = [e if e != p[-1].input_shape else None for p, e in zip(real, ends, strict=True)]
        tall = max(d.height + _length(end) for d, end in zip(drawn, new, strict=True))
        bar = node.meet not in SIGNS
        axes = [0.0]
        for before, after in zip(drawn, drawn[1:], strict=False):
            axes.append(axes[-1] + before.right + BESIDE + after.left)
        if bar and axes[1:]:  # centred
            middle = (axes[-1] + drawn[-1].right - drawn[0].left) / 2
            axes = [axis - middle for axis in axes]
        left, right = drawn[0].left - axes[0], axes[-1] + drawn[-1].right
        arc = right + BESIDE if len(real) < len(node.paths) else 0
        start, stop = -JOINT / 2, JOINT / 2
        if bar:
            start, stop = axes[0] - widths[0] / 2, arc + 12 if arc else axes[-1] + widths[-1] / 2
        strips = self.boxes(node.layers, max([widths[0], *map(_row_width, node.layers)]), None)
        height = _length(shape) + SPLIT + tall + JOINT

        def put(x: float, y: float) -> None:
            top, merge = self.arrow(x, y, shape, head=False), y + height - JOINT

            def join(*way: tuple[float, float], bend: float = 8) -> None:
                px = way[-1][0]
                end = [(px, merge)]
                if px != x and not bar:
                    end = [(px, merge + JOINT / 2), (x + JOINT / 2, merge + JOINT / 2)]
                self.line(*way, *end, head=True, bend=bend)

            for axis, d, end in zip(axes, drawn, new, strict=True):
                px, foot = x + axis, top + SPLIT + d.height
                self.line((x, top), *([(px, top)] if axis else []), (px, top + SPLIT))
                d.put(px, top + SPLIT)
                join((px, self.shape(px, foot, end)))
            if arc:
                join((x, top), (x + arc, top), bend=16)
            self.box((x + start, merge), stop - start, JOINT, radius=JOINT / 2)
            if bar:
                text = "concatenate" if node.meet == "concat" else node.meet
                self.text(x + (start + stop) / 2, merge + JOINT / 2, text, SMALL)
            else:
                mark = {"marker": SIGNS[node.meet], "markersize": 9, "markeredgewidth": 1.5}
                self.axes.plot(x, merge + JOINT / 2, color=INK, clip_on=False, **mark)
            if node.layers:
                strips.put(x, y + height)

        left, right = max(left, -start, strips.left), max(right, stop, strips.right, arc + 6)
        return _Part(left, right, height + strips.height * bool(node.layers), put)

    def aside(self, node: Node, shape: Shape | None) -> _Part:
        """A side branch: the flow goes straight on, the branch ends in an output."""
        path = node.paths[1]
        parts, _ = self.chain(path, node.input_shape)
        branch = _stacked([*parts, self.pill(f"output {shape_text(path[-1].output_shape)}")])
        place = NARROWEST / 2 + BESIDE + branch.left
        height = _length(shape) + SPLIT + branch.height

        def put(x: float, y: float) -> None:
            top = self.arrow(x, y, shape, head=False)
            self.line((x, top), (x, y + height))
            self.line((x, top), (x + place, top), (x + place, top + SPLIT))
            branch.put(x + place, top + SPLIT)
            self.text(x + place + 8, top + 8, _short(node.name), SMALL, color=SOFT, ha="left")

        return _Part(NARROWEST / 2, place + branch.right, height, put)

    def draw(self, nodes: Sequence[Node], output: Shape, heading: str, totals: str) -> None:
        """The flow in columns, each continued at the top of the next, below a heading."""
        shape = nodes[0].input_shape
        parts, _ = self.chain(nodes, shape, framed=True)
        parts[0] = _stacked([self.pill(f"input {shape_text(shape)}", lead=0), parts[0]])
        parts[-1] = _stacked([parts[-1], self.pill(f"output {shape_text(output)}")])
        x, top, height = float(MARGIN), float(MARGIN + HEADER), 0.0
        ends: list[tuple[float, float]] = []
        for column in _columns(parts):
            axis, start = x + column.left, top
            if ends:  # from the foot of the column before it
                (before, foot), turn, start = ends[-1], x - GUTTER / 2, top + PAD
                down = [(before, foot), (before, foot + PAD), (turn, foot + PAD)]
                self.line(*down, (turn, top), (axis, top), (axis, start))
            column.put(axis, start)
            ends.append((axis, start + column.height))
            x = axis + column.right + GUTTER
            height = max(height, start + column.height)
        least = max(1.2 * width_of(heading, HEADING), width_of(totals), width_of(NOTE, SMALL))
        width = max(x - GUTTER, MARGIN + least) + MARGIN
        self.text(MARGIN, MARGIN + 8, heading, HEADING, ha="left", weight="bold")
        self.text(MARGIN, MARGIN + 32, totals, color=SOFT, ha="left")
        self.text(MARGIN, height + 40, NOTE, SMALL, color=SOFT, ha="left")
        handles, labels = self.axes.get_legend_handles_labels()
        kinds = dict(zip(labels, handles, strict=True))
        across = int((width - 2 * MARGIN) / 105)
        self.axes.legend(
            kinds.values(), kinds, ncols=across, loc="upper left", borderpad=0, borderaxespad=0,
            bbox_to_anchor=(MARGIN, height + 54), bbox_transform=self.axes.transData,
            fontsize=11, labelcolor=INK, frameon=False, handlelength=1.5, columnspacing=1.5,
        )  # fmt: skip
        height += 54 + 18 * math.ceil(len(kinds) / across) + MARGIN
        self.figure.set_size_inches(width / 72, height / 72)
        self.axes.set(xlim=(0, width), ylim=(height, 0))

    def content(self, format: str) -> bytes:
        undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}
        file = BytesIO()
        self.figure.savefig(file, format=format, dpi=150, metadata=undated[format])
        if format != "svg":
            return file.getvalue()
        tips = re.compile(f'<g id="{TIP}([^"]*)">'.encode())
        return tips.sub(rb"<g><title>\1</title>", file.getvalue())


def _length(shape: Shape | None) -> int:
    return ARROW if shape is None else LABELLED


def _row_width(placed: Placed) -> float:
    return width_of(placed.layer.label(), SMALL if placed.is_strip else TEXT) + 18


def _tip(placed: Placed) -> str:
    name, layer, shape = placed
    count = sum(p.value.size for p in layer.parameters().values())
    work = layer.multiply_adds(shape)
    facts = [f"{name}: {layer!r}" if name else repr(layer)]
    facts += [f"{count:,} parameters"] if count else []
    facts += [f"{quantity(work)} multiply-adds"] if work else []
    return ", ".join(facts)


def _stacked(parts: Sequence[_Part]) -> _Part:

    def put(x: float, y: float) -> None:
        for part in parts:
            part.put(x, y)
            y += part.height

    left, right, heights, _ = zip(*parts, strict=True)
    return _Part(max(left), max(right), sum(heights), put)


def _columns(parts: Sequence[_Part]) -> list[_Part]:
    """Break the flow where the page comes nearest to the wanted proportions."""
    heights = [part.height for part in parts]
    choices: dict[int, list[_Part]] = {}
    for limit in np.geomspace(max(*heights, LOWEST), max(sum(heights), LOWEST), 200):
        columns: list[list[_Part]] = [[]]
        for part in parts:
            if sum(p.height for p in columns[-1]) + part.height > limit + 1e-6:
                columns.append([])
            columns[-1].append(part)
        # of equal numbers of columns the first is the most even
        choices.setdefault(len(columns), [_stacked(column) for column in columns])

    def off(columns: list[_Part]) -> float:
        width = sum(column.left + column.right + GUTTER for column in columns)
        height = max(column.height for column in columns) + HEADER + 120
        return abs(math.log(width / height / PROPORTIONS))

    return min(choices.values(), key=off)
