"""tinynet.interop.keras_file, keras_names and h5_file: Keras's own files, and hostile ones."""

import io
import zipfile

import numpy as np
import pytest

from tests.oracles import keras_or_skip, package
from tinynet.interop.errors import WeightsError
from tinynet.interop.h5_file import read_h5
from tinynet.interop.keras_file import read_keras
from tinynet.interop.keras_names import (
    counted_again,
    names_in,
    snake_case,
    variables_of,
)

h5py = pytest.importorskip("h5py", reason="h5py is not installed")
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture
def network():
    """A Keras network with named and unnamed layers of most kinds, its numbers all different."""
    keras = keras_or_skip()
    layers = keras.layers
    keras.utils.clear_session()
    layers.Conv2D(2, 3)  # another network's, so that the names do not start at conv2d
    image = layers.Input((16, 16, 3))
    x = layers.Conv2D(4, 3, name="conv1_conv")(image)
    x = layers.BatchNormalization(name="conv1_bn")(x)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, name="dw")(x)
    x = layers.Conv2D(5, 3)(x)
    x = layers.BatchNormalization(scale=False)(x)
    x = layers.SeparableConv2D(4, 3)(x)
    x = layers.Conv2D(5, 3, use_bias=False)(x)
    x = layers.Dropout(0.5)(x)
    model = keras.Model(image, layers.Dense(3, name="predictions")(layers.Flatten()(x)))
    rng = np.random.default_rng(0)
    for variable in model.weights:
        variable.assign(rng.standard_normal(tuple(variable.shape)))
    return model


def expected_arrays(model):
    """Names and arrays as Keras has them in memory, its own names counted from 0."""
    fresh = {"conv2d_1": "conv2d", "conv2d_2": "conv2d_1"}
    return {
        f"{fresh.get(layer.name, layer.name)}/{variable.name}": np.asarray(variable.numpy())
        for layer in model.layers
        for variable in layer.weights
    }


def save_old(model, file):
    """The old format: what save_weights wrote before Keras 3, and the official files are in."""
    legacy = package("keras.src.legacy.saving.legacy_h5_format")
    with h5py.File(file, "w") as opened:
        legacy.save_weights_to_hdf5_group(opened, model)


def check(arrays, expected):
    assert arrays.keys() == expected.keys()
    for name, x in expected.items():
        np.testing.assert_array_equal(arrays[name], x, err_msg=name)


@pytest.mark.parametrize("suffix", ["weights.h5", "keras", "h5"])
def test_every_format_gives_the_same_names_and_arrays(tmp_path, network, suffix):
    file = tmp_path / f"network.{suffix}"
    if suffix == "weights.h5":
        network.save_weights(file)
    elif suffix == "keras":
        network.save(file)
    else:
        save_old(network, file)
    check(read_keras(file), expected_arrays(network))


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_a_whole_compiled_network_is_read_without_its_optimiser(tmp_path, network, suffix):
    expected = expected_arrays(network)
    network.compile("adam", "mse", metrics=["mae"])
    network.optimizer.build(network.trainable_variables)
    file = tmp_path / f"network.{suffix}"
    network.save(file)
    check(read_keras(file), expected)


def test_a_lambda_layer_does_not_run(tmp_path):
    keras = keras_or_skip()
    ran = []
    model = keras.Sequential(
        [
            keras.layers.Input((4,)),
            keras.layers.Lambda(lambda x: (ran.append(1), x)[1]),
            keras.layers.Dense(2, name="classes"),
        ]
    )
    file = tmp_path / "network.keras"
    model.save(file)
    ran.clear()
    assert set(read_keras(file)) == {"classes/kernel", "classes/bias"}
    assert ran == []


@pytest.mark.parametrize("suffix", ["weights.h5", "h5"])
def test_a_network_in_a_network(tmp_path, network, suffix):
    keras = keras_or_skip()
    outer = keras.Sequential([keras.layers.Input((16, 16, 3)), network])
    outer.add(keras.layers.Dense(2, name="classes"))
    file = tmp_path / f"outer.{suffix}"
    if suffix == "h5":
        save_old(outer, file)
    else:
        outer.save_weights(file)
    classes = {f"classes/{v.name}": np.asarray(v.numpy()) for v in outer.layers[-1].weights}
    check(read_keras(file), expected_arrays(network) | classes)


