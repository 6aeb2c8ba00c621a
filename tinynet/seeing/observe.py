"""What passes through a network's layers, forward and back, watched from outside.

A network is never changed by being watched. What runs is a shadow of it: the same layers over the
same weights, with gradients and moving statistics of its own, thrown away afterwards.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from copy import deepcopy
from typing import Any, NamedTuple

from tinynet.backend import Array, array_module
from tinynet.layer import EVAL, Layer, Mode, Shape, join
from tinynet.layers import Sequential
from tinynet.seeing.words import POOLING, describe


class Marked(NamedTuple):
    """A layer's cache, and what was noted of the forward pass that it is from."""

    mark: Any
    cache: Any


def shadow(model: Layer) -> Layer:
    """A copy whose weights are the model's own arrays, and whose gradients are new, all 0."""
    memo: dict[int, Any] = {}
    for parameter in model.parameters().values():
        memo[id(parameter.value)] = parameter.value
        memo[id(parameter.grad)] = array_module(parameter.grad).zeros_like(parameter.grad)
    return deepcopy(model, memo)


def watch(
    layer: Layer,
    after_forward: Callable[[Array, Any], Any],
    before_backward: Callable[[Any, Array], None],
) -> None:
    """Have a layer *of a shadow* tell what passes through it.

    after_forward     (y, cache) -> a mark; called after each forward pass
    before_backward   (mark, dy); called before each backward pass, with that forward pass's mark
    """
    forward, backward = layer.forward, layer.backward

    def watched_forward(x: Array, mode: Mode = EVAL) -> tuple[Array, Any]:
        y, cache = forward(x, mode)
        return y, Marked(after_forward(y, cache), cache)

    def watched_backward(dy: Array, cache: Any) -> Array:
        before_backward(cache.mark, dy)
        return backward(dy, cache.cache)

    layer.forward = watched_forward  # type: ignore[method-assign]
    layer.backward = watched_backward  # type: ignore[method-assign]


class _Arrived(Exception):
    """The layer that was asked for is reached; the rest need not be run."""


def activation_at(model: Layer, x: Array, layer_name: str, mode: Mode = EVAL) -> Array:
    """A (N, ...): what the named layer makes of x (N, ...).  No layer after it is run.

    layer_name   dotted, as in ``model.walk`` and ``model.named_layers``; a container is a layer too
    Raises ValueError for a name that the model does not have, or whose layer is not run.
    """
    copy = shadow(model)
    found: list[Array] = []

    def arrive(y: Array, cache: Any) -> None:
        found.append(y)
        raise _Arrived

    watch(named(copy, layer_name), arrive, lambda mark, dy: None)
    try:
        copy.forward(x, mode)
    except _Arrived:
        return found[0]
    raise ValueError(f"the forward pass does not run layer {layer_name!r}: name another one")


def activation_and_gradient(
    model: Layer, x: Array, layer_name: str, upstream: Callable[[Array], Array], mode: Mode = EVAL
) -> tuple[Array, Array]:
    """A (N, ...) and ∂L/∂A of the named layer's output, by the backward pass from the logits.

    upstream   z (N, K), the model's output, -> ∂L/∂z (N, K)
    The backward pass ends at the layer. If it is applied several times, the last one counts.
    Raises ValueError as ``activation_at``.
    """
    copy = shadow(model)
    outputs: list[Array] = []
    found: list[tuple[Array, Array]] = []

    def passed(y: Array, cache: Any) -> int:
        outputs.append(y)
        return len(outputs) - 1

    def arrive(mark: int, dy: Array) -> None:
        found.append((outputs[mark], dy))
        raise _Arrived

    watch(named(copy, layer_name), passed, arrive)
    z, cache = copy.forward(x, mode)
    try:
        copy.backward(upstream(z), cache)
    except _Arrived:
        return found[0]
    raise ValueError(
        f"no gradient comes back to layer {layer_name!r} from the model's output: name another one"
    )


def named(model: Layer, name: str) -> Layer:
    """The layer of that dotted name.  Raises ValueError, with similar names, if there is none."""
    layers = model.named_layers()
    if name in layers:
        return layers[name]
    near = difflib.get_close_matches(name, layers, n=3, cutoff=0.4)
    known = f"did you mean {' or '.join(near)}?" if near else "model.named_layers() has the names"
    raise ValueError(f"the model has no layer {name!r}: {known}")


def last_spatial(model: Layer, input_shape: Shape) -> str:
    """Dotted name of the last layer whose output still has places: height or width from 2.

    In a network with a ``base`` it is looked for there. A block counts as one layer; pooling at
    the end is passed over, since there are fewer places after it than before it.
    Raises ValueError if there is none.
    """
    base = model.children().get("base")
    name = _search(model if base is None else base, tuple(input_shape), "base" if base else "")
    if name is None:
        raise ValueError(
            f"no layer of {type(model).__name__} has an output with places for an input of "
            f"{tuple(input_shape)}: give a larger image, or layer_name"
        )
    return name


def _has_places(shape: Shape) -> bool:
    return len(shape) == 3 and max(shape[:2]) > 1


def _search(layer: Layer, shape: Shape, prefix: str) -> str | None:
    if isinstance(layer, Sequential):
        last: str | None = None
        for name, child in layer.children().items():
            after = tuple(child.output_shape(shape))
            if _has_places(after):
                coarser = not child.children() and describe(child)[1] == POOLING
                last = last if coarser and last else join(prefix, name)
            elif child.children():
                last = _search(child, shape, join(prefix, name)) or last
            shape = after
        return last
    if prefix and _has_places(tuple(layer.output_shape(shape))):
        return prefix
    leaves = layer.walk(shape, prefix)
    found = [name for name, leaf, inner in leaves if _has_places(leaf.output_shape(inner))]
    return found[-1] if found else None
