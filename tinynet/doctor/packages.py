"""Versions, and which optional packages are here."""

from __future__ import annotations

import importlib
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tinynet._version import __version__
from tinynet.engine.kernels.numba.digest import DIGEST

# The extras of setup.cfg that a user meets; a test holds the two together.
EXTRAS = {
    "fast": ("numba",),
    "example": ("pillow", "matplotlib", "jinja2", "filelock"),
    "weights": ("h5py",),
    "onnx": ("onnx",),
}


@dataclass(frozen=True)
class Package:
    """An optional package. ``version`` is None where it is missing, ``problem`` None where it
    works as far as tried.
    """

    name: str
    extra: str
    version: str | None
    problem: str | None = None


def installed(name: str) -> str | None:
    """Its version, without importing it; None if it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def read_packages() -> list[Package]:
    """Every package of EXTRAS; Numba is imported too, since it refuses a NumPy newer than it."""
    found = []
    for extra, names in EXTRAS.items():
        for name in names:
            number = installed(name)
            problem = import_problem(name) if number and name == "numba" else None
            found.append(Package(name, extra, number, problem))
    return found


def import_problem(
    name: str, load: Callable[[str], object] = importlib.import_module
) -> str | None:
    """The first line of the error that importing the package ends with; None if it does not."""
    try:
        load(name)
    except Exception as error:  # whatever a broken package raises, the report goes on
        lines = str(error).splitlines() or [""]
        return f"{type(error).__name__}: {lines[0]}"
    return None


def versions() -> dict[str, str]:
    """Of tinynet, Python, NumPy and SciPy."""
    numbers = {"tinynet": __version__, "Python": platform.python_version()}
    for name in ("NumPy", "SciPy"):
        numbers[name] = str(importlib.import_module(name.lower()).__version__)
    return numbers


def debug_build() -> bool:
    """Whether this Python was built for debugging, and so is slow."""
    return hasattr(sys, "gettotalrefcount")


def compiled_kernels() -> str | None:
    """How many compiled functions Numba has kept on disk; None where there are no kernels for it.

    Numba keeps an index file (.nbi) for each function, in NUMBA_CACHE_DIR or beside the source;
    those of other versions of the sources, which have another digest in their name, do not count.
    """
    sources = Path(__file__).parents[1] / "kernels" / "compiled"
    if not sources.is_dir():
        return None
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    place = Path(chosen or sources)
    count = sum(1 for _ in place.rglob(f"*_{DIGEST}-*.nbi")) if place.is_dir() else 0
    if not count:
        return "no kernel compiled yet: the first steps of training do it, once"
    return f"{count} compiled functions kept " + (
        f"in {chosen}" if chosen else "beside their source"
    )
