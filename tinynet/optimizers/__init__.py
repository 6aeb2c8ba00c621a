"""How gradients change the weights.  Report §2.3.3-4."""

from tinynet.optimizers.adam import Adam, adam_update, bias_corrections
from tinynet.optimizers.base import Optimizer, update_rule
from tinynet.optimizers.rmsprop import RMSProp, rmsprop_update
from tinynet.optimizers.sgd import (
    SGD,
    GradientDescent,
    gradient_descent_update,
    momentum_update,
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
    "update_rule",
]
