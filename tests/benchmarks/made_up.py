"""Results as the benchmarks write them, with made-up figures."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from benchmarks.scaling import points
from benchmarks.variants import FAST, NUMPY, OURS, STEP_VARIANTS, STOCK
from benchmarks.workloads import WORKLOADS

MACHINE = {
    "processor": "A processor",
    "machine": "x86_64",
    "cores": 2,
    "threads": 2,
    "versions": {"python": "3.12.0", "numpy": "2.4.0", "numba": None},
    "blas": {
        "numpy": {"libraries": [{"internal_api": "openblas", "architecture": "Zen"}]},
        "torch": {"torch_cpu_capability": "AVX2", "torch_mkl": True, "torch_onednn": False},
    },
}
COMMON = {"date": "2026-01-02", "rounds": 2, "machine": MACHINE}


def steps() -> dict[str, Any]:
    """Variant number n, from 1, takes 100 n and 110 n ms, and 50 n MB; compiled, it fails."""
    measured: dict[str, Any] = {}
    for n, variant in enumerate(STEP_VARIANTS, start=1):
        measured[variant.name] = {"ms": [100.0 * n, 110.0 * n], "peak_mb": 50.0 * n}
        if variant.compiled:
            measured[variant.name] = {"failed": f"{variant.name}: no compiler | here"}
    workloads = {
        name: {
            "workload": asdict(workload),
            "multiply_adds": 10**9,
            "training": measured,
            "inference": measured,
        }
        for name, workload in WORKLOADS.items()
    }
    return COMMON | {"steps": workloads}


def ops() -> dict[str, Any]:
    """One operation that multiplies, and one that moves memory."""
    common = {"differences": {}, "theirs": {"contiguous": [4.0, 4.0], "channels_last": [3.0, 6.0]}}
    product = {
        "module": "dense",
        "op": "dense, forward",
        "shape": "W128",
        "multiply_adds": 2**30,
        "bytes": 2**27,
        "ours": {NUMPY.name: [2.0, 2.0], FAST.name: [1.0, 1.0]},
        "copy": [0.1, 0.1],
        "products": {"product, NumPy": [0.5, 0.5], "product, torch": [0.6, 0.6]},
    }
    move = {
        "module": "relu",
        "op": "ReLU, forward",
        "shape": "W128, block 1",
        "multiply_adds": 0,
        "bytes": 10**6,
        "ours": {NUMPY.name: [2.0, 2.0]},
        "copy": [0.5, 0.5],
        "products": {},
    }
    return COMMON | {"ops": [product | common, move | common]}


def scaling() -> dict[str, Any]:
    """Times that grow with the value."""
    panels = {
        panel: [
            {
                "value": value,
                "threads": threads,
                "workload": asdict(workload),
                "variants": {
                    v.name: {"ms": [n * value * 10.0, n * value * 12.0], "peak_mb": 1.0}
                    for n, v in enumerate((*OURS, STOCK[0]), start=1)
                },
            }
            for value, workload, threads in line
        ]
        for panel, line in points(2).items()
    }
    return COMMON | {"panels": panels}


def loader() -> dict[str, Any]:
    """Four images delivered for each that is consumed, and 1 % of the time waited."""
    entry = {
        "delivers": [4000.0, 4000.0],
        "consumes": [1000.0, 1000.0],
        "trains": [900.0, 900.0],
        "waiting": [0.01, 0.01],
        "first": [0.02, 0.02],
        "seconds": [1.0, 1.0],
    }
    slow = entry | {"delivers": [2000.0, 2000.0]}
    network = {"decode": [300.0, 300.0], "images": 180}
    return COMMON | {
        "networks": {
            "demo": network | {"kernels": {NUMPY.name: entry}},
            "W128": network | {"kernels": {NUMPY.name: slow, FAST.name: entry}},
        }
    }


def all_kinds() -> dict[str, Any]:
    """Kind -> results."""
    return {"steps": steps(), "ops": ops(), "scaling": scaling(), "loader": loader()}
