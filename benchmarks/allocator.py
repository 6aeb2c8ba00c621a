"""Two settings of glibc's malloc that make large arrays cheap to allocate again and again.

Above a threshold (32 MB at most, by default) malloc asks the system for each array and gives it
back when it is freed; the system clears the pages anew, which takes a page fault for each 4 KB.
With both thresholds raised, freed memory stays with the process, as with the environment variables
MALLOC_MMAP_THRESHOLD_ and MALLOC_TRIM_THRESHOLD_.  Source: mallopt(3).
"""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
MOST = 2**31 - 1  # bytes; mallopt takes an int


def have_mallopt() -> bool:
    """Return whether this process runs on glibc."""
    try:
        libc = ctypes.CDLL(None)
    except (OSError, TypeError):  # Windows
        return False
    return hasattr(libc, "mallopt") and hasattr(libc, "gnu_get_libc_version")


def keep_freed_memory() -> None:
    """Raise both thresholds of this process; RuntimeError if malloc refuses."""
    mallopt = ctypes.CDLL(None).mallopt
    if not (mallopt(M_MMAP_THRESHOLD, MOST) and mallopt(M_TRIM_THRESHOLD, MOST)):
        raise RuntimeError("mallopt refused a threshold of 2 GB: want glibc 2.34 or newer")
