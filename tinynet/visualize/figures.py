"""What all pictures share: matplotlib, imported when it is needed."""

from __future__ import annotations

from importlib import import_module
from typing import Any

# Okabe & Ito 2008: the colour-blind can tell them apart
BLUE, ORANGE, GREEN, GREY, INK = "#0072B2", "#D55E00", "#009E73", "#6B6B6B", "#222222"


def matplotlib(module: str = "") -> Any:
    """Return matplotlib, or a module of it.

    Raises ImportError, with the command that installs it, if it is missing.
    """
    try:
        import matplotlib as whole
    except ImportError as error:
        raise ImportError("a picture needs matplotlib: pip install matplotlib") from error
    return import_module(f"matplotlib.{module}") if module else whole


def new_figure(width: float, height: float, layout: str = "constrained") -> Any:
    """An empty figure, in inches; it needs no display.  Raises ImportError as ``matplotlib``."""
    return matplotlib("figure").Figure(figsize=(width, height), layout=layout)
