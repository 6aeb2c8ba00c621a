"""What passes through a network's layers, forward and back, watched from outside.

Watching never changes a network. What runs is a shadow of it: the same layers over the same
weights, with gradients and moving statistics that are thrown away afterwards.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from copy import deepcopy
from typing import Any, NamedTuple

from tinynet.backend import Array, array_module
from tinynet.layer import EVAL, Layer, Mode


class Marked(NamedTuple):
    """A layer's cache, and what was noted of the forward pass that it is from."""

    mark: Any
    cache: Any


def shadow(model: Layer) -> Layer:
    """Return a copy whose weights are the model's arrays, and whose gradients are new and 0."""
    memo: dict[int, Any] = {}
    for parameter in model.parameters().values():
        memo[id(parameter.value)] = parameter.value
        memo[id(parameter.grad)] = array_module(parameter.grad).zeros_like(parameter.grad)
    return deepcopy(model, memo)


def watch(
    layer: Layer,
    after_forward: Callable[[Array, Any], Any],
    before_backward: Callable[[Any, Array], None],
    before_forward: Callable[[], None] = lambda: None,
) -> None:
    """Have a layer *of a shadow* report what passes through it.

    after_forward     (y, cache) -> a mark; called after each forward pass
    before_backward   (mark, dy); called before each backward pass, with that forward pass's mark
    """
    forward, backward = layer.forward, layer.backward

    def watched_forward(x: Array, mode: Mode = EVAL) -> tuple[Array, Any]:
        before_forward()
        y, cache = forward(x, mode)
        return y, Marked(after_forward(y, cache), cache)

    def watched_backward(dy: Array, cache: Any) -> Array:
        before_backward(cache.mark, dy)
        return backward(dy, cache.cache)

    layer.forward = watched_forward  # type: ignore[method-assign]
    layer.backward = watched_backward  # type: ignore[method-assign]


class _Arrived(Exception):
    """The layer that was asked for is reached, with these arrays; the rest need not be run."""


def activation_at(model: Layer, x: Array, layer_name: str, mode: Mode = EVAL) -> Array:
    """Return A (N, ...), the named layer's output for x (N, ...).  No layer after it is run.

    layer_name   dotted, as in ``model.walk`` and ``model.named_layers``; a container is a layer too
    Raises ValueError for a name that the model does not have, or a layer that is not run.
    """
    copy = shadow(model)

    def arrive(y: Array, cache: Any) -> None:
        raise _Arrived(y)

    watch(_named(copy, layer_name), arrive, lambda mark, dy: None)
    try:
        copy.forward(x, mode)
    except _Arrived as arrived:
        return arrived.args[0]
    raise ValueError(f"the forward pass does not run layer {layer_name!r}: name another one")


def activation_and_gradient(
    model: Layer, x: Array, layer_name: str, upstream: Callable[[Array], Array], mode: Mode = EVAL
) -> tuple[Array, Array]:
    """Return A (N, ...) and ∂L/∂A of the named layer's output, by the backward pass.

    upstream   z (N, K), the model's output, -> ∂L/∂z (N, K)
    The backward pass ends at the layer. If it is applied several times, the last one counts.
    Raises ValueError as ``activation_at``.
    """
    copy = shadow(model)

    def arrive(a: Array, da: Array) -> None:
        raise _Arrived(a, da)

    watch(_named(copy, layer_name), lambda y, cache: y, arrive)
    z, cache = copy.forward(x, mode)
    try:
        copy.backward(upstream(z), cache)
    except _Arrived as arrived:
        return arrived.args
    raise ValueError(
        f"no gradient comes back to layer {layer_name!r} from the model's output: name another one"
    )


def _named(model: Layer, name: str) -> Layer:
    layers = model.named_layers()
    if name in layers:
        return layers[name]
    near = difflib.get_close_matches(name, layers, n=3, cutoff=0.4)
    known = f"did you mean {' or '.join(near)}?" if near else "model.named_layers() has the names"
    raise ValueError(f"the model has no layer {name!r}: {known}")
