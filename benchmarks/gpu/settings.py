"""How large a run is: on a GPU, and in the rehearsal on a processor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from benchmarks.gpu.networks import Network

Keep: TypeAlias = Callable[[dict[str, Any]], None]  # writes what a part has found so far


@dataclass(frozen=True)
class Settings:
    """device     "gpu", or "cpu" for the rehearsal, whose shapes are small
    rounds        turns of each library
    turn          seconds of a turn of a training step
    side, bytes   of the matrices and of the copy whose rates are the ceilings
    compiled      whether torch.compile takes part, in its default mode
    more          whether its slower modes do
    helpers       processes that compile kernels ahead
    """

    device: str = "gpu"
    rounds: int = 10
    turn: float = 0.1
    side: int = 8192
    bytes: int = 1 << 30
    compiled: bool = True
    more: bool = False
    helpers: int = 4

    @property
    def small(self) -> bool:
        """Whether this is the rehearsal."""
        return self.device == "cpu"

    def network(self, network: Network) -> Network:
        """The network that is timed in its place."""
        return network.small() if self.small else network


REHEARSAL = Settings("cpu", 2, 0.001, 64, 1 << 16, compiled=False, helpers=1)
