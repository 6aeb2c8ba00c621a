"""One training step of one network in one library: ``python -m benchmarks.zoo.step NAME LIBRARY``.

Prints one line of JSON: milliseconds of each step after the first, and the process's peak memory.
Batch 4 at the network's usual size, 1,000 classes, Adam, float32.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

BATCH, STEPS = 4, 3


def ours(name: str, x: np.ndarray, y: np.ndarray) -> Callable[[], float]:
    """tinynet's step."""
    from benchmarks.zoo.entries import CLASSES
    from tinynet.losses import SoftmaxCrossEntropy
    from tinynet.models.architecture import Architecture
    from tinynet.optimizers import Adam
    from tinynet.train import TrainStep

    model = Architecture(name, {"num_classes": CLASSES, "input_shape": x.shape[1:]}).build()
    loss: Any = SoftmaxCrossEntropy()
    if name == "googlenet":
        from tinynet.losses import WithAuxiliary

        loss = WithAuxiliary(loss)
    step = TrainStep(model, loss, Adam(1e-4))
    return lambda: step(x, y)


def torch(name: str, x: np.ndarray, y: np.ndarray) -> Callable[[], float]:
    """torch's step, in the memory order that it is fastest in on a CPU (channels last)."""
    import torch as package
    from torch.nn.functional import cross_entropy

    from benchmarks.zoo.entries import ENTRIES

    model = ENTRIES[name].torch().train().to(memory_format=package.channels_last)
    images = package.from_numpy(x).permute(0, 3, 1, 2)
    labels = package.from_numpy(y)
    optimizer = package.optim.Adam(model.parameters(), 1e-4)

    def step() -> float:
        optimizer.zero_grad()
        outputs = model(images)
        if isinstance(outputs, tuple):
            main, *heads = (cross_entropy(z, labels) for z in outputs)
            loss = main + 0.3 * sum(heads)
        else:
            loss = cross_entropy(outputs, labels)
        loss.backward()
        optimizer.step()
        return float(loss)

    return step


def measure(name: str, library: str) -> dict[str, Any]:
    """Times of a few steps, and the peak of memory, weights and optimiser included."""
    from benchmarks.zoo.entries import CLASSES, ENTRIES

    side = ENTRIES[name].side
    rng = np.random.default_rng(0)
    x = rng.normal(size=(BATCH, side, side, 3)).astype(np.float32)
    y = rng.integers(0, CLASSES, BATCH)
    step = {"tinynet": ours, "torch": torch}[library](name, x, y)
    times, losses = [], []
    for _ in range(1 + STEPS):
        start = time.perf_counter()
        losses.append(step())
        times.append(1e3 * (time.perf_counter() - start))
    assert np.isfinite(losses).all()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"ms": times[1:], "peak_mb": peak, "side": side, "batch": BATCH}


if __name__ == "__main__":
    print(json.dumps(measure(*sys.argv[1:3])))
