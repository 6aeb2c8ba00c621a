"""Which array library an array belongs to, and which function runs on it.

NumPy and CuPy arrays answer to the same names, so the maths asks ``xp = array_module(x)``
and writes ``xp.maximum`` where a student would write ``np.maximum``.

Functions marked ``@swappable`` are references: the report's formula, legible before fast.
``register`` gives one of them a faster replacement for one library; the reference stays
reachable as ``function.reference``, and ``with use_reference():`` forces it everywhere.

NumPy's arrays have two sets of replacements: "numpy", written with NumPy and SciPy alone, and
"fast", compiled by Numba where that is installed. The best there is runs; the environment
variable TINYNET_KERNELS (reference, numpy, fast) or ``with use_kernels(...)`` chooses another.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, wraps
from types import ModuleType
from typing import Any, ParamSpec, Protocol, TypeAlias, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]  # or a cupy.ndarray, which answers to the same names

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

LIBRARIES = ("numpy", "cupy")
KERNEL_SETS = ("reference", "numpy", "fast")  # each hands what it lacks to the one before it


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
    """A function with a reference and faster replacements.

    kernels   "numpy", "fast" (Numba, for NumPy's arrays) or "cupy" -> the replacement
    """

    reference: Callable[..., Any]
    kernels: dict[str, Callable[..., Any]]
    __name__: str

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...


def kernel_set(name: str) -> str:
    """``name`` itself; ValueError, with the choices, if it is no set of kernels."""
    if name not in KERNEL_SETS:
        raise ValueError(f"kernels are {name!r}, want one of {', '.join(KERNEL_SETS)}")
    return name


_kernels: ContextVar[str | None] = ContextVar("kernels", default=None)


@cache
def default_kernels() -> str:
    """The set that TINYNET_KERNELS names, or "fast".

    Raises ValueError, which names the variable and the choices, if it is no set of kernels.
    """
    name = os.environ.get("TINYNET_KERNELS") or KERNEL_SETS[-1]
    if name not in KERNEL_SETS:
        raise ValueError(
            f"TINYNET_KERNELS is {name!r}: unset it, or export one of {', '.join(KERNEL_SETS)}"
        )
    return name


def swappable(function: Callable[P, R]) -> Swappable[P, R]:
    """Mark ``function`` as a reference that ``register`` may speed up.

    The library of the first argument, and the set of kernels in use, decide what is called.
    """
    kernels: dict[str, Callable[..., Any]] = {}

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if kernels and (use := kernels_in_use()) != "reference":
            first = args[0] if args else next(iter(kwargs.values()), None)
            library = library_of(first)
            kernel = kernels.get(library, function)
            if library == "numpy" and use == "fast":
                kernel = kernels.get("fast", kernel)
            return cast(R, kernel(*args, **kwargs))
        return function(*args, **kwargs)

    marked = cast(Swappable[P, R], call)
    marked.reference = function
    marked.kernels = kernels
    return marked


def register(
    function: Swappable[..., Any], kernels: str
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorator: the function below it replaces ``function``.

    kernels   "numpy" or "cupy", that library's arrays; "fast", NumPy's arrays where Numba is there
    It takes the same arguments and returns the same results and the same cache, so that a
    replaced forward pass may be followed by the reference's backward pass and the reverse.
    Cases it does not cover it hands to ``without_fast(function)`` or ``function.reference``.
    """
    if kernels not in (choices := (*LIBRARIES, "fast")):
        raise ValueError(f"kernels are {kernels!r}, want one of {', '.join(choices)}")

    def put(kernel: Callable[P, R]) -> Callable[P, R]:
        function.kernels[kernels] = kernel
        return kernel

    return put


def without_fast(function: Swappable[..., Any]) -> Callable[..., Any]:
    """What runs on NumPy's arrays where no compiled kernel covers a case."""
    return function.kernels.get("numpy", function.reference)


def kernels_in_use() -> str:
    """The set of kernels that is chosen: "reference", "numpy" or "fast".

    "fast" is what is chosen by default, whether or not Numba is there. Raises ValueError as
    ``default_kernels``.
    """
    return _kernels.get() or default_kernels()


@contextmanager
def use_kernels(name: str) -> Iterator[None]:
    """Within this block the set of kernels ``name`` runs: "reference", "numpy" or "fast".

    Holds for the current thread (a context variable), so parallel runs do not disturb each other.
    Raises ValueError for another name.
    """
    token = _kernels.set(kernel_set(name))
    try:
        yield
    finally:
        _kernels.reset(token)


@contextmanager
def use_reference() -> Iterator[None]:
    """Within this block every swappable function runs its reference."""
    with use_kernels("reference"):
        yield
