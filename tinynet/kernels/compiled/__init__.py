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
from tinynet.blocks import conv2d_block_backward, conv2d_block_forward
from tinynet.layers.conv import conv2d_backward, conv2d_forward

HAVE_NUMBA = find_spec("numba") is not None

MODULES: dict[str, tuple[Swappable[..., Any], ...]] = {
    "conv_block": (conv2d_forward, conv2d_backward, conv2d_block_forward, conv2d_block_backward),
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
