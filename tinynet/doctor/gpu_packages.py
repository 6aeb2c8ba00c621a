"""Which packages of pip's a GPU needs: CuPy's wheel for the driver, NVIDIA's compiler and headers.

A driver runs programs made for its own CUDA or an older one: cupy-cuda12x works with a driver for
CUDA 13, cupy-cuda13x does not with one for 12.  Source: NVIDIA, "CUDA Compatibility"; CuPy 14,
"Installation".
"""

from __future__ import annotations

import ctypes
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import NewType

Driver = NewType("Driver", int)  # the CUDA version that a driver supports: 12080 is 12.8

WHEELS = ("cupy-cuda13x", "cupy-cuda12x")
OTHERS = ("cupy", "cupy-cuda11x")  # built by the user; too old for tinynet
OLDEST = 12000


@dataclass(frozen=True)
class Fault:
    """What is, and what to do about it."""

    found: str
    step: str


def driver_of_a_gpu() -> Driver | None:
    """The CUDA version that the driver supports, asked of the driver; None without a GPU."""
    try:
        if sys.platform == "win32":
            library = ctypes.WinDLL("nvcuda.dll")
        else:
            library = ctypes.CDLL("libcuda.so.1")
        count, version = ctypes.c_int(0), ctypes.c_int(0)
        answers = [
            library.cuInit(0),
            library.cuDeviceGetCount(ctypes.byref(count)),
            library.cuDriverGetVersion(ctypes.byref(version)),
        ]
    except (OSError, AttributeError):
        return None
    return None if any(answers) or not count.value else Driver(version.value)


def spelt(driver: Driver | None) -> str | None:
    """12080 as "12.8"."""
    return None if driver is None else f"{driver // 1000}.{driver % 1000 // 10}"


def fitting(driver: Driver) -> str:
    """CuPy's wheel for a driver: the newest that it runs."""
    return next((wheel for wheel in WHEELS if made_for(wheel) * 1000 <= driver), WHEELS[-1])


def made_for(wheel: str) -> int:
    """The CUDA version of a wheel by its name: 13; 0 for one that the user built."""
    found = re.fullmatch(r"cupy-cuda(\d+)x", wheel)
    return int(found[1]) if found else 0


def wheels(version: Callable[[str], str | None]) -> list[str]:
    """The packages of CuPy that are installed: one of them, if all is well."""
    return [name for name in (*WHEELS, *OTHERS) if version(name)]


def duplicate_fault(packages: list[str], driver: Driver) -> Fault | None:
    """Several packages that hold the module ``cupy``."""
    if len(packages) < 2:
        return None
    step = f"python -m pip uninstall {' '.join(packages)}; python -m pip install {fitting(driver)}"
    return Fault(f"{' and '.join(packages)} are both installed", step)


def misfit(packages: list[str], driver: Driver) -> Fault | None:
    """A wheel for a newer CUDA than the driver's; None if it fits, or is unknown."""
    newest = max(map(made_for, packages), default=0)
    if newest * 1000 <= driver:
        return None
    found = f"{packages[0]} needs a driver for CUDA {newest}, this one is for {spelt(driver)}"
    if driver < OLDEST:
        return Fault(found, f"install a newer NVIDIA driver, for CUDA {OLDEST // 1000} at least")
    step = f"python -m pip uninstall {' '.join(packages)}; python -m pip install {fitting(driver)}"
    return Fault(found, step)


def compiler_fault(problem: Exception, packages: list[str], driver: Driver) -> Fault:
    """What is missing where a trial kernel does not compile, by the error that it ended with."""
    major = max(map(made_for, packages), default=0) or driver // 1000
    text = str(problem)
    tail = "" if major >= 13 else f"-cu{major}"
    if re.search(r"nvrtc\S*\.(so|dll)|nvrtc.*(not found|no such file|load)", text, re.I | re.S):
        found, package = "NVIDIA's compiler (NVRTC) is missing", f"nvidia-cuda-nvrtc{tail}"
    elif re.search(r"cuda_fp16|could not open source file|headers?\b", text, re.I):
        found, package = "CUDA's headers are missing", f"nvidia-cuda-runtime{tail}"
    else:
        line = next((line.strip() for line in text.splitlines() if line.strip()), "")
        found = f"a trial kernel does not compile: {line or type(problem).__name__}"
        package = f'"cupy-cuda{major}x[ctk]"'
    return Fault(found, f"python -m pip install {package}")
