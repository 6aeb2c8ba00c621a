"""What doctor prints: aligned lines for people, JSON for programs."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from tinynet.doctor.advice import Advice
from tinynet.doctor.blas import Blas
from tinynet.doctor.findings import Findings
from tinynet.doctor.openblas import Trial, in_words
from tinynet.doctor.rates import Rates

WIDTH = 79
LABEL = 16
PLAIN = str.maketrans({"→": "->", "×": "x"})
NAMES = {"openblas": "OpenBLAS", "mkl": "MKL", "blis": "BLIS", "accelerate": "Accelerate"}


def as_text(f: Findings, advice: Sequence[Advice]) -> str:
    """The report: what is here, what was measured, what holds it back."""
    lines = [", ".join(f"{name} {number}" for name, number in f.versions.items()), ""]
    for label, value in [*here(f), ("", ""), *measured(f.rates)]:
        lines += row(label, value)
    lines += ["", *verdict(advice)]
    return "\n".join(lines)


def as_json(f: Findings, advice: Sequence[Advice]) -> str:
    """The same, under the names of the fields of Findings, and ``advice``: [{found, step}]."""
    everything = {**asdict(f), "advice": [asdict(piece) for piece in advice]}
    return json.dumps(everything, indent=2)


def printable(text: str, encoding: str | None) -> str:
    """``text`` in signs that ``encoding`` has: a Windows console or a pipe may lack the arrow."""
    try:
        text.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return text.translate(PLAIN).encode("ascii", "replace").decode("ascii")
    return text


def row(label: str, value: str) -> list[str]:
    """A label and its value, the value broken at WIDTH and kept in its column."""
    return wrapped(value, label.ljust(LABEL)) or [label]


def wrapped(text: str, first: str) -> list[str]:
    """Lines of ``text`` after ``first``, under which the later lines are indented."""
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=first,
        subsequent_indent=" " * len(first),
        break_long_words=False,
        break_on_hyphens=False,
    )


def here(f: Findings) -> Iterator[tuple[str, str]]:
    """(label, value) of what was read."""
    machine = f.machine
    yield "system", machine.system
    vectors = f", vectors of {f.processor_bits} bits" if f.processor_bits else ""
    yield "processor", machine.processor + vectors
    yield "cores", cores(f)
    if machine.memory is not None:
        free = "" if machine.free is None else f", {machine.free / 1e9:.1f} GB free"
        yield "memory", f"{machine.memory / 1e9:.1f} GB{free}"
    for blas in f.blas:
        yield f"BLAS of {blas.used_by}", library(blas)
    if f.settings:
        yield "exported", trials(f)
    if f.variables:
        yield ("" if f.settings else "exported"), in_words(f.variables)
    for extra in dict.fromkeys(package.extra for package in f.packages):
        words = []
        for package in f.packages:
            if package.extra == extra:
                broken = " (does not import)" if package.problem else ""
                words.append(f"{package.name} {package.version or 'missing'}{broken}")
        if extra == "fast" and f.compiled_kernels:
            words.append(f.compiled_kernels)
        yield f"extra {extra}", ", ".join(words)
    yield "GPU", gpu(f)


def cores(f: Findings) -> str:
    """How many there are, may be used, and are used."""
    machine = f.machine
    words = [str(machine.cores)]
    if machine.usable < machine.cores:
        words.append(f"{machine.usable} of them for this process")
    if machine.physical is not None and machine.physical < machine.usable:
        words.append(f"hyperthreads of {machine.physical}")
    if machine.quota is not None:
        words.append(f"limited to the time of {machine.quota:.3g}")
    if machine.load is not None:
        words.append(f"load {machine.load:.1f}")
    words.append(f"tinynet uses {f.threads} thread{'s' if f.threads > 1 else ''}")
    return ", ".join(words)


def library(blas: Blas) -> str:
    """A library, its kernels and threads."""
    words = [" ".join(filter(None, (NAMES.get(blas.name, blas.name), blas.version)))]
    if blas.kernels:
        bits = f" ({blas.kernel_bits} bits)" if blas.kernel_bits else ""
        words.append(f"{blas.kernels} kernels{bits}")
    if blas.threads:
        words.append(f"{blas.threads} thread{'s' if blas.threads > 1 else ''}")
    return ", ".join(words)


def trials(f: Findings) -> str:
    """What OpenBLAS's exported settings do."""
    if f.as_is is None or f.bare is None:
        return in_words(f.settings)
    return f"{in_words(f.settings)}: {outcome(f.as_is)}; without: {outcome(f.bare)}"


def outcome(trial: Trial) -> str:
    """A trial in a few words."""
    if trial.problem:
        return f"the trial failed ({trial.problem})"
    rate = "right products" if trial.rate is None else f"{trial.rate:.0f} GFLOP/s on one thread"
    return f"{rate}, {trial.kernels} kernels" if trial.kernels else rate


def gpu(f: Findings) -> str:
    """Devices, or why there are none."""
    if not f.gpu.devices:
        return f.gpu.note
    named = [
        f"{device.name}, compute capability {'.'.join(map(str, device.capability))}, "
        f"{device.memory / 1e9:.0f} GB ({device.free / 1e9:.0f} free)"
        for device in f.gpu.devices
    ]
    package = f" ({f.gpu.package})" if f.gpu.package else ""
    words = [
        "; ".join(named),
        f"driver for CUDA {f.gpu.driver}, CuPy {f.gpu.cupy}{package}",
        "kernels compile" if f.gpu.compiles else "kernels do not compile",
        f"precisions {', '.join(f.gpu.precisions)}",
    ]
    return "; ".join(words)


def measured(rates: Rates | None) -> Iterator[tuple[str, str]]:
    """(label, value) of what was measured."""
    if rates is None:
        yield "measured", "nothing: matrix products fail as things are"
        return
    yield (
        "product",
        f"{by_threads(rates.products, 'GFLOP/s')} (float32, {rates.side} × {rates.side})",
    )
    yield "copy", f"{by_threads(rates.copies, 'GB/s')} (read and written)"
    yield (
        "fresh memory",
        f"{rates.fresh:.1f} GB/s written, {rates.reused:.1f} into memory already used "
        f"({rates.megabytes:.0f} MB)",
    )
    steady = rates.steadiness
    words = [f"median {steady.median / steady.best - 1:.0%} over the best of {steady.repetitions}"]
    words.append(f"a tenth {steady.tenth / steady.best - 1:.0%} and more")
    if steady.running is not None:
        words.append(f"ran {steady.running:.0%} of the time")
    if steady.stolen is not None:
        words.append(f"{steady.stolen:.0%} stolen by the host")
    yield "steadiness", ", ".join(words)


def by_threads(rates: dict[int, float], unit: str) -> str:
    """Such as "78 GFLOP/s on 1 thread, 150 on 2"."""
    words: list[str] = []
    for count, rate in rates.items():
        number = f"{rate:.0f}" if rate >= 20 else f"{rate:.1f}"
        first = not words
        where = f" on {count}" if count else ""
        thread = (" thread" if count == 1 else " threads") if first and count else ""
        words.append(f"{number}{f' {unit}' if first else ''}{where}{thread}")
    return ", ".join(words)


def verdict(advice: Sequence[Advice]) -> Iterator[str]:
    """The advice, what is → what to do."""
    if not advice:
        yield "Nothing was found that holds this machine back."
        return
    yield "What holds this machine back:"
    for piece in advice:
        yield from wrapped(piece.found, "- ")
        yield from wrapped(piece.step, "  → ")
