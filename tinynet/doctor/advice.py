"""What holds a machine back, and the one step that mends it: rules over what was found.

Each rule looks at one cause. Thresholds are wide enough that a quiet machine's own scatter, some
percent, gives no advice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tinynet.doctor.findings import Findings
from tinynet.doctor.openblas import in_words

FASTER = 1.1  # times the rate, from which a setting is worth removing
RUNNING = 0.9  # share of the time a thread runs on a core of its own
STOLEN = 0.02
UNSTEADY = 1.25  # median over best
TWO_THREADS = 1.5  # times one thread's rate
BUSY = 0.5  # load before anything was measured
LITTLE_MEMORY = 1.5e9  # bytes; a training step on 32 images of 128 × 128 takes a third of that
SLOW_PAGES = 2.0  # reused over fresh
THREADS_OF = {"openblas": "OPENBLAS_NUM_THREADS", "mkl": "MKL_NUM_THREADS"}
THREADS_OF |= {"blis": "BLIS_NUM_THREADS", "accelerate": "VECLIB_MAXIMUM_THREADS"}


@dataclass(frozen=True)
class Advice:
    """What is, and what to do about it."""

    found: str
    step: str


Rule = Callable[[Findings], Iterator[Advice]]


def advise(findings: Findings) -> list[Advice]:
    """Every rule's advice, in the order of RULES."""
    return [advice for rule in RULES for advice in rule(findings)]


def openblas_settings(f: Findings) -> Iterator[Advice]:
    """Exported settings that crash, or cost more than a tenth; none if OpenBLAS needs them."""
    if f.as_is is None or f.bare is None:
        return
    words, names = in_words(f.settings), " ".join(f.settings)
    if f.as_is.problem and f.bare.problem:
        found = f"a trial of matrix products failed, with and without {words} ({f.bare.problem})"
        yield Advice(found, "python -m pip install --force-reinstall numpy scipy")
    elif f.as_is.problem:
        found = f"{words} is exported, and a trial of matrix products failed ({f.as_is.problem})"
        yield Advice(found, f"unset {names}: without it the trial's products are right")
    elif not f.bare.problem and (f.bare.rate or 0) > FASTER * (f.as_is.rate or math.inf):
        with_it, without = f"{f.as_is.rate:.0f} GFLOP/s", f"{f.bare.rate:.0f}"
        if f.as_is.kernels != f.bare.kernels:
            with_it += f" with {f.as_is.kernels} kernels"
            without += f" with {f.bare.kernels} kernels"
        found = f"{words} is exported: one thread does {with_it}, and {without} without it"
        yield Advice(found, f"unset {names}")


def narrow_kernels(f: Findings) -> Iterator[Advice]:
    """An OpenBLAS too old to know the processor."""
    if "OPENBLAS_CORETYPE" in f.settings or not f.processor_bits:
        return
    for blas in f.blas:
        if blas.kernel_bits and blas.kernel_bits < f.processor_bits:
            found = (
                f"{blas.used_by}'s OpenBLAS {blas.version} runs {blas.kernels} kernels, with "
                f"vectors of {blas.kernel_bits} bits where the processor has {f.processor_bits}"
            )
            packages = blas.used_by.lower().replace(" and ", " ")
            yield Advice(found, f"python -m pip install --upgrade {packages}")


def untuned_blas(f: Findings) -> Iterator[Advice]:
    """A reference BLAS is ten times slower and more."""
    for blas in f.blas:
        if not blas.tuned:
            packages = blas.used_by.lower().replace(" and ", " ")
            yield Advice(
                f"{blas.used_by}'s BLAS is {blas.name!r}, not OpenBLAS, MKL or Accelerate",
                f"python -m pip install --force-reinstall --only-binary=:all: {packages}",
            )


def debug_build(f: Findings) -> Iterator[Advice]:
    """A Python built with assertions."""
    if f.debug_build:
        yield Advice("this Python is a debug build", "use a release build of Python")


def compiled_kernels(f: Findings) -> Iterator[Advice]:
    """Numba missing, broken or turned off; slower kernels chosen."""
    for package in f.packages:
        if package.extra == "fast" and package.version is None:
            yield Advice(
                f"{package.name} is missing: the kernels run that are written in NumPy alone",
                'python -m pip install "tinynet-dl[fast]"',
            )
        elif package.extra == "fast" and package.problem:
            yield Advice(
                f"{package.name} {package.version} does not import ({package.problem})",
                f"python -m pip install --upgrade {package.name}",
            )
    if f.variables.get("NUMBA_DISABLE_JIT", "0") != "0":
        yield Advice("NUMBA_DISABLE_JIT turns Numba's compiler off", "unset NUMBA_DISABLE_JIT")
    kernels = f.variables.get("TINYNET_KERNELS", "fast")
    if kernels != "fast":
        yield Advice(
            f"TINYNET_KERNELS={kernels} passes over faster kernels",
            "unset TINYNET_KERNELS, unless it is meant",
        )


def cores_worth(f: Findings) -> int:
    """Threads that can run at once: the usable cores, or what a container's quota allows."""
    return math.ceil(min(f.machine.usable, f.machine.quota or math.inf))


