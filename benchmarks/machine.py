"""What a run was made on, for its JSON file and the page."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from tinynet.doctor.machine import processor_name

from benchmarks.processes import workers
from benchmarks.variants import FLOOR, OPS_TORCH, installed

PACKAGES = ("numpy", "scipy", "numba", "torch")


def machine(threads: int) -> dict[str, Any]:
    """Processor, cores, versions, and the BLAS that each library loads in a worker."""
    present, _ = installed((FLOOR, OPS_TORCH))
    with workers(present, threads) as started:
        for worker in started:  # one product each, so that every library is loaded
            worker.ask(make="product", task={"kind": "product"})
            worker.ask(time="product", seconds=0)
        facts = {w.variant.library: without_peak(w.ask(facts=True)) for w in started}
    return {
        "processor": processor_name(),
        "machine": platform.machine(),
        "system": platform.system(),
        "cores": os.cpu_count(),
        "threads": threads,
        "versions": {"python": platform.python_version(), **versions()},
        "blas": facts,
    }


def without_peak(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer's own entries."""
    return {key: value for key, value in answer.items() if key != "peak_mb"}


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str | None]:
    """Of the libraries that are timed; None for one that is not installed."""
    found: dict[str, str | None] = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def describe(machine: dict[str, Any]) -> str:
    """One line: processor, threads, versions, BLAS kernels."""
    versions = [f"{k} {v}" for k, v in machine["versions"].items() if v]
    kernels = [
        f"NumPy's BLAS: {entry['internal_api']} {entry.get('architecture', '')}".rstrip()
        for entry in machine["blas"]["numpy"]["libraries"]
        if entry["internal_api"] in ("openblas", "mkl", "blis")
    ]
    if torch := machine["blas"].get("torch"):
        has = [name for name in ("mkl", "onednn") if torch.get(f"torch_{name}")]
        kernels.append(" ".join(["torch:", torch["torch_cpu_capability"], *has]))
    return (
        f"{machine['processor']}, {machine['threads']} of {machine['cores']} cores; "
        f"{', '.join(versions)}; {', '.join(kernels)}"
    )
