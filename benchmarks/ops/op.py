"""One function of tinynet beside the same of torch, with its shapes and its least cost.

Both libraries get the same numbers. Activations are stored as the precision says, weights and
statistics of ours are always float32; torch gets its weights rounded already.

    kind       tinynet                               torch
    images     (N, H, W, C), activations             (N, C, H, W), in memory as ``way`` says
    rows       (N, K), activations                   the same
    filters    (kernel height, width, C, K)          (K, C, kernel height, width), as ``way`` says
    matrix     (in, out)                             (out, in)
    vector     any, such as (C,)                     the same, float32
    labels     (N,) whole numbers                    the same
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from math import prod
from typing import Any, Literal, NamedTuple

import numpy as np

from benchmarks.device import Cpu, Subject, torch_precision
from tinynet.engine.precision import PRECISIONS, use_precision

Call = Callable[[], tuple[Any, ...]]
CONTIGUOUS, CHANNELS_LAST = "contiguous", "channels_last"


class Cost(NamedTuple):
    multiply_adds: int  # taken directly; 0 where moving memory is all there is to it
    bytes: int  # read and written, each array once


class Input(NamedTuple):
    """An array that is given; labels are below ``high``."""

    kind: str
    shape: tuple[int, ...]
    high: int = 0


@dataclass(frozen=True)
class Images:
    """A batch of square images, and square windows over them with zeros around.

    filters   of a convolution; 0 for a pool
    epilogue  what follows a convolution in a block: "none", "relu" or "relu_pool"
    """

    batch: int
    side: int
    channels: int
    filters: int = 0
    kernel: int = 1
    stride: int = 1
    padding: int = 0
    groups: int = 1
    bias: bool = True
    epilogue: str = "none"

    @property
    def x(self) -> tuple[int, ...]:
        return self.batch, self.side, self.side, self.channels

    @property
    def w(self) -> tuple[int, int, int, int]:
        return self.kernel, self.kernel, self.channels // self.groups, self.filters

    @property
    def y(self) -> tuple[int, ...]:
        side = (self.side + 2 * self.padding - self.kernel) // self.stride + 1
        side //= 2 if self.epilogue == "relu_pool" else 1
        return self.batch, side, side, self.filters or self.channels

    @property
    def multiply_adds(self) -> int:
        """Of a convolution, taken directly; each of the two gradients has as many."""
        whole = replace(self, epilogue="none").y
        return prod(whole) * prod(self.w[:3]) if self.filters else 0

    def small(self) -> Images:
        channels = 8 if self.channels % 8 == 0 else self.channels
        groups, filters = channels if self.groups > 1 else 1, 8 if self.filters else 0
        more = {"channels": channels, "groups": groups, "filters": filters}
        return replace(self, batch=2, side=min(self.side, 12), **more)


def convolution(batch: int, side: int, channels: int, filters: int, **more: Any) -> Images:
    """Shape of a convolution, 3×3 unless said; "same" at stride 1."""
    kernel = more.pop("kernel", 3)
    return Images(batch, side, channels, filters, kernel, padding=kernel // 2, **more)


@dataclass(frozen=True)
class Matrix:
    batch: int
    inputs: int
    outputs: int

    @property
    def multiply_adds(self) -> int:
        return self.batch * self.inputs * self.outputs

    def small(self) -> Matrix:
        return Matrix(min(self.batch, 8), 20, min(self.outputs, 10))


@dataclass(frozen=True)
class Weights:
    shapes: tuple[tuple[int, ...], ...]

    def small(self) -> Weights:
        return Weights(tuple((3,) * len(shape) for shape in self.shapes[:3]))


@dataclass(frozen=True)
class Op:
    name: str
    group: str  # its kind, on the command line
    shapes: dict[str, dict[str, Any]]  # backend -> name -> shape
    inputs: Callable[[Any], list[Input]]
    ours: Callable[[Any, list[Any]], Call]  # of a shape and arrays; the call returns the results
    theirs: Callable[[Any, list[Any], str], Call]  # of a shape, tensors and a way
    results: Callable[[Any], list[str]]  # kinds
    cost: Callable[[Any, int], Cost]  # of a shape and the bytes of an activation
    # on a CPU the fastest of torch's ways is compared with ours, on a GPU the last
    ways: tuple[str, ...] = (CONTIGUOUS, CHANNELS_LAST)
    precisions: tuple[str, ...] = PRECISIONS  # in which it is not the same as in another
    tolerance: float | None = None  # where it is not the backend's
    norm: Literal["largest", "mean square"] = "largest"  # that differences are a part of
    calls: int = 1  # whose results are compared; more than one where a call changes its arrays

    def sized(self, backend: str, name: str, small: bool) -> Any:
        shape = self.shapes[backend][name]
        return shape.small() if small else shape

    def subject(
        self,
        shape: Any,
        library: str,
        device: Cpu,
        *,
        precision: str = "fp32",
        way: str = "",
        reference: bool = False,
    ) -> Subject:
        """Return what is timed, of one library.

        way         of torch; the last
        reference   torch's in float32, of the same numbers that the precision has
        """
        inputs, way = self.inputs(shape), way or self.ways[-1]
        arrays = [drawn(given, seed, device, precision) for seed, given in enumerate(inputs)]
        if library == "tinynet":
            with use_precision(precision):
                call = self.ours(shape, arrays)
            around = lambda: as_in_a_step(precision)  # noqa: E731
            return Subject(call, lambda made: [device.comparable(x) for x in made], around)

        def results(made: tuple[Any, ...]) -> list[Any]:
            pairs = list(zip(self.results(shape), made, strict=True))
            axes = [FROM_TORCH.get(kind, range(x.ndim)) for kind, x in pairs]
            return [device.comparable(x.permute(*a)) for a, x in zip(axes, made, strict=True)]

        precision = "fp32" if reference else precision
        tensors = [
            to_torch(given.kind, device.tensor(array), precision, way)
            for given, array in zip(inputs, arrays, strict=True)
        ]
        around = lambda: torch_precision(precision, search=not reference)  # noqa: E731
        with around():
            call = self.theirs(shape, tensors, way)
        return Subject(call, results, around)


@contextmanager
def as_in_a_step(precision: str) -> Iterator[None]:
    """What ``TrainStep`` puts around tinynet's functions: memory is kept, BLAS has one thread.

    The calls that are compared come first, and tell the workspace how much it takes; the calls
    that are timed then find it, as a step does from its second time on.
    """
    from tinynet.engine.threads import one_blas_thread

    with use_precision(precision), one_blas_thread(), _workspace():
        yield


@cache
def _workspace() -> Any:
    from tinynet.engine.memory import Workspace

    return Workspace()


def drawn(given: Input, seed: int, device: Cpu, precision: str) -> Any:
    if given.kind == "labels":
        return device.xp.asarray(np.arange(given.shape[0]) % given.high)
    act = given.kind in ("images", "rows") and precision == "bf16"
    return device.drawn(seed, given.shape, "bfloat16" if act else "float32")


# axes of ours in torch's order, and the reverse
TO_TORCH = {"images": (0, 3, 1, 2), "filters": (3, 2, 0, 1), "matrix": (1, 0), "rows": (0, 1)}
FROM_TORCH = {"images": (0, 2, 3, 1), "filters": (2, 3, 1, 0), "matrix": (1, 0)}


def to_torch(kind: str, x: Any, precision: str, way: str) -> Any:
    import torch

    if kind not in TO_TORCH:
        return x
    x = x.to(torch.bfloat16 if precision == "bf16" else torch.float32)
    x = x.permute(TO_TORCH[kind]).contiguous()
    # a copy first: a view of one channel counts as both orders, and torch takes either path
    last = way == CHANNELS_LAST and x.ndim == 4
    return x.contiguous(memory_format=torch.channels_last) if last else x
