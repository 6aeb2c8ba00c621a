"""tinynet.interop.safetensors_file: every type of float, against torch's own reading."""

import numpy as np
import pytest
import safetensors.numpy

from tests.oracles import package, torch_or_skip
from tinynet.interop.errors import WeightsError
from tinynet.interop.safetensors_file import bfloat16, read_safetensors
from tinynet.interop.torch_file import read_torch


def test_bfloat16_is_the_upper_half_of_float32():
    x = np.array([0.0, 1.0, -2.5, 3.140625, 1e30, np.inf], "float32")
    halves = (x.view("uint32") >> 16).astype("uint16")
    kept = (x.view("uint32") & 0xFFFF0000).view("float32")
    np.testing.assert_array_equal(bfloat16(halves), kept)


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_a_file_of_torch_tensors(tmp_path, half):
    torch = torch_or_skip()
    save_file = package("safetensors.torch").save_file
    values = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    state = {"a": values, "b": values.to(getattr(torch, half)), "c": values.double()}
    state |= {"count": torch.tensor(3), "empty": torch.empty(0, 2), "flag": torch.tensor([True])}
    file = tmp_path / "weights.safetensors"
    save_file(state, file, metadata={"from": "here"})
    arrays, texts = read_safetensors(file)
    assert texts == {"from": "here"}
    assert arrays.keys() == state.keys()
    for name, x in state.items():
        expected = x.float().numpy() if name == "b" else x.numpy()
        assert arrays[name].dtype == expected.dtype, name
        np.testing.assert_array_equal(arrays[name], expected)
    assert read_torch(file).keys() == arrays.keys()


def test_8_bit_floats_are_refused_by_name(tmp_path):
    torch = torch_or_skip()
    save_file = package("safetensors.torch").save_file
    file = tmp_path / "weights.safetensors"
    save_file({"a": torch.zeros(2).bfloat16(), "b": torch.zeros(2).to(torch.float8_e5m2)}, file)
    with pytest.raises(WeightsError, match="b is F8_E5M2"):
        read_torch(file)


def test_a_file_cut_short_is_refused(tmp_path):
    file = tmp_path / "weights.safetensors"
    data = safetensors.numpy.save({"a": np.arange(100, dtype="float32")})
    for length in (4, 20, len(data) - 1):
        file.write_bytes(data[:length])
        with pytest.raises(WeightsError, match=r"weights\.safetensors"):
            read_torch(file)


def test_a_header_that_lies_about_sizes_is_refused(tmp_path):
    header = b'{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4]}}'
    file = tmp_path / "weights.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(WeightsError):
        read_torch(file)
