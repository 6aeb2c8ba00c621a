"""Layers made of layers: one after the other, beside a shortcut, side by side.  Report §3.2-3.4."""

from __future__ import annotations

from typing import Any

from tinynet.backend import Array, Output, array_module, check_gradient, check_instance
from tinynet.layer import EVAL, Layer, Mode, Shape

__all__ = ["Concat", "Residual", "Sequential"]


class Sequential(Layer):
    """Each layer's output is the next one's input.  Report §2.2.1.

        y = f_n(… f_2(f_1(x)))

    Its inner layers are named by their position, "0", "1", …, or by keywords, which come after:
    ``Sequential(conv=Conv2D(...), relu=ReLU())``.  The cache is the list of theirs.
    """

    wiring = "series"
    per_image = True

    def __init__(self, *layers: Layer, **named: Layer) -> None:
        self.layers = [*layers, *named.values()]
        self.names = names_of(layers, named)
        check_layers(self, tuple(self.layers))

    def children(self) -> dict[str, Layer]:
        return dict(zip(self.names, self.layers, strict=True))

    def forward(self, x: Array, mode: Mode = EVAL) -> tuple[Array, list[Any]]:
        check_instance("mode", mode, Mode, "a Mode, such as Mode(train=True)")
        caches = []
        for layer in self.children().values():
            x, cache = layer.forward(x, mode)
            caches.append(cache)
        return x, caches

    def backward(self, dy: Array, cache: list[Any]) -> Array:
        """The chain rule: gradients flow through the layers from last to first.  Report §2.3.2."""
        layers = list(self.children().values())
        for layer, layer_cache in zip(reversed(layers), reversed(cache), strict=True):
            dy = layer.backward(dy, layer_cache)
        return dy

    def output_shape(self, input_shape: Shape) -> Shape:
        for layer in self.children().values():
            input_shape = layer.output_shape(input_shape)
        return input_shape

    def __repr__(self) -> str:
        return f"{type(self).__name__}({inner_text(self)})"


class Residual(Layer):
    """A main path beside a shortcut, added up.  Report §3.3 (skip connections).

        y = main(x) + skip(x),      ∂L/∂x = through main + through skip

    skip   None for the identity; otherwise a layer, such as a 1×1 convolution where the shape
           changes.  Both paths must end in the same shape.
    """

    kind = "merge"
    wiring = "sum"
    per_image = True

    def __init__(self, main: Layer, skip: Layer | None = None) -> None:
        check_layers(self, (main,) if skip is None else (main, skip))
        self.main, self.skip = main, skip

    def forward(self, x: Array, mode: Mode = EVAL) -> tuple[Array, tuple[Any, Any]]:
        y, main_cache = self.main.forward(x, mode)
        s, skip_cache = (x, None) if self.skip is None else self.skip.forward(x, mode)
        self.check_same(y.shape[1:], s.shape[1:])
        return y + s, (main_cache, skip_cache)

    def backward(self, dy: Array, cache: tuple[Any, Any]) -> Array:
        main_cache, skip_cache = cache
        dx = self.main.backward(dy, main_cache)
        return dx + (dy if self.skip is None else self.skip.backward(dy, skip_cache))

    def output_shape(self, input_shape: Shape) -> Shape:
        y = self.main.output_shape(input_shape)
        self.check_same(
            y, input_shape if self.skip is None else self.skip.output_shape(input_shape)
        )
        return y

    def check_same(self, main: Shape, skip: Shape) -> None:
        """Raise ValueError, naming both shapes, unless the paths end in the same."""
        if main != skip:
            raise ValueError(
                f"Residual: the main path ends in {main}, the shortcut in {skip}; want the same: "
                "give skip a layer, such as a 1×1 Conv2D, that ends in the main path's shape"
            )

    def __repr__(self) -> str:
        return f"Residual({self.main!r}, skip={self.skip!r})"


class Concat(Layer):
    """Branches side by side on one input, their channels stacked.  Report §3.2 (Inception).

        y = [branch_1(x), branch_2(x), …] along the last axis,   ∂L/∂x = Σ through each branch

    The branches must agree in every size but the last. They are named by position or, as in
    Sequential, by keyword.
    """

    kind = "merge"
    wiring = "concat"
    per_image = True

    def __init__(self, *branches: Layer, **named: Layer) -> None:
        self.branches = [*branches, *named.values()]
        self.names = names_of(branches, named)
        check_layers(self, tuple(self.branches))
        if not self.branches:
            raise ValueError("Concat: got no branches, want at least one layer")

    def children(self) -> dict[str, Layer]:
        return dict(zip(self.names, self.branches, strict=True))

    def forward(self, x: Array, mode: Mode = EVAL) -> tuple[Array, tuple[list[Any], list[int]]]:
        passes = [branch.forward(x, mode) for branch in self.branches]
        outputs = [y for y, _ in passes]
        self.check_same([y.shape[1:] for y in outputs])
        y = array_module(x).concatenate(outputs, axis=-1)
        return y, ([cache for _, cache in passes], [part.shape[-1] for part in outputs])

    def backward(self, dy: Array, cache: tuple[list[Any], list[int]]) -> Array:
        caches, widths = cache
        check_gradient(repr(self), dy, Output((*getattr(dy, "shape", ())[:-1], sum(widths))))
        dx: Array | None = None
        start = 0
        for branch, branch_cache, width in zip(self.branches, caches, widths, strict=True):
            part = branch.backward(dy[..., start : start + width], branch_cache)
            dx = part if dx is None else dx + part
            start += width
        assert dx is not None  # there is at least one branch
        return dx

    def output_shape(self, input_shape: Shape) -> Shape:
        shapes = [branch.output_shape(input_shape) for branch in self.branches]
        self.check_same(shapes)
        return (*shapes[0][:-1], sum(shape[-1] for shape in shapes))

    def check_same(self, shapes: list[Shape]) -> None:
        """Raise ValueError, naming the shapes, unless they differ in the channels alone."""
        if len({shape[:-1] for shape in shapes}) > 1:
            raise ValueError(
                f"Concat: the branches end in {', '.join(map(str, shapes))}; "
                "want the same sizes in all but the last, the channels"
            )

    def __repr__(self) -> str:
        return f"Concat({inner_text(self)})"


def names_of(layers: tuple[Layer, ...], named: dict[str, Layer]) -> list[str]:
    """Names of a container's layers: positions for the first ones, then the keywords.

    Raises ValueError for a keyword that could not stand in a dotted name.
    """
    for name in named:
        if not name.isidentifier():
            raise ValueError(f"a layer is named {name!r}, want letters, digits and _, as in conv_1")
    return [*map(str, range(len(layers))), *named]


def inner_text(container: Layer) -> str:
    """A container's layers as in the call that made it."""
    return ", ".join(
        repr(layer) if name.isdecimal() else f"{name}={layer!r}"
        for name, layer in container.children().items()
    )


def check_layers(container: Layer, layers: tuple[Any, ...]) -> None:
    """Raise TypeError, naming the container and the position, for anything that is not a Layer."""
    for position, layer in enumerate(layers):
        if not isinstance(layer, Layer):
            kind = "class " + layer.__name__ if isinstance(layer, type) else type(layer).__name__
            raise TypeError(
                f"{type(container).__name__}: position {position} is a {kind}, want a Layer "
                "object, such as Dense(64, 10, rng=rng)"
            )
