"""Results as the benchmarks write them, with made-up figures."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from benchmarks.backends import CPU, GPU, Backend, Run, new_pool
from benchmarks.ops import rows
from benchmarks.steps import panels
from benchmarks.variants import CUDA, EAGER, NUMBA, NUMPY, STOCK, WITH_ALLOCATOR, Variant
from benchmarks.workloads import NETWORKS, WORKLOADS

TIMED = (NUMPY, NUMBA, *STOCK, *WITH_ALLOCATOR)

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
    for n, variant in enumerate(TIMED, start=1):
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
        "ours": {NUMPY.name: [2.0, 2.0], NUMBA.name: [1.0, 1.0]},
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


def scaling(backend: Backend = CPU, ours: tuple[Variant, ...] = (NUMPY, NUMBA)) -> dict[str, Any]:
    """Times that grow with the value."""
    backend = replace(backend, threads=2)
    found = {
        panel: [
            {
                "value": value,
                "threads": point.threads or 2,
                "workload": asdict(point.workload),
                "variants": {
                    v.name: {"ms": [n * value * 10.0, n * value * 12.0], "peak_mb": 1.0}
                    for n, v in enumerate((*ours, EAGER), start=1)
                },
            }
            for value, point in line
        ]
        for panel, line in panels(Run(backend, new_pool(backend))).items()
    }
    return COMMON | {"panels": found}


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
            "W128": network | {"kernels": {NUMPY.name: slow, NUMBA.name: entry}},
        }
    }


def all_kinds() -> dict[str, Any]:
    """Kind -> results."""
    return {"steps": steps(), "ops": ops(), "scaling": scaling(), "loader": loader()}


GPU_MACHINE = {
    "gpu": "NVIDIA H100 80GB HBM3",
    "versions": {"python": "3.12.3", "cupy-cuda13x": "14.2.0", "torch": "2.11.0", "numpy": None},
    "nvidia_smi": {"driver_version": "580.159"},
}


def gpu() -> dict[str, Any]:
    """All parts of a run on a GPU: ours in 10 ms, torch's eager step in 25, others slower."""
    ms = {CUDA.name: 10.0, **{v.name: 25.0 * n for n, v in enumerate(GPU.peers[::-1], start=1)}}
    ms |= {EAGER.name: 25.0, GPU.peers[-1].name: 200.0}
    variants = {
        name: {"ms": [t, t, t], "peak_mb": 100.0 if t == 10 else 200.0, "difference": 1e-4}
        for name, t in ms.items()
    }
    variants[STOCK[2].name] = {"failed": f"{STOCK[2].name}: out of memory"}
    networks = {
        name: {
            "workload": asdict(workload),
            "multiply_adds": 10**12,
            **{f"training, {precision}": variants for precision in precisions},
        }
        for name, (workload, precisions) in NETWORKS.items()
    }
    ops = [
        {
            **{"op": op.name, "shape": shape, "precision": precision},
            **{"multiply_adds": 375 * 10**9, "bytes": 15 * 10**8},
            **{"ours": {CUDA.name: [2.0, 2.0]}, "theirs": {"channels_last": [1.0, 4.0]}},
            **{"copy": [0.5, 0.5], "products": {"product, both": [1.0, 1.0]}},
            **{"product_flops": 750 * 10**9, "failed": {}, "differences": {CUDA.name: 1e-3}},
        }
        for op, shape, precision in rows(GPU)
    ]
    products = {f"product, {p}": [ms] for p, ms in (("bf16", 1.0), ("tf32", 2.0), ("fp32", 8.0))}
    part = {"seconds": 12.0, "skipped": list[str]()}
    return {
        "date": "2026-01-02",
        "machine": GPU_MACHINE,
        "correctness": part | {"lines": ["tests: 3 passed, 1 failed", "FAILED a"]},
        "ceilings": part | {"ms": products, "product_flops": 10**12, "lines": ["copy: 3000 GB/s"]},
        "ops": part | {"ops": ops, "skipped": ["dense, x, fp32"]},
        "steps": part | {"steps": networks},
        "kernels": part | {"failed": "WorkerError: its process ended"},
        "scaling": part | {"panels": scaling(GPU, (CUDA,))["panels"]},
    }
