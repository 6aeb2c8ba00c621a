"""SVG by hand: boxes, lines, arrows, and how wide a text is at most."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

INK, SOFT, LINE, FRAME = "#222222", "#555555", "#666666", "#F6F6F4"
FONTS = "Helvetica, Arial, 'DejaVu Sans', sans-serif"
SMALL, TEXT = 10, 12  # sizes of letters

# Advance widths of DejaVu Sans in thousandths of the letter size: the widest of the fonts that
# FONTS may turn out to be, so that what fits by these numbers fits with any of them.
_WIDTHS = {
    280: "'ijl", 290: "IJ", 320: " ,.·", 340: "/:;\\|", 360: "f-", 390: "()[]t", 400: "!",
    410: "r", 500: '"*_`–', 530: "sz?", 560: "cL", 600: "FkvxyP", 620: "TYaoe",
    640: "ESbdghnpqu$0123456789{}", 700: "KAVBRXZC", 750: "UHN", 790: "DG&OQ", 840: "w#+<=>^~×→−",
    1000: "MWm%@…",
}  # fmt: skip
WIDTHS = {letter: width / 1000 for width, letters in _WIDTHS.items() for letter in letters}


def text_width(text: str, letters: float = TEXT) -> float:
    """How wide a text is at most."""
    return letters * sum(WIDTHS.get(letter, 1.0) for letter in text)


def number(value: float) -> str:
    """A coordinate, to a tenth."""
    return f"{value:.1f}".removesuffix(".0")


class Canvas:
    """Elements in the order in which they are drawn; frames lie below all else."""

    def __init__(self) -> None:
        self.below: list[str] = []
        self.elements: list[str] = []

    def text(
        self,
        x: float,
        y: float,
        text: str,
        letters: float = TEXT,
        anchor: str = "middle",
        colour: str = INK,
        bold: bool = False,
    ) -> None:
        """A line of text whose letters' middle is at the height y."""
        weight = ' font-weight="bold"' if bold else ""
        self.elements.append(
            f'<text x="{number(x)}" y="{number(y + 0.36 * letters)}" font-size="{number(letters)}" '
            f'text-anchor="{anchor}" fill="{colour}"{weight}>{escape(text)}</text>'
        )

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        fill: str,
        stroke: str,
        radius: float = 3,
        tip: str = "",
        under: bool = False,
    ) -> None:
        """A rectangle from its upper left corner; ``tip`` shows where a pointer rests on it."""
        inside = f"><title>{escape(tip)}</title></rect>" if tip else "/>"
        (self.below if under else self.elements).append(
            f'<rect x="{number(x)}" y="{number(y)}" width="{number(width)}" '
            f'height="{number(height)}" rx="{number(radius)}" fill="{fill}" '
            f'stroke="{stroke}"{inside}'
        )

    def circle(self, x: float, y: float, radius: float, sign: str) -> None:
        """Where paths meet: a circle with + or × in it, drawn as lines."""
        a = radius * (0.55 if sign == "+" else 0.42)
        ends = ((-a, 0, a, 0), (0, -a, 0, a)) if sign == "+" else ((-a, -a, a, a), (-a, a, a, -a))
        cross = "".join(
            f"M{number(x + x0)} {number(y + y0)}L{number(x + x1)} {number(y + y1)}"
            for x0, y0, x1, y1 in ends
        )
        self.elements.append(
            f'<circle cx="{number(x)}" cy="{number(y)}" r="{number(radius)}" fill="white" '
            f'stroke="{INK}" stroke-width="1.3"/>'
            f'<path d="{cross}" stroke="{INK}" stroke-width="1.5" fill="none"/>'
        )

    def line(
        self, points: Sequence[tuple[float, float]], radius: float = 8, head: bool = False
    ) -> None:
        """A line through points, its corners round; ``head`` ends it in an arrow head."""
        (x, y), *rest = points
        path = f"M{number(x)} {number(y)}"
        for i, (x1, y1) in enumerate(rest):
            if i + 1 == len(rest):
                path += f"L{number(x1)} {number(y1)}"
                continue
            x2, y2 = rest[i + 1]
            bend = min(radius, _length(x, y, x1, y1) / 2, _length(x1, y1, x2, y2) / 2)
            ax, ay = _towards(x1, y1, x, y, bend)
            bx, by = _towards(x1, y1, x2, y2, bend)
            path += (
                f"L{number(ax)} {number(ay)}Q{number(x1)} {number(y1)} {number(bx)} {number(by)}"
            )
            x, y = x1, y1
        arrow = ' marker-end="url(#head)"' if head else ""
        self.elements.append(
            f'<path d="{path}" stroke="{LINE}" stroke-width="1.2" fill="none"{arrow}/>'
        )

    def document(self, width: float, height: float, title: str) -> str:
        """The whole file."""
        w, h = number(width), number(height)
        body = "\n".join([*self.below, *self.elements])
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{w}" height="{h}" '
            f'viewBox="0 0 {w} {h}" font-family="{FONTS}" role="img">\n'
            f"<title>{escape(title)}</title>\n"
            '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
            f'markerHeight="7" orient="auto"><path d="M0 0.8L8 4L0 7.2z" fill="{LINE}"/>'
            "</marker></defs>\n"
            f'<rect width="{w}" height="{h}" fill="white"/>\n{body}\n</svg>\n'
        )


def _length(x: float, y: float, x1: float, y1: float) -> float:
    return abs(x1 - x) + abs(y1 - y)  # lines run along the axes


def _towards(x: float, y: float, x1: float, y1: float, distance: float) -> tuple[float, float]:
    total = _length(x, y, x1, y1) or 1.0
    return x + (x1 - x) * distance / total, y + (y1 - y) * distance / total
