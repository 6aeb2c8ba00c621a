"""What PyTorch's files of weights say, without running them.

``torch.save`` writes a pickle: a program for a stack machine whose instructions may import and
call anything. The interpreter here knows the few instructions that a state dict is made of, and
the few names in ``CALLS``, each of which stands for a plain value that is made here. It imports
and calls nothing that the file names. Every other instruction or name is refused, by name.
``pickletools`` only cuts the bytes into instructions.

What comes out is what the file describes, storages and views of them, not yet any numbers: a view
is checked against its storage's size before there are any.
"""

from __future__ import annotations

import pickletools
import struct
import warnings
from collections.abc import Callable
from math import prod
from typing import Any, BinaryIO, NamedTuple

from tinynet.train.reading import MOST_DIMENSIONS, Budget, FileError, refuse_unless

OBJECT = 100  # bytes of a list, a dict or a remembered value, at most
CALL = 60  # instructions that take as long as one call
LARGEST_SIZE = 2**31
MALFORMED = (ValueError, IndexError, KeyError, OverflowError, struct.error)

NAMES = {"Float": "float32", "Double": "float64", "Half": "float16", "BFloat16": "bfloat16"}
NAMES |= {"Long": "int64", "Int": "int32", "Short": "int16", "Char": "int8", "Byte": "uint8"}
NAMES |= {"Bool": "bool", "ComplexFloat": "complex64", "ComplexDouble": "complex128"}
ELEMENTS = {f"torch {name}Storage": element for name, element in NAMES.items()}
ELEMENTS["torch.storage UntypedStorage"] = "uint8"  # what is in it, the tensor says
TYPES = {f"torch {name}": name for name in ("uint16", "uint32", "uint64")}  # no class of storage
WIDTHS = {"uint16": 2, "uint32": 4, "uint64": 8}  # bytes


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


class Mark:
    """Where the items of a tuple, list or dict begin on the stack."""


def interpret(file: BinaryIO, budget: Budget) -> tuple[Any, dict[str, Storage]]:
    """The value that one pickle stands for, and the storages by their keys.

    The file is left behind the pickle's last byte.  The value is made of dict, list, tuple, str,
    numbers, None and ``Tensor``.
    Raises FileError, naming what is refused, for anything that a state dict does not need.
    """
    machine = Machine(budget)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about escapes in a damaged text
            for opcode, argument, _ in pickletools.genops(file):
                size = 4 * len(argument) if isinstance(argument, str) else 0
                budget.take(OBJECT + size, 1, "its pickle")
                machine.run(opcode.name, argument)
    except MALFORMED as error:
        raise FileError(f"is cut short or damaged ({error}): copy it again") from error
    return machine.pop(), machine.storages