def test_a_file_from_before_layers_names_were_written(tmp_path, network):
    """The names are then those of config.json; without it the file cannot be read."""
    file, old = tmp_path / "network.keras", tmp_path / "old.keras"
    network.save(file)
    with zipfile.ZipFile(file) as archive:
        weights = io.BytesIO(archive.read("model.weights.h5"))
        config = archive.read("config.json")
    with h5py.File(weights, "r+") as opened:
        opened.visititems(lambda name, x: x.attrs.pop("name", None) and None)
    with zipfile.ZipFile(old, "w") as archive:
        archive.writestr("config.json", config)
        archive.writestr("model.weights.h5", weights.getvalue())
    check(read_keras(old), expected_arrays(network))

    alone = tmp_path / "network.weights.h5"
    alone.write_bytes(weights.getvalue())
    with pytest.raises(WeightsError, match="does not say which layer .* save it as .keras"):
        read_keras(alone)


def test_bfloat16_is_read_as_float32(tmp_path):
    keras = keras_or_skip()
    dense = keras.layers.Dense(3, dtype="bfloat16", name="classes")
    model = keras.Sequential([keras.layers.Input((4,)), dense])
    file = tmp_path / "network.weights.h5"
    model.save_weights(file)
    x = read_keras(file)["classes/kernel"]
    assert x.dtype == "float32"
    np.testing.assert_array_equal(x, dense.kernel.value.detach().float().numpy())


def old_file(path, layers, root=None):
    """An old .h5 by hand: layer -> weight name -> array."""
    with h5py.File(path, "w") as file:
        group = file.create_group(root) if root else file
        group.attrs["layer_names"] = [name.encode() for name in layers]
        for layer, weights in layers.items():
            inner = group.create_group(layer)
            inner.attrs["weight_names"] = [name.encode() for name in weights]
            for name, x in weights.items():
                inner[name] = x


@pytest.mark.parametrize("root", [None, "model_weights"])
def test_names_of_keras_1_and_2(tmp_path, root):
    """As in the official files of VGG-16, MobileNet and DenseNet."""
    file = tmp_path / "old.h5"
    kernel, bias = np.ones((3, 3, 2, 4)), np.ones(4)
    norm = {"a_gamma:0": bias, "a_beta:0": 2 * bias, "a_mean:0": 3 * bias, "a_std:0": 4 * bias}
    layers = {
        "input_1": {},
        "block1_conv1": {"block1_conv1_W_1:0": kernel, "block1_conv1_b_1:0": bias},
        "a": norm,
        "conv1/conv": {"conv1/conv/kernel:0": kernel},
        "conv_dw_1": {"conv_dw_1/depthwise_kernel:0": np.ones((3, 3, 4, 1))},
        "conv2d_95": {"conv2d_95/kernel:0": 5 * kernel},
        "conv2d_94": {"conv2d_94/kernel:0": 4 * kernel},
        "fc1000": {"fc1000/kernel:0": np.ones((4, 10)), "fc1000/bias:0": np.ones(10)},
    }
    old_file(file, layers, root)
    arrays = read_keras(file)
    assert list(arrays) == [
        "block1_conv1/kernel",
        "block1_conv1/bias",
        *("a/gamma", "a/beta", "a/moving_mean", "a/moving_variance"),
        "conv1_conv/kernel",
        "conv_dw_1/kernel",
        "conv2d_1/kernel",
        "conv2d/kernel",
        "fc1000/kernel",
        "fc1000/bias",
    ]
    assert arrays["conv2d/kernel"][0, 0, 0, 0] == 4
    assert arrays["a/moving_variance"][0] == 4


def test_a_long_list_of_layers_is_in_parts(tmp_path):
    """HDF5 has no room for more than 64 KB in one attribute."""
    file = tmp_path / "old.h5"
    old_file(file, {f"layer_{i}": {"a/kernel:0": np.ones((2, 2))} for i in range(4)})
    with h5py.File(file, "r+") as opened:
        names = opened.attrs["layer_names"]
        del opened.attrs["layer_names"]
        opened.attrs["layer_names0"], opened.attrs["layer_names1"] = names[:3], names[3:]
    tree = read_h5(file)
    assert tree.texts[""]["layer_names"] == [f"layer_{i}" for i in range(4)]


