"""Benches: a right backward pass, and the wrong ones that are planted beside it.

    dense = FunctionBench("dense", (3, 4), dense_forward, dense_backward, arguments)
    dense.plant(
        "dw transposed: dw = dzᵀ x, the transpose; a square w hides it from the shape.",
        dw(lambda g, dz, cache: dz.T @ cache.x),
        "db averaged: db is the mean over the batch, where it is the sum. [where it was seen]",
        db(lambda g, dz, cache: g / len(dz)),
    )

A bug is two lines: what is wrong, and the wrong part alone. Of two bare functions (FunctionBench)
that is a gradient, of a layer (LayerBench) a method, of a loss (LossBench) dz. A wrong gradient is
a function of the right one, g, and of what the backward pass was given.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field, fields, replace
from functools import partial, update_wrapper
from typing import Any, NamedTuple, Self

import numpy as np

from tinynet import layers
from tinynet.backend import Array
from tinynet.gradient_check import GradientReport
from tinynet.gradient_check.check import Settings, argument_names, check
from tinynet.gradient_check.checkable import (
    Checkable,
    CheckableLayer,
    CheckableLoss,
    CheckablePair,
)
from tinynet.layer import EVAL, Layer, Mode, Shape
from tinynet.losses import Loss

BUG = re.compile(r"(.*?): (.*\.)(?: \[(.*)\])?")
Arguments = Callable[[np.random.Generator, Shape], tuple[Any, ...]]
Forward = Callable[..., tuple[Array, Any]]


class Subject(NamedTuple):
    """What any gradient check needs of a forward and a backward pass.

    arrays    name -> array; ``forward`` reads them, so a check may perturb them in place
    forward   () -> (y, cache)
    backward  (dy, cache) -> name -> gradient
    """

    arrays: dict[str, Array]
    forward: Callable[[], tuple[Array, Any]]
    backward: Callable[[Array, Any], dict[str, Array]]


@dataclass(frozen=True)
class Case:
    """A planted bug with its arguments, beside the same code without it.

    right, wrong   two backward functions, two layers or two losses
    view           (one of them, dtype) -> what tinynet's check runs
    """

    right: Any
    wrong: Any
    view: Callable[[Any, str], Checkable]

    def check(self, *, wrong: bool = True) -> GradientReport:
        """Run tinynet's own check on the wrong code, or on the right."""
        return check(self.view(self.wrong if wrong else self.right, "float64"), Settings())

    def subject(self, *, wrong: bool = True, dtype: str = "float64") -> Subject:
        """Return the wrong code, or the right, as another check sees it."""
        code = self.view(self.wrong if wrong else self.right, dtype)
        return Subject(code.arrays, code.forward, code.backward)


@dataclass(frozen=True)
class Planted:
    """A wrong backward pass.

    name    "dense: dw transposed"
    breaks  the function or the layer that it stands in for
    bug     what is wrong, in words
    seen    where it was shipped, or who makes it; empty if that is not known
    shape   of the input that it is shown with
    build   (rng, shape of the input) -> Case; raises ValueError for a shape that does not fit
    """

    name: str
    breaks: str
    bug: str
    seen: str
    shape: Shape
    build: Callable[[np.random.Generator, Shape], Case]

    def case(self, seed: int = 0, shape: Shape | None = None) -> Case:
        """The bug with arguments drawn by ``seed``; of another input shape, if one is given."""
        return self.build(np.random.default_rng(seed), shape or self.shape)


class Wrong(NamedTuple):
    """The wrong parts by name, and the settings of the bench with which they show."""

    parts: Mapping[str, Any]
    settings: Mapping[str, Any]


def wrong(**parts: Any) -> Wrong:
    """Several wrong parts: wrong(forward=..., backward=...)."""
    return Wrong(parts, {})


def part(name: str) -> Callable[..., Wrong]:
    """What makes one wrong part of that name: dx(function, stride=2), settings after it."""
    return lambda function, **settings: Wrong({name: function}, settings)


