"""tinynet.interop.weights: a network to disk and back."""

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from tinynet.interop import WeightsError, load_weights, save_weights
from tinynet.layers import BatchNorm, Dense, Sequential
from tinynet.models import densenet121, resnet50, small_resnet, vgg_like
from tinynet.train.checkpoint import load_arrays, save_arrays, save_checkpoint

SHAPE = (16, 16, 1)


def rng(seed=0):
    return np.random.default_rng(seed)


def network(classes=3, **settings):
    """A small network with random statistics, its ε and its number of filters not the defaults."""
    settings = {"filters": (4, 6), "hidden": 8, "batch_norm": True} | settings
    model = vgg_like(classes, SHAPE, rng=rng(), **settings)
    draw = rng(2)
    for name, x in model.buffers().items():
        x[...] = draw.uniform(0.5, 1.5, x.shape)
        assert name
    return model


def outputs(model, shape=SHAPE):
    dtype = next(iter(model.state().values())).dtype
    return model.forward(rng(1).standard_normal((2, *shape)).astype(dtype))[0]


def copied(model):
    return {name: x.copy() for name, x in model.state().items()}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_file_alone_gives_the_network_again(tmp_path, dtype):
    model = network().to(dtype=dtype)
    file = tmp_path / "weights.safetensors"
    save_weights(model, file)
    again = load_weights(file)
    assert again.architecture == model.architecture
    assert type(again) is type(model)
    np.testing.assert_array_equal(outputs(again), outputs(model))
    assert outputs(again).dtype == dtype


@pytest.mark.parametrize(
    "model",
    [
        lambda: resnet50(4, (32, 32, 3), width=1 / 16, stride_in="1x1", conv_bias=True, rng=rng()),
        lambda: densenet121(4, (32, 32, 1), width=1 / 8, rng=rng()),
        lambda: small_resnet(4, (16, 16, 3), rng=rng()),
    ],
)
def test_all_settings_come_back(tmp_path, model):
    model = model()
    file = tmp_path / "weights.safetensors"
    save_weights(model, file)
    again = load_weights(file)
    assert again.architecture == model.architecture
    shape = model.architecture.settings["input_shape"]
    np.testing.assert_array_equal(outputs(again, shape), outputs(model, shape))


def test_an_epsilon_that_is_no_setting_comes_back(tmp_path):
    model = network()
    norms = [n for n in model.named_layers().values() if isinstance(n, BatchNorm)]
    for i, norm in enumerate(norms):
        norm.epsilon = 0.1 * (i + 1)
    save_weights(model, tmp_path / "weights.safetensors")
    again = load_weights(tmp_path / "weights.safetensors")
    np.testing.assert_array_equal(outputs(again), outputs(model))
    assert norms[1].epsilon == 0.2


def test_plain_safetensors_reads_the_file(tmp_path):
    model = network()
    file = tmp_path / "weights.safetensors"
    save_weights(model, file)
    arrays = safetensors.numpy.load_file(file)
    assert arrays.keys() == model.state().keys()
    for name, x in model.state().items():
        np.testing.assert_array_equal(arrays[name], x)
    texts = load_arrays(file)[1]
    assert texts["architecture"] == "vgg_like"
    assert json.loads(texts["settings"])["filters"] == [4, 6]


def test_a_given_network_is_filled_and_returned(tmp_path):
    model = network()
    save_weights(model, tmp_path / "weights.safetensors")
    other = network(keep_prob=0.9)
    for x in other.state().values():
        x[...] = 0.5
    assert load_weights(tmp_path / "weights.safetensors", other) is other
    np.testing.assert_array_equal(outputs(other), outputs(model))
    assert other.architecture.settings["keep_prob"] == 0.9


def test_a_network_without_an_architecture(tmp_path):
    def build():
        return Sequential(Dense(3, 4, rng=rng()), BatchNorm(4, epsilon=0.5), Dense(4, 2, rng=rng()))

    model = build()
    model.layers[0].weight.value[...] = 7
    file = tmp_path / "weights.safetensors"
    save_weights(model, file)
    with pytest.raises(WeightsError, match="does not say which architecture.* model="):
        load_weights(file)
    again = build()
    again.layers[1].epsilon = 0.1
    load_weights(file, again)
    assert again.layers[0].weight.value[0, 0] == 7
    assert again.layers[1].epsilon == 0.5


def test_a_base_is_carried_to_another_head(tmp_path):
    model, other = network(9), network(2)
    save_weights(model, tmp_path / "weights.safetensors")
    before = copied(other)
    with pytest.raises(WeightsError, match="2 of another shape.*skip="):
        load_weights(tmp_path / "weights.safetensors", other)
    load_weights(tmp_path / "weights.safetensors", other, skip=("head.4",))
    for name, x in other.state().items():
        source = before if name.startswith("head.4") else model.state()
        np.testing.assert_array_equal(x, source[name])
    with pytest.raises(WeightsError, match="skip names 'head.9'"):
        load_weights(tmp_path / "weights.safetensors", other, skip=("head.9",))