def test_names_that_keras_made_up_are_counted_in_their_own_order():
    assert counted_again(["conv2d_12", "conv2d_3", "a", "conv2d_100", "dense_7", "conv2d_1b"]) == {
        "conv2d_12": "conv2d_1",
        "conv2d_3": "conv2d",
        "a": "a",
        "conv2d_100": "conv2d_2",
        "dense_7": "dense",
        "conv2d_1b": "conv2d_1b",
    }
    fresh = ["conv2d", "conv2d_1", "conv2d_2"]
    assert counted_again(fresh) == dict(zip(fresh, fresh, strict=True))


def test_class_names_are_written_as_keras_does():
    naming = package("keras.src.utils.naming") if keras_or_skip() else None
    layers = keras_or_skip().layers
    names = [name for name in dir(layers) if name[0].isupper()]
    assert len(names) > 100
    assert [n for n in names if snake_case(n) != naming.to_snake_case(n)] == []


def test_a_config_that_is_not_keras_is_refused():
    assert names_in({"config": {"name": "a"}}) == {}
    with pytest.raises(WeightsError, match=r"config\.json"):
        names_in({"config": {"layers": [3]}})


def test_variables_are_told_by_their_shapes():
    v, m, t = np.zeros(3), np.zeros((3, 3)), np.zeros((3, 3, 2, 2))
    assert list(variables_of([t, v])) == ["kernel", "bias"]
    assert list(variables_of([m])) == ["kernel"]
    assert list(variables_of([t, t, v])) == ["depthwise_kernel", "pointwise_kernel", "bias"]
    assert list(variables_of([v, v, v, v])) == ["gamma", "beta", "moving_mean", "moving_variance"]
    assert list(variables_of([v, v, v])) == ["beta", "moving_mean", "moving_variance"]
    assert list(variables_of([v, v])) == ["0", "1"]
    assert list(variables_of([t, v, v, v])) == ["0", "1", "2", "3"]


def layer_group(file):
    """layers/dense/vars of a file like Keras 3's, for one more array."""
    group = file.create_group("layers/dense/vars")
    group.attrs["name"] = "classes"
    group["0"] = np.ones((2, 3), "float32")
    return group


def external_link(group, folder):
    group["1"] = h5py.ExternalLink("/etc/hostname", "/x")


def soft_link(group, folder):
    group["1"] = h5py.SoftLink("/layers/dense/vars/0")


def hanging_link(group, folder):
    group["1"] = h5py.SoftLink("/nowhere")


def external_storage(group, folder):
    (folder / "secret").write_bytes(bytes(100))
    group.create_dataset("1", (5,), "f4", external=[(str(folder / "secret"), 0, 20)])


def virtual(group, folder):
    layout = h5py.VirtualLayout((2,), "f4")
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "x", (2,))
    group.create_virtual_dataset("1", layout)


def objects(group, folder):
    group.create_dataset("1", data=["text"], dtype=h5py.string_dtype())


def compound(group, folder):
    group.create_dataset("1", data=np.zeros(2, "f4,i4"))


def references(group, folder):
    group.create_dataset("1", (1,), h5py.ref_dtype)


def absurd(group, folder):
    group.create_dataset("1", (2**40,), "f4", chunks=(2**10,), compression="gzip")


def many_absurd(group, folder):
    for i in range(1, 50):
        group.create_dataset(str(i), (2**20,), "f4", chunks=(2**10,))


def no_shape(group, folder):
    group["1"] = h5py.Empty("f4")


def group_in_itself(group, folder):
    group["again"] = group


def other_compression(group, folder):
    group.create_dataset("1", data=np.zeros(100, "f4"), compression="lzf")


def named_type(group, folder):
    group["1"] = np.dtype("f4")


def name_that_is_a_number(group, folder):
    group.attrs["name"] = 7


HOSTILE = {
    external_link: "points elsewhere (ExternalLink)",
    soft_link: "points elsewhere (SoftLink)",
    hanging_link: "points elsewhere (SoftLink)",
    external_storage: "in another file",
    virtual: "in another file",
    objects: "want numbers",
    compound: "want numbers",
    references: "want numbers",
    absurd: "larger than the file could hold",
    many_absurd: "larger than the file could hold",
    no_shape: "has no shape",
    group_in_itself: "deeper than",
    other_compression: "not HDF5's",
    named_type: "no group and no array",
    name_that_is_a_number: "in place of a name",
}


