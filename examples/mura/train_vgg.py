"""Train a VGG-like network to tell normal from abnormal radiographs, and print its study kappa.

    python -m examples.mura.train_vgg             synthetic radiographs, drawn on first use
    python -m examples.mura.train_vgg MURA-v1.1   the real ones

This is the whole of it, from top to bottom. ``python -m examples.mura`` does the same with more
augmentation, baselines, intervals and a report. Not for clinical use.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

from examples.mura.dataset import PARTS, Image, read_dataset, split_by_patient
from examples.mura.errors import UserError
from examples.mura.output import warn
from examples.mura.phantom import generate
from examples.mura.prepare import Prepared, cache_name, prepare
from tinynet.losses import SoftmaxCrossEntropy
from tinynet.metrics import cohen_kappa
from tinynet.models import vgg_like
from tinynet.optimizers import Adam
from tinynet.schedules import Cosine
from tinynet.train import fit, predict
from tinynet.train.data import ArrayDataset


def arrays(prepared: Prepared, images: list[Image]) -> tuple[np.ndarray, np.ndarray]:
    """x (N, side, side, 1), grey levels from -2 to 2, and labels y (N,), 1 for abnormal."""
    rows = prepared.rows(images)
    x = (prepared.pixels[rows].astype(np.float32) / 255 - 0.5) / 0.25
    return x[..., None], prepared.labels[rows]


def mirrored(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Augment a batch: half of its images, drawn at random, are flipped left to right."""
    flip = rng.random(len(x)) < 0.5
    return np.where(flip[:, None, None, None], x[:, :, ::-1], x)


def main(folder: Path | None = None, side: int = 64, epochs: int = 8) -> float:
    """Train on a folder of radiographs; print kappa by body part, and return that of all."""
    # The data: small grey squares, decoded once. No patient is in two of the three sets.
    data = read_dataset(folder or generate(Path("data/synthetic")))
    prepared = prepare(data, Path("data/prepared") / cache_name(data, side, "stretch"), side=side)
    warn([*data.warnings, *prepared.warnings])
    train, held_out = split_by_patient(data.split("train"), 0.1, seed=0)
    valid = data.split("valid")

    # The network: four blocks of two 3×3 convolutions and a max-pool, then two dense layers.
    rng = np.random.default_rng(0)
    model = vgg_like(2, (side, side, 1), filters=(8, 16, 32, 64), batch_norm=True, rng=rng)

    # Training: the epoch with the lowest loss on the held-out patients is kept.
    loss, rate = SoftmaxCrossEntropy(), 3e-3
    fit(
        model,
        loss,
        Adam(rate),
        ArrayDataset(*arrays(prepared, train), augment=mirrored),
        arrays(prepared, held_out),
        epochs=epochs,
        schedule=Cosine(rate, epochs),
        restore_best=True,
    )

    # Evaluation: MURA labels studies, not images, so a study's probability of being abnormal is
    # the mean over its views, and Cohen's kappa compares studies.
    probability = predict(model, loss, arrays(prepared, valid)[0])[:, 1]
    views = defaultdict(list)
    for image, p in zip(valid, probability, strict=True):
        views[image.study_key, image.label].append(p)
    studies = [(part, label, np.mean(p) > 0.5) for ((part, *_), label), p in views.items()]

    print(f"\n{'synthetic' if data.synthetic else 'real'} radiographs, patients not trained on")
    for name in (*PARTS, "ALL"):
        pairs = [(label, call) for part, label, call in studies if name in (part, "ALL")]
        if pairs:
            kappa = cohen_kappa(*np.array(pairs).T)
            print(f"{name.capitalize():10}{len(pairs):6,} studies   kappa {kappa:6.3f}")
    print("Not for clinical use.")
    return kappa


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
    except UserError as error:
        sys.exit(f"error: {error}")
