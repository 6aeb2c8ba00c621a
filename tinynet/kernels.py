"""Moved to tinynet.engine.kernels."""

from tinynet.engine.kernels import *  # noqa: F403
