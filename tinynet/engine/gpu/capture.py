"""Whether a training step is being made into a CUDA graph, which the processor must not wait for.

What a graph holds is run again later, on other numbers: while it is captured there are none. So
within ``with captured_step():`` nothing asks for a number, no label is checked (``graph_step`` has
checked them), and no array is copied from the processor.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_capturing: ContextVar[bool] = ContextVar("capturing", default=False)


def capturing() -> bool:
    """Whether this is a step for a CUDA graph."""
    return _capturing.get()


@contextmanager
def captured_step(captured: bool = True) -> Iterator[None]:
    """Within this block, and this thread, nothing makes the processor wait for the GPU.

    captured   False: within this block everything may, for what is done on the processor
    """
    token = _capturing.set(captured)
    try:
        yield
    finally:
        _capturing.reset(token)


def number(x: Any) -> Any:
    """An array of no dimension as a float; while a step is captured, x as it is."""
    return x if capturing() else float(x)
