"""Which array library an array belongs to, and which function runs on it.

NumPy and CuPy arrays answer to the same names, so the maths asks ``xp = array_module(x)``
and writes ``xp.maximum`` where a student would write ``np.maximum``.

Functions marked ``@swappable`` are references: the report's formula, legible before fast.
``register`` gives one of them a faster replacement in a set of kernels; the reference stays
reachable as ``function.reference``, and ``with use_reference():`` forces it everywhere.

    reference   what the report says
    numpy       NumPy's arrays, written with NumPy alone
    numba       NumPy's arrays, compiled by Numba where that is installed
    cuda        CuPy's arrays

The best set for an array runs. The environment variable TINYNET_KERNELS or ``with
use_kernels(...)`` chooses another for NumPy's arrays; CuPy's take "cuda" or "reference".
"""

from __future__ import annotations

import importlib
import os
from ast import literal_eval
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, partial, wraps
from inspect import signature
from numbers import Integral, Real
from operator import attrgetter
from types import ModuleType
from typing import Any, NamedTuple, ParamSpec, Protocol, TypeAlias, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]  # or a cupy.ndarray, which answers to the same names

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

LIBRARIES = ("numpy", "cupy")
KERNEL_DTYPES = frozenset(map(np.dtype, ("float32", "float64", "complex64", "complex128")))
KERNEL_SETS = ("reference", "numpy", "numba", "cuda")
OLD_NAMES = {"fast": "numba", "cupy": "cuda"}  # of sets, still accepted


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


def check_array(who: object, name: str, x: Any, *, floating: bool = True) -> None:
    """Raise TypeError, in one line, unless x is an array of NumPy's or CuPy's.

    who, name   the layer or function, and which of its arguments x is
    floating    its numbers must be floating point, real or complex
    """
    if library_of(x) == "numpy" and (
        not isinstance(x, np.ndarray) or isinstance(x, np.ma.MaskedArray)
    ):
        advice = "x.filled(...)" if hasattr(x, "filled") else "np.asarray(x, 'float32')"
        raise TypeError(
            f"{who}: {name} is {described(x)}, want an array of NumPy's or CuPy's: make one with "
            f"{advice}"
        )
    dtype = getattr(x, "dtype", None)
    if floating and dtype is not None and dtype.kind not in "fc" and dtype.name != "bfloat16":
        raise TypeError(
            f"{who}: {name} is {dtype}, want floating point: convert it with x.astype('float32')"
        )


def check_number(
    name: str, value: Any, least: float = -np.inf, most: float = np.inf, *, whole: bool = False
) -> Any:
    """Return ``value``, a finite number from ``least`` to ``most``.

    Raises TypeError for what is not a number, ValueError for another number.
    """
    kind = "a whole number" if whole else "a number"
    wanted = kind if least == -np.inf else f"{kind} from {least}"
    wanted += "" if most == np.inf else f" to {most}"
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not is_number:
        raise TypeError(f"{name} is {described(value)}, want {wanted}")
    in_range = least <= value <= most and np.isfinite(value)
    if not in_range or (whole and not isinstance(value, Integral)):
        raise ValueError(f"{name} is {value}, want {wanted}")
    return value


