"""Where the time of a training step goes: each of our CUDA kernels by itself, by CUDA events.

The step runs kernel by kernel, not as a graph, behind a kernel that only counts: so the GPU does
not wait for Python in between. What CuPy's own operations take is the rest of the step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from benchmarks.backends import Run
from benchmarks.device import Cpu
from benchmarks.peers import train_step
from benchmarks.processes import WorkerError
from benchmarks.workloads import NETWORKS, Workload
from tinynet.engine.kernels.cuda import source

STEPS = 5
AHEAD = 0.1  # seconds for which the GPU waits before a step; Python starts one in less
Key = tuple[str, str, str]  # source, kernel, geometry
WANTED = {"vgg_like 128, batch 32": ("bf16", "fp32"), "VGG16 224, batch 64": ("bf16",)}


def measure_kernels(run: Run) -> dict[str, Any]:
    """Return {"networks": "network, precision" -> rows of kernels, or why there are none}."""
    found: dict[str, Any] = {}
    for name, precision in [(name, p) for name, precisions in WANTED.items() for p in precisions]:
        if not run.clock.has(label := f"{name}, {precision}"):
            continue
        workload = asdict(run.backend.sized(NETWORKS[name][0]))
        try:
            worker = run.worker(run.backend.ours[0])
            found[label] = worker.call("kernels:rows_of", workload=workload, precision=precision)
        except WorkerError as error:
            found[label] = {"failed": str(error)}
        run.keep({"networks": found})
        run.clock.say(f"{label}: {len(found[label].get('rows', ()))} kernels")
    return {"networks": found}


def rows_of(device: Any, workload: dict[str, Any], precision: str) -> dict[str, Any]:
    """Return {"rows": [{"source", "kernel", "at", "launches", "ms"}], "step_ms"}, longest first.

    On the processor, where none of our CUDA kernels runs, there are no rows.
    """
    if device.name != "gpu":
        return {"rows": [], "step_ms": 0.0}
    given = Workload(**workload)
    step = train_step(given, precision, device)
    x, y = given.data()
    images = device.xp.asarray(x)
    with watched(device) as launches:
        step(images, y)
        (graph,) = step._graphs._steps.values()
        graph.run._captures = False  # kernel by kernel from here on
        launches.clear()
        times = [device.by_events(lambda: step(images, y), 1, AHEAD) for _ in range(STEPS)]
        device.wait()
    found: dict[Key, list[float]] = {}
    for key, start, stop in launches:
        found.setdefault(key, []).append(float(device.xp.cuda.get_elapsed_time(start, stop)))
    rows = [
        {"source": name, "kernel": kernel, "at": where, "launches": len(ms) / STEPS}
        | {"ms": sum(ms) / STEPS}
        for (name, kernel, where), ms in found.items()
    ]
    return {"rows": sorted(rows, key=lambda row: -row["ms"]), "step_ms": min(times)}


class Noted:
    """A kernel whose launches are noted: what it is, and the events around it."""

    def __init__(self, kernel: Any, cuda: Any, note: Callable[[Any, Any], None]) -> None:
        vars(self).update(_kernel=kernel, _cuda=cuda, _note=note)

    def __call__(self, *arguments: Any, **more: Any) -> None:
        start, stop = self._cuda.Event(), self._cuda.Event()
        stream = self._cuda.get_current_stream()
        start.record(stream)
        self._kernel(*arguments, **more)
        stop.record(stream)
        self._note(start, stop)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kernel, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._kernel, name, value)


@contextmanager
def watched(device: Cpu) -> Iterator[list[tuple[Key, Any, Any]]]:
    """Within this block every launch of ours is noted."""
    launches: list[tuple[Key, Any, Any]] = []
    plain = source._function

    def function(name: str, kernel: str, definitions: source.Definitions) -> Any:
        key = name, kernel, at(definitions)
        note = lambda start, stop: launches.append((key, start, stop))  # noqa: E731
        return Noted(plain(name, kernel, definitions), device.xp.cuda, note)

    source._function = function  # type: ignore[assignment]
    try:
        yield launches
    finally:
        source._function = plain


def at(definitions: source.Definitions) -> str:
    """Return the geometry, as far as it is compiled in: "3×3, 64 → 128, 56×56"."""
    given = dict(definitions)
    parts = []
    if "KERNEL_H" in given:
        parts.append(f"{given['KERNEL_H']}×{given['KERNEL_W']}")
    if "N_FILTERS" in given:
        parts.append(f"{given['N_CHANNELS']} → {given['N_FILTERS']}")
    elif "FILTERS" in given:
        parts.append(f"{given['CHANNELS']} → {given['FILTERS']}")
    elif "CHANNELS" in given:
        parts.append(f"{given['CHANNELS']} channels")
    if "HEIGHT" in given:
        parts.append(f"{given['HEIGHT']}×{given['WIDTH']}")
    return ", ".join(parts)