def changed(file: Path, arrays=None, **texts) -> Path:
    """The same file with other arrays or texts."""
    old, said = load_arrays(file)
    kept = {name: x for name, x in (old | (arrays or {})).items() if x is not None}
    save_arrays(file, kept, {k: v for k, v in (said | texts).items() if v is not None})
    return file


ARRAY = "head.4.bias"
BAD = {
    "NaN": ({"arrays": {ARRAY: np.full(3, np.nan, "f4")}}, "head.4.bias has values"),
    "whole numbers": ({"arrays": {ARRAY: np.ones(3, "i4")}}, "head.4.bias has values"),
    "shape": ({"arrays": {ARRAY: np.ones(4, "f4")}}, "head.4.bias is (4,), want (3,)"),
    "missing": ({"arrays": {ARRAY: None}}, "1 missing (head.4.bias)"),
    "unexpected": ({"arrays": {"b": np.ones(1, "f4")}}, "1 unexpected (b)"),
    "another architecture": ({"architecture": "resnet50"}, "weights of resnet50"),
    "unknown architecture": ({"architecture": "os.system"}, "os.system"),
    "no JSON": ({"settings": "{"}, "its settings cannot be read"),
    "a list": ({"settings": "[1]"}, "its settings are a list"),
    "deep JSON": ({"settings": "[" * 100_000}, "its settings cannot be read"),
    "not ours": ({"tinynet": None}, "was not written by save_weights: try load_torch"),
    "epsilon": ({"epsilon": '{"base.1": -1.0}'}, "the ε of base.1 is -1.0"),
    "epsilon a text": ({"epsilon": '{"base.1": "x"}'}, "the ε of base.1 is x"),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_file_changes_nothing(tmp_path, fault):
    change, said = BAD[fault]
    model = network()
    file = tmp_path / "weights.safetensors"
    save_weights(model, file)
    changed(file, **change)
    other = network()
    before = copied(other)
    with pytest.raises(WeightsError) as caught:
        load_weights(file, other)
    assert said in str(caught.value)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)
    for name, x in other.state().items():
        np.testing.assert_array_equal(x, before[name])
    with pytest.raises(WeightsError):
        load_weights(file)


HOSTILE = {
    "num_classes": 10**12,
    "input_shape": [10**9, 10**9, 3],
    "filters": [4, 10**9],
    "hidden": 10**15,
    "unheard_of": 1,
    "keep_prob": "often",
}


@pytest.mark.parametrize("setting", HOSTILE)
def test_absurd_settings_are_refused_before_memory_is_taken(tmp_path, setting):
    model = network()
    file = tmp_path / "weights.safetensors"
    save_weights(model, file)
    settings = model.architecture.settings | {setting: HOSTILE[setting]}
    changed(file, settings=json.dumps(settings))
    with pytest.raises(WeightsError):
        load_weights(file)


def test_other_settings_of_a_given_network_are_an_error(tmp_path):
    """The same shapes, and something else computed."""
    shape = (32, 32, 3)
    file = tmp_path / "weights.safetensors"
    save_weights(resnet50(4, shape, width=1 / 16, rng=rng()), file)
    other = resnet50(4, shape, width=1 / 16, stride_in="1x1", rng=rng())
    with pytest.raises(WeightsError, match="another resnet50: build it with stride_in='3x3'"):
        load_weights(file, other)


def test_a_runs_checkpoint_is_told_apart(tmp_path):
    file = tmp_path / "checkpoint.safetensors"
    save_checkpoint(file, network())
    with pytest.raises(WeightsError, match="try tinynet.train.checkpoint.load_checkpoint"):
        load_weights(file)


@pytest.mark.parametrize("name", ["weights.pth", "weights", "weights.npz"])
def test_other_suffixes_are_refused(tmp_path, name):
    with pytest.raises(WeightsError, match="want .safetensors"):
        save_weights(network(), tmp_path / name)
    assert not (tmp_path / name).exists()


def test_files_that_cannot_be_written_or_read(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WeightsError, match="cannot be written"):
        save_weights(network(), tmp_path / "file" / "weights.safetensors")
    with pytest.raises(WeightsError, match="no such file"):
        load_weights(tmp_path / "none.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(b"\x80\x00\x00\x00\x00\x00\x00\x00{")
    with pytest.raises(WeightsError, match="cut"):
        load_weights(tmp_path / "cut.safetensors")
