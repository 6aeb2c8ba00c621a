"""The forward pass of a network, taken down layer by layer, so that each can be run again."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tinynet.backend import Array, array_module
from tinynet.layer import Layer, Mode, join
from tinynet.layers import Concat, Residual, Sequential


@dataclass
class Application:
    """One application of one layer, with all that is needed to run it again by itself.

    name      the layer's dotted name
    given     what its input is called in a message
    x         its input; drawn: the generator's state before it; buffers: theirs
    parts     the applications inside, of a container that is taken apart
    """

    name: str
    given: str
    layer: Layer
    x: Array
    mode: Mode
    drawn: Any
    buffers: dict[str, Array]
    parts: list[Application] = field(default_factory=list)

    def run(self, x: Array) -> tuple[Array, Any]:
        """The layer's forward pass on ``x``, with the masks and statistics of the first time."""
        if self.buffers:
            for name, buffer in self.layer.buffers().items():
                buffer[...] = self.buffers[name]
        if isinstance(self.mode.rng, np.random.Generator):
            self.mode.rng.bit_generator.state = self.drawn
        return self.layer.forward(x, self.mode)

    def complex_twin(self) -> Application:
        """The same with complex numbers."""
        layer = copy.deepcopy(self.layer).to(dtype="complex128")
        return replace(self, layer=layer, x=self.x.astype("complex128"), parts=[])

    def arrays(self) -> dict[str, Array]:
        """The layer's input, and its parameters by their full names."""
        values = {join(self.name, name): p.value for name, p in self.layer.parameters().items()}
        return {self.given: self.x} | values


def record(
    layer: Layer, x: Array, mode: Mode, name: str = "", given: str = "x"
) -> tuple[Array, Application]:
    """y and the tree of applications; mode's own generator is used, so hand in a copy."""
    state = mode.rng.bit_generator.state if isinstance(mode.rng, np.random.Generator) else None
    buffers = {n: b.copy() for n, b in layer.buffers().items()}
    x = array_module(x).array(x, order="C")  # a copy: it will be perturbed
    whole = Application(name, given, layer, x, mode, state, buffers)
    if _is_plain(layer, Sequential) and layer.children():
        y = x
        for child_name, child in layer.children().items():
            full = join(name, child_name)
            inner = f"the input of {full} ({label(child)})" if whole.parts else given
            y, part = record(child, y, mode, full, inner)
            whole.parts.append(part)
        return y, whole
    if _is_plain(layer, Residual) or _is_plain(layer, Concat):
        outputs = []
        for child_name, child in layer.children().items():
            full = join(name, child_name)
            y, part = record(child, x, mode, full, f"{given} through {full} ({label(child)})")
            outputs.append(y)
            whole.parts.append(part)
        if isinstance(layer, Concat):
            return array_module(x).concatenate(outputs, axis=-1), whole
        return outputs[0] + (outputs[1] if len(outputs) > 1 else x), whole
    y, _ = whole.run(x.copy())  # a copy: it may be modified, which is found out later
    return y, whole


def shares_nothing(whole: Application) -> bool:
    """Whether each parameter and each buffer belongs to one application only."""
    arrays = [id(a) for leaf in _leaves(whole) for a in leaf.layer.state().values()]
    return len(set(arrays)) == len(arrays)


def _leaves(whole: Application) -> Iterator[Application]:
    if not whole.parts:
        yield whole
    for part in whole.parts:
        yield from _leaves(part)


def _is_plain(layer: Layer, kind: type[Layer]) -> bool:
    """Whether it is of that kind, with passes that no subclass and no one else has replaced."""
    return (
        isinstance(layer, kind)
        and type(layer).forward is kind.forward
        and type(layer).backward is kind.backward
        and not {"forward", "backward"} & set(vars(layer))
    )


def label(layer: Layer) -> str:
    """What a message calls the layer: a container by its class alone."""
    return type(layer).__name__ if layer.children() else repr(layer)
