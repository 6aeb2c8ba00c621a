"""The two places where the harness runs, and the rehearsal of the second on the first."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks import variants as v
from benchmarks.processes import Pool, Worker, at_once, noted
from benchmarks.variants import Variant, installed
from benchmarks.workloads import Workload


def usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True)
class Backend:
    name: str  # "cpu" or "gpu"
    ours: tuple[Variant, ...]
    peers: tuple[Variant, ...]  # PyTorch's, for whole networks
    single: dict[str, Variant]  # library -> the process that times its single operations
    # of a network's losses, relative: several updates apart, sums in another order. Rounding moves
    # the signs of small gradients, and with them Adam's first steps: PyTorch's ResNet-50 on a CPU
    # has losses in bfloat16 that are 2 to 6 % from those in float32
    tolerance: dict[str, float]
    # of single operations, as a part of the largest element, against float32. Rounding to 11 bits
    # and to 8 moves a product by 2⁻¹² and 2⁻⁹ of itself; large sums largely cancel
    op_tolerance: dict[str, float]
    checked: int  # training steps whose losses are compared
    rounds: int  # turns of each variant
    step_turn: float  # seconds of a turn
    op_turn: float
    side: int  # of the matrices whose product is a floor
    limit: float  # seconds that a process may take to answer
    helpers: int = 1  # processes that compile kernels ahead
    small: bool = False  # the rehearsal: small shapes on the processor
    threads: int = field(default_factory=usable_cores)

    @property
    def device(self) -> str:
        return "cpu" if self.small else self.name

    @property
    def strict(self) -> bool:
        """Whether what fails, or computes something else, ends the run; else it is left out.

        On such a backend processes are new for every network, so that their peak memory is its.
        """
        return self.name == "cpu"

    def sized(self, workload: Workload) -> Workload:
        return workload.small() if self.small else workload

    def variants(self, precision: str = "fp32") -> list[Variant]:
        """Return those that can run here, and may be fastest in this precision, ours first."""
        # bf16 by tensor cores wants channels last; without them the other order may win
        skipped = v.STOCK[0] if self.name == "gpu" and precision == "bf16" else None
        return [one for one in installed((*self.ours, *self.peers))[0] if one != skipped]


CPU = Backend(
    name="cpu",
    ours=(v.NUMPY, v.NUMBA),
    peers=(*v.STOCK, *v.WITH_ALLOCATOR),
    single={"torch": v.OPS_TORCH, "floor": v.FLOOR},
    tolerance={"fp32": 1e-3},
    op_tolerance={"fp32": 1e-4},
    checked=5,
    rounds=9,
    step_turn=0.3,
    op_turn=0.05,
    side=1024,  # larger ones are no faster
    limit=1800.0,
)
GPU = Backend(
    name="gpu",
    ours=(v.CUDA,),
    peers=(v.EAGER, v.GRAPH, v.STOCK[0], v.STOCK[2]),
    single={"tinynet": v.OPS, "torch": v.OPS, "floor": v.OPS},
    tolerance={"bf16": 1e-1, "tf32": 2e-2, "fp32": 1e-3},  # the most wanted first
    op_tolerance={"bf16": 4e-2, "tf32": 1e-2, "fp32": 2e-4},
    checked=3,
    rounds=10,
    step_turn=0.1,
    op_turn=0.01,
    side=8192,
    limit=120.0,
    helpers=8,
)
REHEARSAL = replace(
    GPU,
    # as CUDA's, NumPy's kernels take no time to compile
    ours=(replace(v.CUDA, kernels="numpy"),),
    single=dict.fromkeys(GPU.single, replace(v.OPS, kernels="numpy")),
    peers=(v.EAGER, v.GRAPH, v.STOCK[0]),
    rounds=2,
    step_turn=0.001,
    op_turn=0.001,
    side=64,
    helpers=2,
    small=True,
    threads=1,  # small shapes: threads would wait for each other
)


class Clock:
    """The minutes of a run, dealt out to its parts; without a limit, nothing is skipped.

    shares   part -> its share of the time, in their order; what one leaves the others get
    now      seconds; another clock in tests
    """

    def __init__(
        self,
        minutes: float = math.inf,
        shares: Mapping[str, float] | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.now = now
        self.began = now()
        self.end = self.deadline = self.began + 60 * minutes  # the second, of the part that runs
        self.waiting = dict(shares or {})  # parts that have not begun
        self.skipped: list[str] = []  # of the part that runs

    def begin(self, part: str) -> None:
        """Begin a part: its deadline is its share of what is left."""
        whole = sum(self.waiting.values())
        left = max(0.0, self.end - self.now())
        self.deadline = self.now() + left * self.waiting.pop(part) / whole
        self.skipped = []
        self.say(f"{part}: {self.left():.0f} s")

    def left(self) -> float:
        return max(0.0, self.deadline - self.now())

    def has(self, what: str, seconds: float = 0.0) -> bool:
        """Return whether the part has more than ``seconds`` left; if not, ``what`` is skipped."""
        if self.left() > seconds:
            return True
        self.skipped.append(what)
        self.say(f"skipped, no time: {what}")
        return False

    def say(self, text: str) -> None:
        print(f"[{self.now() - self.began:5.0f} s] {text}", file=sys.stderr, flush=True)


@dataclass
class Run:
    """A run of the harness; ``keep`` writes what a part has found so far."""

    backend: Backend
    workers: Pool
    clock: Clock = field(default_factory=Clock)
    keep: Callable[[dict[str, Any]], None] = lambda found: None

    def worker(self, variant: Variant) -> Worker:
        return self.workers.worker(variant)

    @contextmanager
    def network(self, threads: int | None = None) -> Iterator[Run]:
        """A run for one network, on a strict backend with new processes."""
        backend = replace(self.backend, threads=threads or self.backend.threads)
        with new_pool(backend) if backend.strict else nullcontext(self.workers) as pool:
            yield replace(self, backend=backend, workers=pool)

    def compile_ahead(
        self, tasks: Sequence[tuple[str, dict[str, Any]]], share: float, variant: Variant
    ) -> dict[str, str]:
        """Have other processes call each task once; return what went wrong, by label.

        What is compiled stays on disk, for the processes that are timed: a compiler takes its time
        for each kernel, and more memory than a step. What is wrong is wrong again when timed.
        share   of the part's time, at most
        """
        end, queue = self.clock.now() + share * self.clock.left(), list(tasks)
        problems: dict[str, str] = {}

        def helper() -> None:
            with new_pool(self.backend, self.workers.left) as pool:
                while queue and (left := end - self.clock.now()) > 0:
                    label, task = queue.pop(0)
                    with noted(label, problems):
                        pool.worker(variant).ask("make", left, name="it", task=task)
                        pool.worker(variant).ask("settle", left, name="it", calls=1)

        at_once([helper] * min(self.backend.helpers, len(tasks)))
        return problems


def new_pool(backend: Backend, *left: Callable[[], float]) -> Pool:
    return Pool(backend.device, backend.threads, backend.limit, *left)
