"""What a file of operations holds: each beside torch's, with its shapes and its least cost.

Both libraries get the same memory. Activations are stored as the precision says, weights and
statistics of ours are always float32; torch gets its weights rounded already.

    kind       tinynet                               torch
    images     (N, H, W, C), activations             (N, C, H, W), channels last
    rows       (N, K), activations                   the same
    filters    (kernel height, width, C, K)          (K, C, kernel height, width), channels last
    matrix     (in, out)                             (out, in)
    vector     (C,)                                  the same, float32
    labels     (N,) whole numbers                    the same
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from benchmarks.gpu.device import Cpu
from benchmarks.ops.op import Cost
from tinynet.engine.precision import PRECISIONS

S = TypeVar("S")
Call = Callable[[], tuple[Any, ...]]
# of results, as a part of their largest element, against torch's in float32. Rounding to 11 bits
# and to 8 moves a product by 2⁻¹² and 2⁻⁹ of itself; sums of thousands of them largely cancel
TOLERANCE = {"fp32": 2e-4, "tf32": 1e-2, "bf16": 4e-2}


class Input(NamedTuple):
    """An array that is given; ``high`` is where labels end."""

    kind: str
    shape: tuple[int, ...]
    high: int = 0


@dataclass(frozen=True)
class Op(Generic[S]):
    """One function of tinynet and the same of torch.

    shapes       name -> shape
    inputs       of a shape
    ours, theirs (shape, arrays or tensors) -> what is timed, which returns the results
    results      the kind of each result
    cost         (shape, bytes of an activation) -> the least that is done
    small        of a shape, one of the same kind that takes no time
    precisions   those in which it is not the same as in another
    """

    name: str
    shapes: dict[str, S]
    inputs: Callable[[S], list[Input]]
    ours: Callable[[S, list[Any]], Call]
    theirs: Callable[[S, list[Any]], Call]
    results: tuple[str, ...]
    cost: Callable[[S, int], Cost]
    small: Callable[[S], S] = lambda s: s.small()  # type: ignore[attr-defined]
    precisions: tuple[str, ...] = PRECISIONS


def drawn(inputs: list[Input], device: Cpu, precision: str) -> list[Any]:
    """The arrays, as tinynet takes them."""
    arrays = []
    for seed, given in enumerate(inputs):
        if given.kind == "labels":
            labels = np.arange(given.shape[0]) % given.high
            arrays.append(device.xp.asarray(labels))
            continue
        act = given.kind in ("images", "rows") and precision == "bf16"
        arrays.append(device.drawn(seed, given.shape, "bfloat16" if act else "float32"))
    return arrays


def tensors(inputs: list[Input], arrays: list[Any], device: Cpu, precision: str) -> list[Any]:
    """The same as torch takes them; "fp32" gives all in float32, of the very same numbers."""
    return [
        to_torch(given.kind, device.tensor(array), precision)
        for given, array in zip(inputs, arrays, strict=True)
    ]


def to_torch(kind: str, x: Any, precision: str) -> Any:
    """A tensor in torch's order of axes."""
    import torch

    if kind in ("labels", "vector"):
        return x
    x = x.to(torch.bfloat16 if precision == "bf16" else torch.float32)
    if kind == "images":
        return x.permute(0, 3, 1, 2)
    if kind == "filters":
        return x.permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)
    return x.T.contiguous() if kind == "matrix" else x


def from_torch(kind: str, x: Any) -> Any:
    """The reverse, in float32."""
    x = x.detach().float()
    if kind == "images":
        return x.permute(0, 2, 3, 1)
    if kind == "filters":
        return x.permute(2, 3, 1, 0)
    return x.T if kind == "matrix" else x


def error(got: list[Any], want: list[Any]) -> float:
    """The worst |got − want| / largest |want|, infinite where shapes differ or got is not finite.

    got, want   torch's tensors in float32, in tinynet's order of axes
    """
    worst = 0.0
    for a, b in zip(got, want, strict=True):
        if a.shape != b.shape or not bool(a.isfinite().all()):
            return float("inf")
        worst = max(worst, float((a - b).abs().max() / b.abs().max()))
    return worst
