"""What the check runs: layers, bare pairs of functions and losses, behind one interface."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import numpy as np

from tinynet.backend import Array, array_module
from tinynet.layer import Layer, Mode

MODE_SEED, OTHER_SEED = 243_000_002, 243_000_005


class Checkable(ABC):
    """A forward and a backward pass, and the arrays that they are differentiated by.

    name      what the report calls it
    arrays    name -> contiguous float64 array; forward reads them, the check perturbs them
    inputs    the names among them that forward looks up afresh, so that they may be swapped
    fixed     name -> array that is passed on as it is: integers, masks, labels
    copying   the passes get copies of the inputs, of code that writes to them
    """

    copying = False
    epsilon = 2.0**-52  # of the precision in which it computes
    upstream = "dy"  # what backward calls its first argument

    def __init__(self, name: str, arrays: dict[str, Array], inputs: tuple[str, ...]) -> None:
        self.name, self.arrays, self.inputs = name, arrays, inputs
        self.fixed: dict[str, Array] = {}

    @abstractmethod
    def forward(self) -> tuple[Array, Any]:
        """(y, cache) of the arrays as they are now."""

    @abstractmethod
    def backward(self, dy: Array, cache: Any) -> dict[str, Array]:
        """Name -> gradient."""

    def same(self, a: Array, b: Array, beside: float = 0.0) -> bool:
        """Equal up to the order of summation, in the precision in which it computes."""
        return same(a, b, beside, self.epsilon)

    @abstractmethod
    def twin(self, dtype: str) -> Checkable:
        """The same, of the arrays as they are now, in another dtype."""

    def run(self) -> tuple[Array, Any]:
        """``forward``, of copies of the inputs where that is asked for."""
        if not self.copying:
            return self.forward()
        with self.swapped(lambda a: a.copy()):
            return self.forward()

    def others(self) -> Iterator[tuple[Array, Any]]:
        """(y, cache) of other applications: other inputs, masks, and numbers of examples."""
        for change in (smaller, flipped, lambda a: a):  # those that it has taken must do
            with suppress(ValueError), self.swapped(change):  # it may refuse such inputs
                yield self.forward()
                return

    def more_faults(
        self, y: Array, cache: Any, dy: Array, got: Mapping[str, Array]
    ) -> Iterator[str]:
        """The faults that only this kind can have."""
        return iter(())

    @contextmanager
    def swapped(self, change: Callable[[Array], Array]) -> Iterator[None]:
        """Within the block the inputs are ``change(input)``."""
        kept = dict(self.arrays)
        self.arrays |= {name: change(kept[name]) for name in self.inputs}
        try:
            yield
        finally:
            self.arrays |= kept


class CheckableLayer(Checkable):
    """A float64 copy of a layer, with its input and its parameters."""

    def __init__(self, layer: Layer, x: Array, mode: Mode, dtype: str = "float64") -> None:
        self.layer = copy.deepcopy(layer)
        self.layer.to(dtype=dtype)  # which returns the layer inside, of one that wraps another
        self.parameters = self.layer.parameters()
        for parameter in self.parameters.values():
            parameter.value = converted(parameter.value, dtype)
        arrays = {"x": converted(x, dtype)} | {n: p.value for n, p in self.parameters.items()}
        super().__init__(repr(layer), arrays, ("x",))
        self.buffers = {name: b.copy() for name, b in self.layer.buffers().items()}
        rng = mode.rng if mode.rng is not None else np.random.default_rng(MODE_SEED)
        self.mode = replace(mode, rng=copy.deepcopy(rng))

    def fresh(self) -> Mode:
        """The mode of a first pass: the same masks, and the same moving statistics to start at."""
        for name, buffer in self.layer.buffers().items():
            buffer[...] = self.buffers[name]
        return replace(self.mode, rng=copy.deepcopy(self.mode.rng))

    def others(self) -> Iterator[tuple[Array, Any]]:
        x, xp = self.arrays["x"], array_module(self.arrays["x"])
        for other_x in (smaller(x), flipped(xp.concatenate([x, x[:1]]))):
            self.fresh()
            other = replace(self.mode, rng=np.random.default_rng(OTHER_SEED))
            with suppress(ValueError):
                yield self.layer.forward(other_x, other)

    def forward(self) -> tuple[Array, Any]:
        return self.layer.forward(self.arrays["x"], self.fresh())

    def backward(self, dy: Array, cache: Any) -> dict[str, Array]:
        self.layer.zero_grad()
        return {"x": self.layer.backward(dy, cache)} | self._grads()

    def twin(self, dtype: str) -> CheckableLayer:
        self.fresh()
        return CheckableLayer(self.layer, self.arrays["x"], self.mode, dtype)

    def more_faults(
        self, y: Array, cache: Any, dy: Array, got: Mapping[str, Array]
    ) -> Iterator[str]:
        """Shape declared and found, dtype kept, statistics left alone, gradients added up."""
        x = self.arrays["x"]
        declared = (x.shape[0], *self.layer.output_shape(x.shape[1:]))
        if y.shape != declared:
            yield f"output_shape declares {declared}, forward gives {y.shape}, batch included"
        yield from self._promoting()
        yield from self._moving_statistics(dy)
        yield from self._overwriting(y, cache, dy, got)

    def _promoting(self) -> Iterator[str]:
        single = self.twin("float32")
        with np.errstate(all="ignore"):
            y, cache = single.forward()
            try:
                gradients = single.backward(array_module(y).ones_like(y), cache)
            except TypeError as error:  # one layer refuses what another has made float64
                yield f"for a float32 layer and input: {error}"
                return
        for name, a in {"y": y, **gradients}.items():
            if a.dtype != "float32":
                what = "forward gives" if name == "y" else f"the gradient of {name} is"
                yield f"{what} {a.dtype} for a float32 layer and input, want float32"

    def _moving_statistics(self, dy: Array) -> Iterator[str]:
        """Buffers may move in a forward pass in training, and at no other time."""
        _, cache = self.forward()
        after = {name: b.copy() for name, b in self.layer.buffers().items()}
        for name, buffer in after.items():
            if not self.mode.train and not same(buffer, self.buffers[name]):
                yield f"forward changes {name} outside training: leave it as it is"
        self.layer.backward(dy, cache)
        for name, buffer in self.layer.buffers().items():
            if not same(buffer, after[name]):
                yield f"backward changes {name}: only a forward pass in training may"

    def _overwriting(
        self, y: Array, cache: Any, dy: Array, got: Mapping[str, Array]
    ) -> Iterator[str]:
        """The layer applied twice in one network, to two inputs: its gradients add up."""
        y_2, cache_2 = next(self.others(), (y, cache))
        dy_2 = array_module(y).ones_like(y_2) + flipped(y_2)
        got_2 = self.backward(dy_2, cache_2)
        self.layer.zero_grad()
        self.layer.backward(dy_2, cache_2)
        self.layer.backward(dy, cache)
        for name, grad in self._grads().items():
            if not same(grad, got[name] + got_2[name]):
                how = "overwrites it" if same(grad, got[name]) else "does not"
                yield f"backward must add to the gradient of {name} (+=), and {how}"

    def _grads(self) -> dict[str, Array]:
        return {name: p.grad.copy() for name, p in self.parameters.items()}


class CheckablePair(Checkable):
    """Two bare functions; the float arrays among the arguments are differentiated."""

    def __init__(
        self,
        name: str,
        functions: tuple[Callable[..., tuple[Array, Any]], Callable[[Array, Any], Any]],
        args: Sequence[Any],
        names: Sequence[str],
        dtype: str = "float64",
    ) -> None:
        self.functions, self.args, self.names = functions, args, names
        floats = {n: converted(a, dtype) for n, a in zip(names, args, strict=True) if is_float(a)}
        super().__init__(name, floats, tuple(floats))
        self.fixed = {
            n: a
            for n, a in zip(names, args, strict=True)
            if n not in floats and hasattr(a, "dtype") and getattr(a, "shape", None)
        }

    def forward(self) -> tuple[Array, Any]:
        return self.functions[0](*self._arguments())

    def backward(self, dy: Array, cache: Any) -> dict[str, Array]:
        """The gradients by name; raises ValueError for more of them than float arrays."""
        found = self.functions[1](dy, cache)
        found = found if isinstance(found, tuple | list) else (found,)
        if any(g is not None for g in found[len(self.arrays) :]):
            shapes = ", ".join(str(getattr(g, "shape", type(g).__name__)) for g in found)
            raise TooManyGradients(
                f"backward returned {len(found)} gradients for {len(self.arrays)} float arrays "
                f"({', '.join(self.arrays)}): return one for each, in order, None where there is "
                f"none; theirs have the shapes {shapes}"
            )
        return {n: g for n, g in zip(self.arrays, found, strict=False) if g is not None}

    def twin(self, dtype: str) -> CheckablePair:
        return CheckablePair(self.name, self.functions, self._arguments(), self.names, dtype)

    def _arguments(self) -> list[Any]:
        return [self.arrays.get(n, a) for n, a in zip(self.names, self.args, strict=True)]


class TooManyGradients(ValueError):
    """More gradients than float arrays: which belongs to which is not known."""


class CheckableLoss(Checkable):
    """A loss of logits or probabilities z; the labels y are passed on."""

    def __init__(self, loss: Any, z: Array, y: Array, dtype: str = "float64") -> None:
        super().__init__(repr(loss), {"z": converted(z, dtype)}, ("z",))
        self.loss, self.labels = loss, y
        self.fixed = {"y": y} if hasattr(y, "dtype") else {}

    def forward(self) -> tuple[Array, Any]:
        return self.loss.forward(self.arrays["z"], self.labels)

    def backward(self, dy: Array, cache: Any) -> dict[str, Array]:
        return {"z": dy * self.loss.backward(cache)}

    def twin(self, dtype: str) -> CheckableLoss:
        return CheckableLoss(self.loss, self.arrays["z"], self.labels, dtype)


def is_float(a: Any) -> bool:
    """True for an array of real floating-point numbers, which is differentiated."""
    return hasattr(a, "dtype") and hasattr(a, "shape") and a.dtype.kind == "f"


def converted(a: Array, dtype: str) -> Array:
    """A contiguous copy in that dtype."""
    return array_module(a).array(a, dtype=dtype, order="C")


def flipped(a: Array) -> Array:
    """The same values in another order: another input of the same kind."""
    return array_module(a).flip(a).copy()


def smaller(a: Array) -> Array:
    """Other values: in another order, each nearer to 0, so that signs and ranges are kept."""
    factors = np.random.default_rng(OTHER_SEED).uniform(0.5, 0.95, a.shape)
    return flipped(a) * array_module(a).asarray(factors, a.dtype)


def same(a: Array, b: Array, beside: float = 0.0, epsilon: float = 2.0**-52) -> bool:
    """Equal up to the order of summation, which may differ with the layout in memory.

    beside    the largest number that b was computed beside: what cancels leaves its rounding
    epsilon   of the precision in which they were computed
    NaN is equal to NaN.
    """
    if epsilon > 2.0**-52:
        a, b = (array_module(g).asarray(g, "float64") for g in (a, b))
    largest = float(array_module(b).nan_to_num(abs(b)).max()) if b.size else 0.0
    part = max(1e-10, 16 * epsilon)
    few = part * largest + part / 100 * beside + max(1e-14, 2.0**-24 * (epsilon > 1e-4))
    with np.errstate(invalid="ignore"):
        near = (a == b) | (abs(a - b) <= few) if a.shape == b.shape else np.False_
    return bool((near | ((a != a) & (b != b))).all()) if a.shape == b.shape else False
