"""How gradients change the weights.  Report §2.3.3-4."""

from tinynet.optimizers.base import Optimizer
from tinynet.optimizers.rules import (
    SGD,
    Adam,
    GradientDescent,
    RMSProp,
    adam_update,
    bias_corrections,
    gradient_descent_update,
    momentum_update,
    rmsprop_update,
)

__all__ = [
    "SGD",
    "Adam",
    "GradientDescent",
    "Optimizer",
    "RMSProp",
    "adam_update",
    "bias_corrections",
    "gradient_descent_update",
    "momentum_update",
    "rmsprop_update",
]
