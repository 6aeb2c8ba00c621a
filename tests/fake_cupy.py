"""A stand-in for CuPy that needs no GPU: arrays that hold NumPy's, and refuse to meet them.

What fails with CuPy fails here: a NumPy array in an operation with a CuPy array, and the silent
copy to the processor that ``np.asarray`` would be. What works with CuPy but is a mistake in code
that is to run on a GPU fails too: a function of NumPy called on a CuPy array. Whatever makes the
processor wait for the GPU (``float()``, ``bool()``, ``get()``, …) is counted.
"""

from __future__ import annotations

import operator
import sys
import types
from typing import Any

import numpy as np
import pytest

from tinynet.backend import use_reference

WAITS = ("__float__", "__int__", "__bool__", "__index__", "item", "tolist", "tobytes", "get")
ARITHMETIC = (
    "add",
    "sub",
    "mul",
    "truediv",
    "floordiv",
    "mod",
    "pow",
    "matmul",
    "and",
    "or",
    "xor",
)
COMPARISONS = ("lt", "le", "eq", "ne", "gt", "ge")
# Names of NumPy that CuPy 14 has not.
MISSING = {"errstate", "nditer", "ndindex", "vectorize", "float128", "longdouble"}

waits: list[str] = []  # what made the processor wait, in order


class ndarray:  # noqa: N801 - CuPy's name
    """An array "on the GPU"."""

    __module__ = "cupy"
    __slots__ = ("host",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, host: np.ndarray) -> None:
        self.host = host

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise TypeError("implicit conversion of a CuPy array to a NumPy array: use .get()")

    def __array_ufunc__(self, ufunc: Any, *_: Any, **__: Any) -> Any:
        raise TypeError(f"np.{ufunc.__name__} is called on a CuPy array, want xp.{ufunc.__name__}")

    def __array_function__(self, function: Any, *_: Any) -> Any:
        name = function.__name__
        raise TypeError(f"np.{name} is called on a CuPy array, want xp.{name}")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name in WAITS:
            waits.append(name)
        part = getattr(self.host, name)
        return _function(part) if callable(part) and name != "dtype" else wrapped(part)

    def __setitem__(self, index: Any, value: Any) -> None:
        self.host[host(index)] = host(value)

    def __getitem__(self, index: Any) -> ndarray:
        return wrapped(np.asarray(self.host[host(index)]))

    def __len__(self) -> int:
        return len(self.host)

    def __repr__(self) -> str:
        return f"cupy {self.host!r}"

    def __neg__(self) -> ndarray:
        return wrapped(-self.host)

    def __invert__(self) -> ndarray:
        return wrapped(~self.host)

    def __abs__(self) -> ndarray:
        return wrapped(abs(self.host))

    def __deepcopy__(self, memo: Any) -> ndarray:
        return ndarray(self.host.copy())

    @property
    def data(self) -> types.SimpleNamespace:
        return types.SimpleNamespace(ptr=self.host.ctypes.data)

    def get(self) -> np.ndarray:
        waits.append("get")
        return self.host.copy()

    def _waiting(self, name: str) -> Any:
        waits.append(name)
        return getattr(self.host, name)()


for _name in WAITS[:4]:
    setattr(ndarray, _name, lambda self, name=_name: self._waiting(name))
for _name in (*ARITHMETIC, *COMPARISONS):
    _whole = getattr(operator, f"__{_name}__")
    setattr(
        ndarray,
        f"__{_name}__",
        lambda self, other, whole=_whole: wrapped(whole(self.host, host(other))),
    )
for _name in ARITHMETIC:
    _whole, _in_place = getattr(operator, f"__{_name}__"), getattr(operator, f"__i{_name}__")
    setattr(
        ndarray,
        f"__r{_name}__",
        lambda self, other, whole=_whole: wrapped(whole(host(other), self.host)),
    )

    def _changed(self: ndarray, other: Any, in_place: Any = _in_place) -> ndarray:
        self.host = in_place(self.host, host(other))
        return self

    setattr(ndarray, f"__i{_name}__", _changed)


def host(value: Any) -> Any:
    """What the value is made of; TypeError if a NumPy array is in it."""
    if isinstance(value, ndarray):
        return value.host
    if isinstance(value, np.ndarray):
        raise TypeError("a NumPy array meets a CuPy array: move it with to_device(x, 'cupy')")
    if isinstance(value, list | tuple):
        return type(value)(host(part) for part in value)
    return value


def wrapped(value: Any) -> Any:
    """CuPy's arrays in place of NumPy's arrays and numbers: its sums are arrays of no dimension."""
    if isinstance(value, np.ndarray | np.generic):
        return ndarray(np.asarray(value))
    if isinstance(value, list | tuple) and any(isinstance(v, np.ndarray) for v in value):
        return type(value)(wrapped(part) for part in value)
    return value


def _function(function: Any) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        plain = {name: host(value) for name, value in kwargs.items()}
        result = function(*(host(arg) for arg in args), **plain)
        return kwargs["out"] if kwargs.get("out") is not None else wrapped(result)

    return call


def _from_host(function: Any) -> Any:
    def call(x: Any, *args: Any, **kwargs: Any) -> ndarray:
        return ndarray(function(x.host if isinstance(x, ndarray) else x, *args, **kwargs))

    return call


def module() -> types.ModuleType:
    """The module ``cupy``."""

    class Module(types.ModuleType):
        def __getattr__(self, name: str) -> Any:
            if name.startswith("_") or name in MISSING:
                raise AttributeError(f"module 'cupy' has no attribute {name!r}")
            part = getattr(np, name)
            plain = isinstance(part, type) or not callable(part)
            return part if plain else _function(part)

    made = Module("cupy")
    made.ndarray = ndarray
    made.asarray, made.array = _from_host(np.asarray), _from_host(np.array)
    made.ascontiguousarray = _from_host(np.ascontiguousarray)
    made.asnumpy = lambda x: x.get()
    return made


def install(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """Have ``import cupy`` give the stand-in; ``waits`` is empty."""
    made = module()
    monkeypatch.setitem(sys.modules, "cupy", made)
    waits.clear()
    return made


@pytest.fixture
def fake_cupy(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """The stand-in, with the references alone: its kernels would need a GPU."""
    with use_reference():
        yield install(monkeypatch)
