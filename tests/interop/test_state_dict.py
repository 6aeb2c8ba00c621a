"""tinynet.interop.state_dict: hostile pickles are refused by name, and run nothing."""

import io
import os
import pickle
import pickletools

import pytest

from tests.interop.support import number, numbers, state_dict, tensor, text, torch_zip
from tests.oracles import torch_or_skip
from tinynet.interop.state_dict import (
    CALLS,
    INSTRUCTIONS,
    Machine,
    interpret,
)
from tinynet.interop.torch_file import read_torch
from tinynet.train.reading import Budget, FileError

CANARY = "canary"  # what the hostile programs below would make


def read(program: bytes):
    return interpret(io.BytesIO(program), Budget(len(program)))[0]


def global_call(module: str, name: str, *arguments: bytes) -> bytes:
    return f"c{module}\n{name}\n(".encode() + b"".join(arguments) + b"tR"


def stack_global_call(module: str, name: str, *arguments: bytes) -> bytes:
    return text(module) + text(name) + b"\x93(" + b"".join(arguments) + b"tR"


COMMAND = text(f"touch {CANARY}")
CODE = text(f"open({CANARY!r}, 'w').close()")
HOSTILE = {
    "GLOBAL os.system": (global_call("os", "system", COMMAND), "os.system"),
    "GLOBAL posix.system": (global_call("posix", "system", COMMAND), "posix.system"),
    "STACK_GLOBAL os.system": (stack_global_call("os", "system", COMMAND), "os.system"),
    "builtins.eval": (global_call("builtins", "eval", CODE), "builtins.eval"),
    "builtins.exec": (stack_global_call("builtins", "exec", CODE), "builtins.exec"),
    "__builtin__.eval": (global_call("__builtin__", "eval", CODE), "__builtin__.eval"),
    "getattr": (global_call("builtins", "getattr", text("os"), text("system")), "getattr"),
    "dotted name": (stack_global_call("torch", "_utils.os.system", COMMAND), "torch._utils.os"),
    "a name with a space": (stack_global_call("torch._utils _rebuild_tensor_v2", ""), "torch"),
    "runpy": (global_call("runpy", "_run_code", CODE), "runpy._run_code"),
    "torch.load": (global_call("torch", "load", text(CANARY)), "torch.load"),
    "a model's class": (b"ctorchvision.models.resnet\nResNet\n)\x81", "torchvision.models.resnet"),
    "numpy": (global_call("numpy.core.multiarray", "_reconstruct"), "_reconstruct"),
    "INST": (b"(" + COMMAND + b"ios\nsystem\n", "INST"),
    "OBJ": (b"(N" + COMMAND + b"o", "OBJ"),
    "NEWOBJ": (b"ccollections\nOrderedDict\n)\x81", "NEWOBJ"),
    "EXT1": (b"\x82\x01", "EXT1"),
    "EXT2": (b"\x83\x01\x00", "EXT2"),
    "EXT4": (b"\x84\x01\x00\x00\x00", "EXT4"),
    "PERSID": (b"Pstorage\n", "PERSID"),
    "NEXT_BUFFER": (b"\x97", "NEXT_BUFFER"),
    "a storage's class called": (b"ctorch\nFloatStorage\n)R", "torch.FloatStorage"),
    "a value called": (number(1) + b")R", "calls what is not a name"),
    "a persistent id that is a text": (text("0") + b"Q", "not a storage"),
    "a storage of no type": (
        b"(" + text("storage") + text("os") + text("0") + text("cpu") + number(1) + b"tQ",
        "no type",
    ),
    "attributes of a number": (number(1) + b"}b", "attributes of what is not a dict"),
    "items of a list": (b"]" + text("a") + number(1) + b"s", "items of what is not a dict"),
    "a tuple as a key": (b"}" + b")" + number(1) + b"s", "key of a dict is a tuple"),
    "keys of one hash": (b"}" + number(2**61 - 1) + number(1) + b"s", "is a large number"),
    "append to a text": (text("a") + number(1) + b"a", "what is not a list"),
    "a dict from a number": (
        global_call("collections", "OrderedDict", number(1)),
        "made of what is not a list",
    ),
}