def check_instance(name: str, value: Any, kind: type, wanted: str) -> None:
    """Raise TypeError unless ``value`` is an instance of ``kind``; ``wanted`` says it in words."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} is {described(value)}, want {wanted}")


def _is_number(value: Any) -> bool:
    if isinstance(value, Real | np.complexfloating):  # complex: what a complex step hands over
        return not isinstance(value, bool | np.bool_) and bool(np.isfinite(value))  # type: ignore[arg-type]
    return getattr(value, "ndim", None) == 0 and value.dtype.kind in "fc"  # on a GPU, in a graph


def _is_array(value: Any) -> bool:
    # NumPy's numbers too: what arithmetic makes of an array without dimensions
    arrays = isinstance(value, np.ndarray | np.generic) and not isinstance(value, np.ma.MaskedArray)
    return (arrays or library_of(value) == "cupy") and (
        value.dtype.kind in "biufc" or value.dtype.name == "bfloat16"
    )


def _is_dtype(value: Any) -> bool:
    try:
        return value is not None and (np.dtype(value).kind in "fc" or "bfloat16" in str(value))
    except TypeError:
        return False


def _is_shape(value: Any) -> bool:
    return isinstance(value, tuple | list) and all(map(_is_whole, value))


def _is_whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_function(value: Any) -> bool:
    return callable(value) and not isinstance(value, type)


def _is_layer(value: Any) -> bool:
    return hasattr(value, "backward") and not isinstance(value, type)


def _is_among(choices: Sequence[str], value: Any) -> bool:
    return isinstance(value, str) and value in choices


def _is_named(name: str, value: Any) -> bool:
    return type(value).__name__ == name


def _pair_of_numbers(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(map(_is_number, value))


def _sequence_of(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, Sequence) and all(map(fits, value))


# annotation -> whether a value fits it, and what is wanted in words
_KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "int": (_is_whole, "a whole number"),
    "float": (_is_number, "a finite number"),
    "bool": (lambda value: isinstance(value, bool | np.bool_), "True or False"),
    "str": (lambda value: isinstance(value, str), "text"),
    "Array": (_is_array, "an array of numbers: np.asarray(..., 'float32') makes one"),
    "Layer": (_is_layer, "a layer, made by calling its class"),
    "np.random.Generator": (
        lambda value: hasattr(value, "standard_normal") and hasattr(value, "uniform"),
        "a generator: np.random.default_rng(seed)",
    ),
    "Loss": (_is_layer, "a loss, such as SoftmaxCrossEntropy()"),
    "Mode": (lambda value: hasattr(value, "train"), "a Mode, such as Mode(train=True)"),
    "Shape": (_is_shape, "a tuple of whole numbers"),
    "Sequence[int]": (_is_shape, "a tuple of whole numbers"),
    "Sequence[Array]": (_sequence_of(_is_array), "a list of arrays"),
    "Sequence[Layer]": (_sequence_of(_is_layer), "a list of layers"),
    "Sequence[Any]": (lambda value: isinstance(value, Sequence), "a list"),
    "tuple[float, float]": (_pair_of_numbers, "two numbers"),
    "Selection": (_is_function, "a function from a parameter's name to True or False"),
    "Rates": (
        lambda value: isinstance(value, Mapping) or _is_function(value),
        "factors by layer, such as {'base': 0.1}, or a function of a name",
    ),
    "initializer": (_is_function, "a function of tinynet.initializers"),
    "dtype": (_is_dtype, "a floating-point dtype: 'float32' or 'float64'"),
}


# arguments that mean the same wherever they occur, whatever their annotation
_NAMED = {"dtype": "dtype", "initializer": "initializer", "loss": "Loss"}
# and the least that they may be
_LEAST = {"epsilon": 0, "tolerance": 0, "allow_undecidable": 0, "channels": 1, "seed": 0}


def check_arguments(function: Callable[..., Any]) -> Callable[..., None]:
    """Return ``check(who, *args, **kwargs)``, which compares arguments with the annotations.

    It raises TypeError, or ValueError for a number of the wrong kind: who was called, the argument,
    what came and what is wanted. Annotations that ``_KINDS`` does not have, such as unions, are
    left to the function.
    """
    tests = []
    for place, (name, parameter) in enumerate(signature(function).parameters.items()):
        annotation = _NAMED.get(name, str(parameter.annotation))
        plain = annotation.removesuffix(" | None")
        kind = _KINDS.get(plain)
        alias = getattr(function, "__globals__", {}).get(plain)
        literal = str(alias) if str(alias).startswith("typing.Literal[") else plain
        if "Literal[" in literal:
            choices = literal_eval(literal[literal.index("[") :])
            kind = partial(_is_among, choices), f"one of {', '.join(choices)}"
        elif plain.startswith("Callable["):
            kind = _is_function, "a function"
        elif plain.endswith("Cache"):
            kind = partial(_is_named, plain), "the cache that the forward pass returned"
        if kind and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            optional = annotation.endswith(" | None")
            shown = "the gradient" if name in ("dy", "dz") else name
            tests.append((place, name, shown, *kind, optional))

    def check(who: str, *args: Any, **kwargs: Any) -> None:
        for place, name, shown, fits, wanted, optional in tests:
            if place < len(args):
                value = args[place]
            elif name in kwargs:
                value = kwargs[name]
            else:
                continue
            if not fits(value) and not (optional and value is None):
                number = isinstance(value, Real) and not isinstance(value, bool)
                a_value = "one of" in wanted or (number and "number" in wanted)
                error = ValueError if a_value else TypeError
                raise error(f"{who}: {shown} is {described(value)}, want {wanted}")
            if name in _LEAST and value is not None and value < _LEAST[name]:
                raise ValueError(
                    f"{who}: {name} is {described(value)}, want a number from {_LEAST[name]}"
                )

    return check


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator: the arguments are compared with the annotations; see ``check_arguments``."""
    check = check_arguments(function)

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        check(function.__name__, *args, **kwargs)
        return function(*args, **kwargs)

    return call


