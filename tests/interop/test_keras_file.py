"""tinynet.interop.keras_file and h5_file: Keras's own files, and hostile ones."""

import io
import sys
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from tests.oracles import keras_or_skip, package
from tinynet.interop import WeightNames, WeightsError, load_keras
from tinynet.interop.h5_file import read_h5
from tinynet.interop.keras_file import (
    layer_settings,
    read_keras,
    snake_case,
    variables_of,
)
from tinynet.interop.names import names_of
from tinynet.layers import BatchNorm, Sequential
from tinynet.train.reading import Budget

h5py = pytest.importorskip("h5py", reason="h5py is not installed")
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
OPEN = "beta_or_gamma"


@pytest.fixture
def network():
    """A compiled network in a network, with named and unnamed layers of most kinds."""
    keras = keras_or_skip()
    layers = keras.layers
    keras.utils.clear_session()
    layers.Conv2D(2, 3)  # another network's, so that the names do not start at conv2d
    image = layers.Input((12, 12, 3))
    x = layers.Conv2D(4, 3, name="conv1_conv")(image)
    x = layers.BatchNormalization(name="conv1_bn")(x)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, name="dw")(x)
    x = layers.Conv2D(5, 3)(x)
    x = layers.BatchNormalization(scale=False)(x)
    x = layers.SeparableConv2D(4, 3)(x)
    x = layers.Conv2D(5, 3, use_bias=False)(x)
    inner = keras.Model(image, layers.Flatten()(x))
    model = keras.Sequential([layers.Input((12, 12, 3)), inner, layers.Dense(2, name="classes")])
    rng = np.random.default_rng(0)
    for variable in model.weights:
        variable.assign(rng.standard_normal(tuple(variable.shape)))
    model.compile("adam", "mse", metrics=["mae"])
    model.optimizer.build(model.trainable_variables)
    return model


def check(file, model):
    """The arrays of a file are those that Keras has in memory, its own names counted from 0."""
    fresh = {"conv2d_1": "conv2d", "conv2d_2": "conv2d_1"}
    expected = {
        f"{fresh.get(layer.name, layer.name)}/{variable.name}": np.asarray(variable.numpy())
        for layer in [*model.layers[0].layers, model.layers[1]]
        for variable in layer.weights
    }
    if file.name.endswith(".weights.h5"):
        expected[f"batch_normalization/{OPEN}"] = expected.pop("batch_normalization/beta")
    arrays = read_keras(file)
    assert arrays.keys() == expected.keys()
    for name, x in expected.items():
        np.testing.assert_array_equal(arrays[name], x, err_msg=name)


def saved(model, file):
    """A file of each kind, by its suffix; .hdf5 is what Keras 2's save_weights wrote."""
    if file.suffix == ".hdf5":
        legacy = package("keras.src.legacy.saving.legacy_h5_format")
        with h5py.File(file, "w") as opened:
            legacy.save_weights_to_hdf5_group(opened, model)
    else:
        save = model.save_weights if file.name.endswith(".weights.h5") else model.save
        save(file)
    return file


@pytest.mark.parametrize("suffix", ["weights.h5", "keras", "h5", "hdf5"])
def test_every_format_gives_the_same_names_and_arrays(tmp_path, network, suffix):
    check(saved(network, tmp_path / f"network.{suffix}"), network)


def test_a_lambda_layer_does_not_run(tmp_path):
    keras = keras_or_skip()
    ran = []
    layers = [keras.layers.Lambda(lambda x: (ran.append(1), x)[1])]
    layers = [keras.layers.Input((4,)), *layers, keras.layers.Dense(2, name="classes")]
    file = saved(keras.Sequential(layers), tmp_path / "network.keras")
    ran.clear()
    assert set(read_keras(file)) == {"classes/kernel", "classes/bias"}
    assert ran == []


@pytest.mark.slow
def test_a_file_from_before_layers_names_were_written(tmp_path, network):
    """The names are then those of config.json; without it the file cannot be read."""
    with zipfile.ZipFile(saved(network, tmp_path / "network.keras")) as archive:
        weights = io.BytesIO(archive.read("model.weights.h5"))
        config = archive.read("config.json")
    with h5py.File(weights, "r+") as opened:
        opened.visititems(lambda name, x: x.attrs.pop("name", None) and None)
    check(keras_zip(tmp_path / "old.keras", config, weights.getvalue()), network)
    alone = tmp_path / "network.weights.h5"
    alone.write_bytes(weights.getvalue())
    with pytest.raises(WeightsError, match=r"does not say which layer .* save it as \.keras"):
        read_keras(alone)


@pytest.mark.slow
def test_bfloat16_is_read_as_float32(tmp_path):
    keras = keras_or_skip()
    dense = keras.layers.Dense(3, dtype="bfloat16", name="classes")
    model = keras.Sequential([keras.layers.Input((4,)), dense])
    x = read_keras(saved(model, tmp_path / "network.weights.h5"))["classes/kernel"]
    assert x.dtype == "float32"
    np.testing.assert_array_equal(x, dense.kernel.value.detach().float().numpy())


