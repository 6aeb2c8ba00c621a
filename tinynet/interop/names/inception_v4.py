"""Inception-v4's weights as timm names them: the blocks are numbered through."""

from __future__ import annotations

import re

from tinynet.interop.names.weight_names import WeightNames

REPEATS = (4, 7, 3)
# stage -> the number of its first block among timm's features; the stem has 0 to 5
FIRST = {
    "stem": 0,
    "inception_a": 6,
    "reduction_a": 10,
    "inception_b": 11,
    "reduction_b": 18,
    "inception_c": 19,
}


def timm_layer(path: str) -> str:
    """``base.inception_b.2.branch1.0.conv`` -> ``features.13.branch1.0.conv``.

    Blocks C have names without dots inside: ``branch1.1.a`` -> ``branch1_1a``.
    """
    if path == "head.classes":
        return "last_linear"
    _, stage, rest = path.split(".", 2)
    number, inner = (0, rest) if stage.startswith("reduction") else split_number(rest)
    if stage == "inception_c":
        inner = re.sub(r"^(branch[12])\.(\d)(?:\.([ab]))?\.", r"\1_\2\3.", inner)
    return f"features.{FIRST[stage] + number}.{inner}"


def split_number(path: str) -> tuple[int, str]:
    """``2.branch0.conv`` -> (2, ``branch0.conv``)."""
    number, inner = path.split(".", 1)
    return int(number), inner


NAMES: dict[str, tuple[WeightNames, ...]] = {
    "inception_v4": (
        WeightNames(
            "torch",
            "timm inception_v4",
            timm_layer,
            requires={"repeats": REPEATS, "as_drawn": False},
            epsilon=1e-3,
        ),
    )
}