dx, dw, db, dz, forward, backward = map(part, ("dx", "dw", "db", "dz", "forward", "backward"))


@dataclass(frozen=True)
class Bench:
    """What all bugs of one layer share: the right code, its arguments, its name in the table.

    layer     the name over its bugs
    shape     of the input
    options   keyword arguments of the forward pass, such as stride=2, or of a loss's constructor
    """

    layer: str
    shape: Shape
    _: KW_ONLY
    options: Mapping[str, Any] = field(default_factory=dict)
    bugs: list[Planted] = field(default_factory=list)

    def plant(self, *bugs: Any) -> None:
        """Add bugs: for each a text, "name: What is wrong. [where it was seen]", and its code."""
        for text, (parts, settings) in zip(bugs[::2], bugs[1::2], strict=True):
            if not (match := BUG.fullmatch(text)):
                raise ValueError(f"a bug is 'name: What is wrong. [where it was seen]': {text!r}")
            name, words, seen = match.groups("")
            bench = self.using(**settings)
            name, build = f"{self.layer}: {name}", partial(bench.build, parts)
            self.bugs.append(Planted(name, self.layer, words, seen, bench.shape, build))

    @property
    def spoils(self) -> str:
        """The layer or loss whose code is wrong here, in small letters: "maxpool2d"."""
        right: Any = getattr(self, "right", None) or getattr(self, "forward", None)
        return right.__name__.removesuffix("_forward").replace("_", "").lower()

    def build(self, parts: Mapping[str, Any], rng: np.random.Generator, shape: Shape) -> Case:
        """The case with these parts wrong."""
        raise NotImplementedError(f"{type(self).__name__} has no build(parts, rng, shape)")

    def using(self, **settings: Any) -> Self:
        """This bench, and its list of bugs, with other settings.

        settings   fields of the bench, such as ``shape``; any other name is an option
        """
        own = {f.name for f in fields(self)}
        options = {name: value for name, value in settings.items() if name not in own}
        kept = {name: value for name, value in settings.items() if name in own}
        return replace(self, **kept, options={**self.options, **options})


@dataclass(frozen=True)
class FunctionBench(Bench):
    """A right pair of functions; a bug is dx, dw, ... for the forward pass's x, w, ...

    forward     its first parameters are what the gradients are of
    backward    (dy, cache) -> a gradient, or a tuple with one for each of those parameters
    arguments   (rng, shape of the input) -> the forward pass's positional arguments
    """

    forward: Forward
    backward: Callable[[Array, Any], Any]
    arguments: Arguments

    def build(self, parts: Mapping[str, Any], rng: np.random.Generator, shape: Shape) -> Case:
        # update_wrapper: the report shows its parameters' names
        forward = update_wrapper(partial(self.forward, **self.options), self.forward)
        args = self.arguments(rng, shape)
        names = argument_names(forward, len(args))
        if unknown := parts.keys() - {f"d{name}" for name in names}:
            raise TypeError(f"{self.layer} has no gradient {', '.join(unknown)}: it is of {names}")

        def spoilt(dy: Array, cache: Any) -> tuple[Array | None, ...]:
            right = self.backward(dy, cache)
            right = right if isinstance(right, tuple) else (right,)
            ways = [parts.get(f"d{name}", lambda g, *_: g) for name in names]
            return tuple(way(g, dy, cache) for way, g in zip(ways, right, strict=False))

        return Case(
            self.backward,
            spoilt,
            lambda backward, dtype: CheckablePair(
                self.layer, (forward, backward), args, names, dtype
            ),
        )


