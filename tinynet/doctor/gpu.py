"""What CuPy says of the GPU, and what stands between the two.

No GPU is no fault: tinynet then computes on the processor.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from tinynet.doctor.gpu_packages import (
    WHEELS,
    Driver,
    Fault,
    compiler_fault,
    driver_of_a_gpu,
    duplicate_fault,
    fitting,
    misfit,
    spelt,
    wheels,
)
from tinynet.doctor.packages import installed

TENSOR_CORES = (8, 0)  # compute capability from which they take TF32 and bfloat16: Ampere
TRIAL = """#include <cuda_fp16.h>
extern "C" __global__ void trial(half* x) { x[0] = __float2half(1.0f); }
"""


@dataclass(frozen=True)
class Device:
    """A GPU: its name, bytes of memory and of those free, compute capability (9, 0)."""

    name: str
    memory: int
    free: int
    capability: tuple[int, int]


@dataclass(frozen=True)
class Gpu:
    """cupy        its version; None if it is missing or does not import
    package     the package that it came in, "cupy-cuda13x"; None if that is not known
    driver      the CUDA version that the driver supports, "13.0"
    devices     those that CuPy finds
    compiles    whether a trial kernel was compiled; None if none was tried
    precisions  that the first device can compute in, of tinynet.engine.precision.PRECISIONS
    note        why there are no devices, in one line; "" if there are
    faults      what is amiss and what to do about it, the gravest first
    """

    cupy: str | None = None
    package: str | None = None
    driver: str | None = None
    devices: tuple[Device, ...] = ()
    compiles: bool | None = None
    precisions: tuple[str, ...] = ()
    note: str = ""
    faults: tuple[Fault, ...] = ()


def read_gpu(
    load: Callable[[str], Any] = importlib.import_module,
    version: Callable[[str], str | None] = installed,
    driver_here: Callable[[], Driver | None] = driver_of_a_gpu,
    at_most: int | None = None,
) -> Gpu:
    """Import CuPy, ask it, and have it compile a kernel; whatever fails is put in words.

    load, version   import a module; the version of an installed package
    driver_here     the driver's CUDA version, asked where CuPy is missing; None without a GPU
    at_most         look at so many devices: each that is looked at gives up some of its memory to
                    this process; None: at all
    """
    try:
        cupy = load("cupy")
    except Exception as error:  # CuPy's own checks raise what they like
        missing = isinstance(error, ImportError) and getattr(error, "name", None) == "cupy"
        return without_cupy(None if missing else error, driver_here())
    number, packages = str(cupy.__version__), wheels(version)
    gpu = Gpu(number, packages[0] if len(packages) == 1 else None)
    nothing = f"CuPy {number} finds no device"
    driver = None
    try:
        driver = Driver(cupy.cuda.runtime.driverGetVersion())
        gpu = replace(gpu, driver=spelt(driver))
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:
        if driver == 0:
            return replace(gpu, driver=None, note=f"{nothing}: there is no NVIDIA driver")
        if driver is not None and (fault := misfit(packages, driver)):
            note = f"{nothing}: {fault.found}"
            return replace(gpu, note=note, faults=(fault,))
        return replace(gpu, note=f"{nothing}: {first_line(error)}")
    if not count:
        return replace(gpu, note=nothing)
    try:
        devices = tuple(device(cupy, n) for n in range(count)[:at_most])
    except Exception as error:
        note = f"the device does not answer: {first_line(error)}"
        return replace(gpu, note=note)
    problem = trial_problem(cupy)
    faults = [duplicate_fault(packages, driver)]
    if problem is not None:
        faults.append(misfit(packages, driver) or compiler_fault(problem, packages, driver))
    precisions, fault = possible(devices[0], version("ml-dtypes"))
    return replace(
        gpu,
        devices=devices,
        compiles=problem is None,
        precisions=precisions,
        faults=tuple(fault for fault in [*faults, fault] if fault),
    )


def without_cupy(error: Exception | None, driver: Driver | None) -> Gpu:
    """CuPy is missing, or its import ended with ``error``; a fault where a GPU is here."""
    found = "no CuPy" if error is None else f"CuPy does not import: {first_line(error)}"
    if driver is None:
        wanted = "" if error else f": with an NVIDIA GPU, pip install {' or '.join(WHEELS)}"
        return Gpu(note=found + wanted)
    again = "--force-reinstall " if error else ""
    step = f"python -m pip install {again}{fitting(driver)}"
    fault = Fault(f"{found}, and here is a GPU with a driver for CUDA {spelt(driver)}", step)
    return Gpu(driver=spelt(driver), note=found if error else f"no CuPy: {step}", faults=(fault,))


def device(cupy: Any, number: int) -> Device:
    """What is to be known of a device."""
    has = cupy.cuda.runtime.getDeviceProperties(number)
    with cupy.cuda.Device(number):
        free, total = cupy.cuda.runtime.memGetInfo()
    name = has["name"].decode() if isinstance(has["name"], bytes) else str(has["name"])
    return Device(name, int(total), int(free), (int(has["major"]), int(has["minor"])))


def trial_problem(cupy: Any) -> Exception | None:
    """What compiling a tiny kernel that includes a header of CUDA's ends with; None if it works.

    Nothing is taken from the disk or left there: a kernel kept from better days proves nothing.
    """
    name = "CUPY_CACHE_IN_MEMORY"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        cupy.RawKernel(TRIAL, "trial").compile()
    except Exception as error:
        return error
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
    return None


def possible(device: Device, ml_dtypes: str | None) -> tuple[tuple[str, ...], Fault | None]:
    """The precisions of a device, and what keeps one from it that could have more."""
    if device.capability < TENSOR_CORES:
        return ("fp32",), None
    if ml_dtypes is None:
        fault = Fault(
            "ml_dtypes is missing, without which there is no bf16",
            "python -m pip install ml-dtypes",
        )
        return ("fp32", "tf32"), fault
    return ("fp32", "tf32", "bf16"), None


def first_line(error: BaseException) -> str:
    """The first line that says something; CuPy's messages begin with a frame of signs."""
    lines = (line.strip(" =") for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__)
