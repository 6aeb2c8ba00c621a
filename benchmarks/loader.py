"""The radiograph example's data path beside the training that it feeds.

    once     every PNG is decoded, made square and written to the cache
    always   a batch is read from the cache, augmented and made float32, two batches ahead, by one
             thread of ``fit``
    training waits for a batch that is not ready; how long is measured inside ``fit``

On synthetic radiographs of MURA's size, 512 pixels. The training is timed with each set of kernels
in a process of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.processes import ROOT, environment
from benchmarks.variants import OURS, Variant, installed
from benchmarks.workloads import WORKLOADS

NETWORKS = ("demo", "W128")
AIM = 3  # images that the data path delivers for each that training consumes
PATIENTS, SIDE = 40, 512  # of the synthetic set; about 180 images


def measure_loader(rounds: int, threads: int) -> dict[str, Any]:
    """Network -> {"decode": images/s once, "kernels": {variant: see ``benchmarks.loader_run``}}."""
    from examples.mura.dataset import read_dataset
    from examples.mura.phantom import generate

    present, _ = installed(OURS)
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print("drawing synthetic radiographs", file=sys.stderr, flush=True)
        data = read_dataset(
            generate(folder, train_patients=PATIENTS, valid_patients=4, side=SIDE, progress=False)
        )
        for network in NETWORKS:
            side = WORKLOADS[network].side
            rates = []
            for number in range(rounds):
                cache = folder / f"{side}-{number}"
                rates.append(decode_rate(data, cache, side))
            kernels = {}
            for variant in present:
                kernels[variant.name] = run(network, cache, variant, rounds, threads)
                say(network, variant, kernels[variant.name])
            results[network] = {"decode": rates, "images": len(data.images), "kernels": kernels}
    return results


def decode_rate(data: Any, cache: Path, side: int) -> float:
    """Images a second that ``prepare`` decodes and writes, in one process."""
    from examples.mura.prepare import prepare

    start = time.perf_counter()
    prepare(data, cache, side=side, workers=1, progress=False)
    return len(data.images) / (time.perf_counter() - start)


def run(network: str, cache: Path, variant: Variant, rounds: int, threads: int) -> dict[str, Any]:
    """What ``benchmarks.loader_run`` measures, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.loader_run", network, str(cache), str(rounds)]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment(variant, threads)
    )
    if done.returncode:
        raise SystemExit(f"error: loader, {network}: {variant.name} failed, see above")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def delivered_per_consumed(entry: dict[str, Sequence[float]]) -> float:
    """Images that the data path delivers for each that a training step alone consumes."""
    return median(a / b for a, b in zip(entry["delivers"], entry["consumes"], strict=True))


def waiting_share(entry: dict[str, Sequence[float]]) -> float:
    """Part of an epoch that training waits, but for its first batch."""
    return sum(entry["waiting"]) / sum(entry["seconds"])


def say(network: str, variant: Variant, entry: dict[str, Any]) -> None:
    """One line as it goes."""
    print(
        f"{network}, {variant.name}: delivers {median(entry['delivers']):.0f} images/s, "
        f"training consumes {median(entry['consumes']):.0f}, waits "
        f"{100 * waiting_share(entry):.2f} % of an epoch",
        file=sys.stderr,
        flush=True,
    )
