"""Gating: what a side path says decides how much of each number passes.  Report §3 (attention).

The squeeze-and-excitation block is ``Gate`` around a global average and two dense layers that end
in a sigmoid. The product itself is an activation: of x, by g.  Report §2.2.2.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tinynet.backend import Array, backward_of, output_like, swappable
from tinynet.layer import EVAL, Layer, Mode, Shape
from tinynet.layers.combine import check_layers

__all__ = ["Gate", "gate_backward", "gate_forward"]


class GateCache(NamedTuple):
    """Cache for ``gate_backward``."""

    x: Array  # (N, H, W, C), or any shape
    g: Array  # (N, C), or the shape of x


@swappable
def gate_forward(x: Array, g: Array) -> tuple[Array, GateCache]:
    """Multiply each number, or each whole channel, by its gate.  Report §2.2.2, §3.

        y[n, h, w, c] = x[n, h, w, c] g[n, c]      or      y = x ⊙ g, if the shapes are the same

    x   (N, H, W, C), or any shape
    g   (N, C): one gate for each channel of each example; or the shape of x
    Returns y (the shape of x) and the cache (x, g).
    Raises ValueError for any other shape of g.
    Source: Hu, Shen & Sun 2018, "Squeeze-and-Excitation Networks".
    """
    _check_gates("gate", x.shape, g.shape)
    return x * _over_cells(g, x), GateCache(x, g)


@backward_of(lambda cache: output_like(*cache))
def gate_backward(dy: Array, cache: GateCache) -> tuple[Array, Array]:
    """Each factor's derivative is the other factor.  Report §2.2.2, §2.3.2.

        ∂L/∂x[n, h, w, c] = ∂L/∂y[n, h, w, c] g[n, c]
        ∂L/∂g[n, c] = Σ_h Σ_w ∂L/∂y[n, h, w, c] x[n, h, w, c]

    and without the sums if g has the shape of x. A channel's gate acts on all of its cells, so its
    gradient is a sum over them.

    dy (the shape of x) ∂L/∂y.  Returns dx (the shape of x), dg (the shape of g).
    """
    x, g = cache
    dg = dy * x
    return dy * _over_cells(g, x), dg if g.shape == x.shape else dg.sum(axis=(1, 2))


class Gate(Layer):
    """The input times what a path makes of it.  Report §3 (attention gating).

        y = x ⊙ g,  g = path(x),      ∂L/∂x = ∂L/∂y ⊙ g + through the path

    x is used twice, so its gradient has two terms; what goes into the path is
    ∂L/∂g = Σ_hw ∂L/∂y ⊙ x.

    path   a layer from (H, W, C) to (C,), one gate a channel, or to the input's own shape
    Source: Hu, Shen & Sun 2018, "Squeeze-and-Excitation Networks".
    """

    kind = "merge"
    wiring = "gate"
    per_image = True

    def __init__(self, path: Layer) -> None:
        check_layers(self, (path,))
        self.path = path

    def forward(self, x: Array, mode: Mode = EVAL) -> tuple[Array, tuple[GateCache, Any]]:
        g, path_cache = self.path.forward(x, mode)
        _check_gates("Gate", x.shape, g.shape)
        y, cache = gate_forward(x, g)
        return y, (cache, path_cache)

    def backward(self, dy: Array, cache: tuple[GateCache, Any]) -> Array:
        gate_cache, path_cache = cache
        dx, dg = gate_backward(dy, gate_cache)
        return dx + self.path.backward(dg, path_cache)

    def output_shape(self, input_shape: Shape) -> Shape:
        gates = self.path.output_shape(input_shape)
        _check_gates("Gate", ("N", *input_shape), ("N", *gates))
        return input_shape

    def __repr__(self) -> str:
        return f"Gate({self.path!r})"


def _over_cells(g: Array, x: Array) -> Array:
    """g as it is multiplied with x: (N, 1, 1, C) where there is one gate a channel."""
    return g if g.shape == x.shape else g[:, None, None, :]


def _check_gates(name: str, x: tuple[int | str, ...], g: tuple[int | str, ...]) -> None:
    if g != x and (len(x) != 4 or g != (x[0], x[3])):
        wanted = str(x) if len(x) != 4 else f"{(x[0], x[3])}, one gate a channel, or {x}"
        raise ValueError(
            f"{name}: the gates are {g} for an input of {x}, want {wanted}".replace("'N'", "N")
        )
