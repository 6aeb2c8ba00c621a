"""The layer contract: pure functions carry the maths, thin objects carry the parameters.

    y, cache = layer.forward(x, mode)     pure but for moving statistics; never modifies x
    dx = layer.backward(dy, cache)        adds to each Parameter.grad (+=), returns ∂L/∂x

The cache holds all that the backward pass needs, so one layer may be applied many times
in one network: each application has a separate cache.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np

from tinynet.backend import (
    Array,
    Checked,
    array_module,
    check_array,
    described,
    library_of,
    to_device,
)

Shape = tuple[int, ...]
REAL_DTYPES = (np.dtype("float32"), np.dtype("float64"))  # that a model is usually trained in


class RandomSource(Protocol):
    """Source of dropout masks: NumPy's generator, or one on a GPU (``DeviceRandom``)."""

    def random(self, size: Shape, /) -> Array:
        """Uniform numbers in [0, 1), of shape ``size``."""


@dataclass(frozen=True)
class Mode:
    """Settings of a forward pass.

    train   True in training: dropout drops, batch norm uses the batch's own statistics
    rng     what dropout masks are drawn from: NumPy's generator, or one on a GPU (DeviceRandom);
            needed only where something is drawn
    """

    train: bool = False
    rng: np.random.Generator | RandomSource | None = None


EVAL = Mode()


class Parameter:
    """A learned array, ``value``, with its gradient, ``grad``, of the same shape.

    trainable   False: optimisers leave it alone (``backward`` still computes its gradient)
    Raises TypeError for a value that is not an array of floating point.
    """

    def __init__(self, value: Array, trainable: bool = True) -> None:
        check_array("Parameter", "value", value)
        self.value = value
        # zeros takes no memory until it is written to, zeros_like does: a network that only
        # predicts has no gradients
        self.grad = array_module(value).zeros(value.shape, value.dtype)
        self.trainable = trainable

    @property
    def shape(self) -> Shape:
        """Shape of the value, and of the gradient."""
        return self.value.shape

    def __repr__(self) -> str:
        frozen = "" if self.trainable else ", not trainable"
        return f"Parameter{self.shape} {self.value.dtype}{frozen}"


