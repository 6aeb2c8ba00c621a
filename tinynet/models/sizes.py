"""Whether an image is large enough for a network, and where its size runs out if it is not."""

from __future__ import annotations

from collections.abc import Callable

from tinynet.layer import Layer, Shape

LARGEST_SIDE = 4096  # no network here needs as much


def image_shape(name: str, input_shape: Shape) -> Shape:
    """``input_shape`` as a tuple (H, W, C).

    name   of the architecture, for the message
    Raises ValueError if it is not three whole numbers from 1.
    """
    shape = tuple(input_shape)
    if len(shape) != 3 or not all(isinstance(n, int) and n > 0 for n in shape):
        raise ValueError(
            f"{name}: input_shape is {input_shape}, want (height, width, channels), such as "
            "(224, 224, 3), or (224, 224, 1) for greyscale"
        )
    return shape


def representation_shape(name: str, base: Layer, input_shape: Shape) -> Shape:
    """What the convolutional base makes of one image: its output shape, without the batch.

    name   of the architecture, for the message
    Raises ValueError if the image is too small: the message names the layer where its size runs
    out and the smallest square that is enough.
    """
    shape = image_shape(name, input_shape)
    try:
        return base.output_shape(shape)
    except ValueError as error:
        where = first_misfit(base, shape) or "a layer"
        side = smallest_side(base.output_shape, shape[2])
        advice = f"the smallest square that works is {side} × {side}" if side else str(error)
        raise ValueError(
            f"{name}: an image of {shape[0]} × {shape[1]} is too small, its size runs out at "
            f"{where}: {advice}"
        ) from error


def first_misfit(base: Layer, input_shape: Shape) -> str | None:
    """Dotted name and text of the first innermost layer that its input does not fit."""
    layers = base.walk(input_shape)
    last = ""
    while True:
        try:
            name, layer, shape = next(layers)
        except StopIteration:
            return None
        except ValueError:  # the layer after the last one that was reached
            return last
        last = f"{name} ({layer!r}), whose input is {shape[0]} × {shape[1]}"
        try:
            layer.output_shape(shape)
        except ValueError:
            return last


def smallest_side(output_shape: Callable[[Shape], Shape], channels: int) -> int | None:
    """The smallest side of a square image that ``output_shape`` accepts; None if there is none."""

    def works(side: int) -> bool:
        try:
            output_shape((side, side, channels))
        except ValueError:
            return False
        return True

    low, high = 0, 1
    while not works(high):
        low, high = high, 2 * high
        if high > LARGEST_SIDE:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if works(middle) else (middle, high)
    return high
