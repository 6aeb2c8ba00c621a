"""tinynet.interop.weights: a network to disk and back."""

import json

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
    for x in model.buffers().values():
        x[...] = draw.uniform(0.5, 1.5, x.shape)
    return model


def outputs(model, shape=SHAPE):
    dtype = next(iter(model.state().values())).dtype
    return model.forward(rng(1).standard_normal((2, *shape)).astype(dtype))[0]


@pytest.fixture
def file(tmp_path):
    """The file of ``network()``."""
    save_weights(network(), tmp_path / "weights.safetensors")
    return tmp_path / "weights.safetensors"


WIDE = {"width": 1 / 16, "stride_in": "1x1", "conv_bias": True}
MODELS = {
    "float32": lambda: network(),
    "float64": lambda: network().to(dtype="float64"),
    "resnet50": lambda: resnet50(4, (32, 32, 3), rng=rng(), **WIDE),
    "densenet121": lambda: densenet121(4, (32, 32, 1), width=1 / 8, rng=rng()),
    "small_resnet": lambda: small_resnet(4, (16, 16, 3), rng=rng()),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_file_alone_gives_the_network_again(tmp_path, name):
    model = MODELS[name]()
    save_weights(model, tmp_path / "weights.safetensors")
    again = load_weights(tmp_path / "weights.safetensors")
    assert again.architecture == model.architecture
    assert type(again) is type(model)
    shape = model.architecture.settings["input_shape"]
    if name in ("float32", "float64"):
        np.testing.assert_array_equal(outputs(again, shape), outputs(model, shape))
        assert outputs(again).dtype == name
    assert again.state().keys() == model.state().keys()
    assert all(np.array_equal(x, model.state()[key]) for key, x in again.state().items())


def test_an_epsilon_that_is_not_a_setting_comes_back(tmp_path):
    model = network()
    norms = [n for n in model.named_layers().values() if isinstance(n, BatchNorm)]
    for i, norm in enumerate(norms):
        norm.epsilon = 0.1 * (i + 1)
    save_weights(model, tmp_path / "weights.safetensors")
    again = load_weights(tmp_path / "weights.safetensors")
    np.testing.assert_array_equal(outputs(again), outputs(model))
    assert norms[1].epsilon == 0.2


def test_plain_safetensors_reads_the_file(file):
    arrays, state = safetensors.numpy.load_file(file), network().state()
    assert arrays.keys() == state.keys()
    assert all(np.array_equal(arrays[name], x) for name, x in state.items())
    texts = load_arrays(file)[1]
    assert texts["architecture"] == "vgg_like"
    assert json.loads(texts["settings"])["filters"] == [4, 6]


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


def test_a_given_network_is_filled_and_returned(file):
    other = network(2, keep_prob=0.9)
    before = {name: x.copy() for name, x in other.state().items()}
    with pytest.raises(WeightsError, match="2 of another shape.*skip="):
        load_weights(file, other)
    assert load_weights(file, other, skip=("head.4",)) is other
    for name, x in other.state().items():
        source = before if name.startswith("head.4") else network().state()
        np.testing.assert_array_equal(x, source[name])
    assert other.architecture.settings["keep_prob"] == 0.9
    with pytest.raises(WeightsError, match="skip names 'head.9'"):
        load_weights(file, other, skip=("head.9",))


def changed(file, arrays=None, **texts):
    """The same file with other arrays or texts."""
    old, said = load_arrays(file)
    kept = {name: x for name, x in (old | (arrays or {})).items() if x is not None}
    save_arrays(file, kept, {k: v for k, v in (said | texts).items() if v is not None})


ARRAY = "head.4.bias"
BAD = {
    "NaN": ({"arrays": {ARRAY: np.full(3, np.nan, "f4")}}, "head.4.bias has 3 of 3 numbers that"),
    "infinite": ({"arrays": {ARRAY: np.full(3, 1e300)}}, "head.4.bias has 3 of 3 numbers that"),
    "whole numbers": (
        {"arrays": {ARRAY: np.ones(3, "i4")}},
        "head.4.bias holds int32, want floats",
    ),
    "shape": ({"arrays": {ARRAY: np.ones(4, "f4")}}, "head.4.bias is (4,), want (3,)"),
    "missing": ({"arrays": {ARRAY: None}}, "1 missing (head.4.bias)"),
    "unexpected": ({"arrays": {"b": np.ones(1, "f4")}}, "1 unexpected (b)"),
    "another architecture": ({"architecture": "resnet50"}, "weights of resnet50"),
    "unknown architecture": ({"architecture": "os.system"}, "os.system"),
    "not JSON": ({"settings": "{"}, "its settings cannot be read"),
    "a list": ({"settings": "[1]"}, "its settings are a list"),
    "deep JSON": ({"settings": "[" * 100_000}, "its settings is nested too deeply"),
    "not ours": ({"tinynet": None}, "was not written by save_weights: try load_torch"),
    "epsilon": ({"epsilon": '{"base.1": -1.0}'}, "the ε of base.1 is -1.0"),
    "epsilon a text": ({"epsilon": '{"base.1": "x"}'}, "the ε of base.1 is x"),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_file_changes_nothing(file, fault):
    change, said = BAD[fault]
    changed(file, **change)
    other = network()
    before = {name: x.copy() for name, x in other.state().items()}
    with pytest.raises(WeightsError) as caught:
        load_weights(file, other)
    assert said in str(caught.value)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)
    for name, x in other.state().items():
        np.testing.assert_array_equal(x, before[name])
    if fault != "infinite":  # float64 numbers build a float64 network
        with pytest.raises(WeightsError):
            load_weights(file)


HOSTILE = {"num_classes": 10**12, "input_shape": [10**9, 10**9, 3], "filters": [4, 10**9]}
HOSTILE |= {"hidden": 10**15, "unheard_of": 1, "keep_prob": "often"}


@pytest.mark.parametrize("setting", HOSTILE)
def test_absurd_settings_are_refused_before_memory_is_taken(file, setting):
    settings = network().architecture.settings | {setting: HOSTILE[setting]}
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


def test_files_that_cannot_be_written_or_read(tmp_path):
    for name in ("weights.pth", "weights", "weights.npz"):
        with pytest.raises(WeightsError, match="want .safetensors"):
            save_weights(network(), tmp_path / name)
        assert not (tmp_path / name).exists()
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WeightsError, match="cannot be written"):
        save_weights(network(), tmp_path / "file" / "weights.safetensors")
    with pytest.raises(WeightsError, match="no such file"):
        load_weights(tmp_path / "none.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(b"\x80\x00\x00\x00\x00\x00\x00\x00{")
    with pytest.raises(WeightsError, match="is cut short"):
        load_weights(tmp_path / "cut.safetensors")
    save_checkpoint(tmp_path / "run.safetensors", network())
    with pytest.raises(WeightsError, match="try tinynet.train.checkpoint.load_checkpoint"):
        load_weights(tmp_path / "run.safetensors")
