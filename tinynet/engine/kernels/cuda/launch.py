"""What all launchers share: how many threads, and arrays as a kernel takes them."""

from __future__ import annotations

from tinynet.backend import Array, load_library

THREADS = 256  # in a block
MOST_BLOCKS = 1 << 16  # from there on a thread takes several numbers


def blocks(size: int) -> int:
    """Blocks of THREADS threads for so many numbers."""
    return min(MOST_BLOCKS, -(-size // THREADS))


def plain(x: Array) -> Array:
    """x in C order without gaps: a kernel is told where it begins and no more."""
    return load_library("cupy").ascontiguousarray(x)


def aligned(x: Array) -> Array:
    """``plain(x)``, at an address that is a multiple of 16: kernels read 16 bytes at once."""
    x = plain(x)
    return x.copy() if x.data.ptr % 16 else x  # type: ignore[attr-defined]