def thread_settings(f: Findings) -> Iterator[Advice]:
    """Variables that ask for fewer or more threads than can run at once."""
    cores = cores_worth(f)
    in_use = {THREADS_OF[word] for blas in f.blas for word in THREADS_OF if word in blas.name}
    asked = {
        name: int(value)
        for name, value in f.variables.items()
        if name in {"OMP_NUM_THREADS", *in_use} and value.isdigit()
    }
    fewer = [name for name, count in asked.items() if 0 < count < cores]
    more = [name for name, count in asked.items() if count > cores]
    if fewer:
        words = ", ".join(f"{name}={asked[name]}" for name in fewer)
        who = "tinynet's threads" if "OMP_NUM_THREADS" in fewer else "products outside them"
        held = f"{who} use {asked[fewer[0]]} of {cores} cores"
        meant = "unless it is meant: several programs that share the cores"
        yield Advice(f"{words}: {held}", f"unset {' '.join(fewer)}, {meant}")
    if more:
        words = ", ".join(f"{name}={asked[name]}" for name in more)
        yield Advice(f"{words} on {cores} cores: threads wait for each other", f"unset {more[0]}")


def container_limit(f: Findings) -> Iterator[Advice]:
    """A quota below the cores, of which Python's own counts know nothing."""
    quota = f.machine.quota
    if quota and quota < f.machine.usable and f.threads > math.ceil(quota):
        yield Advice(
            f"a limit on the container allows {quota:.3g} of {f.machine.usable} cores, and tinynet "
            f"starts {f.threads} threads",
            f"export OMP_NUM_THREADS={math.ceil(quota)}, or raise the limit (docker's --cpus)",
        )


def shared_cores(f: Findings) -> Iterator[Advice]:
    """Time that others take: programs on this machine, virtual machines on its host, or neither."""
    if f.rates is None:
        return
    steady, two = f.rates.steadiness, f.rates.scaling(2)
    stolen = steady.stolen or 0.0
    if stolen > STOLEN:
        yield Advice(
            f"the host takes {stolen:.0%} of this virtual machine's time",
            "rent whole cores: no setting here mends it",
        )
    slow_pair = two is not None and two < TWO_THREADS
    pair = f"two threads do {two:.1f} times the work of one" if two is not None else ""
    alone = steady.running is None or steady.running + stolen >= RUNNING
    if not alone or (slow_pair and (f.machine.load or 0) > BUSY):
        signs = [] if alone else [f"one thread ran {steady.running:.0%} of the time"]
        signs += [pair] if slow_pair else []
        signs += [] if f.machine.load is None else [f"load {f.machine.load:.1f}"]
        fewer = max(1, f.machine.usable - 1)
        leave = f", or leave them a core: export OMP_NUM_THREADS={fewer}"
        yield Advice(
            f"other programs use the cores: {', '.join(signs)}",
            "stop them" + (leave if f.threads > fewer else ""),
        )
    elif stolen > STOLEN:
        return  # enough of a cause for what follows
    elif steady.median > UNSTEADY * steady.best:
        yield Advice(
            f"the same product takes {steady.median / steady.best:.2f} times its best time, as a "
            "median: the clock falls, or others use the caches",
            "stop other programs and, on a laptop, plug it in; then run doctor again",
        )
    elif slow_pair and (f.machine.physical or f.machine.usable) < f.machine.usable:
        yield Advice(
            f"{pair}: {f.machine.usable} hyperthreads share {f.machine.physical} cores",
            f"export OMP_NUM_THREADS={f.machine.physical}, and compare",
        )
    elif slow_pair:
        yield Advice(
            f"{pair}, and no other program is seen: the host shares the cores, or cools them badly",
            "rent whole cores, or run doctor again when the machine is cool",
        )


def memory(f: Findings) -> Iterator[Advice]:
    """Too little of it, or slow first writes."""
    free = f.machine.free if f.machine.free is not None else f.machine.memory
    if free is not None and free < LITTLE_MEMORY:
        yield Advice(
            f"{free / 1e9:.1f} GB of memory are free",
            "close other programs, or train with a smaller --batch-size",
        )
    if f.rates is None or f.rates.reused < SLOW_PAGES * f.rates.fresh:
        return
    found = (
        f"fresh memory is written {f.rates.reused / f.rates.fresh:.1f} times as slowly as reused"
    )
    if f.variables.get("NUMPY_MADVISE_HUGEPAGE") == "0":
        yield Advice(f"{found}, and NUMPY_MADVISE_HUGEPAGE=0", "unset NUMPY_MADVISE_HUGEPAGE")
    elif f.machine.huge_pages == "never":
        yield Advice(
            f"{found}, and huge pages are off",
            "as root: echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
        )


def gpu(f: Findings) -> Iterator[Advice]:
    """What stands between CuPy and a GPU."""
    for fault in f.gpu.faults:
        yield Advice(fault.found, fault.step)


RULES: tuple[Rule, ...] = (
    openblas_settings,
    untuned_blas,
    narrow_kernels,
    debug_build,
    compiled_kernels,
    thread_settings,
    container_limit,
    shared_cores,
    memory,
    gpu,
)
