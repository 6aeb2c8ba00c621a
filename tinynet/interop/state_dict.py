"""What PyTorch's files of weights say, without running them.

``torch.save`` writes a pickle: a program for a stack machine whose instructions may import and
call anything. The interpreter here knows the few instructions that a state dict is made of, and
the few names in ``CALLS``, each of which stands for a plain value that is made here. It imports
and calls nothing that the file names. Every other instruction or name is refused, by name.
``pickletools`` only cuts the bytes into instructions.
"""

from __future__ import annotations

import pickletools
import struct
import warnings
from collections.abc import Callable
from typing import Any, BinaryIO

from tinynet.interop.errors import WeightsError
from tinynet.interop.tensors import (
    CALLS,
    ELEMENTS,
    TYPES,
    Name,
    Storage,
    arguments_of,
    shown,
    whole,
)

MOST_INSTRUCTIONS = 1_000_000  # ResNet-152's state dict has some 30,000

PLAIN = {
    *("BININT", "BININT1", "BININT2", "LONG1", "INT", "LONG", "BINFLOAT", "FLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE"),
    *("BINSTRING", "SHORT_BINSTRING", "STRING"),
}
MALFORMED = (ValueError, IndexError, KeyError, OverflowError, struct.error)


class Mark:
    """Where the items of a tuple, list or dict begin on the stack."""


def interpret(file: BinaryIO) -> tuple[Any, dict[str, Storage]]:
    """The value that one pickle stands for, and the storages by their keys.

    The file is left behind the pickle's last byte.  The value is made of dict, list, tuple, str,
    numbers, None and ``Tensor``.
    Raises WeightsError, naming what is refused, for anything that a state dict does not need.
    """
    machine = Machine()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about escapes in a damaged text
            for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
                if count >= MOST_INSTRUCTIONS:
                    raise WeightsError(
                        f"has more than {MOST_INSTRUCTIONS:,} instructions, which no state dict "
                        "needs: refused"
                    )
                machine.run(opcode.name, argument)
    except MALFORMED as error:
        raise WeightsError(f"is cut short or damaged ({error}): copy it again") from error
    return machine.pop(), machine.storages


