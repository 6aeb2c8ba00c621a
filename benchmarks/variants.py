"""The libraries that are timed, each in the ways that it can be set up."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

from benchmarks.allocator import have_mallopt


@dataclass(frozen=True)
class Variant:
    """One library in one setting, timed in a process of its own.

    kernels         tinynet's: the value of TINYNET_KERNELS
    channels_last   torch's order of an image's axes in memory
    compiled        torch.compile, with its default settings
    allocator       glibc's malloc keeps freed memory, see ``benchmarks.allocator``
    """

    name: str
    library: str  # "tinynet", "torch", or "numpy", which times the floors
    kernels: str = ""
    channels_last: bool = False
    compiled: bool = False
    allocator: bool = False


NUMPY = Variant("tinynet NumPy", "tinynet", kernels="numpy")
FAST = Variant("tinynet fast", "tinynet", kernels="fast")
OURS = (NUMPY, FAST)

STOCK = (
    Variant("torch contiguous", "torch"),
    Variant("torch channels_last", "torch", channels_last=True),
    Variant("torch.compile", "torch", channels_last=True, compiled=True),
)
WITH_ALLOCATOR = tuple(
    Variant(f"{v.name} + malloc", "torch", "", v.channels_last, v.compiled, allocator=True)
    for v in STOCK
)
STEP_VARIANTS = (*OURS, *STOCK, *WITH_ALLOCATOR)

FLOOR = Variant("floor", "numpy")
# with malloc's settings, which only help: an operation by itself is compared without page faults
OPS_TORCH = Variant("torch", "torch", allocator=True)

PACKAGES = {  # library or set of kernels -> what it needs, and how to get it
    "torch": ("torch", "python -m pip install torch==2.13.0"),
    "fast": ("numba", 'python -m pip install ".[fast]"'),
}


def installed(variants: tuple[Variant, ...]) -> tuple[list[Variant], list[str]]:
    """Those that can run here, and a line for each thing that the others lack."""
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
