"""Synthetic radiographs in MURA's layout: solid bones, a beam, a detector."""

from examples.mura.phantom.generate import generate

__all__ = ["generate"]
