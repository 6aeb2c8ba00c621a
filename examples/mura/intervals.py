"""Moved to examples.mura.studies."""

from examples.mura.studies import *  # noqa: F403
