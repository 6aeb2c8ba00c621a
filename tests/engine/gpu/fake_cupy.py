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
from scipy import special

from tests.engine.gpu import fake_graph
from tinynet.backend import use_reference

WAITS = ("__float__", "__int__", "__bool__", "__index__", "item", "tolist", "tobytes", "get")
ARITHMETIC = [
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
]
COMPARISONS = ["lt", "le", "eq", "ne", "gt", "ge"]
# names of NumPy that CuPy 14 lacks
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

    @property
    def data(self) -> Any:
        """Where the numbers lie, as CuPy says it: ``x.data.ptr``."""
        return types.SimpleNamespace(ptr=self.host.ctypes.data)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name in WAITS:
            fake_graph.refuse(name)
            waits.append(name)
        part = getattr(self.host, name)
        return _function(part, name) if callable(part) and name != "dtype" else wrapped(part)

    def __setitem__(self, index: Any, value: Any) -> None:
        at, value = host(index), host(value)
        fake_graph.changed(lambda: self.host.__setitem__(at, value))

    def __getitem__(self, index: Any) -> ndarray:
        at = host(index)
        return made("getitem", lambda: np.asarray(self.host[at]))

    def __len__(self) -> int:
        return len(self.host)

    def __repr__(self) -> str:
        return f"cupy {self.host!r}"

    def __deepcopy__(self, memo: Any) -> ndarray:
        return ndarray(self.host.copy())

    def get(self, stream: Any = None) -> np.ndarray:
        fake_graph.refuse("get")
        waits.append("get")
        return self.host.copy()

    def set(self, x: np.ndarray, stream: Any = None) -> None:
        fake_graph.refuse("set")
        assert type(x) is np.ndarray
        assert (x.shape, x.dtype) == (self.host.shape, self.host.dtype)
        assert x.flags.c_contiguous
        assert self.host.flags.c_contiguous
        self.host[...] = x

    def _waiting(self, name: str) -> Any:
        fake_graph.refuse(name)
        waits.append(name)
        return getattr(self.host, name)()


def _unary(name: str) -> Any:
    whole = getattr(operator, name)
    return lambda self: made(name, lambda: whole(self.host))


def _binary(name: str, reverse: bool = False) -> Any:
    whole = getattr(operator, f"__{name}__")
    if reverse:
        return lambda self, other: binary(whole, other, self)
    return lambda self, other: binary(whole, self, other)


def _in_place(name: str) -> Any:
    whole = getattr(operator, f"__i{name}__")

    def change(self: ndarray, other: Any) -> ndarray:
        more = host(other)
        fake_graph.changed(lambda: whole(self.host, more))
        return self

    return change


for _name in WAITS[:4]:
    setattr(ndarray, _name, lambda self, name=_name: self._waiting(name))
for _name in ("__neg__", "__invert__", "__abs__"):
    setattr(ndarray, _name, _unary(_name))
for _name in (*ARITHMETIC, *COMPARISONS):
    setattr(ndarray, f"__{_name}__", _binary(_name))
for _name in ARITHMETIC:
    setattr(ndarray, f"__r{_name}__", _binary(_name, reverse=True))
    setattr(ndarray, f"__i{_name}__", _in_place(_name))


def host(value: Any) -> Any:
    """What the value is made of; TypeError if a NumPy array is in it."""
    if isinstance(value, ndarray):
        return value.host
    if isinstance(value, np.ndarray):
        raise TypeError("a NumPy array meets a CuPy array: move it with to_device(x, 'cupy')")
    if isinstance(value, list | tuple):
        return type(value)(host(part) for part in value)
    return value


def made(name: str, compute: Any) -> Any:
    """What an operation gives, on the GPU."""
    return wrapped(fake_graph.made(name, compute))


def binary(whole: Any, a: Any, b: Any) -> Any:
    """a + b and the like."""
    x, y = host(a), host(b)
    return made(whole.__name__, lambda: whole(x, y))


def wrapped(value: Any) -> Any:
    """CuPy's arrays in place of NumPy's arrays and numbers: its sums are arrays of no dimension."""
    if isinstance(value, np.ndarray | np.generic):
        return ndarray(np.asarray(value))
    if isinstance(value, list | tuple) and any(isinstance(v, np.ndarray) for v in value):
        return type(value)(wrapped(part) for part in value)
    return value


def _function(function: Any, name: str) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        plain = {key: host(value) for key, value in kwargs.items()}
        given = [host(arg) for arg in args]
        if plain.get("out") is not None:
            fake_graph.changed(lambda: function(*given, **plain))
            return kwargs["out"]
        return made(name, lambda: function(*given, **plain))

    return call


def _from_host(function: Any) -> Any:
    def call(x: Any, *args: Any, **kwargs: Any) -> ndarray:
        if isinstance(x, ndarray):
            return made(function.__name__, lambda: function(x.host, *args, **kwargs))
        fake_graph.refuse("a copy from the processor")
        return ndarray(function(x, *args, **kwargs))

    return call


def module() -> types.ModuleType:
    """The module ``cupy``."""

    class Module(types.ModuleType):
        def __getattr__(self, name: str) -> Any:
            if name.startswith("_") or name in MISSING:
                raise AttributeError(f"module 'cupy' has no attribute {name!r}")
            part = getattr(np, name)
            plain = isinstance(part, type) or not callable(part)
            return part if plain else _function(part, name)

    whole = Module("cupy")
    whole.ndarray, whole.cuda = ndarray, fake_graph.Cuda
    whole.asarray, whole.array = _from_host(np.asarray), _from_host(np.array)
    whole.ascontiguousarray = _from_host(np.ascontiguousarray)
    whole.asnumpy = lambda x: x.get()
    whole.get_default_memory_pool = fake_graph.MemoryPool
    return whole


def install(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """Have ``import cupy`` give the stand-in; ``waits`` is empty."""
    made = module()
    monkeypatch.setitem(sys.modules, "cupy", made)
    for name in ("cupyx", "cupyx.scipy", "cupyx.scipy.special"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules["cupyx.scipy.special"].ndtr = lambda x: ndarray(special.ndtr(host(x)))
    waits.clear()
    return made


@pytest.fixture
def fake_cupy(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """The stand-in, with the references alone: its kernels would need a GPU."""
    with use_reference():
        yield install(monkeypatch)
