"""``python -m tinynet doctor``: facts about this machine, measured rates, and advice.

Facts come from psutil, py-cpuinfo, threadpoolctl, NumPy and CuPy; rates from a trial of about two
seconds in this process. Only NumPy is needed: where another library is missing, the report says
which facts are unknown and how to install it. Neither the environment nor a running program is
changed; each piece of advice is one step for the reader to take.
"""

from __future__ import annotations

import ctypes
import importlib
import math
import os
import platform
import re
import sys
import textwrap
import time
import timeit
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from tinynet._version import __version__
from tinynet.backend import KERNEL_SETS, kernels_in_use
from tinynet.engine.precision import PRECISIONS
from tinynet.engine.threads import thread_count, threads_asked

PIP = "python -m pip install"
CGROUP = Path("/sys/fs/cgroup")  # where Linux keeps a container's limits
CUPY = ("cupy-cuda13x", "cupy-cuda12x", "cupy")  # packages of CuPy; "cupy" is built by its user
TENSOR_CORES = (8, 0)  # compute capability from which they take TF32 and bfloat16: Ampere
REPEATS = 20  # of each measurement; the best counts
LITTLE_MEMORY = 1.5e9  # bytes; a training step on 100 images of 128 × 128 takes as much

# Optional packages, and the extra of setup.cfg that installs each.
PACKAGES = {
    **{"numba": "fast", "cupy-cuda13x": "gpu", "ml-dtypes": "gpu"},
    **dict.fromkeys(("pillow", "matplotlib", "jinja2"), "example"),
    **{"h5py": "weights", "onnx": "onnx", "psutil": "doctor", "py-cpuinfo": "doctor"},
}

# Modules that facts come from, and what the report lacks without them.
NEEDED = {
    "psutil": "memory, physical cores and load",
    "cpuinfo": "the processor's name",
    "threadpoolctl": "BLAS's kernels and rates by threads",
}

# Environment variables that slow a run: the harmless value, and what another value does.
SLOWING = {
    "OPENBLAS_CORETYPE": ("", "keeps OpenBLAS from choosing its kernels"),
    "OPENBLAS_L2_SIZE": ("", "sizes OpenBLAS's blocks for another cache"),
    "NPY_DISABLE_CPU_FEATURES": ("", "turns off vector instructions in NumPy"),
    "NUMPY_MADVISE_HUGEPAGE": ("1", "makes first writes to large arrays slow"),
    "NUMBA_DISABLE_JIT": ("0", "turns off Numba's compiler"),
    "TINYNET_WINOGRAD": ("1", "turns off Winograd's convolution"),
    "CUDA_LAUNCH_BLOCKING": ("0", "makes the CPU wait for every GPU kernel"),
    "CUPY_CACHE_IN_MEMORY": ("0", "compiles every GPU kernel anew in each run"),
}
THREADS = tuple(f"{name}_NUM_THREADS" for name in ("OMP", "OPENBLAS", "MKL", "BLIS"))
SHOWN = ("TINYNET_KERNELS", "CUDA_VISIBLE_DEVICES", *THREADS, *SLOWING)


@dataclass(frozen=True)
class Advice:
    """What was found, and the one step that mends it."""

    found: str
    step: str


Finding = tuple[str, str] | Advice  # a fact is its label and its text


def run() -> None:
    """Print facts as they are read, then measured rates, then advice."""
    advice = []
    for part in (versions, processor, memory, blas, kernels, packages, environment, gpus, rates):
        for finding in part():
            if isinstance(finding, Advice):
                advice.append(finding)
            else:
                _print(finding[1], finding[0].ljust(12))
    print("\nAdvice" if advice else "\nNothing was found that slows this machine down.")
    for piece in advice:
        _print(piece.found, "- ")
        _print(piece.step, "  -> ")


