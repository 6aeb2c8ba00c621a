"""Replacements for NumPy arrays, compiled by Numba: the set "fast".

Importing this package registers them, if Numba is installed (the extra ``fast``); without it
nothing is registered, and the NumPy kernels run.

Numba takes as long to import (0.5 s and more) as all of tinynet, so it is imported at the first
call of a kernel. What is registered here for each function of ``MODULES`` imports the module of
its kernel, whose own ``@register(function, "fast")`` takes its place, and calls that. So a module
of kernels is written as any other: a line in ``MODULES`` is all that it needs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from tinynet.backend import Swappable, register
from tinynet.engine.plan.epilogues import (
    batchnorm_block_backward,
    batchnorm_block_forward,
    conv2d_block_backward,
    conv2d_block_forward,
)
from tinynet.layers.activations import relu6_backward, relu6_forward, relu_backward, relu_forward
from tinynet.layers.batchnorm import (
    batchnorm_backward,
    batchnorm_forward,
    batchnorm_frozen_backward,
    batchnorm_frozen_forward,
)
from tinynet.layers.conv import conv2d_backward, conv2d_forward
from tinynet.layers.pooling import (
    avg_pool2d_backward,
    avg_pool2d_forward,
    global_avg_pool2d_backward,
    global_avg_pool2d_forward,
    max_pool2d_backward,
    max_pool2d_forward,
    sum_pool2d_backward,
    sum_pool2d_forward,
)
from tinynet.optimizers import (
    adam_update,
    gradient_descent_update,
    momentum_update,
    rmsprop_update,
)

HAVE_NUMBA = find_spec("numba") is not None

MODULES: dict[str, tuple[Swappable[..., Any], ...]] = {
    "activations": (relu_forward, relu_backward, relu6_forward, relu6_backward),
    "average_pooling": (
        sum_pool2d_forward,
        sum_pool2d_backward,
        avg_pool2d_forward,
        avg_pool2d_backward,
        global_avg_pool2d_forward,
        global_avg_pool2d_backward,
    ),
    "batchnorm": (
        batchnorm_forward,
        batchnorm_backward,
        batchnorm_frozen_forward,
        batchnorm_frozen_backward,
    ),
    "batchnorm_block": (batchnorm_block_forward, batchnorm_block_backward),
    "conv_block": (conv2d_forward, conv2d_backward, conv2d_block_forward, conv2d_block_backward),
    "optimizers": (adam_update, gradient_descent_update, momentum_update, rmsprop_update),
    "pooling": (max_pool2d_forward, max_pool2d_backward),
}


def load(module: str) -> None:
    """Import one of ``MODULES``, and Numba with it, so that its kernels are registered.

    Raises ImportError, with the remedy, where Numba is installed but does not work.
    """
    try:
        import_module(f"{__name__}.{module}")
    except ImportError as error:
        raise ImportError(
            f"Numba is installed but does not work ({error}): pip install --upgrade numba, or set "
            "TINYNET_KERNELS=numpy to do without"
        ) from error


def _at_first_call(function: Swappable[..., Any], module: str) -> Callable[..., Any]:
    @wraps(function.reference)
    def kernel(*args: Any, **kwargs: Any) -> Any:
        load(module)
        return function.kernels["fast"](*args, **kwargs)

    return kernel


if HAVE_NUMBA:
    for _module, _functions in MODULES.items():
        for _function in _functions:
            register(_function, "fast")(_at_first_call(_function, _module))

__all__ = ["HAVE_NUMBA", "MODULES", "load"]