@pytest.mark.parametrize("make", HOSTILE, ids=lambda make: make.__name__)
def test_a_hostile_file_is_refused(tmp_path, make):
    file = tmp_path / "hostile.weights.h5"
    with h5py.File(file, "w") as opened:
        make(layer_group(opened), tmp_path)
    with pytest.raises(WeightsError) as caught:
        read_keras(file)
    assert HOSTILE[make] in str(caught.value)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_compressed_file_is_read(tmp_path):
    file = tmp_path / "small.weights.h5"
    x = np.random.default_rng(0).standard_normal((50, 60)).astype("float32")
    with h5py.File(file, "w") as opened:
        group = opened.create_group("layers/dense/vars")
        group.attrs["name"] = "classes"
        group.create_dataset("0", data=x, compression="gzip", shuffle=True)
    np.testing.assert_array_equal(read_keras(file)["classes/kernel"], x)


def test_two_layers_of_one_name_are_refused(tmp_path):
    file = tmp_path / "two.weights.h5"
    with h5py.File(file, "w") as opened:
        layer_group(opened)
        group = opened.create_group("layers/dense_1/vars")
        group.attrs["name"] = "classes"
        group["0"] = np.ones((2, 3))
    with pytest.raises(WeightsError, match="two layers named classes"):
        read_keras(file)


def test_arrays_that_are_no_layers_are_refused(tmp_path):
    file = tmp_path / "other.h5"
    with h5py.File(file, "w") as opened:
        opened["images"] = np.ones(3)
    with pytest.raises(WeightsError, match="images is not where Keras puts"):
        read_keras(file)


def test_an_old_file_that_lacks_a_listed_array_is_refused(tmp_path):
    file = tmp_path / "old.h5"
    old_file(file, {"a": {"a/kernel:0": np.ones((2, 2))}})
    with h5py.File(file, "r+") as opened:
        del opened["a"]["a/kernel:0"]
    with pytest.raises(WeightsError, match="lists a/kernel:0"):
        read_keras(file)


def keras_zip(path, compress=zipfile.ZIP_DEFLATED, **members):
    with zipfile.ZipFile(path, "w", compress) as archive:
        for name, data in members.items():
            archive.writestr(name.replace("_h5", ".h5").replace("_json", ".json"), data)


def test_bad_archives_are_refused(tmp_path):
    file = tmp_path / "network.keras"
    bad = {
        "has no model.weights.h5": {"config_json": "{}"},
        "has no config.json": {"model.weights_h5": b"x"},
        "config.json cannot be read": {"config_json": "{", "model.weights_h5": b"x"},
        "grow without end": {"config_json": "{}", "model.weights_h5": bytes(10**6)},
        "no HDF5 file": {"config_json": "{}", "model.weights_h5": b"x"},
    }
    for said, members in bad.items():
        keras_zip(file, **members)
        with pytest.raises(WeightsError, match=said):
            read_keras(file)
    deep = "[" * 100_000
    keras_zip(file, zipfile.ZIP_STORED, **{"config_json": deep, "model.weights_h5": b""})
    with pytest.raises(WeightsError, match="cannot be read"):
        read_keras(file)


BAD_FILES = {
    "missing.h5": (None, "there is no such file"),
    "weights.pth": (b"abc", "load_torch"),
    "empty.h5": (b"", "is empty"),
    "page.h5": (b"<!DOCTYPE html>", "web page"),
    "page.keras": (b"<html>", "web page"),
    "text.h5": (b"hello", "no HDF5 file"),
    "text.keras": (b"hello", "is no zip"),
    "pointer.weights.h5": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_what_is_no_file_of_weights_is_said_to_be_what_it_is(tmp_path, name):
    data, said = BAD_FILES[name]
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(WeightsError) as caught:
        read_keras(tmp_path / name)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_cut_short_is_refused(tmp_path):
    file = tmp_path / "network.weights.h5"
    with h5py.File(file, "w") as opened:
        layer_group(opened)["1"] = np.ones(1000)
    data = file.read_bytes()
    for length in (10, 100, 1000, len(data) // 2, len(data) - 1):
        file.write_bytes(data[:length])
        with pytest.raises(WeightsError, match=r"network\.weights\.h5"):
            read_keras(file)


def test_without_h5py_the_error_says_how_to_install_it(tmp_path, monkeypatch):
    file = tmp_path / "network.weights.h5"
    file.write_bytes(b"\x89HDF\r\n\x1a\n")
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(WeightsError, match=r'pip install "tinynet-dl\[weights\]"'):
        read_keras(file)
