"""Results of a run as it writes them, with made-up figures."""

from __future__ import annotations

from typing import Any

from benchmarks.gpu.networks import NETWORKS, SCALED, TENSOR_CORES
from benchmarks.gpu.operations import rows
from benchmarks.gpu.variants import OURS, TORCH

MACHINE = {
    "device": "gpu",
    "gpu": "NVIDIA H100 80GB HBM3",
    "python": "3.12.3",
    "versions": {"cupy-cuda13x": "14.2.0", "torch": "2.11.0", "numpy": None},
    "nvidia_smi": {"driver_version": "580.159"},
}
CEILINGS = {
    "copy_gb_s": 3000.0,
    "side": 8192,
    "product_tflop_s": {"fp32": 50.0, "tf32": 400.0, "bf16": 750.0},
    "launch_us": {"python": 5.0, "graph": 1.5},
}
MB = 1 << 20


def variants(precision: str, ours: float, theirs: float) -> dict[str, Any]:
    """Ours in ``ours`` ms and 100 MB; torch's eager step in ``theirs`` and 200, others slower."""
    found: dict[str, Any] = {
        OURS.name: {"ms": [ours, ours, ours], "memory": {"peak": 100 * MB}, "difference": 1e-4}
    }
    for n, variant in enumerate(v for v in TORCH if precision in v.precisions):
        found[variant.name] = {
            "ms": [theirs * (1 + n)] * 3,
            "memory": {"peak": 200 * MB, "allocated": 150 * MB},
            "difference": 0.0,
        }
    return found


def results() -> dict[str, Any]:
    """All five parts."""
    networks = {
        name: {
            "network": {"batch": network.batch},
            "multiply_adds": 10**12,
            "precisions": {p: variants(p, 10.0, 25.0) for p in precisions},
        }
        for name, (network, precisions) in NETWORKS.items()
    }
    points = {
        precision: [
            {"batch": batch, "variants": variants(precision, 1 + batch / 100, 3 + batch / 90)}
            for batch in SCALED
        ]
        for precision in TENSOR_CORES
    }
    ops = [
        {
            **{"op": op, "shape": shape, "precision": precision},
            **{"multiply_adds": 375 * 10**9, "bytes": 15 * 10**8},
            **{"ms": {"ours": [2.0, 2.0], "torch": [1.0, 4.0]}, "failed": {}},
            **{"errors": {"ours": 1e-3, "torch": 2e-3}, "host_ms": {}},
        }
        for op, shape, precision in rows()
    ]
    return {
        "date": "2026-01-02",
        "machine": MACHINE,
        "correctness": {
            "tests": {"counts": {"passed": 3, "failed": 1}, "failures": ["FAILED a|b"]}
            | {"cut_short": False},
            "same_bits": {"fp32": True, "tf32": False, "bf16": "tinynet: no kernel"},
        },
        "ceilings": CEILINGS,
        "ops": {"rows": ops, "skipped": ["dense, x, fp32"]},
        "steps": {"networks": networks},
        "scaling": {"points": points},
    }
