"""Moved to tinynet.visualize.summary."""

from tinynet.visualize.summary import *  # noqa: F403
