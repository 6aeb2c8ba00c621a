"""Moved to tinynet.train.step."""

from tinynet.train.step import *  # noqa: F403
