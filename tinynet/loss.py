"""Moved to tinynet.losses.base."""

from tinynet.losses.base import *  # noqa: F403
