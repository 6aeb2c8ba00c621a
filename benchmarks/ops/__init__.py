"""Single operations beside PyTorch's and beside their floors."""

from __future__ import annotations

from benchmarks.device import Cpu, Subject
from benchmarks.ops.layers import OPS as LISTED
from benchmarks.ops.op import Op, error

__all__ = ["GROUPS", "OPS", "Op", "error", "subject"]

OPS: dict[str, Op] = {op.name: op for op in LISTED}
GROUPS = tuple(dict.fromkeys(op.group for op in OPS.values()))


def subject(
    op: str,
    library: str,
    shape: str,
    device: Cpu,
    *,
    backend: str = "cpu",
    precision: str = "fp32",
    way: str = "",
    small: bool = False,
    reference: bool = False,
) -> Subject:
    """Return one operation of one library, by its name and that of its shape."""
    found = OPS[op]
    sized = found.sized(backend, shape, small)
    return found.subject(sized, library, precision, way or found.ways[-1], reference, device)