@pytest.mark.parametrize("suffix", ["weights.h5", "keras", "hdf5"])
@pytest.mark.parametrize("off", ["scale", "center"])
def test_batch_norm_without_gamma_or_beta(tmp_path, suffix, off):
    """Three vectors are β or γ and two statistics: read as what they are, or refused."""
    keras = keras_or_skip()
    norm = keras.layers.BatchNormalization(name="b", **{off: False})
    theirs = keras.Sequential([keras.layers.Input((4,)), norm])
    rng = np.random.default_rng(0)
    theirs.set_weights([rng.uniform(0.5, 2, w.shape) for w in theirs.get_weights()])
    file = saved(theirs, tmp_path / f"network.{suffix}")
    names = WeightNames("keras", "a network", lambda path: "b", epsilon=1e-3)
    ours = Sequential(BatchNorm(4, scale=off != "scale"))
    if suffix == "weights.h5" or off == "center":
        said = rf"whether {OPEN} is γ or β: save" if suffix == "weights.h5" else r"missing \(b/beta"
        with pytest.raises(WeightsError, match=said):
            load_keras(ours, file, names=names)
        names = replace(names, older=((f"{OPEN}$", "beta"),))
        if off == "center":
            return
    load_keras(ours, file, names=names)
    x = rng.standard_normal((3, 4)).astype("float32")
    np.testing.assert_allclose(ours.forward(x)[0], theirs(x).detach().numpy(), atol=1e-5)


def h5_file(path, groups=None):
    """A file of Keras 3 by hand: group -> (layer's name, its arrays)."""
    groups = groups or {"dense": ("classes", [np.ones((2, 3), "float32")])}
    with h5py.File(path, "w") as file:
        for group, (name, arrays) in groups.items():
            variables = file.create_group(f"layers/{group}/vars")
            variables.attrs["name"] = name
            for i, x in enumerate(arrays):
                variables[str(i)] = x
    return path


def keras_zip(path, config, weights, compress=zipfile.ZIP_STORED):
    """A ``.keras`` of these two files, those that are None left out."""
    with zipfile.ZipFile(path, "w", compress) as archive:
        for name, data in (("config.json", config), ("model.weights.h5", weights)):
            if data is not None:
                archive.writestr(name, data)
    return path


def test_what_the_names_know_of_three_vectors():
    """Inception-ResNet-v2's batch norms have no γ, which only its names say."""
    names = names_of("inception_resnet_v2", "keras")
    assert list(names.of_today({f"b/{OPEN}": 0})) == ["b/beta"]


def test_variables_are_told_by_their_shapes():
    v, t = np.zeros(3), np.zeros((3, 3, 2, 2))
    assert list(variables_of([t, t, v], {})) == ["depthwise_kernel", "pointwise_kernel", "bias"]
    statistics = ["moving_mean", "moving_variance"]
    assert list(variables_of([v, v], {"scale": False, "center": False})) == statistics
    layer_norm = {"scale": True, "center": True}  # or another layer with these two switches
    for arrays, settings in (([v, v], {}), ([v, v], layer_norm), ([t, v, v, v], {})):
        assert list(variables_of(arrays, settings)) == [str(i) for i in range(len(arrays))]


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
    return path


@pytest.mark.parametrize("root", [None, "model_weights"])
def test_names_of_keras_1_and_2(tmp_path, root):
    """As in the official files of VGG-16, MobileNet and DenseNet."""
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
    arrays = read_keras(old_file(tmp_path / "old.h5", layers, root))
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
    layers = {f"layer_{i}": {"a/kernel:0": np.ones((2, 2))} for i in range(4)}
    file = old_file(tmp_path / "old.h5", layers)
    with h5py.File(file, "r+") as opened:
        names = opened.attrs["layer_names"]
        del opened.attrs["layer_names"]
        opened.attrs["layer_names0"], opened.attrs["layer_names1"] = names[:3], names[3:]
        opened.attrs["model_config"] = "{" + " " * 300_000 + "}"  # as long as many layers need
    assert read_h5(file, Budget(0)).texts[""]["layer_names"] == list(layers)


@pytest.mark.slow
def test_class_names_are_written_as_keras_does():
    layers = keras_or_skip().layers
    naming = package("keras.src.utils.naming")
    names = [name for name in dir(layers) if name[0].isupper()]
    assert len(names) > 100
    assert [n for n in names if snake_case(n) != naming.to_snake_case(n)] == []


def external_storage(group, folder):
    (folder / "secret").write_bytes(bytes(100))
    group.create_dataset("1", (5,), "f4", external=[(str(folder / "secret"), 0, 20)])


def virtual(group, folder):
    layout = h5py.VirtualLayout((2,), "f4")
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "x", (2,))
    group.create_virtual_dataset("1", layout)


def absurd(group, folder):
    group.create_dataset("1", (2**40,), "f4", chunks=(2**10,), compression="gzip")