@pytest.mark.parametrize(("program", "named"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_programs_are_refused_by_name_and_do_nothing(tmp_path, monkeypatch, program, named):
    monkeypatch.chdir(tmp_path)
    places = {
        "alone": b"\x80\x02" + program + b".",
        "among weights": state_dict(weight=tensor((6,), (1,)), bias=program),
        "in a tuple": b"\x80\x02" + program + b"\x85.",
    }
    for place, whole in places.items():
        file = torch_zip(tmp_path / "weights.pth", whole)
        with pytest.raises(FileError) as caught:
            read_torch(file)
        message = str(caught.value)
        assert str(file) in message, place
        assert named in message, place
        assert "\n" not in message
        assert not (tmp_path / CANARY).exists()


TAKES = {b"\x85": "a value where there is none", b"(\x85": "a value where there is none"}
TAKES |= {b"t": "no mark", b"h\x05": "not remembered"}


@pytest.mark.parametrize("program", TAKES)
def test_a_program_that_takes_what_is_not_there_is_refused(program):
    with pytest.raises(FileError, match=TAKES[program]):
        read(b"\x80\x02" + program + b".")


class Runs:
    """What pickle would run when it reads it."""

    def __reduce__(self):
        return os.system, (f"touch {CANARY}",)


@pytest.mark.parametrize("protocol", range(6))
def test_what_pickle_itself_writes_is_refused_in_every_protocol(tmp_path, monkeypatch, protocol):
    monkeypatch.chdir(tmp_path)
    program = pickle.dumps((Runs(),), protocol)
    with pytest.raises(FileError, match=r"would call \w+\.system: refused"):
        read(program)
    assert not (tmp_path / CANARY).exists()
    pickle.loads(program)  # it is what it claims to be
    assert (tmp_path / CANARY).exists()


def test_a_whole_model_is_refused_and_the_message_says_what_to_save(tmp_path):
    torch = torch_or_skip()
    file = tmp_path / "model.pth"
    torch.save(torch.nn.Linear(2, 3), file)
    with pytest.raises(FileError, match=r"torch\.nn\.modules\.linear\.Linear.*state_dict"):
        read_torch(file)


def test_every_instruction_is_either_known_or_refused():
    assert {name.split()[0] for name in CALLS} == {"collections", "torch", "torch._utils"}
    known = set(INSTRUCTIONS)
    everything = {opcode.name for opcode in pickletools.opcodes}
    assert known <= everything
    assert {"INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "DUP", "DICT", "LONG4"} & known == set()
    for name in everything - known:
        with pytest.raises(FileError, match=f"instruction {name},"):
            Machine(Budget(0)).run(name, None)


def test_a_memo_bomb_stays_small():
    """Lists of two of the last list, 2^60 items in all if they were written out."""
    program = b"\x80\x02]q\x00" + b"".join(
        b"](h" + bytes([i]) + b"h" + bytes([i]) + b"eq" + bytes([i + 1]) for i in range(60)
    )
    assert len(read(program + b".")) == 2


def test_a_very_deep_value_does_not_exhaust_the_stack(tmp_path):
    deep = b")" + b"\x85" * 20_000
    value = read(b"\x80\x02" + deep + b".")
    assert len(value) == 1
    del value
    with pytest.raises(FileError, match="key of a dict is a tuple"):
        read(b"\x80\x02}" + deep + number(1) + b"s.")
    file = torch_zip(tmp_path / "deep.pth", state_dict(weight=tensor((6,), (1,)), deep=deep))
    assert list(read_torch(file)) == ["weight"]


def test_a_dict_that_holds_itself_is_no_state_dict(tmp_path):
    program = b"\x80\x02}q\x00" + text("model") + b"h\x00s."
    with pytest.raises(FileError, match="holds no state dict"):
        read_torch(torch_zip(tmp_path / "circle.pth", program))


DAMAGED = [
    *(state_dict(weight=tensor((6,), (1,)))[:length] for length in range(1, 60, 7)),
    b"\x80\x02X\xff\xff\xff\xffabc.",  # a text longer than the file
    b"\x80\x04\x8d" + b"\xff" * 8 + b"abc.",
    *(b"\x80\x02I12a\n.", b"\x80\x02Fnone\n.", b"\x80\x02Vunicode\\u12\n."),
    b"\x80\x02X\x02\x00\x00\x00\xff\xfe.",  # not UTF-8
    *(b"", b".", bytes(range(256))),
]


@pytest.mark.parametrize("data", DAMAGED)
def test_damaged_programs_are_refused(data):
    with pytest.raises(FileError):
        read(data)


def test_names_are_shown_on_one_short_line():
    program = b"\x80\x02" + text("os\n\x1b[31m" + "a" * 500) + text("system") + b"\x93."
    with pytest.raises(FileError) as caught:
        read(program)
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_an_ordered_dict_of_python_2_is_read():
    """Python 2 gave the items as a list with the call, and texts as bytes."""
    program = b"\x80\x02ccollections\nOrderedDict\n]("  # a list of two lists
    program += b"](U\x01a" + number(1) + b"e](U\x01b" + number(2) + b"ee\x85R."
    assert read(program) == {"a": 1, "b": 2}


def test_a_shape_can_be_given_as_a_torch_size():
    call = b"ctorch\nSize\n" + numbers((2, 3)) + b"\x85R"
    assert read(b"\x80\x02" + call + b".") == (2, 3)
