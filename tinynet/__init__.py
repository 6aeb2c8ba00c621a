"""Deep learning in NumPy and CuPy, with every forward and backward pass written out by hand."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tinynet import engine, layers, losses, optimizers
from tinynet._version import __version__
from tinynet.backend import array_module, to_device, use_kernels, use_reference
from tinynet.engine.kernels import explain
from tinynet.layer import EVAL, Layer, Mode, Parameter

if TYPE_CHECKING:
    from tinynet import models
    from tinynet.gradient_check import check_gradients
    from tinynet.train import TrainStep, evaluate, fit, predict
    from tinynet.visualize import draw

__all__ = [
    "EVAL",
    "Layer",
    "Mode",
    "Parameter",
    "TrainStep",
    "__version__",
    "array_module",
    "check_gradients",
    "draw",
    "engine",
    "evaluate",
    "explain",
    "fit",
    "layers",
    "losses",
    "models",
    "optimizers",
    "predict",
    "to_device",
    "use_kernels",
    "use_reference",
]

# Imported at first use, which halves the time that ``import tinynet`` takes: name -> module
_LATER = dict.fromkeys(("TrainStep", "evaluate", "fit", "predict"), "tinynet.train")
_LATER |= {"check_gradients": "tinynet.gradient_check", "draw": "tinynet.visualize"}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(_LATER[name]), name)
    if name in ("models", "kernels", "seeing"):  # the last two are old paths
        return import_module(f"tinynet.{name}")
    raise AttributeError(f"module 'tinynet' has no attribute {name!r}")
