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
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, NamedTuple

import numpy as np

from benchmarks.device import Cpu, Subject, torch_precision
from tinynet.precision import PRECISIONS, use_precision

Call = Callable[[], tuple[Any, ...]]
CONTIGUOUS, CHANNELS_LAST = "contiguous", "channels_last"


class Cost(NamedTuple):
    """The least that an operation does.

    multiply_adds   taken directly; 0 where moving memory is all there is to it
    bytes           read and written, each array once
    """

    multiply_adds: int
    bytes: int


class Input(NamedTuple):
    """An array that is given; labels are below ``high``."""

    kind: str
    shape: tuple[int, ...]
    high: int = 0


@dataclass(frozen=True)
class Op:
    """What is timed.

    name, group  what it is called, and the name of its kind on the command line
    cpu, gpu     name -> shape that it is timed at there
    inputs       of a shape
    ours         (shape, arrays) -> a call, which returns the results
    theirs       (shape, tensors, way) -> the same of torch's
    results      (shape) -> the kind of each result
    cost         (shape, bytes of an activation) -> the least that is done
    ways         of torch; on a CPU the fastest is compared with ours, on a GPU the last
    precisions   those in which it is not the same as in another
    tolerance    where it is not the backend's
    norm         whether differences are a part of the largest element or of the root mean square
    calls        whose results are compared; more than one where a call changes its arrays
    """

    name: str
    group: str
    cpu: dict[str, Any]
    gpu: dict[str, Any]
    inputs: Callable[[Any], list[Input]]
    ours: Callable[[Any, list[Any]], Call]
    theirs: Callable[[Any, list[Any], str], Call]
    results: Callable[[Any], list[str]]
    cost: Callable[[Any, int], Cost]
    ways: tuple[str, ...] = (CONTIGUOUS, CHANNELS_LAST)
    precisions: tuple[str, ...] = PRECISIONS
    tolerance: float | None = None
    norm: Literal["largest", "mean square"] = "largest"
    calls: int = 1

    def shapes(self, backend: str) -> dict[str, Any]:
        """Return the shapes on a backend, by name."""
        return self.cpu if backend == "cpu" else self.gpu

    def sized(self, backend: str, name: str, small: bool) -> Any:
        """Return a shape, or a small one of the same kind."""
        shape = self.shapes(backend)[name]
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
            pairs = zip(self.results(shape), made, strict=True)
            return [device.comparable(from_torch(kind, x.detach())) for kind, x in pairs]

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
    from tinynet.kernels.cpu.threads import one_blas_thread

    with use_precision(precision), one_blas_thread(), _workspace():
        yield


@cache
def _workspace() -> Any:
    from tinynet.workspace import Workspace

    return Workspace()


def drawn(given: Input, seed: int, device: Cpu, precision: str) -> Any:
    """Return an array, as tinynet takes it."""
    if given.kind == "labels":
        return device.xp.asarray(np.arange(given.shape[0]) % given.high)
    act = given.kind in ("images", "rows") and precision == "bf16"
    return device.drawn(seed, given.shape, "bfloat16" if act else "float32")


def to_torch(kind: str, x: Any, precision: str, way: str) -> Any:
    """Return a tensor in torch's order of axes."""
    import torch

    if kind in ("labels", "vector"):
        return x
    x = x.to(torch.bfloat16 if precision == "bf16" else torch.float32)
    if kind in ("images", "filters"):
        order = torch.channels_last if way == CHANNELS_LAST else torch.contiguous_format
        axes = (0, 3, 1, 2) if kind == "images" else (3, 2, 0, 1)
        # a copy first: a view of one channel counts as both orders, and torch takes either path
        return x.permute(axes).contiguous().contiguous(memory_format=order)
    return x.T.contiguous() if kind == "matrix" else x


def from_torch(kind: str, x: Any) -> Any:
    """The reverse."""
    if kind == "images":
        return x.permute(0, 2, 3, 1)
    if kind == "filters":
        return x.permute(2, 3, 1, 0)
    return x.T if kind == "matrix" else x


def error(got: list[Any], want: list[Any], norm: str = "largest") -> float:
    """Return the worst |got − want| / |want| of arrays or tensors; infinite where shapes differ.

    It is not a number where a result is not, which no tolerance covers.
    """
    if [x.shape for x in got] != [x.shape for x in want]:
        return float("inf")
    if norm == "largest":
        each = [float(abs(a - b).max() / abs(b).max()) for a, b in zip(got, want, strict=True)]
    else:
        squares = [((a - b) ** 2).sum() / (b**2).sum() for a, b in zip(got, want, strict=True)]
        each = [float(x) ** 0.5 for x in squares]
    return float(np.max(each))
