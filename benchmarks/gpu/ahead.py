"""Our kernels compiled ahead, by several processes at once: CuPy keeps the code on disk.

The compiler takes its time for each kernel and geometry, one after the other in a process. What is
compiled may depend on the size of the batch: it is run at that size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from benchmarks.gpu.clock import Clock
from benchmarks.gpu.processes import Worker, WorkerError, at_once
from benchmarks.gpu.settings import Settings
from benchmarks.gpu.variants import Variant

Task = tuple[str, list[dict[str, Any]]]  # a label, and requests one after the other


def compile_ahead(
    tasks: Sequence[Task], variant: Variant, settings: Settings, clock: Clock, most: float
) -> list[str]:
    """Do the tasks, for at most ``most`` seconds; what went wrong, which will again when timed."""
    began, queue, problems = clock.now(), list(tasks), list[str]()

    def helper(worker: Worker) -> Callable[[], None]:
        def run() -> None:
            try:
                while queue and (left := began + most - clock.now()) > 0:
                    label, requests = queue.pop(0)
                    try:
                        for request in requests:
                            worker.ask(limit=left, **request)
                    except WorkerError as error:
                        problems.append(f"{label}: {error}")
            finally:
                worker.close()

        return run

    count = min(settings.helpers, len(queue))
    helpers = [
        Worker(replace(variant, name=f"{variant.name}, helper {n}"), settings.device)
        for n in range(count)
    ]
    at_once([helper(worker) for worker in helpers])
    clock.say(f"kernels of {len(tasks) - len(queue)} tasks compiled, {len(problems)} problems")
    return problems