def many_absurd(group, folder):
    for i in range(1, 50):
        group.create_dataset(str(i), (2**20,), "f4", chunks=(2**10,))


def absurd_chunk(group, folder):
    group.create_dataset("1", (4,), "f4", chunks=(2**28,), maxshape=(None,), compression="gzip")


def member(value):
    """Makes ``value`` an entry of a group."""
    return lambda group, folder: group.__setitem__("1", value)


def dataset(**what):
    return lambda group, folder: group.create_dataset("1", **what)


HOSTILE = {
    "external link": (member(h5py.ExternalLink("/etc/hostname", "/x")), "elsewhere"),
    "soft link": (member(h5py.SoftLink("/layers/dense/vars/0")), "points elsewhere"),
    "hanging link": (member(h5py.SoftLink("/nowhere")), "points elsewhere"),
    "external storage": (external_storage, "in another file"),
    "virtual": (virtual, "in another file"),
    "objects": (dataset(data=["text"], dtype=h5py.string_dtype()), "want numbers"),
    "compound": (dataset(data=np.zeros(2, "f4,i4")), "want numbers"),
    "references": (dataset(shape=(1,), dtype=h5py.ref_dtype), "want numbers"),
    "absurd": (absurd, "would take more memory"),
    "many absurd": (many_absurd, "would take more memory"),
    "absurd chunk": (absurd_chunk, "would take more memory"),
    "no shape": (member(h5py.Empty("f4")), "has no shape"),
    "group in itself": (lambda group, _: group.__setitem__("again", group), "deeper than"),
    "lzf": (dataset(data=np.zeros(100, "f4"), compression="lzf"), "not HDF5's"),
    "named type": (member(np.dtype("f4")), "neither a group nor an array"),
    "name 7": (lambda group, _: group.attrs.__setitem__("name", 7), "in place of a name"),
    "no name": (
        lambda group, _: group.attrs.__setitem__("name", h5py.Empty("S1")),
        "in place of a name",
    ),
    "name of two lines": (lambda group, _: group.__setitem__("a\n\x1b[1mb", 1.0), "a??[1mb is not"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_file_is_refused(tmp_path, what):
    make, said = HOSTILE[what]
    file = h5_file(tmp_path / "hostile.weights.h5")
    with h5py.File(file, "r+") as opened:
        make(opened["layers/dense/vars"], tmp_path)
    with pytest.raises(WeightsError) as caught:
        read_keras(file)
    assert said in str(caught.value)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_compressed_file_is_read(tmp_path):
    x = np.random.default_rng(0).standard_normal((50, 60)).astype("float32")
    file = h5_file(tmp_path / "small.weights.h5", {"dense": ("classes", [])})
    with h5py.File(file, "r+") as opened:
        group = opened["layers/dense/vars"]
        group.create_dataset("0", data=x, compression="gzip", shuffle=True)
    np.testing.assert_array_equal(read_keras(file)["classes/kernel"], x)


def test_files_of_something_else_are_refused(tmp_path):
    weights = [np.ones((2, 3))]
    two = {"dense": ("classes", weights), "dense_1": ("classes", weights)}
    with pytest.raises(WeightsError, match="two layers named classes"):
        read_keras(h5_file(tmp_path / "two.weights.h5", two))
    file = tmp_path / "other.h5"
    with h5py.File(file, "w") as opened:
        opened["images"] = np.ones(3)
    with pytest.raises(WeightsError, match="images is not where Keras puts"):
        read_keras(file)
    old_file(file, {"a": {"a/kernel:0": np.ones((2, 2))}})
    with h5py.File(file, "r+") as opened:
        del opened["a"]["a/kernel:0"]
    with pytest.raises(WeightsError, match="lists a/kernel:0"):
        read_keras(file)


ARCHIVES = {  # config.json and model.weights.h5
    "has no model.weights.h5": ("{}", None),
    "has no config.json": (None, b"x"),
    "config.json cannot be read": ("{", b"x"),
    "nested too deeply": ("[" * 100_000, b""),
    "model.weights.h5 inside would take": ("{}", bytes(3 * 10**7)),
    "its config.json would take": ("[" + "[]," * 10**6, b"x"),
    "not an HDF5 file": ("{}", b"x"),
    "config.json is not Keras's": ('{"config": {"layers": [3]}}', b"x"),
}


@pytest.mark.parametrize("said", ARCHIVES)
def test_bad_archives_are_refused(tmp_path, said):
    file = keras_zip(tmp_path / "network.keras", *ARCHIVES[said], zipfile.ZIP_DEFLATED)
    with pytest.raises(WeightsError, match=said):
        read_keras(file)
    assert layer_settings({"config": {"name": "a"}}) == {}


def test_without_h5py_the_error_says_how_to_install_it(tmp_path, monkeypatch):
    file = tmp_path / "network.weights.h5"
    file.write_bytes(b"\x89HDF\r\n\x1a\n")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(WeightsError, match=r'pip install "tinynet-dl\[weights\]"'):
        read_keras(file)
