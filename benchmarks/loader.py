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
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
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
    from examples.mura.prepare import prepare

    rounds, results = run.backend.rounds, dict[str, Any]()
    with tempfile.TemporaryDirectory() as name:
        run.clock.say("drawing synthetic radiographs")
        sizes = {"train_patients": PATIENTS, "valid_patients": 4, "side": SIDE}
        data = read_dataset(generate(Path(name), **sizes, progress=False))
        for network in NETWORKS:
            side, rates, kernels = WORKLOADS[network].side, list[float](), dict[str, Any]()
            for number in range(rounds):
                cache, how = Path(name, f"{side}-{number}"), {"workers": 1, "progress": False}
                took = seconds(lambda c=cache, s=side, h=how: prepare(data, c, side=s, **h))
                rates.append(len(data.images) / took)
            for variant in installed(run.backend.ours)[0]:
                with run.network() as here:
                    asked = {"network": network, "cache": str(cache), "rounds": rounds}
                    entry = here.worker(variant).call("loader:measure", **asked)
                kernels[variant.name] = entry
                waits = f"{100 * waiting_share(entry):.2f} %"
                run.clock.say(f"{network}, {variant.name}: waits {waits} of an epoch")
            results[network] = {"decode": rates, "images": len(data.images), "kernels": kernels}
    return {"networks": results}


def delivered_per_consumed(entry: dict[str, Sequence[float]]) -> float:
    return median(a / b for a, b in zip(entry["delivers"], entry["consumes"], strict=True))


def waiting_share(entry: dict[str, Sequence[float]]) -> float:
    """Return the part of an epoch that training waits, but for its first batch."""
    return sum(entry["waiting"]) / sum(entry["seconds"])


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(device: Cpu, network: str, cache: str, rounds: int) -> dict[str, list[float]]:
    """Return the figures above, one a round, but for a first round that warms up.

    In the process that is timed.
    """
    from examples.mura.prepare import open_prepared
    from examples.mura.radiographs import Radiographs
    from examples.mura.settings import DEMO
    from tinynet.train import fit
    from tinynet.train.data import batches, generator

    prepared = open_prepared(Path(cache))
    rows = np.arange(BATCH * BATCHES) % len(prepared.labels)
    data = Radiographs(prepared, rows, DEMO.augmentation)
    step, batch = (
        train_step(WORKLOADS[network], "fp32", device, 1e-4),
        data.batch(rows[:BATCH], None),
    )
    step(*batch)
    found: dict[str, list[float]] = {}

    def deliver(number: int) -> None:
        order = batches(len(data), BATCH, generator(0, "shuffle", number))
        for b, indices in enumerate(order):  # as fit makes them
            data.batch(indices, generator(0, "augment", number, b))

    def epoch() -> None:
        more = {"epochs": 1, "batch_size": BATCH, "progress": False}
        fit(step.model, step.loss, step.optimizer, data, **more)

    for number in range(rounds + 1):
        delivered = seconds(lambda number=number: deliver(number))
        consumed = seconds(lambda: [step(*batch) for _ in range(BATCHES // 2)])
        with timed_waits() as waits:
            took = seconds(epoch)
        if len(waits) != BATCHES:
            raise RuntimeError(f"{len(waits)} batches were waited for, want {BATCHES}")
        rates = {"delivers": len(rows) / delivered, "trains": len(rows) / took}
        rates["consumes"] = BATCH * (BATCHES // 2) / consumed
        waited = {"waiting": sum(waits[1:]), "first": waits[0], "seconds": took}
        for name, value in {**rates, **waited}.items():
            found.setdefault(name, []).append(value)
    return {name: values[1:] for name, values in found.items()}


@contextmanager
def timed_waits() -> Iterator[list[float]]:
    """Within this block, the seconds that ``fit`` waits for each batch are added to the list."""
    from tinynet.train import fit

    waits: list[float] = []
    module: Any = sys.modules[fit.__module__]
    original = module.prefetch

    def prefetch(*given: Any) -> Iterator[Any]:
        with closing(original(*given)) as made:
            while True:
                start = time.perf_counter()
                try:
                    item = next(made)
                except StopIteration:
                    return
                waits.append(time.perf_counter() - start)
                yield item

    module.prefetch = prefetch
    try:
        yield waits
    finally:
        module.prefetch = original
