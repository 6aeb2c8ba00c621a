"""tinynet.interop.torch_file: what torch.save wrote, against torch.load."""

import zipfile
from collections import OrderedDict

import numpy as np
import pytest

from tests.interop.support import number, state_dict, tensor, text, torch_zip
from tests.oracles import package, torch_or_skip
from tinynet.interop import WeightsError
from tinynet.interop.torch_file import read_torch

each_format = pytest.mark.parametrize("new", [True, False], ids=["zip", "before torch 1.6"])
WEIGHT = state_dict(weight=tensor((6,), (1,)))


def as_numpy(x):
    torch = torch_or_skip()
    x = x.detach()
    return (x.float() if x.dtype in (torch.bfloat16, torch.float16) else x).numpy()


def save(state, file, new=True, **options):
    torch_or_skip().save(state, file, _use_new_zipfile_serialization=new, **options)
    return file


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
    state = views(torch_or_skip())
    check_file(save(state, tmp_path / "weights.pth", new, pickle_protocol=protocol))


@each_format
def test_all_types_are_those_of_torch(tmp_path, new):
    torch = torch_or_skip()
    names = "float32 float64 float16 bfloat16 int64 int32 int16 int8 uint8 bool complex64"
    wide = "complex128 uint16 uint32 uint64" if new else ""  # torch cannot read its old ones of u16
    values = torch.tensor([[0.0, 1.0, 2.5], [100.0, 3.0, 0.125]])
    state = {name: values.to(getattr(torch, name)) for name in f"{names} {wide}".split()}
    check_file(save(state, tmp_path / "weights.pth", new))


def test_8_bit_floats_are_refused_by_name(tmp_path):
    torch = torch_or_skip()
    state = {"a": torch.zeros(2).bfloat16(), "b": torch.zeros(2).to(torch.float8_e5m2)}
    with pytest.raises(WeightsError, match="float8_e5m2"):
        read_torch(save(state, tmp_path / "weights.pth"))
    package("safetensors.torch").save_file(state, tmp_path / "weights.safetensors")
    with pytest.raises(WeightsError, match="b is F8_E5M2"):
        read_torch(tmp_path / "weights.safetensors")


def test_flags_that_change_the_numbers_are_refused(tmp_path):
    """The storage of a conjugate holds other numbers than the tensor."""
    torch = torch_or_skip()
    pairs = torch.view_as_complex(torch.arange(6.0).reshape(3, 2))
    for x in (pairs.conj(), pairs.conj().imag):
        with pytest.raises(WeightsError, match="conjugate or negative of what is stored"):
            read_torch(save({"weight": x}, tmp_path / "weights.pth"))
    assert read_torch(save({"weight": pairs.conj().resolve_conj()}, tmp_path / "weights.pth"))


CHECKPOINTS = {"state_dict": "best.pth.tar", "model_state_dict": "epoch=3.ckpt"}
CHECKPOINTS |= {"model": "last.TAR", "net": "ckpt.pth"}


@each_format
@pytest.mark.parametrize("key", CHECKPOINTS)
def test_a_training_scripts_checkpoint(tmp_path, new, key):
    """The weights are found, whatever else is a tensor; the suffixes are those in use."""
    torch = torch_or_skip()
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    state = model.state_dict()
    adam = {"state": {0: {"step": torch.tensor(1.0), "exp_avg": torch.ones(2, 3)}}}
    adam["param_groups"] = [{"lr": 1e-3, "betas": (0.9, 0.999), "params": [0]}]
    whole = {"best_accuracy": torch.tensor(0.9), "mean": torch.ones(3), "epoch": 3, key: state}
    arrays = read_torch(save(whole | {"optimizer": adam}, tmp_path / CHECKPOINTS[key], new))
    assert list(arrays) == list(state)
    np.testing.assert_array_equal(arrays["0.weight"], as_numpy(model[0].weight))
    assert arrays["1.num_batches_tracked"].shape == ()


def test_programs_are_told_from_weights(tmp_path):
    """torch.jit.save compresses its code, so that the parts are larger than the file."""
    torch = torch_or_skip()
    model = torch.nn.Linear(3, 2)
    torch.jit.save(torch.jit.script(model), str(tmp_path / "script.pt"))
    with pytest.raises(WeightsError, match=r"a TorchScript program: .*torch\.jit\.load"):
        read_torch(tmp_path / "script.pt")
    with zipfile.ZipFile(tmp_path / "exported.pt", "w") as archive:  # as torch.export.save does
        archive.writestr("exported/models/model.json", "{}")
    with pytest.raises(WeightsError, match=r"an exported program: .*torch\.export\.load"):
        read_torch(tmp_path / "exported.pt")


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


def test_a_view_that_just_fits_is_read_and_cannot_be_written_to(tmp_path):
    """Tied weights share memory, so that a change of one would change the other."""
    file = torch_zip(tmp_path / "fits.pth", state_dict(weight=tensor((2, 2), (3, 1), 1)))
    weight = read_torch(file)["weight"]
    np.testing.assert_array_equal(weight, [[1, 2], [4, 5]])
    with pytest.raises(ValueError, match="read-only"):
        weight[0] = 1


def test_hostile_zips_are_refused(tmp_path):
    with pytest.raises(WeightsError, match="compressed|larger than itself"):
        read_torch(torch_zip(tmp_path / "bomb.pth", WEIGHT, zipfile.ZIP_DEFLATED))
    two = state_dict(a=tensor((6,), (1,)), b=tensor((3,), (1,), kind="DoubleStorage", count=3))
    with pytest.raises(WeightsError, match="two types or sizes"):
        read_torch(torch_zip(tmp_path / "two.pth", two))


def test_changed_numbers_are_noticed_by_the_zips_checksum(tmp_path):
    weights = torch_or_skip().full((50,), 1.5)
    file = save({"weight": weights}, tmp_path / "weights.pth")
    data = bytearray(file.read_bytes())
    data[data.index(weights.numpy().tobytes()) + 30] ^= 1
    file.write_bytes(data)
    with pytest.raises(WeightsError, match="damaged"):
        read_torch(file)


def test_an_old_file_whose_storages_are_absurd_is_refused(tmp_path):
    magic = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19." + b"\x80\x02M\xe9\x03." + b"\x80\x02}."
    keys = b"\x80\x02](" + text("0") + b"e."
    file = tmp_path / "old.pth"

    def refused(program, count, match):
        file.write_bytes(magic + program + keys + count.to_bytes(8, "little") + bytes(24))
        with pytest.raises(WeightsError, match=match):
            read_torch(file)

    large = state_dict(weight=tensor((6,), (1,), count=2**40))
    refused(large, 2**40, "cut short")
    refused(large, 6, "a storage's size")
    endless = state_dict(weight=tensor((6,), (1,), kind="DoubleStorage", count=2**64 - 1))
    refused(endless, 2**64 - 1, "cut short")
    file.write_bytes(magic + WEIGHT + keys + (6).to_bytes(8, "little") + bytes(24))
    assert read_torch(file)["weight"].shape == (6,)
    file.write_bytes(b"\x80\x02" + number(7) + b".")
    with pytest.raises(WeightsError, match="not torch.save's"):
        read_torch(file)


def test_a_zip_of_something_else(tmp_path):
    with zipfile.ZipFile(tmp_path / "other.pth", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(WeightsError, match="no data.pkl"):
        read_torch(tmp_path / "other.pth")
