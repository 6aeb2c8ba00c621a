"""tinynet.interop.torch_file and tensors: what torch.save wrote, against torch.load."""

import zipfile
from collections import OrderedDict

import numpy as np
import pytest

from tests.interop.support import number, state_dict, tensor, text, torch_zip
from tests.oracles import torch_or_skip
from tinynet.interop.errors import WeightsError
from tinynet.interop.torch_file import read_torch

FORMATS = [True, False]
each_format = pytest.mark.parametrize("new", FORMATS, ids=["zip", "before torch 1.6"])


def as_numpy(x):
    torch = torch_or_skip()
    x = x.detach()
    return (x.float() if x.dtype in (torch.bfloat16, torch.float16) else x).numpy()


def check_file(file):
    """Our arrays of a file are torch's."""
    expected = torch_or_skip().load(file, weights_only=False)
    arrays = read_torch(file)
    assert list(arrays) == list(expected)
    for name, x in expected.items():
        assert arrays[name].dtype == as_numpy(x).dtype, name
        np.testing.assert_array_equal(arrays[name], as_numpy(x), err_msg=name)


def views(torch):
    """Tensors that share storages, in all the ways that a state dict may have them."""
    generator = torch.Generator().manual_seed(3)
    base = torch.randn(6, 8, generator=generator)
    return OrderedDict(
        whole=base,
        tied=base,
        transposed=base.T,
        part=base[1:5:2, 2:7],
        permuted=torch.randn(2, 3, 4, 5, generator=generator).permute(2, 3, 1, 0),
        parameter=torch.nn.Parameter(base[0].clone()),
        scalar=torch.tensor(3.5),
        scalar_in_storage=base[3, 4],
        empty=torch.empty(0, 4),
        empty_part=base[2:2],
        one=base[3:4, 5:6],
        bfloat16_part=base.bfloat16()[2, 3:],
        channels_last=torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
    )


@each_format
@pytest.mark.parametrize("protocol", range(2, 6))
def test_views_of_storages_are_those_of_torch(tmp_path, new, protocol):
    torch = torch_or_skip()
    file = tmp_path / "weights.pth"
    torch.save(views(torch), file, pickle_protocol=protocol, _use_new_zipfile_serialization=new)
    check_file(file)


@each_format
def test_all_types_are_those_of_torch(tmp_path, new):
    torch = torch_or_skip()
    names = (
        "float32 float64 float16 bfloat16 int64 int32 int16 int8 uint8 bool complex64 complex128"
    )
    wide = "uint16 uint32 uint64" if new else ""  # torch cannot read its own old files of these
    values = torch.tensor([[0.0, 1.0, 2.5], [100.0, 3.0, 0.125]])
    file = tmp_path / "weights.pth"
    state = {name: values.to(getattr(torch, name)) for name in f"{names} {wide}".split()}
    torch.save(state, file, _use_new_zipfile_serialization=new)
    check_file(file)


def test_float8_is_refused_by_name(tmp_path):
    torch = torch_or_skip()
    file = tmp_path / "weights.pth"
    torch.save({"weight": torch.zeros(3).to(torch.float8_e5m2)}, file)
    with pytest.raises(WeightsError, match="float8_e5m2"):
        read_torch(file)


@each_format
def test_a_models_state_dict_with_buffers_and_versions(tmp_path, new):
    torch = torch_or_skip()
    model = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3))
    file = tmp_path / "weights.pt"
    torch.save(model.state_dict(), file, _use_new_zipfile_serialization=new)
    check_file(file)
    assert read_torch(file)["1.num_batches_tracked"].shape == ()


@each_format
@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model"])
def test_a_training_scripts_checkpoint(tmp_path, new, key):
    torch = torch_or_skip()
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    state = {f"module.{name}": x for name, x in model.state_dict().items()}
    whole = {"epoch": 3, "rate": 1e-3, key: state, "optimizer": optimizer.state_dict()}
    file = tmp_path / "checkpoint.pth"
    torch.save(whole, file, _use_new_zipfile_serialization=new)
    arrays = read_torch(file)
    assert list(arrays) == ["weight", "bias"]
    np.testing.assert_array_equal(arrays["weight"], as_numpy(model.weight))


