"""Moved to tinynet.train.evaluation."""

from tinynet.train.evaluation import *  # noqa: F403
