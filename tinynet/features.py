"""Moved to tinynet.train.features."""

from tinynet.train.features import *  # noqa: F403
