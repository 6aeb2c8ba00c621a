"""Deep learning in NumPy and CuPy, with every forward and backward pass written out by hand."""

from tinynet import engine, layers, losses, models, optimizers
from tinynet._version import __version__
from tinynet.backend import array_module, to_device, use_kernels, use_reference
from tinynet.engine.kernels import explain
from tinynet.gradient_check import check_gradients
from tinynet.layer import EVAL, Layer, Mode, Parameter
from tinynet.visualize import draw
from tinynet.train import TrainStep, evaluate, fit, predict

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
