"""One training step of one network in one library: batch 4 at its usual size, Adam, float32."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.device import Cpu
from benchmarks.zoo.entries import CLASSES, ENTRIES

BATCH, STEPS = 4, 3


def ours(name: str, x: np.ndarray, y: np.ndarray) -> Callable[[], float]:
    from tinynet.losses import SoftmaxCrossEntropy, WithAuxiliary
    from tinynet.models.architecture import Architecture
    from tinynet.optimizers import Adam
    from tinynet.train import TrainStep

    model = Architecture(name, {"num_classes": CLASSES, "input_shape": x.shape[1:]}).build()
    loss: Any = SoftmaxCrossEntropy()
    step = TrainStep(model, WithAuxiliary(loss) if name == "googlenet" else loss, Adam(1e-4))
    return lambda: step(x, y)


def theirs(name: str, x: np.ndarray, y: np.ndarray) -> Callable[[], float]:
    """torch's step, in the memory order that it is fastest in on a CPU (channels last)."""
    import torch
    from torch.nn.functional import cross_entropy

    build: Any = ENTRIES[name].torch
    model = build().train().to(memory_format=torch.channels_last)
    images, labels = torch.from_numpy(x).permute(0, 3, 1, 2), torch.from_numpy(y)
    optimizer = torch.optim.Adam(model.parameters(), 1e-4)

    def step() -> float:
        optimizer.zero_grad()
        outputs = model(images)
        main, *heads = outputs if isinstance(outputs, tuple) else (outputs,)
        loss = cross_entropy(main, labels) + 0.3 * sum(cross_entropy(z, labels) for z in heads)
        loss.backward()
        optimizer.step()
        return float(loss)

    return step


def measure(device: Cpu, name: str, library: str) -> dict[str, Any]:
    """Return the milliseconds of each step after the first, and the process's peak memory."""
    side, rng = ENTRIES[name].side, np.random.default_rng(0)
    x = rng.normal(size=(BATCH, side, side, 3)).astype(np.float32)
    y = rng.integers(0, CLASSES, BATCH)
    step = {"tinynet": ours, "torch": theirs}[library](name, x, y)
    times = []
    for _ in range(1 + STEPS):
        start = time.perf_counter()
        loss = step()
        times.append(1e3 * (time.perf_counter() - start))
        assert np.isfinite(loss)
    return {"ms": times[1:], "peak_mb": device.peak_mb([]), "side": side, "batch": BATCH}
