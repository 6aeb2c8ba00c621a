"""What loading a file of weights did."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tinynet.layer import Shape

SHOWN = 3  # names a line


@dataclass(frozen=True)
class LoadReport:
    """What loading a file did, array by array; ``print`` shows it as a table.

    file         the file
    source       whose names and layouts it has, such as "torchvision resnet50"
    loaded       our name -> the file's name, of each array that was loaded
    reshaped     our name -> (shape in the file, shape here), where the layout differs
    skipped      our names under ``skip``, which kept their own values
    missing      names that the file lacks, all of them under ``skip``
    unexpected   names that only the file has, all of them under ``skip``
    ignored      names that mean nothing here, such as PyTorch's num_batches_tracked
    settings     setting -> (before, now), where the weights need another value
    """

    file: str
    source: str
    loaded: dict[str, str] = field(default_factory=dict)
    reshaped: dict[str, tuple[Shape, Shape]] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    settings: dict[str, tuple[Any, Any]] = field(default_factory=dict)

    def __str__(self) -> str:
        changed = [f"{name} {old} → {new}" for name, (old, new) in self.settings.items()]
        layouts = [f"{name} {there} → {here}" for name, (there, here) in self.reshaped.items()]
        rows = {
            "loaded": [f"{theirs} → {ours}" for ours, theirs in self.loaded.items()],
            "reshaped": layouts,
            "skipped": list(self.skipped),
            "missing": list(self.missing),
            "unexpected": list(self.unexpected),
            "ignored": list(self.ignored),
            "settings": changed,
        }
        lines = [f"{self.file}, weights of {self.source}"]
        lines += [
            f"{row:<11}{len(names):>6}   {listed(names)}".rstrip() for row, names in rows.items()
        ]
        return "\n".join(lines)


def listed(names: list[str], most: int = SHOWN) -> str:
    """The first names, and that there are more."""
    return ", ".join(names[:most]) + (", …" if names[most:] else "")