class Checked:
    """Base of classes whose constructors compare their arguments with the annotations."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" not in vars(cls):
            return
        init: Any = vars(cls)["__init__"]
        check = check_arguments(init)

        @wraps(init)
        def call(self: Any, *args: Any, **kwargs: Any) -> None:
            check(type(self).__name__, self, *args, **kwargs)
            init(self, *args, **kwargs)

        cls.__init__ = call  # type: ignore[method-assign]


def check_choice(name: str, value: Any, choices: Sequence[str]) -> str:
    """Return ``value``, one of ``choices``; ValueError, with the choices, for anything else."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} is {described(value)}, want one of {', '.join(choices)}")
    return value


def described(value: Any) -> str:
    """What ``value`` is, in a few words: "None", "the class Adam", "a list", "'abc'"."""
    plain = isinstance(value, tuple | list) and 0 < len(value) < 8
    if all(
        v is None or isinstance(v, str | int | float | complex)
        for v in (value if plain else [value])
    ):
        return repr(value)
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, np.ndarray) and value.dtype.kind not in "biufc":
        return f"an array of {value.dtype}"
    name = f"{type(value).__module__.split('.')[0]}.{type(value).__name__}"
    return f"a {name.removeprefix('builtins.')}"


class Swappable(Protocol[P, R_co]):
    """A function with a reference and faster replacements.

    kernels   "numpy", "numba" or "cuda" -> the replacement
    """

    reference: Callable[..., Any]
    kernels: dict[str, Callable[..., Any]]
    __name__: str

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...


def kernel_set(name: str) -> str:
    """``name``, or the new name of an old one; ValueError, with the choices, for another."""
    found = OLD_NAMES.get(name, name)
    if found not in KERNEL_SETS:
        raise ValueError(f"kernels are {name!r}, want one of {', '.join(KERNEL_SETS)}")
    return found


_kernels: ContextVar[str | None] = ContextVar("kernels", default=None)
# of sets that are not imported yet; with "numpy" the engine registers the others
_loaders: dict[str, Callable[[], Any]] = {
    "numpy": lambda: importlib.import_module("tinynet.engine.kernels")
}


@cache
def default_kernels() -> str:
    """The set that TINYNET_KERNELS names, or "numba".

    Raises ValueError, which names the variable and the choices, for another name.
    """
    name = os.environ.get("TINYNET_KERNELS") or "numba"
    try:
        return kernel_set(name)
    except ValueError:
        raise ValueError(
            f"TINYNET_KERNELS is {name!r}: unset it, or export one of {', '.join(KERNEL_SETS)}"
        ) from None


class Output(NamedTuple):
    """The shape and dtype of what a forward pass returned; None for a dtype that is not known."""

    shape: tuple[int, ...]
    dtype: Any = None


def output_like(x: Array, *others: Array) -> Output:
    """The output of an operation that returns the shape of x, and its dtype if all have that one.

    Booleans, as masks, say nothing of the dtype.
    """
    known = x.dtype.kind != "b" and all(a.dtype == x.dtype for a in others)
    return Output(x.shape, x.dtype if known else None)


def native(dtype: Any) -> Any:
    """The dtype in this machine's order of bytes, in which NumPy's results are."""
    return dtype if dtype.isnative else dtype.newbyteorder("=")


def check_gradient(name: str, dy: Array, output: Output | None) -> None:
    """Raise ValueError or TypeError, naming the function, unless dy has y's shape and dtype.

    None for an output of which the cache says nothing.
    """
    if output is None:
        return
    if getattr(dy, "shape", None) != output.shape:
        came = dy.shape if hasattr(dy, "shape") else type(dy).__name__
        raise ValueError(f"{name}: the gradient is {came}, want {output.shape}, the output's shape")
    stored = dy.dtype.name == "bfloat16"  # how a GPU's activations are kept, whatever y was
    if output.dtype is not None and native(dy.dtype) != native(output.dtype) and not stored:
        raise TypeError(f"{name}: the gradient is {dy.dtype}, want {output.dtype}, as the output")


