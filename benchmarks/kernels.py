"""Where the time of a training step on a GPU goes: every kernel, as PyTorch's profiler sees it.

The profiler (NVIDIA's CUPTI) notes each kernel of the process, whoever starts it: ours, CuPy's own,
and those inside a CUDA graph. What is left of the step is the time between them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from benchmarks.backends import Run
from benchmarks.peers import train_step
from benchmarks.processes import WorkerError
from benchmarks.workloads import NETWORKS, Workload

STEPS, MOST = 5, 16  # steps that are profiled, kernels that are named
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
    """The kernels that take most of a step, and what is left."""
    rest = step_ms - sum(row["ms"] for row in rows)
    return [f"a step {step_ms:.3f} ms, of which {rest:.3f} between kernels"] + [
        f"{row['ms']:.3f} ms, {row['ms'] / step_ms:.0%}, {row['launches']:g} × {row['kernel']}"
        for row in rows[:MOST]
    ]


def rows_of(device: Any, workload: dict[str, Any], precision: str) -> dict[str, Any]:
    """Return {"rows": see ``summed``, "step_ms"}; on the processor there are no rows."""
    given = Workload(**workload)
    step, (x, y) = train_step(given, precision, device), given.data()
    images = device.xp.asarray(x)
    for _ in range(3):  # from the third on it is a graph's launch
        step(images, y)
    if device.name != "gpu":
        return {"rows": [], "step_ms": 0.0}
    import torch
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    torch.cuda.init()
    step_ms = 1e3 * min(device.once(lambda: step(images, y))[1] for _ in range(STEPS))
    with profile(activities=[ProfilerActivity.CUDA]) as watched:
        for _ in range(STEPS):
            step(images, y)
        device.wait()
    events = [event for event in watched.events() if event.device_type == DeviceType.CUDA]
    return {"rows": summed(events), "step_ms": step_ms}


def summed(events: Iterable[Any]) -> list[dict[str, Any]]:
    """Return {"kernel", "launches", "ms"} of a step for each name, the longest first."""
    found: dict[str, list[float]] = {}
    for event in events:
        found.setdefault(event.name, []).append(event.time_range.elapsed_us() / 1e3)
    rows = [
        {"kernel": name, "launches": len(ms) / STEPS, "ms": sum(ms) / STEPS}
        for name, ms in found.items()
    ]
    return sorted(rows, key=lambda row: -row["ms"])
