"""Moved to tinynet.testing.tour."""

from tinynet.testing.tour import *  # noqa: F403
