"""Does a base trained on some body parts help on others that it has not seen?  Report §2.5.5-6.

A network learns normal or abnormal on the base parts. Its base is then carried to the target
parts, of which there are few images, in the ways of ``METHODS``; each is measured on the target
parts of the validation patients, on whom no network was trained.

base.safetensors   the network trained on the base parts
features/          representations of the target images by the frozen base, computed once
transfer.json      every measurement ("base": the network on the base parts; "as_it_is": the same
                   network, with its old head, on the target parts; "points": the methods); a run
                   that was stopped goes on from there
transfer.png       the plot
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from examples.mura.augment import AugmentSettings
from examples.mura.computing import CPU, Computing
from examples.mura.dataset import SPLITS
from examples.mura.errors import UserError
from examples.mura.model import CLASSES, build_loss, build_model, build_optimizer
from examples.mura.prepare import MANIFEST, Prepared, read_plan
from examples.mura.radiographs import Radiographs
from examples.mura.records import Schema, read_record
from examples.mura.run import in_use
from examples.mura.settings import Settings
from tinynet.layer import Layer
from tinynet.layers import Dense, Flatten, Sequential
from tinynet.metrics import auc, cohen_kappa
from tinynet.models import Classifier
from tinynet.schedules import Cosine
from tinynet.train import fit, predict
from tinynet.train.checkpoint import load_checkpoint, save_checkpoint, write_whole
from tinynet.train.data import ArrayDataset, Dataset, generator
from tinynet.train.features import cached_features
from tinynet.train.transfer import HeadOnly, replace_head, unfreeze_from

METHODS = {
    "scratch": "everything trained from random weights",
    "random": "random base, frozen; head trained",
    "probe": "carried base, frozen; linear probe trained",
    "frozen": "carried base, frozen; head trained",
    "fine_tuned": "carried base; head trained, then everything",
}
MEASURED: Schema = {"auc": float, "kappa": float, str: object}
RESULTS: Schema = {
    "synthetic": bool,
    **dict.fromkeys(("plan", "settings"), {str: object}),
    "images": str,
    **dict.fromkeys(("base?", "as_it_is?"), MEASURED),
    "points": [MEASURED | {"method": str, "size": int, "seed": int, "seconds": float}],
    str: object,
}
Point = dict[str, Any]  # method, size, seed, auc, kappa, seconds


@dataclass(frozen=True)
class Plan:
    """The design of the experiment.

    base_parts, target_parts   body parts that the base learns on, and those it is carried to
    sizes            numbers of target images to train on
    repeats          repetitions, each with other images, weights and shuffles
    passes           images that a head trains on in all, in at least ``least_epochs`` epochs;
                     fine-tuning adds half of that, and training from scratch takes as many as both
    """

    base_parts: tuple[str, ...] = ("ELBOW", "FINGER", "FOREARM", "HUMERUS", "SHOULDER")
    target_parts: tuple[str, ...] = ("HAND", "WRIST")
    sizes: tuple[int, ...] = (50, 200, 1000)
    repeats: int = 3
    passes: int = 6000
    least_epochs: int = 12

    def epochs(self, size: int) -> int:
        return max(self.least_epochs, -(-self.passes // size))

    def more_epochs(self, size: int) -> int:
        """Epochs of fine-tuning after those."""
        return -(-self.epochs(size) // 2)


@dataclass(frozen=True)
class Experiment:
    """The experiment in its folder: its plan, the settings, the images, where it is computed."""

    folder: Path
    plan: Plan
    settings: Settings
    prepared: Prepared
    how: Computing = CPU

    def run(self) -> dict[str, Any]:
        """Do the experiment, or what is left of it; returns transfer.json's content.

        Raises UserError for a plan that the images do not allow, and if the folder holds another.
        """
        self.check()
        with in_use(self.folder):
            return self.done()

    def done(self) -> dict[str, Any]:
        results, plan = self.begun(), self.plan
        self.save(results)  # at once: whatever else is in the folder is of this experiment
        base = self.trained_base()
        for name, parts in (("base", plan.base_parts), ("as_it_is", plan.target_parts)):
            results[name] = self.measure(base, self.radiographs("valid", parts))
        measured: dict[tuple[int, int], set[str]] = {}
        for p in results["points"]:
            measured.setdefault((p["size"], p["seed"]), set()).add(p["method"])
        done = {key for key, methods in measured.items() if methods >= set(METHODS)}
        results["points"] = [p for p in results["points"] if (p["size"], p["seed"]) in done]
        for repeat, size in product(range(plan.repeats), plan.sizes):
            seed = repeat + self.settings.seed
            if (size, seed) not in done:
                results["points"] += Trial(self, base, size, seed).points()
            self.save(results)
        return results

    def save(self, results: dict[str, Any]) -> None:
        write_whole(self.folder / "transfer.json", json.dumps(results, indent=1).encode())

    def check(self) -> None:
        """Raise UserError for a plan that makes no sense, or lacks images."""
        plan = self.plan
        if both := sorted(set(plan.base_parts) & set(plan.target_parts)):
            raise UserError(
                f"{both[0]} is among the base parts and among the target parts: leave it out of "
                "one, the base must not have seen what it is carried to"
            )
        if min(plan.sizes) < 2 or plan.repeats < 1 or plan.passes < 1:
            raise UserError(
                f"got sizes {plan.sizes}, {plan.repeats} repeats and {plan.passes} passes, want "
                "sizes from 2 and at least 1 of the others"
            )
        for split, parts in product(SPLITS, (plan.base_parts, plan.target_parts)):
            labels = [image.label for image in self.prepared.split(split, parts)]
            if len(set(labels)) < len(CLASSES):
                raise UserError(
                    f"{', '.join(parts)} have no normal or no abnormal images in {split!r}: choose "
                    "other parts, or make more patients"
                )
            if parts == plan.target_parts and split == "train" and len(labels) < max(plan.sizes):
                raise UserError(
                    f"{', '.join(parts)} have {len(labels):,} training images, want "
                    f"{max(plan.sizes):,}: give smaller --sizes, or make more patients"
                )

    def begun(self) -> dict[str, Any]:
        """The results in the folder, or empty ones.

        Raises UserError if they are of another plan, other settings or other images.
        """
        images = read_plan(self.prepared.folder / MANIFEST)[0].digest
        made_of = {"plan": asdict(self.plan), "settings": asdict(self.settings), "images": images}
        made_of = json.loads(json.dumps(made_of))  # as it comes back from the file
        file = self.folder / "transfer.json"
        if not file.exists():
            kind = {"synthetic": self.prepared.synthetic, "not_for_clinical_use": True}
            return {**kind, **made_of, "points": []}
        results: dict[str, Any] = read_record(file, RESULTS, "give another folder with --run")
        settings = Settings.from_json(results["settings"])
        if (results["plan"], results["images"], settings) != (
            *(made_of["plan"], images), self.settings,
        ):  # fmt: skip
            raise UserError(
                f"{file} was made with other settings or images: give another folder with --run"
            )
        return results

    def radiographs(
        self, split: str, parts: tuple[str, ...], augment: AugmentSettings | None = None
    ) -> Radiographs:
        rows = self.prepared.rows(self.prepared.split(split, parts))
        return Radiographs(self.prepared, rows, augment, self.settings.form)

    def trained_base(self) -> Classifier:
        """Train the network on the base parts, or load it if that is done."""
        s, parts = self.settings, self.plan.base_parts
        model, file = self.how.placed(build_model(s)), self.folder / "base.safetensors"
        if file.exists():
            load_checkpoint(file, model)
            return model
        images = self.radiographs("train", parts, s.augmentation)
        print(f"training the base on {len(images):,} images of {names(parts)}", file=sys.stderr)
        self.train(model, s, images, images.labels, s.epochs)
        save_checkpoint(file, model)
        return model

    def train(
        self, model: Layer, s: Settings, data: Dataset, labels: NDArray[np.int64], epochs: int
    ) -> None:
        fit(
            model,
            build_loss(s, labels),
            build_optimizer(s),
            data,
            epochs=epochs,
            batch_size=s.batch_size,
            seed=s.seed,
            schedule=Cosine(s.learning_rate, epochs),
            progress=False,
            precision=self.how.precision,
        )

    def measure(self, model: Classifier, test: Radiographs) -> dict[str, float]:
        loss = build_loss(self.settings, test.labels)
        p = predict(model, loss, test, precision=self.how.precision)[:, 1]
        kappa = cohen_kappa(test.labels, (p > 0.5).astype(np.int64))
        return {"auc": float(auc(test.labels, p)), "kappa": float(kappa), "images": len(test)}


class Trial:
    """One training set of ``size`` target images, and every method on it.

    base   the network trained on the base parts; it is left unchanged
    seed   decides the images, the starting weights and the shuffles
    """

    def __init__(self, of: Experiment, base: Classifier, size: int, seed: int) -> None:
        self.of, self.base, self.size = of, base, size
        self.settings = replace(of.settings, seed=seed)
        self.epochs, self.more_epochs = of.plan.epochs(size), of.plan.more_epochs(size)
        self.pool = of.radiographs("train", of.plan.target_parts)
        # of one order, so that a larger set holds the smaller ones of the same seed
        self.chosen = generator(seed, "target images").permutation(len(self.pool))[:size]
        rows = self.pool.rows[self.chosen]
        self.images = Radiographs(of.prepared, rows, of.settings.augmentation, of.settings.form)

    def points(self) -> list[Point]:
        """Train by every method of ``METHODS`` and measure."""
        carried = self.with_base()
        return [
            self.point("scratch", lambda: self.all_trained(self.untrained())),
            self.point("random", lambda: self.head_trained(self.untrained())),
            self.point("probe", lambda: self.head_trained(self.probe())),
            self.point("frozen", lambda: self.head_trained(carried)),
            self.point("fine_tuned", lambda: self.fine_tuned(carried)),
        ]

    def point(self, method: str, trained: Callable[[], Classifier]) -> Point:
        start = time.perf_counter()
        model = trained()
        seconds = round(time.perf_counter() - start, 1)
        point = {"method": method, "size": self.size, "seed": self.settings.seed}
        point |= self.of.measure(model, self.of.radiographs("valid", self.of.plan.target_parts))
        point |= {"seconds": seconds, "computed_on": str(self.of.how)}
        print(
            f"{self.size:,} images, repeat {self.settings.seed}, {METHODS[method]}: "
            f"AUC {point['auc']:.3f}, kappa {point['kappa']:.3f} ({seconds:.1f} s)",
            file=sys.stderr,
        )
        return point

    def untrained(self) -> Classifier:
        return self.of.how.placed(build_model(self.settings))

    def with_base(self) -> Classifier:
        """A network with the carried base, and a new head."""
        model = build_model(self.settings)
        model.base.load_state(self.base.base.state())
        replace_head(model, len(CLASSES), generator(self.settings.seed, "head"))
        return self.of.how.placed(model)

    def probe(self) -> Classifier:
        """The carried base, and one dense layer in place of the head."""
        model = self.with_base()
        side, form = self.settings.side, self.settings.form
        features = int(np.prod(model.base.output_shape((side, side, form.channels))))
        dense = Dense(features, len(CLASSES), rng=generator(self.settings.seed, "head"))
        return self.of.how.placed(replace_head(model, Sequential(Flatten(), dense)))

    def all_trained(self, model: Classifier) -> Classifier:
        """Train every weight, on augmented images."""
        self.train(model, self.images, self.epochs + self.more_epochs)
        return model

    def head_trained(self, model: Classifier) -> Classifier:
        """Train the head on the frozen base's features, computed once for all sizes."""
        model.base.freeze()
        folder = self.of.folder / "features"
        features = cached_features(model.base, self.pool, folder, progress=False)
        few = ArrayDataset(features.x[self.chosen], features.y[self.chosen])
        self.train(HeadOnly(model), few, self.epochs)
        return model

    def fine_tuned(self, model: Classifier) -> Classifier:
        """Train every weight a little further; batch norm's statistics stay."""
        unfreeze_from(model, "base")
        self.train(model, self.images, self.more_epochs, self.settings.fine_tune_rate)
        return model

    def train(self, model: Layer, data: Dataset, epochs: int, rate: float | None = None) -> None:
        s = self.settings if rate is None else replace(self.settings, learning_rate=rate)
        self.of.train(model, s, data, self.images.labels, epochs)


def names(parts: tuple[str, ...]) -> str:
    return ", ".join(part.lower() for part in parts)
