"""What all launchers share: block sizes, arrays as a kernel takes them, and ``capturing``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from tinynet.backend import Array, load_library

THREADS = 256  # in a block
MOST_BLOCKS = 1 << 16  # from there on a thread takes several numbers


def blocks(size: int) -> int:
    """Return the number of blocks of THREADS threads for ``size`` numbers."""
    return min(MOST_BLOCKS, -(-size // THREADS))


def contiguous(x: Array) -> Array:
    """x in C order without gaps: a kernel is told where it begins and no more."""
    return load_library("cupy").ascontiguousarray(x)


def aligned(x: Array) -> Array:
    """``contiguous(x)``, at an address that is a multiple of 16: kernels read 16 bytes at once."""
    x = contiguous(x)
    return x.copy() if x.data.ptr % 16 else x  # type: ignore[attr-defined]


_capturing: ContextVar[bool] = ContextVar("capturing", default=False)


def capturing() -> bool:
    """Return True while a step is captured as a CUDA graph: nothing may wait for the GPU."""
    return _capturing.get()


@contextmanager
def captured_step(captured: bool = True) -> Iterator[None]:
    """Within this block, and this thread, ``capturing()`` is ``captured``.

    A captured step is launched again on other numbers: while it is captured there are none. So
    nothing asks for a number, and no array is copied from the host.
    """
    token = _capturing.set(captured)
    try:
        yield
    finally:
        _capturing.reset(token)
