"""Moved to tinynet.train.transfer."""

from tinynet.train.transfer import *  # noqa: F403
