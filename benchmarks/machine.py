"""What a run was made on: processor or GPU, versions, and the BLAS that each library loads."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from benchmarks.backends import Run
from benchmarks.device import Cpu
from benchmarks.variants import FLOOR, OPS_TORCH, installed
from tinynet.doctor import machine_facts

PACKAGES = {
    "cpu": ("numpy", "scipy", "numba", "torch"),
    "gpu": ("cupy-cuda13x", "cupy-cuda12x", "numpy", "ml-dtypes", "torch", "triton"),
}
SMI = "name,driver_version,power.limit,clocks.sm,clocks.max.sm,clocks.mem,temperature.gpu"


def machine(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = {
        "processor": machine_facts()["processor"],
        "cores": os.cpu_count(),
        "threads": run.backend.threads,
        "versions": {"python": platform.python_version()},
    }
    for package in PACKAGES[run.backend.name]:
        try:
            found["versions"][package] = version(package)
        except PackageNotFoundError:
            found["versions"][package] = None
    if run.backend.name == "gpu":
        return found | run.worker(run.backend.single["floor"]).call("machine:gpu") | nvidia_smi()
    found["blas"] = {}
    for variant in installed((FLOOR, OPS_TORCH))[0]:
        worker = run.worker(variant)  # a product, so that its library is loaded
        worker.ask("make", name="product", task={"kind": "product", "side": 64})
        worker.ask("time", name="product", seconds=0)
        found["blas"][variant.library] = worker.call("machine:blas")
    return found


def blas(device: Cpu) -> dict[str, Any]:
    from threadpoolctl import threadpool_info

    if torch := sys.modules.get("torch"):  # its BLAS is linked in, out of threadpoolctl's sight
        return {
            "torch_cpu_capability": torch.backends.cpu.get_cpu_capability(),
            "torch_mkl": torch.backends.mkl.is_available(),
            "torch_onednn": torch.backends.mkldnn.is_available(),
        }
    keys = ("internal_api", "version", "architecture", "num_threads")
    return {"libraries": [{k: b[k] for k in keys if k in b} for b in threadpool_info()]}


def gpu(device: Cpu) -> dict[str, Any]:
    """Return what CUDA says of the GPU; in the rehearsal its name is the processor's."""
    if device.name != "gpu":
        return {"gpu": machine_facts()["processor"]}
    runtime = device.xp.cuda.runtime
    has = runtime.getDeviceProperties(0)
    name, numbers = has["name"], {k: v for k, v in has.items() if isinstance(v, int)}
    return {
        "gpu": name.decode() if isinstance(name, bytes) else str(name),
        "properties": numbers,
        "cuda": [runtime.runtimeGetVersion(), runtime.driverGetVersion()],
    }


def nvidia_smi(key: str = "nvidia_smi") -> dict[str, Any]:
    command = ["nvidia-smi", f"--query-gpu={SMI}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    names, cells = SMI.split(","), done.stdout.partition("\n")[0].split(", ")
    return {key: dict(zip(names, cells, strict=True))} if len(cells) == len(names) else {}


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
