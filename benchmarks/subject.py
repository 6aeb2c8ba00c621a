"""What is timed: a call, and how its results are read when they are compared."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import cache
from typing import Any, NamedTuple

from numpy.typing import NDArray


class Subject(NamedTuple):
    """One call of one library.

    call      what the clock runs for
    results   its value as NumPy arrays, in tinynet's order of axes; the clock does not see it
    around    entered once around many calls, such as the memory that a training step keeps
    """

    call: Callable[[], Any]
    results: Callable[[Any], list[NDArray[Any]]]
    around: Callable[[], AbstractContextManager[Any]] = nullcontext


def as_in_a_step() -> AbstractContextManager[Any]:
    """What ``TrainStep`` puts around tinynet's functions: memory is kept, BLAS has one thread.

    The calls that are compared come first, and tell the workspace how much it takes; the calls
    that are timed then find it, as a step does from its second time on.
    """
    from tinynet.engine.threads import one_blas_thread

    stack = ExitStack()
    stack.enter_context(one_blas_thread())
    stack.enter_context(workspace())
    return stack


@cache
def workspace() -> AbstractContextManager[Any]:
    """The memory that this process's calls share."""
    from tinynet.engine.memory import Workspace

    return Workspace()
