"""What a run was made on: the GPU, its driver and clocks, and the libraries."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from typing import Any

from tinynet.doctor.machine import processor_name

from benchmarks.gpu.device import Cpu
from benchmarks.machine import versions

PACKAGES = ("tinynet-dl", "cupy-cuda13x", "cupy-cuda12x", "numpy", "ml-dtypes", "torch", "triton")
ASKED = (
    *("name", "driver_version", "memory.total", "power.limit", "compute_mode"),
    *("clocks.sm", "clocks.max.sm", "clocks.mem", "clocks.max.mem", "temperature.gpu"),
)


def facts(device: Cpu) -> dict[str, Any]:
    """Of this process, and of the device."""
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "system": platform.system(),
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "versions": versions(PACKAGES),
        "device": device.name,
        "gpu": processor_name() if device.name == "cpu" else None,
    }
    if device.name == "gpu":
        runtime = device.xp.cuda.runtime
        properties = runtime.getDeviceProperties(0)
        name = properties["name"]
        found |= {
            "gpu": name.decode() if isinstance(name, bytes) else str(name),
            "memory_bytes": int(properties.get("totalGlobalMem", 0)),
            "multiprocessors": int(properties.get("multiProcessorCount", 0)),
            "l2_bytes": int(properties.get("l2CacheSize", 0)),
            "cuda_runtime": int(runtime.runtimeGetVersion()),
            "cuda_driver": int(runtime.driverGetVersion()),
        }
    if found["versions"]["torch"] is not None:
        import torch

        found["torch_cuda"] = torch.version.cuda
        found["cudnn"] = torch.backends.cudnn.version() if device.name == "gpu" else None
    return found


def nvidia_smi() -> dict[str, str]:
    """What nvidia-smi says of the first GPU; {} where it says nothing."""
    if shutil.which("nvidia-smi") is None:
        return {}
    query = ["nvidia-smi", f"--query-gpu={','.join(ASKED)}", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return answers(done.stdout) if done.returncode == 0 else {}


def answers(text: str) -> dict[str, str]:
    """What was asked -> the answer, from one line of commas."""
    line = next(iter(text.splitlines()), "")
    cells = [cell.strip() for cell in line.split(",")]
    return dict(zip(ASKED, cells, strict=True)) if len(cells) == len(ASKED) else {}


def describe(machine: dict[str, Any]) -> str:
    """One line."""
    versions = [f"{k} {v}" for k, v in machine["versions"].items() if v]
    smi = machine.get("nvidia_smi", {})
    driver = [f"driver {smi['driver_version']}"] if "driver_version" in smi else []
    known = ", ".join([*driver, f"python {machine['python']}", *versions])
    return f"{machine['gpu']}; {known}"