def _print(text: str, first: str) -> None:
    """Print ``first`` and the text, broken at 79 characters and indented by the length of both."""
    lines = textwrap.wrap(text, 79 - len(first), break_long_words=False, break_on_hyphens=False)
    whole = first + ("\n" + " " * len(first)).join(lines)
    encoding = sys.stdout.encoding or "ascii"  # which may lack letters of a device's name
    print(whole.encode(encoding, "replace").decode(encoding), flush=True)


def machine_facts() -> dict[str, str]:
    """Return facts to keep with measurements: processor, cores, memory, versions, BLAS, kernels.

    CuPy is not asked. What cannot be read is "unknown".
    """
    parts = (versions, processor, memory, blas, kernels)
    return dict(fact for part in parts for fact in part() if not isinstance(fact, Advice))


# ---- facts, and the advice that follows from each


def versions() -> Iterator[Finding]:
    yield "tinynet", __version__
    yield "python", platform.python_version()
    yield "numpy", np.__version__
    yield "system", f"{platform.system()} {platform.release()}, {platform.machine()}"


def processor() -> Iterator[Finding]:
    cpuinfo, psutil = _optional("cpuinfo"), _optional("psutil")
    name = None
    if cpuinfo:
        with suppress(Exception):  # which it raises for a processor that it does not support
            name = cpuinfo.get_cpu_info().get("brand_raw")
    yield "processor", name or platform.processor() or "unknown"
    usable, quota = _usable(), _quota()
    words = [f"{os.cpu_count()} logical"]
    physical = psutil and psutil.cpu_count(logical=False)  # None also where psutil cannot tell
    words += [f"{physical} physical"] if physical else []
    words += [f"{usable} for this process"] if usable != os.cpu_count() else []
    words += [f"container's limit {quota:.3g}"] if quota else []
    words += [f"load {psutil.getloadavg()[0]:.1f}"] if psutil else []
    yield "cores", ", ".join(words)
    if quota and _parallel() < thread_count() <= usable:
        found = f"the container's limit is {quota:.3g} cores, and tinynet uses {thread_count()}"
        yield Advice(found, f"export OMP_NUM_THREADS={_parallel()}, or raise the limit")


def memory() -> Iterator[Finding]:
    total, free = _memory()
    yield "memory", f"{_gb(total)}, {_gb(free)} free" if total else "unknown"
    if total and free < LITTLE_MEMORY:
        yield Advice(f"{_gb(free)} of memory are free", "close programs, or use smaller batches")


def blas() -> Iterator[Finding]:
    config: Any = np.show_config(mode="dicts")
    name = str(config.get("Build Dependencies", {}).get("blas", {}).get("name", "unknown"))
    words = [
        f"{info['internal_api']} {info['version']}, "
        f"{info.get('architecture', 'unknown')} kernels, {_threads(info['num_threads'])}"
        for info in _loaded_blas()
    ]
    yield "blas", "; ".join(words) or name
    if not words and not re.search("openblas|mkl|accelerate|blis|armpl|nvpl|unknown", name.lower()):
        found = f"NumPy multiplies matrices with {name}, not with a tuned BLAS"
        yield Advice(found, f"{PIP} --force-reinstall --only-binary=:all: numpy")


def kernels() -> Iterator[Finding]:
    try:
        chosen = kernels_in_use()
    except ValueError as error:
        chosen = "none"
        yield Advice(str(error), "unset TINYNET_KERNELS")
    if chosen in KERNEL_SETS[2:]:
        try:
            importlib.import_module("numba")
        except Exception as error:  # not only ImportError, where NumPy is too new for it
            missing = _is_missing(error, "numba")
            chosen = "numpy" if missing else "none"
            fault = "is not installed" if missing else f"does not import: {_first_line(error)}"
            step = f'{PIP} --upgrade "tinynet-dl[fast]"'
            yield Advice(f"Numba, which compiles faster kernels, {fault}", step)
    elif chosen in KERNEL_SETS:
        found = f"TINYNET_KERNELS={chosen} passes over faster kernels"
        yield Advice(found, "unset TINYNET_KERNELS, unless it is meant")
    yield "kernels", f"{chosen}, {_threads(thread_count())}"


