"""What a worker is asked to time, from JSON.

{"kind": "training" or "inference", "workload": {...}}     see ``benchmarks.peers``
{"kind": "op", "module": ..., "op": ..., "shape": ..., "way": ...}    see ``benchmarks.ops``
{"kind": "product"} and {"kind": "copy", "bytes": N}       see ``benchmarks.floors``
"""

from __future__ import annotations

import os
import sys
from typing import Any

from threadpoolctl import threadpool_info

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
    """How torch is set in this process, or without torch BLAS."""
    if torch := sys.modules.get("torch"):  # its BLAS is linked in, out of threadpoolctl's sight
        return {
            "torch_cpu_capability": torch.backends.cpu.get_cpu_capability(),
            "torch_mkl": torch.backends.mkl.is_available(),
            "torch_onednn": torch.backends.mkldnn.is_available(),
        }
    keys = ("internal_api", "version", "architecture", "num_threads")
    return {"libraries": [{k: b[k] for k in keys if k in b} for b in threadpool_info()]}
