"""How one library's files call the weights of one architecture."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Library = Literal["torch", "keras"]


@dataclass(frozen=True)
class WeightNames:
    """Names and conventions of one architecture's weights in the files of one library.

    library   "torch" or "keras": whose layouts and variable names the files use
    source    package and function that make the same network, such as "torchvision resnet50"
    layer     dotted path of a layer of ours -> what the file calls that layer
    requires  settings that the network must have been built with: with others, the same weights
              would fit and compute something else
    epsilon   batch norm's ε in that library, which the weights were trained with; loading sets it.
              None: the architecture has no batch norm
    ignored   regular expressions of whole names in the file that mean nothing here
    older     (pattern, replacement) for names that the library has changed since it published
              files, whose arrays it renames itself
    """

    library: Library
    source: str
    layer: Callable[[str], str]
    requires: dict[str, Any] = field(default_factory=dict)
    epsilon: float | None = None
    ignored: tuple[str, ...] = (r".*num_batches_tracked",)
    older: tuple[tuple[str, str], ...] = ()

    def of_today(self, arrays: dict[str, Any]) -> dict[str, Any]:
        """The same arrays, those with an ``older`` name by today's, unless that is there, too."""
        rename = renamed(self.older)
        return {name if rename(name) in arrays else rename(name): x for name, x in arrays.items()}


def renamed(rules: Sequence[tuple[str, str]]) -> Callable[[str], str]:
    r"""A function that applies every (pattern, replacement) in turn to a layer's path.

    A pattern is a regular expression that ``re.sub`` replaces everywhere in the path:
    ``renamed([(r"^base\.", ""), (r"^head\.fc$", "fc")])``.
    """
    compiled = [(re.compile(pattern), replacement) for pattern, replacement in rules]

    def rename(path: str) -> str:
        for pattern, replacement in compiled:
            path = pattern.sub(replacement, path)
        return path

    return rename
