"""The libraries that are timed, each in the settings in which it may be fastest."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
MOST = 2**31 - 1  # bytes; mallopt takes an int


@dataclass(frozen=True)
class Variant:
    """One library in one setting, timed in a process by itself."""

    name: str
    library: str  # "tinynet", "torch", "numpy" (floors), or "both" (operations on a GPU)
    kernels: str = ""  # tinynet's: the value of TINYNET_KERNELS
    channels_last: bool = False  # torch's order of an image's axes in memory
    compiled: str = ""  # the mode of torch.compile
    graph: bool = False  # the step is captured once as a CUDA graph, and replayed
    allocator: bool = False  # malloc keeps freed memory, see keep_freed_memory


# on a CPU
NUMPY = Variant("tinynet NumPy", "tinynet", kernels="numpy")
NUMBA = Variant("tinynet Numba", "tinynet", kernels="numba")
STOCK = (
    Variant("torch contiguous", "torch"),
    Variant("torch channels_last", "torch", channels_last=True),
    Variant("torch.compile", "torch", channels_last=True, compiled="default"),
)
WITH_ALLOCATOR = tuple(
    Variant(f"{v.name} + malloc", "torch", "", v.channels_last, v.compiled, allocator=True)
    for v in STOCK
)
FLOOR = Variant("floor", "numpy")
# with malloc's settings, which only help: an operation by itself is compared without page faults
OPS_TORCH = Variant("torch", "torch", allocator=True)

# on a GPU
CUDA = Variant("tinynet", "tinynet")
OPS = Variant("operations", "both")
EAGER = STOCK[1]
GRAPH = Variant("torch CUDA graph", "torch", channels_last=True, graph=True)

OURS = (NUMPY, NUMBA, CUDA)
STEP_VARIANTS = (*OURS, *STOCK, *WITH_ALLOCATOR, GRAPH)  # in a table's order
NAMES_BEFORE = {"tinynet fast": NUMBA.name}  # in results of earlier versions

PACKAGES = {  # library or set of kernels -> what it needs, and how to get it
    **dict.fromkeys(("torch", "both"), ("torch", "python -m pip install torch==2.13.0")),
    "numba": ("numba", 'python -m pip install ".[fast]"'),
}


def installed(variants: Iterable[Variant]) -> tuple[list[Variant], list[str]]:
    """Return those that can run here, and a line for each package that the others lack."""
    present, missing = [], dict[str, None]()
    for variant in variants:
        package, command = PACKAGES.get(variant.kernels or variant.library, ("", ""))
        if package and not find_spec(package):
            missing[f"{package} is missing: {command}"] = None
        elif variant.library == "torch" and variant.allocator and not have_mallopt():
            missing["no glibc here: PyTorch is timed without malloc's settings"] = None
        else:
            present.append(variant)
    return present, list(missing)


def have_mallopt() -> bool:
    """Return whether this process runs on glibc."""
    try:
        libc = ctypes.CDLL(None)
    except (OSError, TypeError):  # Windows
        return False
    return hasattr(libc, "mallopt") and hasattr(libc, "gnu_get_libc_version")


def keep_freed_memory() -> None:
    """Have malloc keep what is freed, instead of giving large arrays back to the system.

    Above a threshold (32 MB at most, by default) malloc asks the system for each array, which
    clears its pages anew: a page fault for each 4 KB. MALLOC_MMAP_THRESHOLD_ and
    MALLOC_TRIM_THRESHOLD_ do the same.  Source: mallopt(3).
    """
    mallopt = ctypes.CDLL(None).mallopt
    if not (mallopt(M_MMAP_THRESHOLD, MOST) and mallopt(M_TRIM_THRESHOLD, MOST)):
        raise RuntimeError("mallopt refused a threshold of 2 GB: want glibc 2.34 or newer")