def test_big_endian_storages(tmp_path):
    values = np.array([1.5, -2.0, 3.25, 4.0, 5.0, 6.0], dtype=">f4")
    program = state_dict(weight=tensor((2, 3), (3, 1)))
    members = {"byteorder": b"big", "data/0": values.tobytes()}
    arrays = read_torch(torch_zip(tmp_path / "big.pth", program, **members))
    np.testing.assert_array_equal(arrays["weight"], values.reshape(2, 3))
    halves = (np.array([1.5, -2.0], "f4").view("u4") >> 16).astype(">u2")
    program = state_dict(weight=tensor((2,), (1,), kind="BFloat16Storage", count=2))
    members["data/0"] = halves.tobytes()
    arrays = read_torch(torch_zip(tmp_path / "half.pth", program, **members))
    np.testing.assert_array_equal(arrays["weight"], np.array([1.5, -2.0], "f4"))


ABSURD = {
    "larger than its storage": tensor((7,), (1,)),
    "2^60 numbers": tensor((2**30, 2**30), (1, 1)),
    "a stride of nothing": tensor((1000, 1000), (0, 0)),
    "overlapping rows": tensor((5, 5), (1, 1)),
    "an offset behind the end": tensor((3,), (1,), 4),
    "a stride behind the end": tensor((2, 2), (5, 1)),
    "a negative size": tensor((-1, 6), (1, 1)),
    "a negative stride": tensor((6,), (-1,)),
    "a negative offset": tensor((1,), (1,), -1),
    "more strides than sizes": tensor((6,), (1, 1)),
    "too many sizes": tensor((1,) * 40, (1,) * 40),
    "no numbers of an absurd size": tensor((0, 2**40), (1, 1)),
    "a storage larger than the file": tensor((2**40,), (1,), count=2**40),
    "a storage of a negative size": tensor((0,), (1,), count=-1),
    "a storage that is not there": tensor((6,), (1,), key="1"),
    "a storage by a path": tensor((6,), (1,), key="../data.pkl"),
}


@pytest.mark.parametrize("program", ABSURD.values(), ids=ABSURD)
def test_absurd_shapes_are_refused_before_memory_is_taken(tmp_path, program):
    file = torch_zip(tmp_path / "absurd.pth", state_dict(weight=program))
    with pytest.raises(WeightsError) as caught:
        read_torch(file)
    assert "\n" not in str(caught.value)


def test_a_view_that_just_fits_is_read(tmp_path):
    file = torch_zip(tmp_path / "fits.pth", state_dict(weight=tensor((2, 2), (3, 1), 1)))
    np.testing.assert_array_equal(read_torch(file)["weight"], [[1, 2], [4, 5]])


def test_arrays_cannot_be_written_to(tmp_path):
    """Tied weights share memory, so that a change of one would change the other."""
    file = torch_zip(tmp_path / "weights.pth", state_dict(weight=tensor((6,), (1,))))
    with pytest.raises(ValueError, match="read-only"):
        read_torch(file)["weight"][0] = 1


def test_a_compressed_zip_is_refused(tmp_path):
    program = state_dict(weight=tensor((6,), (1,)))
    file = torch_zip(tmp_path / "bomb.pth", program, zipfile.ZIP_DEFLATED)
    with pytest.raises(WeightsError, match="compressed|larger than itself"):
        read_torch(file)


def test_one_storage_with_two_types_is_refused(tmp_path):
    program = state_dict(a=tensor((6,), (1,)), b=tensor((3,), (1,), kind="DoubleStorage", count=3))
    with pytest.raises(WeightsError, match="two types or sizes"):
        read_torch(torch_zip(tmp_path / "two.pth", program))


def test_a_torchscript_program_is_refused(tmp_path):
    program = state_dict(weight=tensor((6,), (1,)))
    members = {"constants.pkl": b"\x80\x02).", "data/0": bytes(24)}
    with pytest.raises(WeightsError, match="TorchScript"):
        read_torch(torch_zip(tmp_path / "script.pt", program, **members))


