"""What a worker is asked to time, from JSON.

{"kind": "training" or "inference", "workload": {...}}     see ``benchmarks.peers``
{"kind": "op", "module": ..., "op": ..., "shape": ..., "way": ...}    see ``benchmarks.ops``
{"kind": "product"} and {"kind": "copy", "bytes": N}       see ``benchmarks.floors``
"""

from __future__ import annotations

import os
from typing import Any

from benchmarks import floors, peers
from benchmarks.ops import load
from benchmarks.subject import Subject
from benchmarks.variants import Variant
from benchmarks.workloads import KINDS, Workload


def make(task: dict[str, Any], variant: Variant) -> Subject:
    """The subject of a task."""
    kind = task["kind"]
    if kind in KINDS:
        return peers.subject(Workload.from_json(task["workload"]), kind, variant)
    if kind == "op":
        op = load(task["module"])[task["op"]]
        shape = op.shapes[task["shape"]]
        return op.ours(shape) if variant.library == "tinynet" else op.theirs(shape, task["way"])
    if kind == "copy":
        return floors.copy(task["bytes"])
    return floors.torch_product() if variant.library == "torch" else floors.numpy_product()


def set_threads(variant: Variant) -> None:
    """As many threads as OMP_NUM_THREADS says, for the library that has to be told."""
    if variant.library == "torch":
        import torch

        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


def facts() -> dict[str, Any]:
    """How BLAS, and torch where it is loaded, are set in this process."""
    import sys

    from threadpoolctl import threadpool_info

    keys = ("internal_api", "version", "architecture", "num_threads")
    found = [{k: library[k] for k in keys if k in library} for library in threadpool_info()]
    answer: dict[str, Any] = {"libraries": found}
    if torch := sys.modules.get("torch"):
        answer["torch_cpu_capability"] = torch.backends.cpu.get_cpu_capability()
    return answer
