"""Rates measured in a few seconds: products, copies, fresh memory, and how steady they are.

A rate is that of the best repetition, which other programs disturb least; ``Steadiness`` says how
far the rest are from it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from threadpoolctl import ThreadpoolController

from tinynet.doctor.machine import Machine, stolen_time

SIDES = (256, 512, 1024, 2048)
LARGEST_PRODUCT = 0.1  # seconds on one thread: long enough for many threads to share
COPY_BYTES = 1 << 28  # beyond any cache but the largest servers'


@dataclass(frozen=True)
class Clock:
    """What measures: seconds that passed, and seconds that this thread ran."""

    wall: Callable[[], float] = time.perf_counter
    thread: Callable[[], float] = getattr(time, "thread_time", time.process_time)


@dataclass(frozen=True)
class Steadiness:
    """One product over and over on one thread.

    best, median, tenth  seconds: the fastest, the middle one, and what a tenth of them exceed
    running              share of the time that the thread ran; None if BLAS has its own threads
    stolen               share of the time that the host gave to other virtual machines, if known
    """

    repetitions: int
    best: float
    median: float
    tenth: float
    running: float | None
    stolen: float | None


@dataclass(frozen=True)
class Rates:
    """products   GFLOP/s of a float32 matrix product, by BLAS threads; 0 threads: BLAS's own choice
    side       of the matrices
    copies     GB/s read and written in copying large arrays, by threads
    fresh      GB/s in writing an array that was just allocated, and was given back after
    reused     GB/s in writing the same array again and again
    megabytes  of those arrays
    """

    side: int
    products: dict[int, float]
    steadiness: Steadiness
    copies: dict[int, float]
    fresh: float
    reused: float
    megabytes: float

    def scaling(self, threads: int) -> float | None:
        """Rate of that many threads over the rate of one; None if either was not measured."""
        if 1 not in self.products or threads not in self.products:
            return None
        return self.products[threads] / self.products[1]


def measure(machine: Machine, seconds: float = 3.5, clock: Clock | None = None) -> Rates:
    """All rates in about ``seconds``, of which two sevenths go to steadiness."""
    clock = clock or Clock()
    share = seconds / 7
    counts = thread_counts(machine.usable)
    controllable = bool(ThreadpoolController().select(user_api="blas"))
    blas_counts = counts if controllable else [0]
    side = fitting_side(blas_counts[0], clock)
    steadiness = repeat_product(side // 2, 2 * share, clock, controllable)
    products = {
        n: product_rate(side, n, share / len(blas_counts) * 1.5, clock) for n in blas_counts
    }
    size = array_bytes(machine.free or machine.memory)
    a, b = np.ones(size // 4, np.float32), np.ones(size // 4, np.float32)
    copies = {n: copy_rate(a, b, n, share / len(counts), clock) for n in counts}
    reused = write_rate(a, share / 2, clock)
    del a, b
    fresh = fresh_rate(size // 4, share, clock)
    return Rates(side, products, steadiness, copies, fresh, reused, size / 1e6)


def thread_counts(usable: int) -> list[int]:
    """1, 2 and all, of the cores there are."""
    return sorted({1, min(2, usable), usable})


def array_bytes(available: int | None) -> int:
    """COPY_BYTES, or less where memory is short: an eighth of it, in whole pages."""
    return max(1 << 16, min(COPY_BYTES, (available or 1 << 32) // 8) >> 12 << 12)


@contextmanager
def blas_threads(count: int) -> Iterator[None]:
    """Within this block BLAS uses ``count`` threads; 0 leaves it its own choice."""
    if not count:
        yield
        return
    with ThreadpoolController().limit(limits=count, user_api="blas"):
        yield


def durations(work: Callable[[], object], seconds: float, clock: Clock) -> list[float]:
    """Seconds of each repetition: as many as fit, and at least 3 after one that does not count."""
    work()
    times: list[float] = []
    end = clock.wall() + seconds
    while len(times) < 3 or clock.wall() < end:
        start = clock.wall()
        work()
        times.append(clock.wall() - start)
    return times


def product_of(side: int) -> Callable[[], object]:
    """The product of two float32 matrices (side, side), into a third that is kept."""
    a = np.ones((side, side), np.float32)
    out = np.empty_like(a)
    return lambda: np.matmul(a, a, out=out)


def fitting_side(threads: int, clock: Clock) -> int:
    """The largest of SIDES whose product takes at most LARGEST_PRODUCT seconds."""
    fits = SIDES[0]
    with blas_threads(threads):
        for side in SIDES:
            work = product_of(side)
            work()
            start = clock.wall()
            work()
            took = clock.wall() - start
            if took > LARGEST_PRODUCT:
                break
            fits = side
            if 8 * took > LARGEST_PRODUCT:  # twice the side, eight times the work
                break
    return fits


def product_rate(side: int, threads: int, seconds: float, clock: Clock) -> float:
    """GFLOP/s of a product: 2 side³ operations, a multiplication and an addition each."""
    with blas_threads(threads):
        return 2e-9 * side**3 / min(durations(product_of(side), seconds, clock))


def repeat_product(side: int, seconds: float, clock: Clock, one_thread: bool) -> Steadiness:
    """A product over and over, on one thread if BLAS can be told so."""
    work = product_of(side)
    with blas_threads(1 if one_thread else 0):
        before = stolen_time()
        wall, ran = clock.wall(), clock.thread()
        times = sorted(durations(work, seconds, clock))
        ran, wall = clock.thread() - ran, clock.wall() - wall
        after = stolen_time()
    stolen = None
    if before and after and after[1] > before[1]:
        stolen = (after[0] - before[0]) / (after[1] - before[1])
    return Steadiness(
        repetitions=len(times),
        best=times[0],
        median=statistics.median(times),
        tenth=times[int(0.9 * (len(times) - 1))],
        running=min(1.0, ran / wall) if one_thread else None,
        stolen=stolen,
    )


def copy_rate(
    source: np.ndarray, target: np.ndarray, threads: int, seconds: float, clock: Clock
) -> float:
    """GB/s read and written, the array shared among threads."""
    pieces = list(
        zip(np.array_split(source, threads), np.array_split(target, threads), strict=True)
    )
    with ThreadPoolExecutor(threads) as pool:

        def work() -> None:
            for copied in [pool.submit(np.copyto, b, a) for a, b in pieces]:
                copied.result()

        return 2e-9 * source.nbytes / min(durations(work, seconds, clock))


def write_rate(array: np.ndarray, seconds: float, clock: Clock) -> float:
    """GB/s in filling an array that is there already."""
    return 1e-9 * array.nbytes / min(durations(lambda: array.fill(1.0), seconds, clock))


def fresh_rate(numbers: int, seconds: float, clock: Clock) -> float:
    """GB/s in filling float32 arrays, each just allocated: the system hands out zeroed pages."""
    return (
        4e-9
        * numbers
        / min(durations(lambda: np.empty(numbers, np.float32).fill(1.0), seconds, clock))
    )
