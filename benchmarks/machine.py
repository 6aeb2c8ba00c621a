"""What a run was made on: processor or GPU, versions, and the BLAS that each library loads."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from benchmarks.backends import Run
from benchmarks.device import Cpu
from benchmarks.variants import FLOOR, OPS_TORCH, installed
from tinynet.doctor.machine import processor_name

PACKAGES = ("numpy", "scipy", "numba", "torch")
GPU_PACKAGES = ("cupy-cuda13x", "cupy-cuda12x", "numpy", "ml-dtypes", "torch", "triton")
SMI = (
    *("name", "driver_version", "memory.total", "power.limit", "compute_mode"),
    *("clocks.sm", "clocks.max.sm", "clocks.mem", "clocks.max.mem", "temperature.gpu"),
)
PRODUCT = {"kind": "product", "side": 64}


def machine(run: Run) -> dict[str, Any]:
    """Return the facts of this machine, and of what a run's workers load."""
    found: dict[str, Any] = {
        "processor": processor_name(),
        "machine": platform.machine(),
        "system": platform.system(),
        "cores": os.cpu_count(),
        "threads": run.backend.threads,
    }
    if run.backend.name == "gpu":
        found["versions"] = {"python": platform.python_version(), **versions(GPU_PACKAGES)}
        gpu = run.worker(run.backend.single["floor"]).call("machine:gpu_facts")
        return found | gpu | {"device": run.backend.device, "nvidia_smi": nvidia_smi()}
    blas = {}
    for variant in installed((FLOOR, OPS_TORCH))[0]:
        worker = run.worker(variant)  # a product, so that its library is loaded
        worker.ask("make", name="product", task=PRODUCT)
        worker.ask("time", name="product", seconds=0)
        blas[variant.library] = worker.call("machine:blas")
    return found | {"versions": {"python": platform.python_version(), **versions()}, "blas": blas}


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str | None]:
    """Return the packages' versions; None for one that is not installed."""
    found: dict[str, str | None] = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def blas(device: Cpu) -> dict[str, Any]:
    """Return how torch is set in this process, or without torch which BLAS is loaded."""
    from threadpoolctl import threadpool_info

    if torch := sys.modules.get("torch"):  # its BLAS is linked in, out of threadpoolctl's sight
        return {
            "torch_cpu_capability": torch.backends.cpu.get_cpu_capability(),
            "torch_mkl": torch.backends.mkl.is_available(),
            "torch_onednn": torch.backends.mkldnn.is_available(),
        }
    keys = ("internal_api", "version", "architecture", "num_threads")
    return {"libraries": [{k: b[k] for k in keys if k in b} for b in threadpool_info()]}


def gpu_facts(device: Cpu) -> dict[str, Any]:
    """Return what CUDA says of the GPU; of the processor in the rehearsal."""
    if device.name != "gpu":
        return {"gpu": processor_name()}
    runtime = device.xp.cuda.runtime
    has = runtime.getDeviceProperties(0)
    name = has["name"]
    return {
        "gpu": name.decode() if isinstance(name, bytes) else str(name),
        "memory_bytes": int(has.get("totalGlobalMem", 0)),
        "multiprocessors": int(has.get("multiProcessorCount", 0)),
        "l2_bytes": int(has.get("l2CacheSize", 0)),
        "shared_bytes_a_block": int(has.get("sharedMemPerBlockOptin", 0)),
        "cuda_runtime": int(runtime.runtimeGetVersion()),
        "cuda_driver": int(runtime.driverGetVersion()),
    }


def nvidia_smi() -> dict[str, str]:
    """Return what nvidia-smi says of the first GPU; {} where it says nothing."""
    if shutil.which("nvidia-smi") is None:
        return {}
    query = ["nvidia-smi", f"--query-gpu={','.join(SMI)}", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return answers(done.stdout) if done.returncode == 0 else {}


def answers(text: str) -> dict[str, str]:
    """Return what was asked -> the answer, from one line of commas."""
    line = next(iter(text.splitlines()), "")
    cells = [cell.strip() for cell in line.split(",")]
    return dict(zip(SMI, cells, strict=True)) if len(cells) == len(SMI) else {}


def describe(machine: dict[str, Any]) -> str:
    """Return one line: processor or GPU, versions, BLAS kernels."""
    known = [f"{k} {v}" for k, v in machine["versions"].items() if v]
    if "gpu" in machine:
        driver = machine.get("nvidia_smi", {}).get("driver_version")
        return f"{machine['gpu']}; {', '.join([*([f'driver {driver}'] if driver else []), *known])}"
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
        f"{', '.join(known)}; {', '.join(kernels)}"
    )