def swappable(
    function: Callable[P, R], check: Callable[..., None] | None = None
) -> Swappable[P, R]:
    """Mark ``function`` as a reference that ``register`` may speed up.

    check   called with the function's name and its arguments before them, whatever set runs: a
            kernel trusts the shapes that it is given. Raises an error for those that it refuses
    The library of the first argument, and the set of kernels in use, decide what is called. A
    dtype means the same in each set: what no kernel is written for runs the reference, NumPy's
    float16 is computed in float32 and rounded at the end, and what is not floating point raises
    TypeError.
    """
    kernels: dict[str, Callable[..., Any]] = {}
    parameters, name = signature(function), function.__name__
    check_types = check_arguments(function)
    of_first = next(iter(parameters.parameters), "")  # the first argument's name
    of_first = "the gradient" if of_first in ("dy", "dz") else of_first

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if kwargs:  # a kernel may name its arguments otherwise
            bound = parameters.bind(*args, **kwargs)
            bound.apply_defaults()
            args, kwargs = bound.args, bound.kwargs  # type: ignore[assignment]
        first = args[0] if args else None
        if type(first) is not np.ndarray or first.dtype not in KERNEL_DTYPES:
            if not isinstance(first, tuple | float | complex | np.number):  # a cache, a number
                check_array(name, of_first, first)
            sample = first[0] if isinstance(first, tuple) and first else first
            if isinstance(sample, np.ndarray) and sample.dtype == np.float16:
                return cast(R, _in_float32(call, args))
        check_types(name, *args, **kwargs)
        if check is not None:
            check(name, *args, **kwargs)
        load_kernels("numpy")
        if not kernels or (use := kernels_in_use()) == "reference":
            return function(*args, **kwargs)
        if library_of(first) == "cupy":
            kernel = kernels.get("cuda", function)
        elif isinstance(first, np.ndarray) and first.dtype not in KERNEL_DTYPES:
            kernel = function
        else:
            kernel = kernels.get("numpy", function)
            if use != "numpy":
                load_kernels("numba")
                kernel = kernels.get("numba", kernel)
        return cast(R, kernel(*args, **kwargs))

    marked = cast(Swappable[P, R], call)
    marked.reference = function
    marked.kernels = kernels
    return marked


def backward_of(
    output: Callable[[Any], Output | None] = attrgetter("output"),
) -> Callable[[Callable[P, R]], Swappable[P, R]]:
    """Decorator, as ``swappable``, for a function of (dy, cache): dy must be like the output.

    output   the forward pass's, from the cache; by default what the cache's ``output`` is
    """

    def check(name: str, dy: Array, cache: Any, *more: Any, **named: Any) -> None:
        check_gradient(name, dy, output(cache))

    return lambda function: swappable(function, check)


def _in_float32(function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """``function`` of float16 arrays, computed in float32: sums of float16 overflow at 65,504."""
    half, single = np.dtype("float16"), np.dtype("float32")
    wide = [_as_type(x, half, single) for x in args]
    result = function(*wide)
    with np.errstate(over="ignore"):
        for x, now in zip(args, wide, strict=True):
            if isinstance(x, np.ndarray) and now is not x and x.flags.writeable:
                x[...] = now  # a weight update changes its arguments
        return _as_type(result, single, half)


def _as_type(x: Any, old: np.dtype[Any], new: np.dtype[Any]) -> Any:
    """x with every array of dtype ``old``, alone or inside tuples, in dtype ``new``."""
    if isinstance(x, tuple):
        parts = [_as_type(part, old, new) for part in x]
        return type(x)(*parts) if hasattr(x, "_fields") else tuple(parts)
    if isinstance(x, np.dtype):  # of an Output
        return new if x == old else x
    return x.astype(new) if getattr(x, "dtype", None) == old else x


def register(
    function: Swappable[..., Any], kernels: str
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorator: the function below it replaces ``function`` in the set ``kernels``.

    kernels   "numpy", "numba" or "cuda"
    It takes the same arguments and returns the same results and the same cache, so that a
    replaced forward pass may be followed by the reference's backward pass and the reverse.
    Cases it does not cover it hands to ``without_numba(function)`` or ``function.reference``.
    """
    if (name := kernel_set(kernels)) == "reference":
        raise ValueError("kernels are 'reference', want one of numpy, numba, cuda")

    def put(kernel: Callable[P, R]) -> Callable[P, R]:
        function.kernels[name] = kernel
        return kernel

    return put


def load_at_first_use(kernels: str, load: Callable[[], None]) -> None:
    """Have ``load``, which imports a set of kernels, called when a function first asks for it."""
    _loaders[kernels] = load


def load_kernels(kernels: str) -> None:
    """Import the set ``kernels`` if it waits for its first use."""
    if (load := _loaders.get(kernels)) is not None:
        load()
        _loaders.pop(kernels, None)


def without_numba(function: Swappable[..., Any]) -> Callable[..., Any]:
    """The function that runs on NumPy's arrays where no compiled kernel covers a case."""
    return function.kernels.get("numpy", function.reference)


def kernels_in_use() -> str:
    """The set of kernels that is chosen, one of KERNEL_SETS.

    "numba" is the default, whether or not Numba is installed. Raises ValueError as
    ``default_kernels``.
    """
    return _kernels.get() or default_kernels()


@contextmanager
def use_kernels(name: str) -> Iterator[None]:
    """Within this block the set of kernels ``name`` runs, one of KERNEL_SETS.

    "cuda" is what CuPy's arrays take in any case but "reference"; NumPy's then take "numba".
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
