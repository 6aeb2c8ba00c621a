"""Moved to tinynet.layer."""

from tinynet.layer import summary, summary_rows  # noqa: F401
