"""What a state dict is made of: storages and views of them, as the file describes them.

Nothing here holds numbers yet: a view is checked against its storage's size before there are any.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from tinynet.interop.errors import WeightsError

ELEMENTS = {  # of a storage, by the name torch gives its class
    "torch FloatStorage": "float32",
    "torch DoubleStorage": "float64",
    "torch HalfStorage": "float16",
    "torch BFloat16Storage": "bfloat16",
    "torch ComplexFloatStorage": "complex64",
    "torch ComplexDoubleStorage": "complex128",
    "torch LongStorage": "int64",
    "torch IntStorage": "int32",
    "torch ShortStorage": "int16",
    "torch CharStorage": "int8",
    "torch ByteStorage": "uint8",
    "torch BoolStorage": "bool",
    "torch.storage UntypedStorage": "uint8",  # what is in it, the tensor says
}
TYPES = {f"torch {name}": name for name in ("uint16", "uint32", "uint64")}  # no class of storage
WIDTHS = {"uint16": 2, "uint32": 4, "uint64": 8}  # bytes
MOST_DIMENSIONS = 16
LARGEST_SIZE = 2**31


class Storage(NamedTuple):
    """A stretch of numbers in the file."""

    key: str
    element: str  # NumPy's name of the type, or bfloat16
    length: int  # elements


class Tensor(NamedTuple):
    """A view of a storage."""

    storage: Storage
    element: str
    offset: int  # elements from the storage's beginning
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # elements


class Name(NamedTuple):
    """A name that the file would import: "module name"."""

    text: str


def tensor(
    storage: Any, offset: Any, shape: Any, strides: Any, element: str | None = None
) -> Tensor:
    """A checked view: it lies within its storage, and has no more elements than that."""
    if not isinstance(storage, Storage) or not isinstance(shape, tuple):
        raise WeightsError("a tensor has no storage or no shape: refused")
    if not isinstance(strides, tuple) or len(strides) != len(shape) or len(shape) > MOST_DIMENSIONS:
        raise WeightsError(
            f"a tensor has {len(shape)} sizes, which its strides do not fit: refused"
        )
    offset = whole(offset, "a tensor's offset")
    for size in (*shape, *strides):
        whole(size, "a tensor's size or stride")
    element = element or storage.element
    room = storage.length // (1 if storage.element == element else WIDTHS[element])
    if any(size > LARGEST_SIZE for size in shape):
        raise WeightsError(f"a tensor is {shape}, larger than any: refused")
    strides = tuple(stride if size > 1 else 0 for size, stride in zip(shape, strides, strict=True))
    elements, last = 1, offset
    for size, stride in zip(shape, strides, strict=True):
        elements *= size
        last += (size - 1) * stride
    if elements and (last >= room or elements > room):
        raise WeightsError(
            f"a tensor of {shape} needs more than the {room} numbers of its storage: refused"
        )
    return Tensor(storage, element, offset, shape, strides)


def tensor_of_type(storage: Any, offset: Any, shape: Any, strides: Any, kind: Any) -> Tensor:
    """The same, of a type that has no storage of its own."""
    if not isinstance(kind, Name) or kind.text not in TYPES:
        raise WeightsError("a tensor's type is not one that is read here: refused")
    return tensor(storage, offset, shape, strides, TYPES[kind.text])


def parameter(data: Any) -> Tensor:
    """The tensor of a parameter."""
    if not isinstance(data, Tensor):
        raise WeightsError("a parameter has no tensor: refused")
    return data


def size(shape: Any = ()) -> tuple[Any, ...]:
    """A shape."""
    if not isinstance(shape, tuple):
        raise WeightsError("a size is no tuple: refused")
    return shape


def ordered(pairs: Any = ()) -> dict[Any, Any]:
    """A dict; Python 2 gave its items with the call."""
    made = {}
    if not isinstance(pairs, list | tuple):
        raise WeightsError("an OrderedDict is made of what is no list: refused")
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not isinstance(pair[0], str):
            raise WeightsError("an OrderedDict is made of what is no list of pairs: refused")
        made[pair[0]] = pair[1]
    return made


# what the file may call -> what makes the value, how many arguments that takes, how many are given
TAKEN: dict[str, tuple[Callable[..., Any], tuple[int, ...], range]] = {
    "collections OrderedDict": (ordered, (0,), range(2)),
    "torch Size": (size, (0,), range(2)),
    "torch._utils _rebuild_tensor": (tensor, (0, 1, 2, 3), range(4, 5)),
    "torch._utils _rebuild_tensor_v2": (tensor, (0, 1, 2, 3), range(4, 8)),
    "torch._utils _rebuild_tensor_v3": (tensor_of_type, (0, 1, 2, 3, 6), range(7, 9)),
    "torch._utils _rebuild_parameter": (parameter, (0,), range(1, 4)),
    "torch._utils _rebuild_parameter_with_state": (parameter, (0,), range(1, 5)),
}
CALLS = {name: make for name, (make, _, _) in TAKEN.items()}


def arguments_of(name: str, arguments: tuple[Any, ...]) -> list[Any]:
    """Those arguments of a call that matter here: not gradients' flags and hooks."""
    _, taken, counts = TAKEN[name]
    if len(arguments) not in counts:
        raise WeightsError(f"{shown(name)} is called with {len(arguments)} arguments: refused")
    return [arguments[i] for i in taken if i < len(arguments)]


def whole(value: Any, what: str) -> int:
    """A whole number from 0."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise WeightsError(f"{what} is not a whole number from 0: refused")
    return value


def shown(text: str) -> str:
    """A name from the file, fit for a message: one short line."""
    return "".join(c if c.isprintable() else "?" for c in text.replace(" ", "."))[:80]
