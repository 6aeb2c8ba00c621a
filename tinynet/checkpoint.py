"""Moved to tinynet.train.checkpoint."""

from tinynet.train.checkpoint import *  # noqa: F403
