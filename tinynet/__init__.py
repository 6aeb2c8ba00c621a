"""Deep learning in NumPy and CuPy, with every forward and backward pass written out by hand."""

from tinynet import kernels, layers, models
from tinynet.backend import array_module, to_device, use_reference
from tinynet.layer import EVAL, Layer, Mode, Parameter
from tinynet.visualize import draw

__version__ = "0.1.0"

__all__ = [
    "EVAL",
    "Layer",
    "Mode",
    "Parameter",
    "array_module",
    "draw",
    "kernels",
    "layers",
    "models",
    "to_device",
    "use_reference",
]
