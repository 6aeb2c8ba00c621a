"""Synthetic radiographs in MURA's layout: solid bones, a beam, a detector."""

from examples.mura.phantom.generate import TRAIN_PATIENTS, VALID_PATIENTS, generate

__all__ = ["TRAIN_PATIENTS", "VALID_PATIENTS", "generate"]
