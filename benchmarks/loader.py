"""The radiograph example's data path beside the training that it feeds.

    once     every PNG is decoded, made square and written to the cache
    always   a batch is read from the cache, augmented and made float32, two batches ahead, by one
             thread of ``fit``
    training waits for a batch that is not ready; how long is measured inside ``fit``

On synthetic radiographs of MURA's size, 512 pixels. The training is timed with each set of kernels
in a process by itself:

    delivers   images/s of reading and augmenting batches, alone, one thread
    consumes   images/s of training steps on a batch that is there
    trains     images/s of an epoch of ``fit``, which does both at once
    waiting    seconds of that epoch in which training had no batch, after the first
    first      seconds until the first batch was there
    seconds    the epoch's
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.backends import Run
from benchmarks.device import Cpu
from benchmarks.peers import train_step
from benchmarks.variants import installed
from benchmarks.workloads import WORKLOADS

NETWORKS = ("demo", "W128")
AIM = 3  # images that the data path delivers for each that training consumes
PATIENTS, SIDE = 40, 512  # of the synthetic set; about 180 images
BATCH = 32
BATCHES = 20  # an epoch; images come more than once where the cache has fewer


def measure_loader(run: Run) -> dict[str, Any]:
    """Return {"networks": network -> {"decode": images/s, "kernels": {variant: as above}}}."""
    from examples.mura.dataset import read_dataset
    from examples.mura.phantom import generate

    rounds, results = run.backend.rounds, dict[str, Any]()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run.clock.say("drawing synthetic radiographs")
        sizes = {"train_patients": PATIENTS, "valid_patients": 4, "side": SIDE}
        data = read_dataset(generate(folder, **sizes, progress=False))
        for network in NETWORKS:
            side = WORKLOADS[network].side
            caches = [folder / f"{side}-{number}" for number in range(rounds)]
            rates = [decode_rate(data, cache, side) for cache in caches]
            kernels = {}
            for variant in installed(run.backend.ours)[0]:
                with run.network() as here:
                    asked = {"network": network, "cache": str(caches[0]), "rounds": rounds}
                    kernels[variant.name] = here.worker(variant).call("loader:measure", **asked)
                run.clock.say(f"{network}, {variant.name}: {said(kernels[variant.name])}")
            results[network] = {"decode": rates, "images": len(data.images), "kernels": kernels}
    return {"networks": results}


def decode_rate(data: Any, cache: Path, side: int) -> float:
    """Return the images a second that ``prepare`` decodes and writes, in one process."""
    from examples.mura.prepare import prepare

    start = time.perf_counter()
    prepare(data, cache, side=side, workers=1, progress=False)
    return len(data.images) / (time.perf_counter() - start)


def delivered_per_consumed(entry: dict[str, Sequence[float]]) -> float:
    """Return the images that are delivered for each that a training step alone consumes."""
    return median(a / b for a, b in zip(entry["delivers"], entry["consumes"], strict=True))


def waiting_share(entry: dict[str, Sequence[float]]) -> float:
    """Return the part of an epoch that training waits, but for its first batch."""
    return sum(entry["waiting"]) / sum(entry["seconds"])


def said(entry: dict[str, Any]) -> str:
    delivers, consumes = median(entry["delivers"]), median(entry["consumes"])
    waits = 100 * waiting_share(entry)
    return f"delivers {delivers:.0f} images/s, consumes {consumes:.0f}, waits {waits:.2f} %"


# in the process that is timed


def measure(device: Cpu, network: str, cache: str, rounds: int) -> dict[str, list[float]]:
    """Return the figures above, one a round, but for a first round that warms up."""
    from examples.mura.cache import open_prepared
    from examples.mura.radiographs import Radiographs
    from examples.mura.settings import DEMO
    from tinynet.train import fit
    from tinynet.train.data import batches, generator

    prepared = open_prepared(Path(cache))
    rows = np.arange(BATCH * BATCHES) % len(prepared.labels)
    data = Radiographs(prepared, rows, DEMO.augmentation)
    step = train_step(WORKLOADS[network], "fp32", device, rate=1e-4)

    def deliver(number: int) -> None:
        order = batches(len(data), BATCH, generator(0, "shuffle", number))
        for b, indices in enumerate(order):
            data.batch(indices, generator(0, "augment", number, b))

    def consume() -> None:
        for _ in range(BATCHES // 2):
            step(*batch)

    def epoch() -> None:
        more = {"epochs": 1, "batch_size": BATCH, "progress": False}
        fit(step.model, step.loss, step.optimizer, data, **more)

    found: dict[str, list[float]] = {}
    batch = data.batch(np.arange(BATCH), None)
    step(*batch)
    for number in range(rounds + 1):
        delivered = len(rows) / seconds(lambda number=number: deliver(number))
        consumed = BATCH * (BATCHES // 2) / seconds(consume)
        with timed_waits() as waits:
            took = seconds(epoch)
        if len(waits) != BATCHES:
            raise RuntimeError(f"{len(waits)} batches were waited for, want {BATCHES}")
        figures = {"delivers": delivered, "consumes": consumed, "trains": len(rows) / took}
        figures |= {"waiting": sum(waits[1:]), "first": waits[0], "seconds": took}
        for name, value in figures.items():
            found.setdefault(name, []).append(value)
    return {name: values[1:] for name, values in found.items()}


def seconds(work: Any) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


@contextmanager
def timed_waits() -> Iterator[list[float]]:
    """Within this block, the seconds that ``fit`` waits for each batch are added to the list."""
    from tinynet.train import fit

    waits: list[float] = []
    module: Any = sys.modules[fit.__module__]
    original = module.prefetch

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

    module.prefetch = prefetch
    try:
        yield waits
    finally:
        module.prefetch = original
