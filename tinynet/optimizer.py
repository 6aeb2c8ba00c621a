"""Moved to tinynet.optimizers.base."""

from tinynet.optimizers.base import *  # noqa: F403
