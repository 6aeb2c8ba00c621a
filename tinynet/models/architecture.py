"""Builders of networks: what all of them check, and the settings that a network keeps.

The settings let a file of weights name the network that it belongs to.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np

from tinynet.backend import check_arguments
from tinynet.layer import Layer
from tinynet.layers.window import whole_numbers

P = ParamSpec("P")
Table = TypeVar("Table")
Network = TypeVar("Network", bound=Layer)

ARCHITECTURES: dict[str, Callable[..., Any]] = {}  # name -> builder


@dataclass(frozen=True)
class Architecture:
    """The builder that made a network, and all its settings: text, numbers, booleans, tuples."""

    name: str
    settings: dict[str, Any] = field(default_factory=dict)

    def build(self, rng: np.random.Generator | None = None) -> Any:
        """Build the same network again, with other starting weights.

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
    """Decorate a builder: check its arguments, and keep them on the network it returns.

    ``network.architecture`` has the defaults too, so that a new default changes no old file.
    Raises ValueError if num_classes is not a whole number from 1, input_shape not three of them,
    or width not above 0. These messages and the builder's all start with its name.
    """
    name, signature = builder.__name__, inspect.signature(builder)
    make: Callable[..., Network] = builder
    check = check_arguments(builder)

    @functools.wraps(builder)
    def build(*args: P.args, **kwargs: P.kwargs) -> Network:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        try:
            check(name, *bound.args, **bound.kwargs)
            bound.arguments["input_shape"] = checked(bound.arguments)
            model = make(*bound.args, **bound.kwargs)
        except (TypeError, ValueError) as error:
            text = str(error).removeprefix(f"{name}: ")
            raise ValueError(f"{name}: {text}") from error
        settings = {key: plain(value) for key, value in bound.arguments.items() if key != "rng"}
        model.architecture = Architecture(name, settings)  # type: ignore[attr-defined]
        return model

    ARCHITECTURES[name] = build
    return build


def variant(
    name: str, family: Callable[Concatenate[Table, P], Network], table: Table, **defaults: Any
) -> Callable[P, Network]:
    """Return the builder ``name``: a family's function with its table and other defaults."""
    build: Any = functools.partial(family, table, **defaults)
    build.__name__ = build.__qualname__ = name
    build.__module__, build.__doc__ = family.__module__, family.__doc__
    return architecture(build)


def checked(arguments: dict[str, Any]) -> tuple[int, ...]:
    """Check what every builder takes; return input_shape as a tuple (H, W, C)."""
    classes, width = arguments["num_classes"], arguments.get("width", 1)
    if not isinstance(classes, int | np.integer) or isinstance(classes, bool) or classes < 1:
        raise ValueError(f"num_classes is {classes!r}, want a whole number from 1")
    shape = whole_numbers(arguments["input_shape"])
    if shape is None or len(shape) != 3 or min(shape) < 1:
        raise ValueError(
            f"input_shape is {arguments['input_shape']}, want (height, width, channels), such as "
            "(224, 224, 3), or (224, 224, 1) for greyscale"
        )
    if not width > 0:
        raise ValueError(f"width is {width}, want a number above 0; 1 is the paper's")
    return shape


def plain(value: Any) -> Any:
    """Return a setting as JSON can hold it: sequences as tuples, NumPy's scalars as Python's."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, tuple | list):
        return tuple(plain(part) for part in value)
    return value