def packages() -> Iterator[Finding]:
    here = {name: _installed(name) for name in PACKAGES}
    installed = [f"{name}=={number}" for name, number in here.items() if number]
    missing = [f"{name} [{extra}]" for name, extra in PACKAGES.items() if not here[name]]
    yield "installed", ", ".join(installed) or "no optional package"
    yield "missing", ", ".join(missing) or "no optional package"
    for module, lacks in NEEDED.items():
        if not _optional(module):
            found = f"{module} is not installed, so this report lacks {lacks}"
            yield Advice(found, f'{PIP} "tinynet-dl[doctor]"')


def environment() -> Iterator[Finding]:
    exported = {name: os.environ[name] for name in SHOWN if os.environ.get(name)}
    words = ", ".join(f"{name}={value}" for name, value in exported.items())
    yield "exported", words or "no variable that bears on speed"
    for name, (harmless, effect) in SLOWING.items():
        if exported.get(name, harmless) != harmless:
            unless = ", unless products crash without it" if name == "OPENBLAS_CORETYPE" else ""
            yield Advice(f"{name}={exported[name]} {effect}", f"unset {name}{unless}")
    cores = _parallel()
    loaded = [f"{info['internal_api'].upper()}_NUM_THREADS" for info in _loaded_blas()]
    for name in dict.fromkeys(("OMP_NUM_THREADS", *loaded)):
        threads = threads_asked(exported.get(name, "")) or cores
        if 0 < threads < cores:
            found = f"{name}={threads} leaves {cores - threads} of {cores} cores unused"
            yield Advice(found, f"unset {name}, unless other programs use them")
        elif threads > cores:
            found = f"{name}={threads} on {cores} cores: threads wait for each other"
            yield Advice(found, f"unset {name}")


