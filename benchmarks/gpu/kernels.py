"""Where the time of a training step goes: each of our kernels by itself, by CUDA events.

The step runs kernel by kernel, not as a graph, behind a kernel that only counts: so the GPU does
not wait for Python in between. What CuPy's own operations take is the rest of the step.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from benchmarks.gpu.clock import Clock
from benchmarks.gpu.device import Cpu
from benchmarks.gpu.networks import Network, radiographs
from benchmarks.gpu.processes import Pool, WorkerError
from benchmarks.gpu.settings import Keep, Settings
from benchmarks.gpu.variants import OURS
from tinynet.engine.kernels.cuda import source

STEPS = 5
AHEAD = 0.1  # seconds for which the GPU waits before a step; Python starts one in less
NETWORKS = {
    "vgg_like 128, batch 32": (radiographs(128, 32), ("bf16", "fp32")),
    "VGG16 224, batch 64": (Network("vgg16", 224, 64, settings={"keep_prob": 1.0}), ("bf16",)),
}


def measure(settings: Settings, pool: Pool, clock: Clock, keep: Keep) -> dict[str, Any]:
    """ "network, precision" -> rows of kernels, or why there are none."""
    found: dict[str, Any] = {}
    for name, (network, precisions) in NETWORKS.items():
        for precision in precisions:
            if not clock.has(label := f"{name}, {precision}"):
                continue
            task = {"kernels": asdict(settings.network(network)), "precision": precision}
            try:
                found[label] = pool.worker(OURS).ask(limit=max(5.0, clock.left()), **task)
            except WorkerError as error:
                found[label] = {"failed": str(error)}
            keep({"networks": found})
            clock.say(f"{label}: {len(found[label].get('rows', ()))} kernels")
    return {"networks": found}


def rows_of(device: Cpu, network: Network, precision: str) -> dict[str, Any]:
    """{"rows": [{"source", "kernel", "at", "launches", "ms"}], "step_ms"}: a step's, longest first.

    On the processor, where no kernel of ours runs, no rows.
    """
    from tinynet.losses import SoftmaxCrossEntropy
    from tinynet.optimizers import Adam
    from tinynet.train import TrainStep

    if device.name != "gpu":
        return {"rows": [], "step_ms": 0.0}
    model = network.build().to("cupy")
    step = TrainStep(model, SoftmaxCrossEntropy(), Adam(network.rate), precision=precision)
    x, y = network.data()
    images = device.xp.asarray(x)
    with watched(device) as launches:
        step(images, y)
        (graph,) = step._step.graphs._steps.values()
        graph.run._captures = False  # kernel by kernel from here on
        launches.clear()
        times = []
        for _ in range(STEPS):
            before = len(launches)
            times.append(device.time(lambda: step(images, y), 1, AHEAD))
            assert len(launches) > before
        device.wait()
    found: dict[tuple[str, str, str], list[float]] = {}
    for key, start, stop in launches:
        found.setdefault(key, []).append(float(device.xp.cuda.get_elapsed_time(start, stop)))
    rows = [
        {
            **dict(zip(("source", "kernel", "at"), key, strict=True)),
            "launches": len(ms) / STEPS,
            "ms": sum(ms) / STEPS,
        }
        for key, ms in found.items()
    ]
    rows.sort(key=lambda row: -row["ms"])
    return {"rows": rows, "step_ms": min(times)}


@contextmanager
def watched(device: Cpu) -> Iterator[list[tuple[tuple[str, str, str], Any, Any]]]:
    """Within this block every launch of ours is noted: what it is, the events around it."""
    launches: list[tuple[tuple[str, str, str], Any, Any]] = []
    plain = source._function

    def function(name: str, kernel: str, definitions: source.Definitions) -> Any:
        return Launches(plain(name, kernel, definitions), (name, kernel, at(definitions)))

    class Launches:
        """A kernel whose launches are noted."""

        def __init__(self, kernel: Any, key: tuple[str, str, str]) -> None:
            object.__setattr__(self, "_kernel", kernel)
            object.__setattr__(self, "_key", key)

        def __call__(self, *arguments: Any, **more: Any) -> None:
            cuda = device.xp.cuda
            start, stop, stream = cuda.Event(), cuda.Event(), cuda.get_current_stream()
            start.record(stream)
            self._kernel(*arguments, **more)
            stop.record(stream)
            launches.append((self._key, start, stop))

        def __getattr__(self, name: str) -> Any:
            return getattr(self._kernel, name)

        def __setattr__(self, name: str, value: Any) -> None:
            setattr(self._kernel, name, value)

    source._function = function  # type: ignore[assignment]
    try:
        yield launches
    finally:
        source._function = plain


def at(definitions: source.Definitions) -> str:
    """The geometry, as far as it is compiled in: "3×3, 64 → 128, 56×56"."""
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
