"""Moved to tinynet.train.data."""

from tinynet.train.data import *  # noqa: F403