def _optional(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        return None


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _is_missing(error: Exception, module: str) -> bool:
    return isinstance(error, ImportError) and error.name == module


def _first_line(error: Exception) -> str:
    """The first line with words in it; CuPy frames its messages with rows of signs."""
    lines = (line.strip(" =") for line in str(error).splitlines())
    return next(filter(None, lines), type(error).__name__)


def _loaded_blas() -> list[dict[str, Any]]:
    control = _optional("threadpoolctl")
    infos = control.threadpool_info() if control else []
    return [info for info in infos if info["user_api"] == "blas"]


def _usable() -> int:
    """Cores that this process may run on."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _quota() -> float | None:
    """Cores' worth of time that a container's limit allows, by version 2 or 1 of cgroups."""
    v1 = [*_words("cpu/cpu.cfs_quota_us"), *_words("cpu/cpu.cfs_period_us")]
    words = _words("cpu.max") or v1
    # without a limit the first word is "max" or -1
    return int(words[0]) / int(words[1]) if len(words) == 2 and words[0].isdigit() else None


def _memory() -> tuple[int, int]:
    """Bytes in all and free, within a container's limit; without psutil none, and a guess."""
    limit = _words("memory.max") or _words("memory/memory.limit_in_bytes")
    most = int(limit[0]) if limit and limit[0].isdigit() else sys.maxsize
    if psutil := _optional("psutil"):
        size = psutil.virtual_memory()
        return min(size.total, most), min(size.available, most)
    return 0, min(1 << 30, most)


def _words(file: str) -> list[str]:
    try:
        return (CGROUP / file).read_text().split()
    except OSError:
        return []


def _parallel() -> int:
    """Threads that can run at once."""
    return math.ceil(min(_usable(), _quota() or math.inf))


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def _gb(size: float) -> str:
    return f"{size / 1e9:.1f} GB"


# ---- measured rates


def rates() -> Iterator[Finding]:
    psutil = _optional("psutil")
    load = psutil.getloadavg()[0] if psutil else 0.0
    counts = sorted({1, min(2, _parallel()), _parallel()})
    side = 512
    while side < 2048 and _product_time(side, 1) < 0.01:  # too short for threads to share
        side *= 2
    blas_counts = counts if _loaded_blas() else [0]
    products = {n: 2e-9 * side**3 / _product_time(side, n) for n in blas_counts}
    size = min(1 << 28, _memory()[1] // 8)  # bytes: more than most caches hold
    copies = {n: 2e-9 * size / _copy_time(size, n) for n in counts}
    yield "product", f"GFLOP/s: {_by_threads(products)} (float32, {side} x {side})"
    yield "copy", f"GB/s: {_by_threads(copies)} (read and written)"
    gain = products[2] / products[1] if 2 in products else 2.0
    if gain < 1.5:
        found = f"two threads multiply {gain:.1f} times as fast as one"
        physical = psutil and psutil.cpu_count(logical=False)
        if load > 0.5:
            yield Advice(f"{found}, at a load of {load:.1f}", "stop other programs")
        elif physical and physical < _usable():
            found += f": {_usable()} hyperthreads share {physical} cores"
            yield Advice(found, f"export OMP_NUM_THREADS={physical}, and compare")
        else:
            yield Advice(found, "plug a laptop in, or rent a virtual machine with whole cores")


def _product_time(side: int, threads: int) -> float:
    """Seconds of a float32 product of two matrices; 0 threads: as many as BLAS takes."""
    control = _optional("threadpoolctl")
    x = np.ones((side, side), np.float32)
    out = np.empty_like(x)
    with control.threadpool_limits(threads, "blas") if control and threads else nullcontext():
        return min(timeit.repeat(lambda: np.matmul(x, x, out=out), number=1, repeat=REPEATS))


def _copy_time(size: int, threads: int) -> float:
    source, target = np.ones(size, np.uint8), np.ones(size, np.uint8)
    pieces = np.array_split(target, threads), np.array_split(source, threads)
    with ThreadPoolExecutor(threads) as pool:
        times = timeit.repeat(lambda: list(pool.map(np.copyto, *pieces)), number=1, repeat=REPEATS)
    return min(times)


def _by_threads(found: dict[int, float]) -> str:
    return ", ".join(f"{r:.3g}{f' on {_threads(n)}' if n else ''}" for n, r in found.items())


# ---- GPU


@dataclass(frozen=True)
class Device:
    """A GPU: its name, bytes of memory in all and free, compute capability such as (9, 0)."""

    name: str
    memory: int
    free: int
    capability: tuple[int, int]


@dataclass
class Gpu:
    """What CuPy reports about the GPUs of this machine.

    cupy        its version; None if it is missing or does not import
    driver      the CUDA version that the driver supports, such as "13.0"
    devices     those that CuPy finds
    compiles    whether CuPy could compile a small kernel
    precisions  of tinynet.engine.precision.PRECISIONS, those of the first device
    note        why there are no devices, in one line; "" if there are some
    faults      what is wrong and what to do about it, the worst first
    """

    cupy: str | None = None
    driver: str | None = None
    devices: tuple[Device, ...] = ()
    compiles: bool = False
    precisions: tuple[str, ...] = ()
    note: str = ""
    faults: tuple[Advice, ...] = ()


def gpus() -> Iterator[Finding]:
    found = read_gpu()
    yield from found.faults
    if not found.devices:
        yield "gpu", found.note
        return
    for gpu in found.devices:
        capability = ".".join(map(str, gpu.capability))
        memory = f"{_gb(gpu.memory)}, {_gb(gpu.free)} free"
        yield "gpu", f"{gpu.name}, {memory}, compute capability {capability}"
    compiles = "compiles" if found.compiles else "does not compile"
    yield "cuda", f"driver for CUDA {found.driver}; CuPy {found.cupy} {compiles} kernels"
    yield "precisions", ", ".join(found.precisions)


def read_gpu(at_most: int | None = None) -> Gpu:
    """Ask CuPy about the GPUs, and have it compile a kernel; what fails becomes a note or a fault.

    at_most   devices to look at, each of which gives up some of its memory to this process; None
              for all
    """
    try:
        cupy = importlib.import_module("cupy")
    except Exception as error:  # CuPy's own checks raise more than ImportError
        return _without_cupy(error)
    gpu, cuda, problem = Gpu(str(cupy.__version__)), 0, ""
    try:
        cuda = cupy.cuda.runtime.driverGetVersion()  # 12080 for 12.8
        for number in range(cupy.cuda.runtime.getDeviceCount())[:at_most]:
            gpu.devices += (_device(cupy, number),)
        if gpu.devices:
            # a new text each time, since CuPy would find an old one in its cache on disk
            text = f"#include <cuda_fp16.h>\n// {time.time_ns()}\n"
            cupy.RawKernel(text + 'extern "C" __global__ void trial(half* x) {}', "trial").compile()
            gpu.compiles = True
    except Exception as error:
        problem = _first_line(error)
    gpu.driver = _in_digits(cuda) if cuda else None
    if problem and cuda and (gpu.devices or "InsufficientDriver" in problem):
        found = f"CuPy {gpu.cupy} fails with a driver for CUDA {gpu.driver}: {problem}"
        gpu.faults += (Advice(found, _install_cupy(cuda)),)
    if not gpu.devices:
        reason = problem if cuda else "there is no NVIDIA driver"
        gpu.note = f"CuPy {gpu.cupy} finds no device{f': {reason}' if reason else ''}"
    elif gpu.devices[0].capability < TENSOR_CORES:
        gpu.precisions = PRECISIONS[:1]
    elif _installed("ml-dtypes"):
        gpu.precisions = PRECISIONS
    else:
        gpu.precisions = PRECISIONS[:2]
        advice = Advice("bf16 needs ml-dtypes, which is not installed", f"{PIP} ml-dtypes")
        gpu.faults += (advice,)
    return gpu


def _device(cupy: Any, number: int) -> Device:
    has = cupy.cuda.runtime.getDeviceProperties(number)
    with cupy.cuda.Device(number):
        free, total = cupy.cuda.runtime.memGetInfo()
    name = has["name"].decode() if isinstance(has["name"], bytes) else has["name"]
    return Device(name, total, free, (has["major"], has["minor"]))


def _without_cupy(error: Exception) -> Gpu:
    missing = _is_missing(error, "cupy")
    note = "CuPy is not installed" if missing else f"CuPy does not import: {_first_line(error)}"
    if cuda := _driver_of_a_gpu():
        found = f"{note}, and there is a GPU with a driver for CUDA {_in_digits(cuda)}"
        return Gpu(driver=_in_digits(cuda), note=note, faults=(Advice(found, _install_cupy(cuda)),))
    hint = f": with an NVIDIA GPU, pip install {CUPY[0]} or {CUPY[1]}" if missing else ""
    return Gpu(note=note + hint)


def _install_cupy(cuda: int) -> str:
    """The step that installs CuPy for a driver, which runs programs for its CUDA and older ones.

    Source: NVIDIA, "CUDA Compatibility". The extra ctk has the compiler, headers and cuBLAS.
    """
    if cuda < 12000:
        return "install a newer NVIDIA driver, for CUDA 12 at least"
    here = " ".join(name for name in CUPY if _installed(name))
    remove = f"python -m pip uninstall {here}; " if here else ""
    return f'{remove}{PIP} "{CUPY[0] if cuda >= 13000 else CUPY[1]}[ctk]"'


def _in_digits(cuda: int) -> str:
    return f"{cuda // 1000}.{cuda % 1000 // 10}"


def _driver_of_a_gpu() -> int | None:
    """The CUDA version of the driver, asked without CuPy; None without a driver or a GPU."""
    count, cuda = ctypes.c_int(), ctypes.c_int()
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        failed = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
        failed = failed or driver.cuDriverGetVersion(ctypes.byref(cuda))
    except (OSError, AttributeError):
        return None
    return None if failed or not count.value else cuda.value
