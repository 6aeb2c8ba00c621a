"""The settings a network was built with, kept on it, so that a file of weights can name them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

import numpy as np

from tinynet.layer import Layer

P = ParamSpec("P")
Network = TypeVar("Network", bound=Layer)

ARCHITECTURES: dict[str, Callable[..., Any]] = {}  # name -> builder


@dataclass(frozen=True)
class Architecture:
    """Which builder made a network, and all its settings: text, numbers, truth values, tuples."""

    name: str
    settings: dict[str, Any] = field(default_factory=dict)

    def build(self, rng: np.random.Generator | None = None) -> Any:
        """The same network again, with other starting weights.

        Raises ValueError for a name or a setting that this version of tinynet does not know.
        """
        if self.name not in ARCHITECTURES:
            known = ", ".join(ARCHITECTURES)
            raise ValueError(f"there is no architecture {self.name!r}: want one of {known}")
        builder = ARCHITECTURES[self.name]
        unknown = sorted(self.settings.keys() - inspect.signature(builder).parameters.keys())
        if unknown:
            raise ValueError(
                f"{self.name} has no setting {', '.join(unknown)}: use the version of tinynet "
                "that the settings were written with"
            )
        return builder(**self.settings, rng=np.random.default_rng(0) if rng is None else rng)


def architecture(builder: Callable[P, Network]) -> Callable[P, Network]:
    """Decorator for a builder: the network it returns carries its ``Architecture``.

    Defaults are settings too, so that a change of a default changes no old file.
    The builder raises ValueError if ``num_classes`` is not a whole number from 1.
    """
    signature = inspect.signature(builder)

    @functools.wraps(builder)
    def build(*args: P.args, **kwargs: P.kwargs) -> Network:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        classes = bound.arguments.get("num_classes", 1)
        if not isinstance(classes, int | np.integer) or isinstance(classes, bool) or classes < 1:
            raise ValueError(
                f"{builder.__name__}: num_classes is {classes!r}, want a whole number from 1"
            )
        model = builder(*args, **kwargs)
        settings = {name: plain(x) for name, x in bound.arguments.items() if name != "rng"}
        model.architecture = Architecture(builder.__name__, settings)  # type: ignore[attr-defined]
        return model

    ARCHITECTURES[builder.__name__] = build
    return build


def plain(value: Any) -> Any:
    """A setting as JSON and a repr can hold it: sequences are tuples, NumPy's scalars Python's."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, tuple | list):
        return tuple(plain(part) for part in value)
    return value
