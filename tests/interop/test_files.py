"""What every reader says of a file that is not weights, or only a part of one."""

import numpy as np
import pytest
import safetensors.numpy

from tests.interop.support import state_dict, tensor, torch_zip
from tests.oracles import package, torch_or_skip
from tinynet.interop import WeightsError, load_weights
from tinynet.interop.keras_file import read_keras
from tinynet.interop.torch_file import read_torch
from tinynet.train.reading import read_safetensors

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n"
BAD_FILES = {
    "missing.pth": (None, "there is no such file"),
    "weights.onnx": (b"abc", "want .safetensors, .pth, .pt, .bin"),
    "weights.h5": (b"\x89HDF\r\n", "load_keras"),
    "weights": (b"abc", "no suffix"),
    "empty.pth": (b"", "is empty"),
    "page.pth": (b"\n<!DOCTYPE html><html><body>Not found</body></html>", "web page"),
    "answer.pth": (b"<?xml version='1.0'?><Error>AccessDenied</Error>", "web page"),
    "pointer.safetensors": (LFS, "git lfs pull"),
    "text.pth": (b"hello", "neither of torch.save's formats"),
    "other.pth": (b"PK\x03\x04 not a zip", "damaged"),
    "text.safetensors": (b"hello, there", "not a safetensors file"),
}
BAD_KERAS_FILES = {
    "missing.h5": (None, "there is no such file"),
    "weights.pth": (b"abc", "load_torch"),
    "page.keras": (b"<html>", "web page"),
    "text.h5": (b"hello", "not an HDF5 file"),
    "text.keras": (b"hello", "is not a zip"),
}
BAD = [(read_torch, *row) for row in BAD_FILES.items()]
BAD += [(read_keras, *row) for row in BAD_KERAS_FILES.items()]


@pytest.mark.parametrize(("read", "name", "what"), BAD, ids=lambda x: getattr(x, "__name__", None))
def test_what_is_not_a_file_of_weights_is_said_to_be_what_it_is(tmp_path, read, name, what):
    data, said = what
    if data is not None:
        (tmp_path / name).write_bytes(data)
    if name.endswith(".h5"):
        package("h5py")
    with pytest.raises(WeightsError) as caught:
        read(tmp_path / name)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / name}: ")
    assert said in message
    assert "\n" not in message


@pytest.mark.parametrize("read", [read_torch, read_keras, load_weights])
def test_a_folder_is_not_a_file(tmp_path, read):
    with pytest.raises(WeightsError, match="is a folder"):
        read(tmp_path)


def test_messages_are_one_line_whatever_the_names(tmp_path):
    name = "weights\n\x1b[31m.pth"
    with pytest.raises(WeightsError, match=r"weights\?\?\[31m\.pth: there is no such file"):
        read_torch(tmp_path / name)


def whole_file(kind, path):
    if kind == "zip":
        return torch_zip(path, state_dict(weight=tensor((6,), (1,))))
    if kind == "keras":
        with package("h5py").File(path, "w") as file:
            file["layers/dense/vars/0"] = np.ones((20, 30))
            file["layers/dense/vars"].attrs["name"] = "classes"
    elif kind == "safetensors":
        safetensors.numpy.save_file({"a": np.arange(100, dtype="float32")}, path)
    else:
        state = torch_or_skip().nn.Linear(20, 30).state_dict()
        torch_or_skip().save(state, path, _use_new_zipfile_serialization=False)
    return path


KINDS = {"zip": ".pth", "before torch 1.6": ".pth", "safetensors": ".safetensors", "keras": ".h5"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_cut_short_anywhere_is_refused(tmp_path, kind):
    read = read_keras if kind == "keras" else read_torch
    data = whole_file(kind, tmp_path / f"whole{KINDS[kind]}").read_bytes()
    cut = tmp_path / f"cut{KINDS[kind]}"
    for length in [1, 2, 5, 16, 40, 200, len(data) // 2, len(data) - 100, len(data) - 1]:
        cut.write_bytes(data[:length])
        with pytest.raises(WeightsError, match=rf"cut\{KINDS[kind]}: "):
            read(cut)


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_safetensors_of_torch_tensors(tmp_path, half):
    torch = torch_or_skip()
    values = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    state = {"a": values, "b": values.to(getattr(torch, half)), "c": values.double()}
    state |= {"count": torch.tensor(3), "empty": torch.empty(0, 2), "flag": torch.tensor([True])}
    state |= {"one": torch.tensor(1.5).bfloat16()}
    file = tmp_path / "weights.safetensors"
    package("safetensors.torch").save_file(state, file, metadata={"from": "here"})
    arrays, texts = read_safetensors(file)
    assert texts == {"from": "here"}
    assert arrays.keys() == state.keys() == read_torch(file).keys()
    for name, x in state.items():
        expected = (x.float() if x.dtype == torch.bfloat16 else x).numpy()
        assert arrays[name].dtype == expected.dtype, name
        np.testing.assert_array_equal(arrays[name], expected)
