"""What a file of operations holds: each beside torch's, with its shapes and its least cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from benchmarks.subject import Subject

S = TypeVar("S")
Array = NDArray[Any]

CONTIGUOUS, CHANNELS_LAST = "contiguous", "channels_last"


class Cost(NamedTuple):
    """The least that an operation does.

    multiply_adds   taken directly; 0 where moving memory is all there is to it
    bytes           read and written, each array once
    """

    multiply_adds: int
    bytes: int


@dataclass(frozen=True)
class Op(Generic[S]):
    """One function of tinynet and the same of torch.

    shapes      name -> shape
    theirs      torch's in one of ``ways``, of which the fastest is compared with ours
    tolerance   of the results, as a part of their largest element or of their root mean square
    calls       made when results are compared; more than one where a call changes its arrays
    """

    name: str
    shapes: dict[str, S]
    ours: Callable[[S], Subject]
    theirs: Callable[[S, str], Subject]
    cost: Callable[[S], Cost]
    ways: tuple[str, ...] = (CONTIGUOUS, CHANNELS_LAST)
    tolerance: float = 1e-4
    norm: Literal["largest", "mean square"] = "largest"
    calls: int = 1

    def error(self, got: list[Array], want: list[Array]) -> float:
        """The worst of the arrays' differences, by ``norm``."""
        return max(difference(a, b, self.norm) for a, b in zip(got, want, strict=True))


def difference(got: Array, want: Array, norm: str) -> float:
    """|got − want| / |want|, infinite where shapes differ or numbers are not finite."""
    if got.shape != want.shape or not np.isfinite(got).all():
        return float("inf")
    # float64: squares of large arrays add up
    apart, size = got.astype(np.float64) - want, want.astype(np.float64)
    if norm == "largest":
        return float(abs(apart).max() / abs(size).max())
    return float(np.sqrt((apart**2).sum() / (size**2).sum()))
