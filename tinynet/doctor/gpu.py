"""What CuPy says of the GPU. No GPU is no fault: tinynet then computes on the processor."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Gpu:
    """cupy     its version; None if it is missing or does not import
    driver   the CUDA version that the driver supports, "13.0"
    devices  (name, bytes of memory, bytes free) of each
    note     why there are no devices, in one line; "" if there are
    """

    cupy: str | None = None
    driver: str | None = None
    devices: tuple[tuple[str, int, int], ...] = ()
    note: str = ""


def read_gpu(load: Callable[[str], Any] = importlib.import_module) -> Gpu:
    """Import CuPy, and ask it; whatever fails is put in words."""
    try:
        cupy = load("cupy")
    except ImportError as error:
        if getattr(error, "name", None) == "cupy":
            return Gpu(note="no CuPy: with an NVIDIA GPU, pip install cupy-cuda13x or cupy-cuda12x")
        return Gpu(note=f"CuPy does not import: {first_line(error)}")
    except Exception as error:  # CuPy's own checks raise what they like
        return Gpu(note=f"CuPy does not import: {first_line(error)}")
    number = str(cupy.__version__)
    runtime = cupy.cuda.runtime
    try:
        code = int(runtime.driverGetVersion())
        driver = f"{code // 1000}.{code % 1000 // 10}"
        count = runtime.getDeviceCount()
    except Exception as error:
        return Gpu(number, note=f"CuPy {number} finds no device: {first_line(error)}")
    if not count:
        return Gpu(number, driver, note=f"CuPy {number} finds no device")
    try:
        return Gpu(number, driver, tuple(device(cupy, n) for n in range(count)))
    except Exception as error:
        return Gpu(number, driver, note=f"the device does not answer: {first_line(error)}")


def device(cupy: Any, number: int) -> tuple[str, int, int]:
    """(name, bytes of memory, bytes free)."""
    name = cupy.cuda.runtime.getDeviceProperties(number)["name"]
    with cupy.cuda.Device(number):
        free, total = cupy.cuda.runtime.memGetInfo()
    return name.decode() if isinstance(name, bytes) else str(name), int(total), int(free)


def first_line(error: BaseException) -> str:
    """The first line that says something; CuPy's messages begin with a frame of signs."""
    lines = (line.strip(" =") for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__)
