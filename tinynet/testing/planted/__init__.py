"""Wrong backward passes, each with one thing wrong, to check gradient checkers with.

    for planted in PLANTED:
        case = planted.case()
        case.check(wrong=False)     the same code without the bug: passes
        case.check()                raises GradientError

Each is a bug that was made, shipped, or could be made in a line, and is written as the one
line in which it differs from the right code (``bench``). There is a file for each family of layers.
``python -m tinynet.testing.planted`` runs them through tinynet's check and through the usual ones
and writes docs/planted.md. A layer without any is listed there as missing.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from tinynet.layer import Layer
from tinynet.losses import Loss
from tinynet.testing.planted import (
    activations,
    combining,
    dense,
    losses,
    normalization,
    precise,
    windows,
)
from tinynet.testing.planted.bench import (
    Bench,
    Case,
    FunctionBench,
    LayerBench,
    LossBench,
    Planted,
    Subject,
)

__all__ = [
    "BENCHES",
    "PLANTED",
    "Case",
    "FunctionBench",
    "LayerBench",
    "LossBench",
    "Planted",
    "Subject",
    "without_bugs",
]

_modules = (dense, windows, activations, normalization, combining, losses, precise)
# benches that differ in their settings alone share a list of bugs: the first one counts
BENCHES: tuple[Bench, ...] = tuple(
    {
        id(bench.bugs): bench
        for module in reversed(_modules)
        for bench in reversed(vars(module).values())
        if isinstance(bench, Bench)
    }.values()
)[::-1]
PLANTED: tuple[Planted, ...] = tuple(bug for bench in BENCHES for bug in bench.bugs)


def without_bugs() -> list[str]:
    """Names of tinynet's layers and losses for which no bug is planted."""
    classes = [
        cls
        for cls in [*_subclasses(Layer), *_subclasses(Loss)]
        if cls.__module__.startswith(("tinynet.layers.", "tinynet.losses."))
        and cls.__name__ in dir(sys.modules[cls.__module__.rpartition(".")[0]])
    ]
    spoilt = {bench.spoils for bench in BENCHES if bench.bugs}
    return sorted(cls.__name__ for cls in classes if cls.__name__.lower() not in spoilt)


def _subclasses(cls: Any) -> Iterator[type]:
    for sub in cls.__subclasses__():
        yield sub
        yield from _subclasses(sub)
