"""Moved to tinynet.visualize."""

from tinynet.visualize import *  # noqa: F403
from tinynet.visualize import __path__ as __path__  # so that tinynet.seeing.shapes is found, too
