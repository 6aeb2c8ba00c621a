"""Layers, bare pairs of functions and losses, each with the one face that the check needs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tinynet.backend import Array, array_module
from tinynet.gradient_check.application import Application, record, shares_nothing
from tinynet.gradient_check.contract import Forward, Subject, flipped, same
from tinynet.layer import Layer, Mode

MODE_SEED, OTHER_SEED = 243_000_002, 243_000_005


class LayerSubject(Subject):
    """A float64 copy of a layer, with its input and its parameters."""

    def __init__(self, layer: Layer, x: Array, mode: Mode, dtype: str = "float64") -> None:
        self.layer = copy.deepcopy(layer).to(dtype=dtype)
        self.parameters = self.layer.parameters()
        for parameter in self.parameters.values():
            parameter.value = number(parameter.value, dtype)
        arrays = {"x": number(x, dtype)} | {n: p.value for n, p in self.parameters.items()}
        super().__init__(repr(layer), arrays, ("x",))
        self.buffers = {name: b.copy() for name, b in self.layer.buffers().items()}
        rng = mode.rng if mode.rng is not None else np.random.default_rng(MODE_SEED)
        self.mode = replace(mode, rng=copy.deepcopy(rng))

    def fresh(self) -> Mode:
        """The mode of a first pass: the same masks, and the same moving statistics to start at."""
        for name, buffer in self.layer.buffers().items():
            buffer[...] = self.buffers[name]
        return replace(self.mode, rng=copy.deepcopy(self.mode.rng))

    def another(self) -> tuple[Array, Any]:
        """A forward pass of the input flipped, with other masks."""
        self.fresh()
        other = replace(self.mode, rng=np.random.default_rng(OTHER_SEED))
        return self.layer.forward(flipped(self.arrays["x"]), other)

    def forward(self) -> tuple[Array, Any]:
        """The layer's."""
        return self.layer.forward(self.arrays["x"], self.fresh())

    def backward(self, dy: Array, cache: Any) -> dict[str, Array]:
        """The input's gradient, and each parameter's, from zero."""
        self.layer.zero_grad()
        return {"x": self.layer.backward(dy, cache)} | self._grads()

    def complexes(self) -> tuple[dict[str, Array], Forward]:
        """The layer with complex parameters, on a complex input."""
        self.fresh()
        twin = LayerSubject(self.layer, self.arrays["x"], self.mode, "complex128")
        return twin.arrays, twin.forward

    def applications(self) -> Application | None:
        """The layers inside, where they can be taken apart."""
        _, whole = record(self.layer, self.arrays["x"], self.fresh())
        return whole if whole.parts and shares_nothing(whole) else None

    def more_faults(
        self, y: Array, cache: Any, dy: Array, got: Mapping[str, Array]
    ) -> Iterator[str]:
        """Shape declared and found, statistics left alone, gradients added up."""
        x = self.arrays["x"]
        declared = (x.shape[0], *self.layer.output_shape(x.shape[1:]))
        if y.shape != declared:
            yield f"output_shape declares {declared}, forward gives {y.shape}, batch included"
        yield from self._promoting()
        yield from self._moving_statistics(dy)
        yield from self._overwriting(y, cache, dy, got)

    def _promoting(self) -> Iterator[str]:
        """In float32 everything stays float32."""
        single = LayerSubject(self.layer, self.arrays["x"], self.mode, "float32")
        with np.errstate(all="ignore"):
            y, cache = single.forward()
            gradients = single.backward(array_module(y).ones_like(y), cache)
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
        y_2, cache_2 = self.another()
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


class PairSubject(Subject):
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
        floats = {n: number(a, dtype) for n, a in zip(names, args, strict=True) if is_float(a)}
        super().__init__(name, floats, tuple(floats))

    def forward(self) -> tuple[Array, Any]:
        """The forward function of the arrays and of the other arguments, in their order."""
        named = zip(self.names, self.args, strict=True)
        return self.functions[0](*(self.arrays.get(name, a) for name, a in named))

    def backward(self, dy: Array, cache: Any) -> dict[str, Array]:
        """The gradients by name; raises ValueError for more of them than float arrays."""
        found = self.functions[1](dy, cache)
        found = found if isinstance(found, tuple | list) else (found,)
        if any(g is not None for g in found[len(self.arrays) :]):
            raise ValueError(
                f"backward returned {len(found)} gradients for {len(self.arrays)} float arrays "
                f"({', '.join(self.arrays)}): return one for each, in order, None where there is "
                "none"
            )
        return {n: g for n, g in zip(self.arrays, found, strict=False) if g is not None}

    def complexes(self) -> tuple[dict[str, Array], Forward]:
        """The same functions on complex arrays."""
        args = [self.arrays.get(name, a) for name, a in zip(self.names, self.args, strict=True)]
        twin = PairSubject(self.name, self.functions, args, self.names, "complex128")
        return twin.arrays, twin.forward


class LossSubject(Subject):
    """A loss of logits or probabilities z; the labels y are passed on."""

    def __init__(self, loss: Any, z: Array, y: Array, dtype: str = "float64") -> None:
        super().__init__(repr(loss), {"z": number(z, dtype)}, ("z",))
        self.loss, self.labels = loss, y

    def forward(self) -> tuple[Array, Any]:
        """The loss's value, a scalar."""
        return self.loss.forward(self.arrays["z"], self.labels)

    def backward(self, dy: Array, cache: Any) -> dict[str, Array]:
        """The chain rule, for a dy other than 1."""
        return {"z": dy * self.loss.backward(cache)}

    def complexes(self) -> tuple[dict[str, Array], Forward]:
        """The same loss of complex z."""
        twin = LossSubject(self.loss, self.arrays["z"], self.labels, "complex128")
        return twin.arrays, twin.forward


def is_float(a: Any) -> bool:
    """Whether ``a`` is an array of real floating-point numbers, and so is differentiated."""
    return hasattr(a, "dtype") and hasattr(a, "shape") and a.dtype.kind == "f"


def number(a: Array, dtype: str) -> Array:
    """A contiguous copy in that dtype."""
    return array_module(a).array(a, dtype=dtype, order="C")
