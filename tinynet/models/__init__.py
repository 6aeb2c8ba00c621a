"""Whole networks, one file per architecture, each a short table of its stages."""

from tinynet.models.classifier import Classifier
from tinynet.models.vgg_like import vgg_like

__all__ = ["Classifier", "vgg_like"]
