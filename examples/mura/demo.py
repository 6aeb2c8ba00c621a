"""The whole job on synthetic radiographs: make them, train, evaluate, report."""

from __future__ import annotations

from pathlib import Path

from examples.mura.phantom import generate
from examples.mura.settings import Settings

SYNTHETIC = Path("data/synthetic")
TRAIN_PATIENTS, VALID_PATIENTS = 1000, 300

DEMO = Settings()


def synthetic_data(folder: Path = SYNTHETIC, seed: int = 0, patients: int | None = None) -> Path:
    """The folder of the synthetic set, made if it is not there yet.

    patients   in the training split; the validation split has 3 for every 10 of them
    """
    train = TRAIN_PATIENTS if patients is None else patients
    valid = max(2, round(train * VALID_PATIENTS / TRAIN_PATIENTS))
    return generate(folder, train_patients=train, valid_patients=valid, seed=seed)
