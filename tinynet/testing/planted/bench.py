"""Where a wrong backward pass is set beside the right one, so that a check can be tried on both.

    dense = FunctionBench("dense", dense_forward, dense_backward, arguments, shape=(3, 4))

    @dense.plant()
    def dw_transposed(dz, cache):
        ""\"dw = dzᵀ x, the transpose …""\"        its docstring says what is wrong

A bench holds what all bugs of one layer share: the right code and the arguments. There are three,
for bare functions, for layers and for losses.
"""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial, update_wrapper
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np

from tinynet.backend import Array
from tinynet.gradient_check import GradientReport, check_backward, check_gradients, check_loss
from tinynet.layer import EVAL, Layer, Mode, Shape
from tinynet.losses.base import Loss

Gradients = Array | tuple[Array | None, ...]  # None where there is no such parameter
Arguments = Callable[[np.random.Generator, Shape], tuple[Any, ...]]
Backward = TypeVar("Backward", bound=Callable[[Array, Any], Gradients])
LayerClass = TypeVar("LayerClass", bound=type[Layer])
LossClass = TypeVar("LossClass", bound=type[Loss])


class Subject(NamedTuple):
    """What any gradient check needs of a forward and a backward pass.

    arrays    name -> array; ``forward`` reads them, so a check may perturb them in place
    forward   () -> (y, cache)
    backward  (dy, cache) -> name -> gradient
    """

    arrays: dict[str, Array]
    forward: Callable[[], tuple[Array, Any]]
    backward: Callable[[Array, Any], dict[str, Array]]


class Case(Protocol):
    """A planted bug with its arguments, beside the same code without it."""

    def check(self, *, wrong: bool = True) -> GradientReport:
        """tinynet's own check, of the wrong code or of the right."""
        ...

    def subject(self, *, wrong: bool = True, dtype: str = "float64") -> Subject:
        """The wrong code, or the right, as another check sees it."""
        ...


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


@dataclass(frozen=True)
class FunctionCase:
    """forward(*args) -> (y, cache), and two backward passes for it."""

    forward: Callable[..., tuple[Array, Any]]
    right: Callable[[Array, Any], Gradients]
    wrong: Callable[[Array, Any], Gradients]
    args: tuple[Any, ...]

    def check(self, *, wrong: bool = True) -> GradientReport:
        """``check_backward`` of the pair."""
        return check_backward(self.forward, self.wrong if wrong else self.right, self.args)

    def subject(self, *, wrong: bool = True, dtype: str = "float64") -> Subject:
        """The pair as another check sees it."""
        names = list(inspect.signature(self.forward).parameters)
        current = [a.astype(dtype) if _is_float(a) else a for a in self.args]
        arrays = {n: a for n, a in zip(names, current, strict=False) if _is_float(a)}

        def backward(dy: Array, cache: Any) -> dict[str, Array]:
            found = (self.wrong if wrong else self.right)(dy, cache)
            found = found if isinstance(found, tuple) else (found,)
            return {n: g for n, g in zip(arrays, found, strict=False) if g is not None}

        return Subject(arrays, lambda: self.forward(*current), backward)


@dataclass(frozen=True)
class LayerCase:
    """Two layers with the same parameters."""

    right: Layer
    wrong: Layer
    x: Array
    mode: Mode

    def check(self, *, wrong: bool = True) -> GradientReport:
        """``check_gradients`` of the layer."""
        return check_gradients(self.wrong if wrong else self.right, self.x, self.mode)

    def subject(self, *, wrong: bool = True, dtype: str = "float64") -> Subject:
        """The layer as another check sees it: its moving statistics and its masks held still."""
        layer = copy.deepcopy(self.wrong if wrong else self.right).to(dtype=dtype)
        x, buffers = self.x.astype(dtype), copy.deepcopy(layer.buffers())
        # a layer applied twice has two names, and one parameter
        parameters = {id(p): (name, p) for name, p in layer.parameters().items()}.values()

        def forward() -> tuple[Array, Any]:
            for name, buffer in layer.buffers().items():
                buffer[...] = buffers[name]
            return layer.forward(x, replace(self.mode, rng=copy.deepcopy(self.mode.rng)))

        def backward(dy: Array, cache: Any) -> dict[str, Array]:
            layer.zero_grad()
            dx = layer.backward(dy, cache)
            return {"x": dx} | {name: p.grad.copy() for name, p in parameters}

        return Subject({"x": x} | {name: p.value for name, p in parameters}, forward, backward)