@each_format
def test_a_file_cut_short_anywhere_is_refused(tmp_path, new):
    torch = torch_or_skip()
    file = tmp_path / "weights.pth"
    torch.save(torch.nn.Linear(20, 30).state_dict(), file, _use_new_zipfile_serialization=new)
    data = file.read_bytes()
    cut = tmp_path / "cut.pth"
    for length in [1, 2, 5, 16, 40, 200, 700, len(data) // 2, len(data) - 100, len(data) - 1]:
        cut.write_bytes(data[:length])
        with pytest.raises(WeightsError, match="cut.pth"):
            read_torch(cut)


def test_changed_numbers_are_noticed_by_the_zips_checksum(tmp_path):
    torch = torch_or_skip()
    file = tmp_path / "weights.pth"
    weights = torch.full((50,), 1.5)
    torch.save({"weight": weights}, file)
    data = bytearray(file.read_bytes())
    data[data.index(weights.numpy().tobytes()) + 30] ^= 1
    file.write_bytes(data)
    with pytest.raises(WeightsError, match="damaged"):
        read_torch(file)


def test_an_old_file_whose_storages_are_absurd_is_refused(tmp_path):
    magic = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19." + b"\x80\x02M\xe9\x03." + b"\x80\x02}."
    keys = b"\x80\x02](" + text("0") + b"e."
    program = state_dict(weight=tensor((6,), (1,), count=2**40))
    file = tmp_path / "old.pth"
    file.write_bytes(magic + program + keys + (2**40).to_bytes(8, "little") + bytes(8))
    with pytest.raises(WeightsError, match="cut short"):
        read_torch(file)
    endless = state_dict(weight=tensor((6,), (1,), kind="DoubleStorage", count=2**64 - 1))
    file.write_bytes(magic + endless + keys + bytes(8 * [255]) + bytes(8))
    with pytest.raises(WeightsError, match="cut short"):
        read_torch(file)
    file.write_bytes(magic + program + keys + (6).to_bytes(8, "little") + bytes(24))
    with pytest.raises(WeightsError, match="a storage's size"):
        read_torch(file)
    program = state_dict(weight=tensor((6,), (1,)))
    file.write_bytes(magic + program + keys + (6).to_bytes(8, "little") + bytes(24))
    assert read_torch(file)["weight"].shape == (6,)


def test_a_pickle_that_is_not_torchs_is_refused(tmp_path):
    file = tmp_path / "other.pth"
    file.write_bytes(b"\x80\x02" + number(7) + b".")
    with pytest.raises(WeightsError, match="not torch.save's"):
        read_torch(file)


BAD_FILES = {
    "missing.pth": (None, "there is no such file"),
    "weights.onnx": (b"abc", "want .safetensors, .pth, .pt, .bin"),
    "weights.h5": (b"\x89HDF\r\n", "load_keras"),
    "weights": (b"abc", "no suffix"),
    "empty.pth": (b"", "is empty"),
    "page.pth": (b"\n<!DOCTYPE html><html><body>Not found</body></html>", "web page"),
    "page.pt": (b"<html><head>", "web page"),
    "answer.pth": (b"<?xml version='1.0'?><Error>AccessDenied</Error>", "web page"),
    "pointer.pth": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "git lfs pull"),
    "text.pth": (b"hello", "neither of torch.save's formats"),
    "other.pth": (b"PK\x03\x04 not a zip", "damaged"),
    "text.safetensors": (b"hello, there", "safetensors"),
    "pointer.safetensors": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_what_is_no_file_of_weights_is_said_to_be_what_it_is(tmp_path, name):
    data, said = BAD_FILES[name]
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(WeightsError) as caught:
        read_torch(tmp_path / name)
    message = str(caught.value)
    assert str(tmp_path / name) in message
    assert said in message
    assert "\n" not in message


def test_a_folder_and_a_zip_of_something_else(tmp_path):
    with pytest.raises(WeightsError, match="is a folder"):
        read_torch(tmp_path)
    file = tmp_path / "other.pth"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(WeightsError, match="no data.pkl"):
        read_torch(file)


@each_format
def test_files_with_random_damage_are_read_or_refused(tmp_path, new):
    """Never anything else: no other error, no memory that the file does not account for."""
    torch = torch_or_skip()
    file = tmp_path / "weights.pth"
    model = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.Linear(4, 5).half())
    torch.save(model.state_dict(), file, _use_new_zipfile_serialization=new)
    whole = np.frombuffer(file.read_bytes(), "uint8")
    program = whole.tobytes().index(b"\x80\x02ccollections")
    rng = np.random.default_rng(4)
    refused = []
    for i in range(300):
        data = whole.copy()
        first, last = (program, program + 900) if i % 2 else (0, len(data))
        places = rng.integers(first, last, size=1 + i % 5)
        data[places] = rng.integers(256, size=places.size)
        file.write_bytes(data.tobytes())
        try:
            arrays = read_torch(file)
        except WeightsError as error:
            refused.append(str(error))
        else:
            assert sum(x.nbytes for x in arrays.values()) < 10 * len(data)
    assert 100 < len(refused) < 300
    assert not any("\n" in message for message in refused)
