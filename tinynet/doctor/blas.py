"""Which BLAS NumPy and SciPy multiply matrices with, and for which processor its kernels are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np
import scipy.linalg  # noqa: F401 - loads SciPy's copy of BLAS, so that threadpoolctl sees it
from threadpoolctl import threadpool_info

# Bits in a vector of OpenBLAS's kernels, by the processor that they are named after (x86).
KERNEL_BITS = dict.fromkeys(
    (
        *("katmai", "coppermine", "northwood", "prescott", "banias", "core2", "penryn"),
        *("dunnington", "nehalem", "atom", "nano"),
        *("athlon", "opteron", "opteron_sse3", "barcelona", "bobcat"),
    ),
    128,
)
KERNEL_BITS |= dict.fromkeys(
    ("sandybridge", "bulldozer", "piledriver", "steamroller", "excavator", "haswell", "zen"), 256
)
KERNEL_BITS |= dict.fromkeys(("skylakex", "cooperlake", "sapphirerapids"), 512)

# Names of NumPy's build configuration that stand for a library tuned to the processor.
TUNED = ("openblas", "mkl", "accelerate", "blis", "flexiblas", "armpl", "nvpl", "essl")


@dataclass(frozen=True)
class Blas:
    """One loaded library.

    used_by   "NumPy", "SciPy" or "NumPy and SciPy"
    name      "openblas", "mkl", ..., or the name that NumPy was built with
    kernels   the processor whose kernels run, if the library says so
    threads   how many it uses, if it says so
    """

    used_by: str
    name: str
    version: str | None = None
    kernels: str | None = None
    threads: int | None = None

    @property
    def kernel_bits(self) -> int | None:
        """Width of the kernels' vectors; None for names that are not in the table."""
        return KERNEL_BITS.get((self.kernels or "").lower())

    @property
    def tuned(self) -> bool:
        """Whether it is a library written for speed, not the reference BLAS."""
        return any(word in self.name.lower() for word in TUNED)


def read_blas() -> list[Blas]:
    """The libraries of this process."""
    config: Mapping[str, Any] = np.show_config(mode="dicts")
    built_with = config.get("Build Dependencies", {}).get("blas", {}).get("name")
    return libraries(threadpool_info(), str(built_with or "unknown"))


def libraries(infos: Iterable[Mapping[str, Any]], built_with: str) -> list[Blas]:
    """NumPy's and SciPy's libraries, by the folder that each was loaded from.

    infos       threadpoolctl's, which knows OpenBLAS, MKL, BLIS and FlexiBLAS only
    built_with  the name in NumPy's build configuration, for the rest, Accelerate say
    """
    found: dict[str, Blas] = {}
    for info in infos:
        if info.get("user_api") != "blas":
            continue
        owner = owner_of(str(info.get("filepath", "")))
        name = str(info.get("internal_api", built_with))
        read = (info.get("version"), info.get("architecture"), info.get("num_threads"))
        found.setdefault(owner, Blas(owner, name, *read))
    if "NumPy and SciPy" in found or not found:
        return [found.get("NumPy and SciPy", Blas("NumPy and SciPy", built_with))]
    return [found.get(owner, Blas(owner, built_with)) for owner in ("NumPy", "SciPy")]


def owner_of(file: str) -> str:
    """Whose copy a library is: wheels keep it in numpy.libs, scipy.libs, numpy/.dylibs, ..."""
    owners = {"numpy": "NumPy", "scipy": "SciPy"}
    for folder in reversed(PurePath(file.replace("\\", "/")).parts[:-1]):
        if (package := folder.split(".")[0]) in owners:
            return owners[package]
    return "NumPy and SciPy"


def processor_bits() -> int | None:
    """Width of the widest vectors of this processor (x86), as NumPy found it; else None."""
    config: Mapping[str, Any] = np.show_config(mode="dicts")
    features = config.get("SIMD Extensions", {})
    return vector_bits({*features.get("found", ()), *features.get("baseline", ())})


def vector_bits(features: Iterable[str]) -> int | None:
    """512 for AVX-512, 256 for AVX2, 128 for SSE, by NumPy's names; None for other processors."""
    names = set(features)
    if any(name.startswith("AVX512") for name in names) or "X86_V4" in names:
        return 512
    if names & {"AVX2", "AVX", "X86_V3"}:
        return 256
    return 128 if names & {"SSE", "SSE2", "X86_V2"} else None