class Layer(Checked):
    """Base of all layers; a subclass writes forward, backward and output_shape.

    Parameters, buffers and inner layers are plain attributes; this class finds them, in the
    order in which the constructor set them, and names them by their dotted path.
    """

    buffer_names: ClassVar[tuple[str, ...]] = ()
    # decides the colour in a picture: "convolution", "dense", "pooling", "normalisation",
    # "activation", "reshape", "dropout", "merge" or "other"
    kind: ClassVar[str] = "other"

    # What a class promises of its passes; see ``promise``.
    # how inner layers are connected: "series", "sum", "concat", "gate" or "mean"; "" if there are
    # none, or the passes connect them in another way
    wiring: ClassVar[str] = ""
    # outside training an image's output depends on that image alone, not on its batch
    per_image: ClassVar[bool] = False
    dtypes: ClassVar[tuple[str, ...]] = ("float32", "float64")

    def promise(self, name: str) -> Any:
        """Value of the class attribute ``name``: "wiring", "per_image" or "dtypes".

        A subclass that overrides a pass keeps no promise of its parents': the default of ``Layer``
        is returned unless the subclass makes the promise itself.
        """
        kind = type(self)
        owner = next(base for base in kind.__mro__ if name in vars(base))
        assert issubclass(owner, Layer)
        same = all(
            getattr(owner, part, None) is getattr(kind, part, None)
            for part in ("forward", "backward", "passes")
        )
        return getattr(owner if same else Layer, name)

    def forward(self, x: Array, mode: Mode = EVAL) -> tuple[Array, Any]:
        """y (N, ...), and the cache that backward needs; x is (N, ...), the batch first."""
        raise NotImplementedError(f"{type(self).__name__} has no forward pass: write one")

    def backward(self, dy: Array, cache: Any) -> Array:
        """∂L/∂x (the shape of x) from dy = ∂L/∂y (the shape of y); adds to each Parameter.grad."""
        raise NotImplementedError(f"{type(self).__name__} has no backward pass: write one")

    def output_shape(self, input_shape: Shape) -> Shape:
        """Shape of one output, without the batch, from the shape of one input."""
        raise NotImplementedError(f"{type(self).__name__} has no output_shape: write one")

    def multiply_adds(self, input_shape: Shape) -> int:
        """Return the multiply-adds of a forward pass of one input: the sum over inner layers."""
        if not self.children():
            return 0
        leaves = self.walk(input_shape)
        return sum(part.multiply_adds(shape) for _, part, shape in leaves if part is not self)

    def label(self) -> str:
        """The layer's text in a picture: its class in words, "batch norm" for BatchNorm.

        Overridden where a size distinguishes it: "3×3 conv, 64, /2".
        """
        words = re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", " ", type(self).__name__)
        return re.sub(r"\b[A-Z](?=[a-z]+\b)", lambda m: m[0].lower(), words)

    def children(self) -> dict[str, Layer]:
        """Inner layers by attribute name."""
        return {name: part for name, part in vars(self).items() if isinstance(part, Layer)}

    def walk(self, input_shape: Shape, prefix: str = "") -> Iterator[tuple[str, Layer, Shape]]:
        """Yield (dotted name, layer, its input shape) of each innermost layer, in forward order."""
        if not self.wiring:
            yield prefix, self, input_shape
            return
        for name, child in self.children().items():
            yield from child.walk(input_shape, join(prefix, name))
            if self.wiring == "series":
                input_shape = child.output_shape(input_shape)

    def named_layers(self) -> dict[str, Layer]:
        """Dotted path -> layer: this one, then all inner ones; one that is used twice, once."""
        found: dict[int, tuple[str, Layer]] = {}

        def visit(path: str, layer: Layer) -> None:
            if id(layer) in found:
                return
            found[id(layer)] = path, layer
            for name, child in layer.children().items():
                visit(join(path, name), child)

        visit("", self)
        return dict(found.values())

    def parameters(self) -> dict[str, Parameter]:
        """Dotted name -> Parameter, this layer's own first, then the inner layers'.

        A Parameter that several layers share has one name, the first: it is updated once.
        """
        found: dict[int, tuple[str, Parameter]] = {}
        for path, layer in self.named_layers().items():
            for name, part in vars(layer).items():
                if isinstance(part, Parameter):
                    found.setdefault(id(part), (join(path, name), part))
        return dict(found.values())

    def buffers(self) -> dict[str, Array]:
        """Dotted name -> array that is kept but not learned (moving statistics)."""
        return {
            join(path, name): getattr(layer, name)
            for path, layer in self.named_layers().items()
            for name in layer.buffer_names
        }

    def zero_grad(self) -> None:
        """Set every gradient to zero."""
        for parameter in self.parameters().values():
            parameter.grad[...] = 0

    def freeze(
        self, *, parameters: bool = True, statistics: bool = True, dropout: bool = True
    ) -> None:
        """Freeze up to three separate things, here and in every inner layer.

        parameters   optimisers no longer change them (Parameter.trainable = False)
        statistics   batch norm normalises by its moving statistics, which stop moving
        dropout      keeps every neuron, in training too
        ``unfreeze`` undoes it.
        """
        self._set_frozen(True, parameters, statistics, dropout)

    def unfreeze(
        self, *, parameters: bool = True, statistics: bool = True, dropout: bool = True
    ) -> None:
        """Undo ``freeze`` for the named things, here and in every inner layer."""
        self._set_frozen(False, parameters, statistics, dropout)

    def _set_frozen(self, frozen: bool, parameters: bool, statistics: bool, dropout: bool) -> None:
        if parameters:
            for parameter in self.parameters().values():
                parameter.trainable = not frozen
        for layer in self.named_layers().values():
            if statistics and hasattr(layer, "frozen_statistics"):
                layer.frozen_statistics = frozen
            if dropout and hasattr(layer, "frozen_dropout"):
                layer.frozen_dropout = frozen

    def to(self, device: str | None = None, dtype: Any = None) -> Layer:
        """Move parameters, gradients and buffers to ``device`` ("numpy", "cupy") and ``dtype``.

        Changes this layer in place and returns it: ``model.to("cupy", "float32")``.
        Raises ValueError for another device, TypeError for a dtype that is not floating point.
        """
        if device is not None and not (isinstance(device, str) and device in ("numpy", "cupy")):
            raise ValueError(
                f"device is {described(device)}, want 'numpy' or 'cupy'; a dtype goes in dtype=: "
                "model.to(dtype='float64')"
            )

        if dtype is not None:
            dtype = _model_dtype(dtype)

        def moved(x: Array) -> Array:
            x = x if device is None else to_device(x, device)
            return x if dtype is None else x.astype(dtype, copy=False)

        for parameter in self.parameters().values():
            parameter.value, parameter.grad = moved(parameter.value), moved(parameter.grad)
        for layer in self.named_layers().values():
            for name in layer.buffer_names:
                setattr(layer, name, moved(getattr(layer, name)))
        return self

    def state(self) -> dict[str, Array]:
        """Dotted name -> array: every parameter's value and every buffer (not copies)."""
        return {name: p.value for name, p in self.parameters().items()} | self.buffers()

    def load_state(self, state: dict[str, Array]) -> None:
        """Copy named arrays into parameters and buffers, converting to their dtype and device.

        Raises ValueError, before anything is changed, if a name is missing or unexpected, a shape
        differs, or numbers are of another kind, such as whole ones; the message lists which.
        """
        own = self.state()
        faults = [f"missing {name}" for name in own if name not in state]
        faults += [f"unexpected {name}" for name in state if name not in own]
        faults += [
            f"{name} is {state[name].shape}, want {x.shape}"
            for name, x in own.items()
            if name in state and state[name].shape != x.shape
        ]
        faults += [
            f"{name} holds {state[name].dtype}, want {x.dtype}"
            for name, x in own.items()
            if name in state and not _same_kind(state[name].dtype, x.dtype)
        ]
        if faults:
            shown = "; ".join(faults[:4]) + (f"; and {len(faults) - 4} more" if faults[4:] else "")
            raise ValueError(
                f"these weights are of another model than {self!r}: {shown}. "
                "Build the model with the settings it was saved with"
            )
        for name, x in own.items():
            x[...] = to_device(state[name], library_of(x)).astype(x.dtype, copy=False)

    def summary(self, input_shape: Shape) -> str:
        """Table of layers: output shape, parameters, multiply-adds, bytes cached for one input."""
        return summary(self, input_shape)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class Stateless(Layer):
    """A layer without parameters: a pure pair, and what the forward function takes after x.

    A subclass names its pair, ``passes = relu_forward, relu_backward``; ``settings`` are the other
    arguments of the forward function. The output has the shape of the input unless
    ``output_shape`` says otherwise.
    """

    passes: ClassVar[tuple[Callable[..., tuple[Array, Any]], Callable[..., Array]]]

    def settings(self) -> tuple[Any, ...]:
        """Return the arguments of the forward function after x."""
        return ()

    def check(self, x: Array) -> None:
        """Raise ValueError, naming the layer, for an input that it does not take."""

    def forward(self, x: Array, mode: Mode = EVAL) -> tuple[Array, Any]:
        check_array(self, "input", x)
        self.check(x)
        return self.passes[0](x, *self.settings())

    def backward(self, dy: Array, cache: Any) -> Array:
        return self.passes[1](dy, cache)

    def output_shape(self, input_shape: Shape) -> Shape:
        return input_shape


