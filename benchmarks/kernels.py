"""Where the time of a training step goes: each of our CUDA kernels by itself, by CUDA events.

The step runs kernel by kernel, not as a graph, behind a kernel that only counts: so the GPU does
not wait for Python in between. What CuPy's own operations take is the rest of the step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from typing import Any

from benchmarks.backends import Run
from benchmarks.peers import train_step
from benchmarks.processes import WorkerError
from benchmarks.workloads import NETWORKS, Workload
from tinynet.engine.kernels.cuda import source

STEPS, MOST = 5, 16  # steps that are measured, kernels that are told
AHEAD = 0.1  # seconds for which the GPU waits before a step; Python starts one in less
WANTED = {"vgg_like 128, batch 32": ("bf16", "fp32"), "VGG16 224, batch 64": ("bf16",)}


def measure_kernels(run: Run) -> dict[str, Any]:
    """Return {"networks": "network, precision" -> rows of kernels, "lines"}."""
    found: dict[str, Any] = {}
    lines: list[str] = []
    for name, precision in [(name, p) for name, precisions in WANTED.items() for p in precisions]:
        if not run.clock.has(label := f"{name}, {precision}"):
            continue
        asked = {"workload": asdict(run.backend.sized(NETWORKS[name][0])), "precision": precision}
        try:
            found[label] = run.worker(run.backend.ours[0]).call("kernels:rows_of", **asked)
            lines += [f"{label}: {line}" for line in said(**found[label])]
        except WorkerError as error:
            lines.append(f"{label}: FAILED, {error}")
        run.keep({"networks": found, "lines": lines})
    return {"networks": found, "lines": lines}


def said(rows: list[dict[str, Any]], step_ms: float) -> list[str]:
    """The kernels that take most of a step, and the rest."""
    rest = step_ms - sum(row["ms"] for row in rows)
    found = [f"a step {step_ms:.3f} ms, of which CuPy's own and between kernels {rest:.3f}"]
    for row in rows[:MOST]:
        share = f"{row['ms']:.3f} ms, {row['ms'] / step_ms:.0%}"
        found.append(f"{share}, {row['launches']:g} × {row['source']}: {row['kernel']} {row['at']}")
    return found


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
    with watched(device.xp.cuda) as launches:
        step(images, y)
        (graph,) = step._graphs._steps.values()
        graph.run._captures = False  # kernel by kernel from here on
        launches.clear()
        times = [device.by_events(lambda: step(images, y), 1, AHEAD) for _ in range(STEPS)]
        device.wait()
    found: dict[tuple[str, str, str], list[float]] = {}
    for key, start, stop in launches:
        found.setdefault(key, []).append(float(device.xp.cuda.get_elapsed_time(start, stop)))
    names = ("source", "kernel", "at")
    rows = [
        dict(zip(names, key, strict=True)) | {"launches": len(ms) / STEPS, "ms": sum(ms) / STEPS}
        for key, ms in found.items()
    ]
    return {"rows": sorted(rows, key=lambda row: -row["ms"]), "step_ms": min(times)}


class Noted:
    def __init__(self, kernel: Any, noted: Callable[[], AbstractContextManager[None]]) -> None:
        vars(self).update(_kernel=kernel, _noted=noted)

    def __call__(self, *arguments: Any, **more: Any) -> None:
        with self._noted():
            self._kernel(*arguments, **more)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kernel, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._kernel, name, value)


@contextmanager
def watched(cuda: Any) -> Iterator[list[Any]]:
    """Within this block every launch of ours is noted: what it is, the events around it."""
    launches: list[Any] = []
    plain = source._function

    def function(name: str, kernel: str, definitions: source.Definitions) -> Any:
        @contextmanager
        def noted() -> Iterator[None]:
            start, stop, stream = cuda.Event(), cuda.Event(), cuda.get_current_stream()
            start.record(stream)
            yield
            stop.record(stream)
            launches.append(((name, kernel, at(dict(definitions))), start, stop))

        return Noted(plain(name, kernel, definitions), noted)

    source._function = function  # type: ignore[assignment]
    try:
        yield launches
    finally:
        source._function = plain


def at(given: dict[str, Any]) -> str:
    """Return the geometry, as far as it is compiled in: "3×3, 64 → 128, 56×56"."""
    sizes = ("{KERNEL_H}×{KERNEL_W}",), ("{N_CHANNELS} → {N_FILTERS}", "{CHANNELS} → {FILTERS}")
    parts = []
    for forms in (*sizes, ("{HEIGHT}×{WIDTH}",)):
        for form in forms:
            try:
                parts.append(form.format(**given))
            except KeyError:
                continue
    return ", ".join(parts)
