"""Arrays of another library, by its names and in its layouts, as arrays of ours.

| array                | here (NumPy, NHWC)     | torch                   | keras                  |
|----------------------|------------------------|-------------------------|------------------------|
| convolution          | (kh, kw, C/groups, K)  | (K, C/groups, kh, kw)   | as here                |
| depthwise            | (kh, kw, 1, C·m)       | (C·m, 1, kh, kw)        | (kh, kw, C, m)         |
| dense                | (in, out)              | (out, in)               | as here                |
| the same, 1×1 there  | (in, out)              | (out, in, 1, 1)         | (1, 1, in, out)        |
| dense after flatten  | rows in order H W C    | columns in order C H W  | as here                |
| batch norm           | gamma, beta,           | weight, bias,           | gamma, beta,           |
|                      | running_mean, _var     | running_mean, _var      | moving_mean, _variance |
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tinynet.interop.names import WeightNames
from tinynet.layer import Layer, Shape
from tinynet.layers import Conv2D, Dense, Flatten
from tinynet.train.reading import WeightsError

VARIABLES = {
    "torch": {"gamma": "weight", "beta": "bias"},
    "keras": {"weight": "kernel", "running_mean": "moving_mean", "running_var": "moving_variance"},
}
JOIN = {"torch": ".", "keras": "/"}


class Slot(NamedTuple):
    """Where one array of a network stands in another library's file, and how it is laid out."""

    name: str  # in the file
    there: Shape  # its shape in the file
    convert: Callable[[np.ndarray], np.ndarray]  # from their layout to ours


def slots(
    model: Layer, names: WeightNames, input_shape: Shape, skip: Sequence[str] = ()
) -> dict[str, Slot]:
    """Our dotted name -> its place in the file, for every parameter and buffer of ``model``.

    input_shape   (H, W, C) of one image: what a dense layer behind a flatten was built for
    skip          paths of layers that have no place in the file, with all that is in them
    Raises WeightsError if ``names`` does not know a layer, or the network takes no such image.
    """
    flattened = shapes_before_dense(model, input_shape) if names.library == "torch" else {}
    layers = model.named_layers()
    found = {}
    for name, x in model.state().items():
        path, _, variable = name.rpartition(".")
        if not under(path, skip):
            there, convert = layout(layers[path], variable, names.library, flattened.get(path))
            found[name] = Slot(array_name(names, name), there or x.shape, convert)
    return found


def layer_name(names: WeightNames, path: str) -> str:
    """What the file calls a layer of ours.  Raises WeightsError if ``names`` does not know it."""
    try:
        return names.layer(path)
    except (LookupError, ValueError, AttributeError) as error:
        raise WeightsError(
            f"{names.source} has no layer that is {path} here: build the network with its "
            f"settings, or keep that layer's own weights with skip=({path!r},)"
        ) from error


def array_name(names: WeightNames, name: str) -> str:
    """What the file calls an array of ours.  Raises WeightsError as ``layer_name``."""
    path, _, variable = name.rpartition(".")
    theirs = VARIABLES[names.library].get(variable, variable)
    return f"{layer_name(names, path)}{JOIN[names.library]}{theirs}"


def under(name: str, paths: Sequence[str], join: str = ".") -> bool:
    """Whether a name is one of ``paths`` or lies within one."""
    return any(name == path or name.startswith(path + join) for path in paths)


def layout(
    layer: Layer, variable: str, library: str, flattened: Shape | None
) -> tuple[Shape | None, Callable[[np.ndarray], np.ndarray]]:
    """(shape in the file or None for ours, conversion to ours) of one variable of one layer."""
    if variable != "weight":
        return None, lambda x: x
    shape: Shape = layer.weight.shape  # type: ignore[attr-defined]
    if library == "keras":
        if isinstance(layer, Conv2D) and layer.groups > 1 and shape[2] == 1:
            kh, kw, _, filters = shape
            return (kh, kw, layer.groups, filters // layer.groups), lambda x: x.reshape(shape)
        return None, lambda x: x
    if isinstance(layer, Conv2D):
        kh, kw, c, k = shape
        return (k, c, kh, kw), lambda x: x.transpose(2, 3, 1, 0)
    if isinstance(layer, Dense) and flattened is not None and len(flattened) == 3:
        h, w, c = flattened
        return shape[::-1], lambda x: x.reshape(-1, c, h, w).transpose(2, 3, 1, 0).reshape(shape)
    return shape[::-1], lambda x: x.T


def shapes_before_dense(model: Layer, input_shape: Shape) -> dict[str, Shape]:
    """Path of a dense layer -> the shape (H, W, C) that was flattened to make its input."""
    found = {}
    flattened: Shape | None = None
    try:
        layers = list(model.walk(input_shape))
    except ValueError as error:
        raise WeightsError(f"the network takes no input of {input_shape}: {error}") from error
    for path, layer, shape in layers:
        if isinstance(layer, Flatten):
            flattened = shape
        elif isinstance(layer, Dense):
            if flattened is not None:
                found[path] = flattened
            flattened = None
    return found


def converted(
    model: Layer, arrays: dict[str, np.ndarray], names: WeightNames, input_shape: Shape
) -> dict[str, np.ndarray]:
    """Arrays by the other library's names, as ours: dotted name -> array in our layout.

    Weights or their gradients: a gradient has its array's name and layout.
    Raises WeightsError if one is missing or of another shape.
    """
    ours = {}
    for name, slot in slots(model, names, input_shape).items():
        x = fitted(slot, arrays[slot.name]) if slot.name in arrays else None
        if x is None:
            raise WeightsError(f"{slot.name} is missing or not {slot.there}, wanted for {name}")
        ours[name] = x
    return ours


def fitted(slot: Slot, x: np.ndarray) -> np.ndarray | None:
    """An array of the file in our layout; None if it is of another shape than its place."""
    if x.ndim == 4 and x.shape in ((*slot.there, 1, 1), (1, 1, *slot.there)):
        x = x.reshape(slot.there)  # a 1×1 convolution that is a dense layer here
    return slot.convert(x) if x.shape == slot.there else None


def settings_mismatch(settings: dict[str, Any], names: WeightNames) -> str | None:
    """What is wrong with the settings a network was built with; None if nothing."""
    wrong = [f"{key}={want!r}" for key, want in names.requires.items() if settings.get(key) != want]
    return f"build it with {', '.join(wrong)}" if wrong else None
