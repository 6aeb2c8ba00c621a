"""Moved to examples.mura.dataset."""

from examples.mura.dataset import *  # noqa: F403
