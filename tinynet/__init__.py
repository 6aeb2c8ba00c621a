"""Deep learning in NumPy and CuPy, with every forward and backward pass written out by hand."""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from tinynet._version import __version__

if TYPE_CHECKING:
    from tinynet import engine, layers, losses, models, optimizers
    from tinynet.backend import array_module, to_device, use_kernels, use_reference
    from tinynet.engine.kernels import explain
    from tinynet.gradient_check import check_gradients
    from tinynet.layer import EVAL, Layer, Mode, Parameter
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

# All is imported at its first use: pytest reads this package when it starts, for the plugin that
# comes with it, and should not wait for NumPy. name -> module
_HOMES = {
    **dict.fromkeys(
        ("array_module", "to_device", "use_kernels", "use_reference"), "tinynet.backend"
    ),
    **dict.fromkeys(("EVAL", "Layer", "Mode", "Parameter"), "tinynet.layer"),
    **dict.fromkeys(("TrainStep", "evaluate", "fit", "predict"), "tinynet.train"),
    "check_gradients": "tinynet.gradient_check",
    "draw": "tinynet.visualize",
    "explain": "tinynet.engine.kernels",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if not name.startswith("_") and find_spec(f"tinynet.{name}"):
        return import_module(f"tinynet.{name}")
    raise AttributeError(f"module 'tinynet' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