def _model_dtype(dtype: Any) -> np.dtype[Any]:
    try:
        found = np.dtype(dtype)
    except TypeError:
        found = np.dtype(object)
    if found.kind not in "fc":
        raise TypeError(
            f"dtype is {dtype!r}, want floating point, 'float32' or 'float64': weights cut to "
            "whole numbers are lost"
        )
    return found


def _same_kind(dtype: np.dtype[Any], own: np.dtype[Any]) -> bool:
    """Whether numbers of a dtype are numbers of another, to rounding."""
    if own.kind == "c":
        return dtype.kind in "fc"
    return dtype.kind == own.kind or "V" in (dtype.kind, own.kind)  # V: bfloat16


def join(prefix: str, name: str) -> str:
    """Return the dotted name of an inner layer."""
    return f"{prefix}.{name}" if prefix else name


def check_input(layer: Layer, x: Array, shape: tuple[Any, ...], like: Array | None) -> None:
    """Raise one clear error if ``x`` is not what ``layer`` wants.

    shape   wanted shape; None stands for any size (the first is the batch), ... for any axes
    like    an array, usually the weight, whose library and dtype x must share; None for any
    Raises ValueError for a wrong shape, TypeError for what is not an array, or for a wrong
    library or dtype.
    """
    check_array(layer, "input", x)
    if ... in shape:
        at = shape.index(...)
        shape = (*shape[:at], *[None] * (len(x.shape) + 1 - len(shape)), *shape[at + 1 :])
    fits = len(x.shape) == len(shape) and all(
        want is None or got == want for got, want in zip(x.shape, shape, strict=True)
    )
    if not fits:
        names = ("N", "H", "W") if len(shape) == 4 else ("N",)
        wanted = ", ".join(
            str(size) if size is not None else names[i] if i < len(names) else "any"
            for i, size in enumerate(shape)
        )
        raise ValueError(f"{layer!r}: input is {tuple(x.shape)}, want ({wanted})")
    if like is None:
        return
    if library_of(x) != library_of(like):
        raise TypeError(
            f"{layer!r}: input is a {library_of(x)} array, the parameters are "
            f"{library_of(like)}'s: move the input with to_device(x, {library_of(like)!r})"
        )
    if x.dtype != like.dtype:
        raise TypeError(
            f"{layer!r}: input is {x.dtype}, the parameters are {like.dtype}: convert the input "
            f"with x.astype('{like.dtype}')"
            + (f" or the model with model.to(dtype='{x.dtype}')" if x.dtype in REAL_DTYPES else "")
        )


