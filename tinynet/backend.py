"""Which array library an array belongs to, and which function runs on it.

NumPy and CuPy arrays answer to the same names, so the maths asks ``xp = array_module(x)``
and writes ``xp.maximum`` where a student would write ``np.maximum``.

Functions marked ``@swappable`` are references: the report's formula, legible before fast.
``register`` gives one of them a faster replacement for one library; the reference stays
reachable as ``function.reference``, and ``with use_reference():`` forces it everywhere.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from types import ModuleType
from typing import Any, ParamSpec, Protocol, TypeAlias, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]  # or a cupy.ndarray, which answers to the same names

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

LIBRARIES = ("numpy", "cupy")


def library_of(x: object) -> str:
    """Name of the array library that ``x`` belongs to: "cupy" for CuPy's arrays, else "numpy"."""
    return "cupy" if type(x).__module__.split(".")[0] == "cupy" else "numpy"


def array_module(*arrays: object) -> Any:
    """The library, ``numpy`` or ``cupy``, of the given arrays; None among them is passed over.

    Raises TypeError if the arrays come from both.
    """
    libraries = {library_of(x) for x in arrays if x is not None}
    if len(libraries) > 1:
        raise TypeError(
            "got NumPy and CuPy arrays in one call, want one library: "
            "move the data with to_device(x, 'cupy'), or the model with model.to('numpy')"
        )
    return load_library(libraries.pop() if libraries else "numpy")


def load_library(name: str) -> ModuleType:
    """The module ``numpy`` or ``cupy``.

    Raises ValueError for another name and ImportError, with the command that installs it,
    where CuPy is missing.
    """
    if name not in LIBRARIES:
        raise ValueError(f"device is {name!r}, want 'numpy' or 'cupy'")
    if name == "numpy":
        return np
    try:
        return importlib.import_module("cupy")
    except ImportError as error:
        raise ImportError(
            "CuPy is not installed: pip install cupy-cuda13x (CUDA 13) or cupy-cuda12x (CUDA 12)"
        ) from error


def to_device(x: Array, device: str) -> Array:
    """``x`` as an array of ``device``, "numpy" or "cupy"; ``x`` itself if it is there already."""
    if library_of(x) == device:
        return x
    xp = load_library(device)
    return cast(Array, x.get() if device == "numpy" else xp.asarray(x))  # type: ignore[attr-defined]


class Swappable(Protocol[P, R_co]):
    """A function with a reference and, per array library, at most one faster replacement."""

    reference: Callable[..., Any]
    kernels: dict[str, Callable[..., Any]]
    __name__: str

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...


_forced_reference: ContextVar[bool] = ContextVar("forced_reference", default=False)


def swappable(function: Callable[P, R]) -> Swappable[P, R]:
    """Mark ``function`` as a reference that ``register`` may speed up.

    The library of the first argument decides which replacement, if any, is called.
    """
    kernels: dict[str, Callable[..., Any]] = {}

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if kernels and not _forced_reference.get():
            first = args[0] if args else next(iter(kwargs.values()), None)
            kernel = kernels.get(library_of(first), function)
            return cast(R, kernel(*args, **kwargs))
        return function(*args, **kwargs)

    marked = cast(Swappable[P, R], call)
    marked.reference = function
    marked.kernels = kernels
    return marked


def register(
    function: Swappable[..., Any], library: str
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorator: the function below it replaces ``function`` for arrays of ``library``.

    It takes the same arguments and returns the same results and the same cache, so that a
    replaced forward pass may be followed by the reference's backward pass and the reverse.
    Cases it does not cover it hands to ``function.reference``.
    """
    if library not in LIBRARIES:
        raise ValueError(f"library is {library!r}, want one of {', '.join(LIBRARIES)}")

    def put(kernel: Callable[P, R]) -> Callable[P, R]:
        function.kernels[library] = kernel
        return kernel

    return put


@contextmanager
def use_reference() -> Iterator[None]:
    """Within this block every swappable function runs its reference.

    Holds for the current thread (a context variable), so parallel runs do not disturb each other.
    """
    token = _forced_reference.set(True)
    try:
        yield
    finally:
        _forced_reference.reset(token)