class Machine:
    """A stack, a memo, and one method for each instruction that is more than a plain value."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, Storage] = {}

    def run(self, instruction: str, argument: Any) -> None:
        if instruction not in INSTRUCTIONS:
            raise FileError(
                f"the file would run the instruction {instruction}, which no state dict needs: "
                "refused"
            )
        INSTRUCTIONS[instruction](self, argument)

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def top(self) -> Any:
        there = bool(self.stack) and not isinstance(self.stack[-1], Mark)
        refuse_unless(there, "its pickle takes a value where there is none")
        return self.stack[-1]

    def pop(self) -> Any:
        value = self.top()
        self.stack.pop()
        return value

    def items(self) -> list[Any]:
        """The values above the last mark, taken off with it."""
        for start in range(len(self.stack) - 1, -1, -1):
            if isinstance(self.stack[start], Mark):
                taken = self.stack[start + 1 :]
                del self.stack[start:]
                return taken
        raise FileError("its pickle takes items where no mark is: refused")

    def tuple(self, length: int) -> None:
        self.push(tuple(reversed([self.pop() for _ in range(length)])))

    def name(self, text: str) -> None:
        """A name that the file imports, kept as a name."""
        if text not in CALLS and text not in ELEMENTS and text not in TYPES:
            raise FileError(
                f"the file would call {shown(text)}: refused. If you trust who made it, load it "
                "with torch and save model.state_dict() alone, or convert it to safetensors"
            )
        self.push(Name(text))

    def stack_name(self, _: Any) -> None:
        """A name made of the two texts on the stack."""
        name, module = self.pop(), self.pop()
        texts = isinstance(name, str) and isinstance(module, str)
        refuse_unless(texts, "its pickle names something that is not text")
        self.name(f"{module} {name}")

    def call(self, _: Any) -> None:
        """The value that a call stands for, from those arguments that matter here."""
        arguments, name = self.pop(), self.pop()
        right = isinstance(name, Name) and isinstance(arguments, tuple)
        refuse_unless(right, "its pickle calls what is not a name")
        make, taken, counts = CALLS.get(name.text, (None, (), ()))
        if make is None or len(arguments) not in counts:
            raise FileError(
                f"the file would call {shown(name.text)} with {len(arguments)} arguments: refused"
            )
        items = sum(len(x) for x in arguments if isinstance(x, list | tuple))  # copied each time
        self.budget.take(OBJECT * items, CALL + items, name.text)
        self.push(make(*(arguments[i] if i < len(arguments) else None for i in taken)))

    def set_items(self, pairs: list[Any]) -> None:
        """Keys and values in turn, into the dict below them."""
        target = self.top()
        right = isinstance(target, dict) and len(pairs) % 2 == 0
        refuse_unless(right, "its pickle sets items of what is not a dict")
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            # hashing a nested tuple may go too deep; large numbers can all have the same hash
            hashable = isinstance(key, str | int)
            refuse_unless(hashable, f"a key of a dict is a {type(key).__name__}")
            small = isinstance(key, str) or abs(key) < LARGEST_SIZE
            refuse_unless(small, "a key of a dict is a large number")
            target[key] = value

    def append(self, values: list[Any]) -> None:
        target = self.top()
        refuse_unless(isinstance(target, list), "its pickle appends to what is not a list")
        target.extend(values)

    def build(self, _: Any) -> None:
        """Attributes of a dict, such as a state dict's _metadata: dropped."""
        self.pop()
        right = isinstance(self.top(), dict)
        refuse_unless(right, "its pickle sets attributes of what is not a dict")

    def storage(self, _: Any) -> None:
        """A storage, from ("storage", type, key, device, count[, view])."""
        about = self.pop()
        right = isinstance(about, tuple) and len(about) in (5, 6) and about[0] == "storage"
        refuse_unless(right, "its pickle refers to what is not a storage")
        kind, key, _, count = about[1:5]
        right = isinstance(kind, Name) and kind.text in ELEMENTS and isinstance(key, str)
        refuse_unless(right, "a storage has no type or no key")
        whole_one = about[5:] in ((), (None,))
        refuse_unless(whole_one, "a storage is a part of another, which is not supported")
        storage = Storage(key, ELEMENTS[kind.text], whole(count, "a storage's size"))
        same = self.storages.setdefault(key, storage) == storage
        refuse_unless(same, f"the storage {shown(key)} has two types or sizes")
        self.push(storage)

    def remember(self, index: int) -> None:
        self.memo[index] = self.top()

    def recall(self, index: int) -> None:
        refuse_unless(index in self.memo, "its pickle recalls what was not remembered")
        self.push(self.memo[index])


PLAIN = ["BININT", "BININT1", "BININT2", "LONG1", "INT", "LONG", "BINFLOAT", "FLOAT"]
PLAIN += ["BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE"]
PLAIN += ["BINSTRING", "SHORT_BINSTRING", "STRING"]
INSTRUCTIONS: dict[str, Callable[[Machine, Any], None]] = {
    **dict.fromkeys(PLAIN, Machine.push),
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "MARK": lambda machine, _: machine.push(Mark()),
    **dict.fromkeys(("PROTO", "FRAME", "STOP"), lambda machine, _: None),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.items())),
    "TUPLE1": lambda machine, _: machine.tuple(1),
    "TUPLE2": lambda machine, _: machine.tuple(2),
    "TUPLE3": lambda machine, _: machine.tuple(3),
    "SETITEM": lambda machine, _: machine.set_items([machine.pop(), machine.pop()][::-1]),
    "SETITEMS": lambda machine, _: machine.set_items(machine.items()),
    "APPEND": lambda machine, _: machine.append([machine.pop()]),
    "APPENDS": lambda machine, _: machine.append(machine.items()),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT", "PUT"), Machine.remember),
    "MEMOIZE": lambda machine, _: machine.remember(len(machine.memo)),
    **dict.fromkeys(("BINGET", "LONG_BINGET", "GET"), Machine.recall),
    "GLOBAL": Machine.name,
    "STACK_GLOBAL": Machine.stack_name,
    "REDUCE": Machine.call,
    "BUILD": Machine.build,
    "BINPERSID": Machine.storage,
}