@dataclass(frozen=True)
class LossCase:
    """Two losses with the same settings."""

    right: Loss
    wrong: Loss
    z: Array
    y: Array

    def check(self, *, wrong: bool = True) -> GradientReport:
        """``check_loss`` of the loss."""
        return check_loss(self.wrong if wrong else self.right, self.z, self.y)

    def subject(self, *, wrong: bool = True, dtype: str = "float64") -> Subject:
        """The loss as another check sees it."""
        loss, z = self.wrong if wrong else self.right, self.z.astype(dtype)
        return Subject(
            {"z": z},
            lambda: loss.forward(z, self.y),
            lambda dy, cache: {"z": dy * loss.backward(cache)},
        )


@dataclass(frozen=True)
class FunctionBench:
    """A right pair of functions, and the bugs planted in its backward pass.

    arguments   (rng, shape of the input) -> the forward pass's positional arguments
    """

    layer: str
    forward: Callable[..., tuple[Array, Any]]
    right: Callable[[Array, Any], Gradients]
    arguments: Arguments
    shape: Shape
    bugs: list[Planted] = field(default_factory=list)

    def plant(
        self,
        seen: str = "",
        *,
        shape: Shape | None = None,
        arguments: Arguments | None = None,
        **options: Any,
    ) -> Callable[[Backward], Backward]:
        """Decorator: the function below it is a wrong backward pass.

        shape, arguments   where they differ from the bench's
        options            keyword arguments of the forward pass, such as stride=2
        """

        def put(wrong: Backward) -> Backward:
            # update_wrapper: the report shows the function's name and its parameters' names
            forward = update_wrapper(partial(self.forward, **options), self.forward)

            def build(rng: np.random.Generator, shape: Shape) -> Case:
                args = (arguments or self.arguments)(rng, shape)
                return FunctionCase(forward, self.right, wrong, args)

            self.bugs.append(_planted(self.layer, wrong, seen, shape or self.shape, build))
            return wrong

        return put


@dataclass(frozen=True)
class LayerBench:
    """A right layer, and the bugs planted in subclasses of it.

    make   (class, rng, shape of the input) -> an object of the class
    mode   of the forward pass
    """

    layer: str
    right: type[Layer]
    make: Callable[[Any, np.random.Generator, Shape], Layer]
    shape: Shape
    mode: Mode = EVAL
    bugs: list[Planted] = field(default_factory=list)

    def plant(self, seen: str = "", *, shape: Shape | None = None) -> Callable[[Any], Any]:
        """Decorator: the class below it is a wrong layer."""

        def put(wrong: LayerClass) -> LayerClass:
            def build(rng: np.random.Generator, shape: Shape) -> Case:
                right, spoilt = (
                    _shaken(self.make(cls, copy.deepcopy(rng), shape), copy.deepcopy(rng))
                    for cls in (self.right, wrong)
                )
                rng.random(2 * shape[-1])  # or x would be the draw that made the weights
                return LayerCase(right, spoilt, rng.standard_normal(shape), self.mode)

            self.bugs.append(_planted(self.layer, wrong, seen, shape or self.shape, build))
            return wrong

        return put


@dataclass(frozen=True)
class LossBench:
    """A right loss, and the bugs planted in subclasses of it.

    arguments   (rng, shape) -> z (N, K) of that shape, and the labels
    """

    layer: str
    right: type[Loss]
    arguments: Arguments
    shape: Shape
    bugs: list[Planted] = field(default_factory=list)

    def plant(
        self, seen: str = "", *, arguments: Arguments | None = None, **settings: Any
    ) -> Callable[[LossClass], LossClass]:
        """Decorator: the class below it is a wrong loss; ``settings`` are its constructor's."""

        def put(wrong: LossClass) -> LossClass:
            def build(rng: np.random.Generator, shape: Shape) -> Case:
                z, y = (arguments or self.arguments)(rng, shape)
                return LossCase(self.right(**settings), wrong(**settings), z, y)

            self.bugs.append(_planted(self.layer, wrong, seen, self.shape, build))
            return wrong

        return put


def _planted(
    layer: str,
    wrong: Any,
    seen: str,
    shape: Shape,
    build: Callable[[np.random.Generator, Shape], Case],
) -> Planted:
    words = re.sub(r"(?<!^)(?=[A-Z])|_", " ", wrong.__name__).lower()
    bug = " ".join((wrong.__doc__ or "").split())
    return Planted(f"{layer}: {words}", layer, bug, seen, shape, build)


def _shaken(layer: Layer, rng: np.random.Generator) -> Layer:
    """``layer`` in float64 with parameters and buffers moved: a scale of 1 hides errors."""
    layer.to(dtype="float64")
    for array in layer.state().values():
        array += abs(rng.standard_normal(array.shape)) / 2
    return layer


def _is_float(a: Any) -> bool:
    return isinstance(a, np.ndarray) and a.dtype.kind == "f"