class Machine:
    """A stack, a memo, and one method for each instruction that is more than a plain value."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, Storage] = {}

    def run(self, instruction: str, argument: Any) -> None:
        """Do one instruction, or refuse it."""
        if instruction in PLAIN:
            self.stack.append(argument)
        elif instruction in CONSTANTS:
            self.stack.append(CONSTANTS[instruction]())
        elif instruction in INSTRUCTIONS:
            INSTRUCTIONS[instruction](self, argument)
        else:
            raise WeightsError(
                f"the file would run the instruction {instruction}, which no state dict needs: "
                "refused"
            )

    def top(self) -> Any:
        """The value on top of the stack."""
        if not self.stack or isinstance(self.stack[-1], Mark):
            raise WeightsError("its pickle takes a value where there is none: refused")
        return self.stack[-1]

    def pop(self) -> Any:
        """The value on top, taken off."""
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
        raise WeightsError("its pickle takes items where no mark is: refused")

    def tuple(self, length: int) -> None:
        """The last ``length`` values, as one."""
        self.stack.append(tuple(reversed([self.pop() for _ in range(length)])))

    def name(self, text: str) -> None:
        """A name that the file imports: one of ``CALLS`` and the types, kept as a name."""
        if text not in CALLS and text not in ELEMENTS and text not in TYPES:
            raise WeightsError(
                f"the file would call {shown(text)}: refused. If you trust who made it, load it "
                "with torch and save model.state_dict() alone, or convert it to safetensors"
            )
        self.stack.append(Name(text))

    def stack_name(self, _: Any) -> None:
        """A name made of the two texts on the stack."""
        name, module = self.pop(), self.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise WeightsError("its pickle names something that is no text: refused")
        self.name(f"{module} {name}")

    def call(self, _: Any) -> None:
        """Make what stands for the value of a call."""
        arguments, name = self.pop(), self.pop()
        if not isinstance(name, Name) or not isinstance(arguments, tuple):
            raise WeightsError("its pickle calls what is no name: refused")
        if name.text not in CALLS:
            raise WeightsError(f"the file would call {shown(name.text)}: refused")
        self.stack.append(CALLS[name.text](*arguments_of(name.text, arguments)))

    def set_items(self, pairs: list[Any]) -> None:
        """Keys and values in turn, into the dict below them."""
        target = self.top()
        if not isinstance(target, dict) or len(pairs) % 2:
            raise WeightsError("its pickle sets items of what is no dict: refused")
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            if not isinstance(key, str | int | float):  # hashing a nested tuple may go too deep
                raise WeightsError(f"a key of a dict is a {type(key).__name__}: refused")
            target[key] = value

    def append(self, values: list[Any]) -> None:
        """Values, onto the list below them."""
        target = self.top()
        if not isinstance(target, list):
            raise WeightsError("its pickle appends to what is no list: refused")
        target.extend(values)

    def build(self, _: Any) -> None:
        """Attributes of a dict, such as a state dict's _metadata: dropped."""
        self.pop()
        if not isinstance(self.top(), dict):
            raise WeightsError("its pickle sets attributes of what is no dict: refused")

    def storage(self, _: Any) -> None:
        """A storage, from ("storage", type, key, device, count[, view])."""
        about = self.pop()
        if not isinstance(about, tuple) or len(about) not in (5, 6) or about[0] != "storage":
            raise WeightsError("its pickle refers to what is no storage: refused")
        kind, key, _, count = about[1:5]
        if not isinstance(kind, Name) or kind.text not in ELEMENTS or not isinstance(key, str):
            raise WeightsError("a storage has no type or no key: refused")
        if about[5:] not in ((), (None,)):
            raise WeightsError("a storage is a part of another, which is not supported: refused")
        storage = Storage(key, ELEMENTS[kind.text], whole(count, "a storage's size"))
        if self.storages.setdefault(key, storage) != storage:
            raise WeightsError(f"the storage {shown(key)} has two types or sizes: refused")
        self.stack.append(storage)

    def remember(self, index: int) -> None:
        """Keep the value on top in the memo."""
        self.memo[index] = self.top()

    def recall(self, index: int) -> None:
        """A value of the memo."""
        if index not in self.memo:
            raise WeightsError("its pickle recalls what was not remembered: refused")
        self.stack.append(self.memo[index])


CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "MARK": Mark,
}
INSTRUCTIONS: dict[str, Callable[[Machine, Any], None]] = {
    "PROTO": lambda machine, version: None,
    "FRAME": lambda machine, length: None,
    "STOP": lambda machine, _: None,
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.items())),
    "TUPLE1": lambda machine, _: machine.tuple(1),
    "TUPLE2": lambda machine, _: machine.tuple(2),
    "TUPLE3": lambda machine, _: machine.tuple(3),
    "SETITEM": lambda machine, _: machine.set_items([machine.pop(), machine.pop()][::-1]),
    "SETITEMS": lambda machine, _: machine.set_items(machine.items()),
    "APPEND": lambda machine, _: machine.append([machine.pop()]),
    "APPENDS": lambda machine, _: machine.append(machine.items()),
    "BINPUT": Machine.remember,
    "LONG_BINPUT": Machine.remember,
    "PUT": Machine.remember,
    "MEMOIZE": lambda machine, _: machine.remember(len(machine.memo)),
    "BINGET": Machine.recall,
    "LONG_BINGET": Machine.recall,
    "GET": Machine.recall,
    "GLOBAL": Machine.name,
    "STACK_GLOBAL": Machine.stack_name,
    "REDUCE": Machine.call,
    "BUILD": Machine.build,
    "BINPERSID": Machine.storage,
}
