"""Moved to tinynet.engine.precision."""

from tinynet.engine.precision import *  # noqa: F403
