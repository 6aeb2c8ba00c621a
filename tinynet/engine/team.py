"""Threads that wait for work.

Handing a piece of work over and hearing that it is done takes two wake-ups. With one lock for each
that is 90 µs on a virtual machine of two cores, half of what ``ThreadPoolExecutor`` takes with its
queue, future and condition; a training step of a small network has a hundred such hand-overs.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import copy_context
from typing import Any, TypeVar

T = TypeVar("T")


class Member:
    """One thread, which runs a task at a time.

    busy   from ``start`` to the end of the task
    """

    def __init__(self) -> None:
        self.busy = False
        self._task: Callable[[], Any] | None = None
        self._result: Any = None
        self._error: BaseException | None = None
        self._go, self._done = threading.Lock(), threading.Lock()
        self._go.acquire()
        threading.Thread(target=self._work, name="tinynet", daemon=True).start()

    def start(self, task: Callable[[], Any]) -> None:
        """Have the task run; the member must not be busy."""
        self._task, self._error, self.busy = task, None, True
        self._go.release()

    def wait(self) -> None:
        """Return when the task has ended; Ctrl-C interrupts it."""
        while self.busy:
            self._done.acquire()  # may be open from an earlier task: ``busy`` is what counts

    def result(self) -> Any:
        """What the last task returned; raises what it raised."""
        result, error, self._result, self._error = self._result, self._error, None, None
        if error is not None:
            raise error
        return result

    def end(self) -> None:
        """End the thread, which must not be busy."""
        self._task = None
        self._go.release()

    def _work(self) -> None:
        while True:
            self._go.acquire()
            if self._task is None:
                return
            try:
                self._result = self._task()
            except BaseException as error:  # whatever it is, the thread that waits raises it
                self._error = error
            self._task = None  # keep nothing alive
            self.busy = False
            with suppress(RuntimeError):  # open: nobody had to wait for an earlier task
                self._done.release()


def wait_for(members: Sequence[Member]) -> None:
    """Return when all their tasks have ended, and not before, even if Ctrl-C is pressed meanwhile.

    Raises the last KeyboardInterrupt then.
    """
    interrupt: KeyboardInterrupt | None = None
    while True:
        try:
            for member in members:
                member.wait()
            break
        except KeyboardInterrupt as error:
            interrupt = error
    if interrupt is not None:
        raise interrupt


class Team:
    """The calling thread and ``size`` − 1 members."""

    def __init__(self, size: int) -> None:
        self.process = os.getpid()  # a forked process inherits no threads
        self.size = size
        self.members = [Member() for _ in range(size - 1)]

    def run(self, tasks: Sequence[Callable[[], T]]) -> list[T]:
        """The results of at most ``size`` tasks, run at the same time, the first on this thread.

        Each runs in a copy of this thread's context: the same workspace, the same choice of
        kernels. None is still running when this returns or raises.
        """
        others = self.members[: len(tasks) - 1]
        try:
            for member, task in zip(others, tasks[1:], strict=True):
                context = copy_context()
                member.start(lambda context=context, task=task: context.run(task))  # type: ignore[misc]
            first = tasks[0]()
        finally:
            wait_for(others)
        return [first, *(member.result() for member in others)]

    def end(self) -> None:
        """End the members' threads."""
        for member in self.members:
            member.end()
