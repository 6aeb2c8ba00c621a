"""Is a hand-written backward pass right? Every element is compared with a numerical slope.

    report = check_gradients(layer, x)                  a layer or a whole model
    report = check_backward(forward, backward, args)    two bare functions, whoever wrote them
    report = check_function(function, args)             its backward pass is within it: PyTorch, JAX
    report = check_loss(loss, z, y)                     a loss

All in float64, with an upstream gradient dy drawn at random (one of all ones would hide any error
in softmax or batch norm, whose outputs' sums are constant). How well an element's difference
quotients settle sets its tolerance (``finite_differences``); where the forward pass is analytic, a
complex step is exact and the tolerance tight (``complex_step``). At a kink
(ReLU at its threshold, a tie in max pooling) no slope exists, and the element is reported as
undecidable, never passed; too many of those are an error. A network is checked layer by layer,
which by the chain rule is a check of the whole (``chain_rule``).

A difference quotient cannot see everything, so the rest of the contract is checked too
(``contract``): arguments are not modified, gradients have their array's shape and dtype and are
added to Parameter.grad, results repeat, applications of other inputs change nothing, a gradient is
linear in dy, and arrays laid out in any order, or read-only, give the same.

What is wrong is explained from the pattern of the error (``causes``):

>>> import numpy as np
>>> def forward(x):  # a softmax of each row
...     e = np.exp(x - x.max(axis=1, keepdims=True))
...     y = e / e.sum(axis=1, keepdims=True)
...     return y, y
>>> def backward(dy, y):
...     return dy * y * (1 - y)
>>> check_backward(forward, backward, [np.array([[1.0, 2.0, 4.0]])])  # doctest: +ELLIPSIS
Traceback (most recent call last):
    ...
tinynet.gradient_check.report.GradientError: WRONG: the backward pass of forward / backward
  the gradient of x is wrong in 3 of 3 elements; ...: only the diagonal of the Jacobian is in it...
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tinynet.gradient_check.check import (
        check_backward,
        check_function,
        check_gradients,
        check_loss,
    )
    from tinynet.gradient_check.report import ArrayCheck, GradientError, GradientReport

__all__ = [
    "ArrayCheck",
    "GradientError",
    "GradientReport",
    "check_backward",
    "check_function",
    "check_gradients",
    "check_loss",
]


def __getattr__(name: str) -> Any:
    """At its first use: pytest reads this package when it starts, for the plugin in it."""
    if name not in __all__:
        raise AttributeError(f"module 'tinynet.gradient_check' has no attribute {name!r}")
    home = "check" if name.startswith("check_") else "report"
    return getattr(import_module(f"tinynet.gradient_check.{home}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