def tensor(
    storage: Any, offset: Any, shape: Any, strides: Any, flags: Any = None, kind: Any = None
) -> Tensor:
    """A checked view: it lies within its storage, and has no more elements than that.

    kind   the type, where there is no class of storage for it
    """
    right = isinstance(storage, Storage) and isinstance(shape, tuple) and isinstance(strides, tuple)
    refuse_unless(right, "a tensor has no storage, no shape or no strides")
    if not len(strides) == len(shape) <= MOST_DIMENSIONS:
        raise FileError(f"a tensor has {len(shape)} sizes and {len(strides)} strides: refused")
    # "conj", "neg": its numbers are not those of the storage
    refuse_unless(not flags, "a tensor is the conjugate or negative of what is stored")
    for size in (offset, *shape, *strides):
        whole(size, "a tensor's offset, size or stride")
    right = kind is None or (isinstance(kind, Name) and kind.text in TYPES)
    refuse_unless(right, "a tensor's type is not one that is read here")
    element = storage.element if kind is None else TYPES[kind.text]
    room = storage.length // (1 if storage.element == element else WIDTHS[element])
    strides = tuple(stride if size > 1 else 0 for size, stride in zip(shape, strides, strict=True))
    elements = prod(shape)
    last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    if max(shape, default=0) > LARGEST_SIZE or (elements and max(last + 1, elements) > room):
        raise FileError(
            f"a tensor of {shape} needs more than the {room} numbers of its storage: refused"
        )
    return Tensor(storage, element, offset, shape, strides)


def parameter(data: Any) -> Any:
    refuse_unless(isinstance(data, Tensor), "a parameter has no tensor")
    return data


def size(shape: Any) -> Any:
    refuse_unless(isinstance(shape, tuple | None), "a size is not a tuple")
    return shape or ()


def ordered(pairs: Any) -> dict[Any, Any]:
    """A dict; Python 2 gave its items with the call."""
    pairs = () if pairs is None else pairs
    right = isinstance(pairs, list | tuple) and all(
        isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[0], str)
        for pair in pairs
    )
    refuse_unless(right, "an OrderedDict is made of what is not a list of pairs")
    return dict(pairs)


# what the file may call -> what makes the value, from which of the arguments (those left out are
# gradients' flags and hooks), and how many there may be
CALLS: dict[str, tuple[Callable[..., Any], tuple[int, ...], range]] = {
    "collections OrderedDict": (ordered, (0,), range(2)),
    "torch Size": (size, (0,), range(2)),
    "torch._utils _rebuild_tensor": (tensor, (0, 1, 2, 3), range(4, 5)),
    "torch._utils _rebuild_tensor_v2": (tensor, (0, 1, 2, 3, 6), range(4, 8)),
    "torch._utils _rebuild_tensor_v3": (tensor, (0, 1, 2, 3, 7, 6), range(7, 9)),
    "torch._utils _rebuild_parameter": (parameter, (0,), range(1, 4)),
    "torch._utils _rebuild_parameter_with_state": (parameter, (0,), range(1, 5)),
}


def whole(value: Any, what: str) -> int:
    right = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    refuse_unless(right, f"{what} is not a whole number from 0")
    return int(value)


def shown(text: str) -> str:
    """A name from the file, short enough for a message."""
    return text[:80].replace(" ", ".")
