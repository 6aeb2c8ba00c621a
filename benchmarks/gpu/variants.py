"""Who takes turns: ours, and PyTorch in each way in which it may be fastest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from tinynet.engine.precision import PRECISIONS


@dataclass(frozen=True)
class Variant:
    """One library in one setting, in a process of its own.

    library         "tinynet", "torch", or "both": that process times single operations
    channels_last   torch's order of an image's axes in memory
    graph           the whole step captured once in a CUDA graph, and replayed
    compiled        the mode of torch.compile; "" without
    precisions      those in which it may be the fastest
    """

    name: str
    library: str
    channels_last: bool = False
    graph: bool = False
    compiled: str = ""
    precisions: tuple[str, ...] = PRECISIONS


OURS = Variant("tinynet", "tinynet")
OPS = Variant("operations", "both")
EAGER = Variant("torch channels_last", "torch", channels_last=True)
GRAPH = Variant("torch CUDA graph", "torch", channels_last=True, graph=True)
TORCH = (
    EAGER,
    GRAPH,
    # bf16 by tensor cores wants channels last; without them the other order may win
    Variant("torch contiguous", "torch", precisions=("fp32", "tf32")),
    Variant("torch.compile", "torch", channels_last=True, compiled="default"),
)
MORE_TORCH = (
    Variant("torch reduce-overhead", "torch", channels_last=True, compiled="reduce-overhead"),
    Variant("torch max-autotune", "torch", channels_last=True, compiled="max-autotune"),
)
HAVE_TORCH = find_spec("torch") is not None
MISSING_TORCH = "torch is missing: ours is timed alone, and its results are not checked"


def chosen(precision: str, compiled: bool, more: bool) -> list[Variant]:
    """The variants of one precision, ours first, as far as torch is installed."""
    peers: Sequence[Variant] = (*TORCH, *(MORE_TORCH if more else ()))
    if not HAVE_TORCH:
        return [OURS]
    return [
        OURS,
        *(v for v in peers if precision in v.precisions and (compiled or not v.compiled)),
    ]
