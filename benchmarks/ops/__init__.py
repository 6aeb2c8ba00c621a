"""Single operations beside PyTorch's and beside their floors."""

from __future__ import annotations

from benchmarks.device import Cpu, Subject
from benchmarks.ops.layers import OPS as LISTED
from benchmarks.ops.op import Op

__all__ = ["GROUPS", "OPS", "Op", "subject"]

OPS: dict[str, Op] = {op.name: op for op in LISTED}
GROUPS = {  # on each backend: what the command line calls them
    where: tuple(dict.fromkeys(op.group for op in LISTED if where in op.shapes))
    for where in ("cpu", "gpu")
}


def subject(
    op: str, shape: str, backend: str, small: bool, device: Cpu, library: str, **more: str | bool
) -> Subject:
    """Return one operation of one library, by its name and that of its shape."""
    return OPS[op].subject(OPS[op].sized(backend, shape, small), library, device, **more)