def check_features(layer: Layer, input_shape: Shape, features: int) -> None:
    """Raise ValueError unless the last of ``input_shape``, without the batch, is ``features``."""
    if input_shape[-1:] != (features,):
        raise ValueError(f"{layer!r}: input shape is {input_shape}, want {features} features last")


class SummaryRow(NamedTuple):
    """One innermost layer; counts are for one example."""

    name: str  # dotted
    layer: str
    output_shape: Shape
    parameters: int
    multiply_adds: int
    bytes_cached: int


def summary_rows(layer: Layer, input_shape: Shape) -> list[SummaryRow]:
    """Return a row for each innermost layer, in forward order, for one input of ``input_shape``.

    Bytes cached are measured: each layer is run in training mode on one input of zeros, and the
    distinct arrays in its cache, parameters aside, are added up. A layer's input stands in its
    cache only where the layer itself needs it.
    """
    first = next(iter(layer.parameters().values()), None)
    dtype, xp = ("float32", np) if first is None else (first.value.dtype, array_module(first.value))
    return [
        SummaryRow(
            name,
            repr(part),
            part.output_shape(shape),
            sum(p.value.size for p in part.parameters().values()),
            part.multiply_adds(shape),
            _bytes_cached(part, xp.zeros((1, *shape), dtype=dtype)),
        )
        for name, part, shape in layer.walk(tuple(input_shape))
    ]


def summary(layer: Layer, input_shape: Shape) -> str:
    """Return ``summary_rows`` as text, with a line of totals."""
    shape = tuple(input_shape)
    rows = summary_rows(layer, shape)
    totals = [sum(column) for column in zip(*(row[3:] for row in rows), strict=True)] or [0, 0, 0]
    return table(
        ("name", "layer", "output shape", "parameters", "multiply-adds", "bytes cached"),
        [(r.name, r.layer, shape_text(r.output_shape), *(f"{n:,}" for n in r[3:])) for r in rows],
        ("total", "", shape_text(layer.output_shape(shape)), *(f"{n:,}" for n in totals)),
    )


def _bytes_cached(layer: Layer, x: Array) -> int:
    layer = deepcopy(layer)  # a forward pass in training moves batch norm's statistics
    _, cache = layer.forward(x, Mode(train=True, rng=np.random.default_rng(0)))
    parameters = {id(p.value) for p in layer.parameters().values()}
    return sum(int(a.nbytes) for a in arrays_in(cache) if id(a) not in parameters)


def arrays_in(cache: Any) -> list[Array]:
    """Return the distinct arrays in a layer's cache."""
    if hasattr(cache, "nbytes"):
        return [cache]
    if not isinstance(cache, tuple | list):
        return []
    return list({id(a): a for part in cache for a in arrays_in(part)}.values())


def table(
    header: Sequence[str], rows: Sequence[Sequence[str]], last: Sequence[str] | None = None
) -> str:
    """Return text in columns, the first three to the left; rules set off header and last line."""
    lines = [header, *rows] if last is None else [header, *rows, last]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = []
    for line in lines:
        left = map(str.ljust, line[:3], widths)
        text.append("  ".join([*left, *map(str.rjust, line[3:], widths[3:])]).rstrip())
    rule = "─" * (sum(widths) + 2 * (len(widths) - 1))
    text[1:1] = [rule]
    if last is not None:
        text[-1:-1] = [rule]
    return "\n".join(text)


def shape_text(shape: Shape) -> str:
    """224 × 224 × 3."""
    return " × ".join(map(str, shape))
