"""One network, fed by the radiograph example's data path; prints one line of JSON.

python -m benchmarks.loader_run demo CACHE 5

    delivers   images/s of reading and augmenting batches, alone, one thread
    consumes   images/s of training steps on a batch that is there
    trains     images/s of an epoch of ``fit``, which does both at once
    waiting    seconds of that epoch in which training had no batch, after the first
    first      seconds until the first batch was there
    seconds    the epoch's
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.workloads import WORKLOADS
from examples.mura.prepare import open_prepared
from examples.mura.radiographs import Radiographs
from examples.mura.settings import DEMO
from tinynet import train
from tinynet.losses import SoftmaxCrossEntropy
from tinynet.models import vgg_like
from tinynet.optimizers import Adam
from tinynet.train.data import batches, generator

BATCH = 32
BATCHES = 20  # an epoch; images come more than once where the cache has fewer


def measure(network: str, cache: Path, rounds: int) -> dict[str, Any]:
    """The figures above, one a round, but for a first round that warms up."""
    prepared = open_prepared(cache)
    rows = np.arange(BATCH * BATCHES) % len(prepared.labels)
    data = Radiographs(prepared, rows, DEMO.augmentation)
    workload = WORKLOADS[network]
    model = vgg_like(
        2,
        workload.input_shape,
        workload.filters,
        workload.hidden,
        batch_norm=workload.batch_norm,
        rng=np.random.default_rng(0),
    )
    step = train.TrainStep(model, SoftmaxCrossEntropy(), Adam(1e-4))
    found: dict[str, list[float]] = {}
    for number in range(rounds + 1):
        delivered, consumed = deliver(data, number), consume(step, data)
        with timed_waits() as waits:
            seconds = epoch(step, data)
        if len(waits) != BATCHES:
            raise RuntimeError(f"{len(waits)} batches were waited for, want {BATCHES}")
        figures = {
            "delivers": delivered,
            "consumes": consumed,
            "trains": len(rows) / seconds,
            "waiting": sum(waits[1:]),
            "first": waits[0],
            "seconds": seconds,
        }
        for name, value in figures.items():
            found.setdefault(name, []).append(value)
    return {name: values[1:] for name, values in found.items()}


def deliver(data: Radiographs, number: int) -> float:
    """Images a second of making an epoch's batches as ``fit`` does, and nothing else."""
    order = batches(len(data), BATCH, generator(0, "shuffle", number))
    start = time.perf_counter()
    for b, indices in enumerate(order):
        data.batch(indices, generator(0, "augment", number, b))
    return len(data) / (time.perf_counter() - start)


def consume(step: train.TrainStep, data: Radiographs) -> float:
    """Images a second of training on one batch again and again."""
    x, y = data.batch(np.arange(BATCH), None)
    step(x, y)
    start = time.perf_counter()
    for _ in range(BATCHES // 2):
        step(x, y)
    return BATCH * (BATCHES // 2) / (time.perf_counter() - start)


def epoch(step: train.TrainStep, data: Radiographs) -> float:
    """Seconds of one epoch of ``fit``."""
    start = time.perf_counter()
    train.fit(
        step.model, step.loss, step.optimizer, data, epochs=1, batch_size=BATCH, progress=False
    )
    return time.perf_counter() - start


@contextmanager
def timed_waits() -> Iterator[list[float]]:
    """Within this block, the seconds that ``fit`` waits for each batch are added to the list."""
    waits: list[float] = []
    original = train.prefetch

    def prefetch(iterable: Iterable[Any], depth: int = 2) -> Generator[Any, None, None]:
        made = original(iterable, depth)
        try:
            while True:
                start = time.perf_counter()
                try:
                    item = next(made)
                except StopIteration:
                    return
                waits.append(time.perf_counter() - start)
                yield item
        finally:
            made.close()

    train.prefetch = prefetch
    try:
        yield waits
    finally:
        train.prefetch = original


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))))