@dataclass(frozen=True)
class LayerBench(Bench):
    """A right layer; a bug is what a subclass of it overrides: backward, forward, ...

    make   (class, rng, shape of the input) -> an object of the class, or a network with it
    mode   of the forward pass
    A wrong method is a function (layer, ...) as in the class; dx spoils what backward returns.
    """

    right: type[Layer]
    make: Callable[[Any, np.random.Generator, Shape], Layer]
    mode: Mode = EVAL

    def wrong_backward(self, method: Callable[[Any, Array, Any], Array], seen: str = "") -> None:
        """Plant a backward method: the bug has the function's name and its docstring's words."""
        text = f"{method.__name__.replace('_', ' ')}: {method.__doc__}"
        self.plant(f"{text} [{seen}]" if seen else text, backward(method))

    def build(self, parts: Mapping[str, Any], rng: np.random.Generator, shape: Shape) -> Case:
        methods, right = dict(parts), self.right.backward
        if g := methods.pop("dx", None):
            methods["backward"] = lambda layer, dy, c: g(right(layer, dy, c), dy, c)
        spoilt = type(f"Wrong{self.right.__name__}", (self.right,), methods)
        made = [
            _shaken(self.make(cls, copy.deepcopy(rng), shape), copy.deepcopy(rng))
            for cls in (self.right, spoilt)
        ]
        rng.random(2 * shape[-1])  # or x would be the draw that made the weights
        x = rng.standard_normal(shape)
        return Case(
            made[0],
            made[1],
            lambda layer, dtype: CheckableLayer(layer, x, self.mode, dtype),
        )


@dataclass(frozen=True)
class LossBench(Bench):
    """A right loss; a bug is dz, a function (the right dz, cache) -> the wrong one.

    arguments   (rng, shape) -> z (N, K) of that shape, and the labels
    """

    right: type[Loss]
    arguments: Arguments

    def build(self, parts: Mapping[str, Any], rng: np.random.Generator, shape: Shape) -> Case:
        def backward(loss: Loss, cache: Any) -> Array:
            return parts["dz"](self.right.backward(loss, cache), cache)

        spoilt = type(f"Wrong{self.right.__name__}", (self.right,), {"backward": backward})
        z, y = self.arguments(rng, shape)
        return Case(
            self.right(**self.options),
            spoilt(**self.options),
            lambda loss, dtype: CheckableLoss(loss, z, y, dtype),
        )


# What several benches and bugs share.


class Kept(NamedTuple):
    """A forward pass's input and output beside its cache."""

    x: Array
    y: Array
    cache: Any


def pair(
    layer: str, shape: Shape, name: str, arguments: Arguments, *, keep_x: bool = False
) -> FunctionBench:
    """The bench of tinynet.layers' ``name``_forward and ``name``_backward.

    keep_x   the cache is ``Kept``, so that a bug may look at x and y
    """
    forward, backward = (getattr(layers, f"{name}_{way}") for way in ("forward", "backward"))
    if not keep_x:
        return FunctionBench(layer, shape, forward, backward, arguments)

    def kept(x: Array, *args: Any, **options: Any) -> tuple[Array, Kept]:
        y, cache = forward(x, *args, **options)
        return y, Kept(x, y, cache)

    kept = update_wrapper(kept, forward)
    return FunctionBench(layer, shape, kept, lambda dy, c: backward(dy, c.cache), arguments)


def x_and(*rest: Any) -> Arguments:
    """x, standard normal, and arguments that are always the same."""
    return lambda rng, shape: (rng.standard_normal(shape), *rest)


def times(index: Any, factor: float) -> Callable[..., Array]:
    """A wrong gradient: the right one, with the elements at ``index`` times ``factor``."""

    def change(g: Array, *_: Any) -> Array:
        g = g.copy()
        g[index] *= factor
        return g

    return change


def _shaken(layer: Layer, rng: np.random.Generator) -> Layer:
    """``layer`` in float64 with parameters and buffers moved: a scale of 1 hides errors."""
    layer.to(dtype="float64")
    for array in layer.state().values():
        array += abs(rng.standard_normal(array.shape)) / 2
    return layer
