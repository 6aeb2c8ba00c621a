"""tinynet.interop.load: what loading checks, what it changes, and what it leaves alone."""

import numpy as np
import pytest
import safetensors.numpy

from tests.oracles import package, torch_or_skip
from tinynet.interop import (
    WeightNames,
    WeightsError,
    load_keras,
    load_torch,
    load_weights,
    renamed,
    save_weights,
)
from tinynet.interop.convert import slots
from tinynet.interop.names import names_of
from tinynet.layers import BatchNorm, Conv2D, Dense, Flatten, MaxPool2D, ReLU, Sequential
from tinynet.models import resnet50, shufflenet_v2, vgg16
from tinynet.models.architecture import Architecture

SHAPE = (6, 8, 2)
NAMES = WeightNames("torch", "a network of torch", renamed([(r"^", "net.")]), epsilon=1e-5)
RESNET = {"input_shape": (32, 32, 3), "width": 1 / 16}


def rng(seed=0):
    return np.random.default_rng(seed)


def small(seed=0):
    """A convolution, batch norm and a dense layer behind a flatten of 2 × 3 cells."""
    return Sequential(
        conv=Conv2D(2, 4, 3, padding="same", rng=rng(seed)),
        bn=BatchNorm(4),
        relu=ReLU(),
        pool=MaxPool2D(3, 2),
        flatten=Flatten(),
        fc=Dense(2 * 3 * 4, 5, rng=rng(seed)),
    )


def small_torch():
    torch = torch_or_skip()
    torch.manual_seed(0)
    parts = torch.nn.ModuleDict(
        {
            "conv": torch.nn.Conv2d(2, 4, 3, padding=1),
            "bn": torch.nn.BatchNorm2d(4),
            "relu": torch.nn.ReLU(),
            "pool": torch.nn.MaxPool2d(3, 2),
            "flatten": torch.nn.Flatten(),
            "fc": torch.nn.Linear(2 * 3 * 4, 5),
        }
    )
    parts["bn"].running_mean.uniform_(-1, 1)
    parts["bn"].running_var.uniform_(0.5, 2)
    return torch.nn.ModuleDict({"net": parts})


def arrays_for(model, names, shape):
    """Random arrays by the file's names, of the file's shapes."""
    places = slots(model, names, shape).values()
    draw = rng(3)
    return {
        s.name: draw.uniform(*((-0.1, 0.1) if len(s.there) > 1 else (0.5, 1.0)), s.there).astype(
            "float32"
        )
        for s in places
    }


def saved(path, arrays):
    safetensors.numpy.save_file(arrays, path)
    return path


def copied(model):
    return {name: x.copy() for name, x in model.state().items()}


def assert_same(model, before):
    for name, x in model.state().items():
        np.testing.assert_array_equal(x, before[name], err_msg=name)


def test_a_torch_file_gives_torchs_outputs_also_behind_a_flatten(tmp_path):
    torch = torch_or_skip()
    theirs = small_torch()
    file = tmp_path / "weights.pth"
    torch.save(theirs.state_dict(), file)
    model = small()
    report = load_torch(model, file, names=NAMES, input_shape=SHAPE)

    x = rng(1).standard_normal((2, *SHAPE)).astype("float32")
    t = torch.from_numpy(x.transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        for part in theirs.eval()["net"].values():
            t = part(t)
    np.testing.assert_allclose(model.forward(x)[0], t.numpy(), atol=1e-6)

    assert report.loaded["fc.weight"] == "net.fc.weight"
    assert set(report.reshaped) == {"conv.weight", "fc.weight"}
    assert report.reshaped["conv.weight"] == ((4, 2, 3, 3), (3, 3, 2, 4))
    assert report.ignored == ("net.bn.num_batches_tracked",)
    assert report.settings == {"epsilon": (1e-3, 1e-5)}
    assert model.layers[1].epsilon == 1e-5
    assert (report.missing, report.unexpected, report.skipped) == ((), (), ())


def test_the_report_prints_as_a_table(tmp_path):
    file = saved(tmp_path / "weights.safetensors", arrays_for(small(), NAMES, SHAPE))
    lines = str(load_torch(small(), file, names=NAMES, input_shape=SHAPE)).splitlines()
    assert lines[0] == f"{file}, weights of a network of torch"
    assert lines[1].startswith("loaded          8   net.conv.weight → conv.weight, net.conv.bias")
    assert "reshaped        2   conv.weight (4, 2, 3, 3) → (3, 3, 2, 4)" in lines[2]
    assert lines[-1] == "settings        1   epsilon 0.001 → 1e-05"
    assert len(lines) == 8


def test_float64_networks_and_half_precision_files(tmp_path):
    torch = torch_or_skip()
    theirs = small_torch()
    file = tmp_path / "weights.pth"
    torch.save(theirs.half().state_dict(), file)
    model = small().to(dtype="float64")
    load_torch(model, file, names=NAMES, input_shape=SHAPE)
    weight = model.state()["conv.weight"]
    assert weight.dtype == "float64"
    expected = theirs["net"]["conv"].weight.detach().numpy().transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(weight, expected)


FAULTS = {
    "missing": (lambda a: a.pop("net.fc.bias"), r"of 8 arrays, 1 missing \(net\.fc\.bias\)"),
    "unexpected": (
        lambda a: a.update({"net.extra.weight": np.ones(2, "f4")}),
        r"1 unexpected \(net\.extra\.weight\)",
    ),
    "another shape": (
        lambda a: a.update({"net.conv.weight": np.ones((4, 2, 5, 5), "f4")}),
        r"1 of another shape \(net\.conv\.weight is \(4, 2, 5, 5\), want \(4, 2, 3, 3\)\)",
    ),
    "our own layout": (
        lambda a: a.update({"net.fc.weight": np.ones((24, 5), "f4")}),
        r"net\.fc\.weight is \(24, 5\), want \(5, 24\)",
    ),
    "NaN": (
        lambda a: a["net.bn.running_var"].__setitem__(2, np.nan),
        r"net\.bn\.running_var has 1 of 4 numbers that are NaN",
    ),
    "infinite": (
        lambda a: a["net.conv.bias"].__setitem__(slice(2), -np.inf),
        r"net\.conv\.bias has 2 of 4",
    ),
    "too large for float32": (
        lambda a: a.update({"net.fc.bias": np.full(5, 1e300)}),
        r"net\.fc\.bias has 5 of 5",
    ),
    "whole numbers": (
        lambda a: a.update({"net.fc.bias": np.ones(5, "i8")}),
        r"net\.fc\.bias holds int64, want floats",
    ),
    "complex numbers": (
        lambda a: a.update({"net.fc.bias": np.ones(5, "c8")}),
        r"net\.fc\.bias holds complex64, want floats",
    ),
    "several": (
        lambda a: (a.pop("net.fc.bias"), a.update(b=np.ones(1, "f4"), c=np.ones(1, "f4"))),
        r"1 missing \(net\.fc\.bias\); 2 unexpected \(b, c\)",
    ),
    "another architecture": (
        lambda a: (a.clear(), a.update({f"w{i}": np.ones(1, "f4") for i in range(9)})),
        r"8 missing .*, …\); 9 unexpected \(w0, w1, w2, …\): it is of another architecture, "
        "want weights of a network of torch",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_that_does_not_fit_changes_nothing(tmp_path, fault):
    break_it, said = FAULTS[fault]
    model = small()
    arrays = arrays_for(model, NAMES, SHAPE)
    break_it(arrays)
    file = saved(tmp_path / "weights.safetensors", arrays)
    before = copied(model)
    with pytest.raises(WeightsError, match=said) as caught:
        load_torch(model, file, names=NAMES, input_shape=SHAPE)
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)
    assert_same(model, before)
    assert model.layers[1].epsilon == 1e-3


def test_another_architectures_weights_are_refused(tmp_path):
    small_one = shufflenet_v2(5, (32, 32, 3), rng=rng())
    arrays = arrays_for(small_one, names_of("shufflenet_v2", "torch"), (32, 32, 3))
    file = saved(tmp_path / "shufflenet.safetensors", arrays)
    model = resnet50(5, rng=rng(), **RESNET)
    before = copied(model)
    with pytest.raises(WeightsError, match="another architecture, want .*torchvision resnet50"):
        load_torch(model, file)
    assert_same(model, before)


def test_a_new_head_keeps_its_own_weights(tmp_path):
    arrays = arrays_for(
        resnet50(9, rng=rng(), **RESNET), names_of("resnet50", "torch"), (32, 32, 3)
    )
    file = saved(tmp_path / "resnet.safetensors", arrays)
    model = resnet50(5, rng=rng(), **RESNET)
    before = copied(model)
    with pytest.raises(WeightsError, match=r'2 of another shape .*skip=\("head\.classes",\)'):
        load_torch(model, file)
    for skip in [("head.classes",), "head.classes", ("head",), ("fc", "head")]:
        report = load_torch(model, file, skip=skip)
        assert report.skipped == ("head.classes.weight", "head.classes.bias")
        assert set(report.unexpected) == {"fc.weight", "fc.bias"}
        assert report.missing == ()
        assert len(report.loaded) == len(before) - 2
    for name, x in model.state().items():
        assert np.array_equal(x, before[name]) == name.startswith("head.classes"), name


def test_a_file_without_a_head(tmp_path):
    model = resnet50(5, rng=rng(), **RESNET)
    arrays = arrays_for(model, names_of("resnet50", "torch"), (32, 32, 3))
    del arrays["fc.weight"], arrays["fc.bias"]
    file = saved(tmp_path / "resnet.safetensors", arrays)
    with pytest.raises(WeightsError, match=r"2 missing \(fc\.weight, fc\.bias\)"):
        load_torch(model, file)
    report = load_torch(model, file, skip=("head.classes",))
    assert report.missing == ("fc.weight", "fc.bias")
    assert report.unexpected == ()


@pytest.mark.parametrize("library", ["torch", "keras"])
def test_a_head_of_other_layers(tmp_path, library):
    """Names know nothing of the layers of a head that was put in place of theirs."""
    settings = RESNET | dict(names_of("resnet50", library).requires)
    made = resnet50(9, rng=rng(), **settings)
    arrays = arrays_for(made, names_of("resnet50", library), (32, 32, 3))
    width = made.base.output_shape((32, 32, 3))[-1]
    model = resnet50(5, rng=rng(), **settings)
    pool = model.head.layers[0]
    model.head = Sequential(pool, Dense(width, 7, rng=rng()), ReLU(), Dense(7, 5, rng=rng()))
    if library == "torch":
        load, file = load_torch, saved(tmp_path / "resnet.safetensors", arrays)
    else:
        load, file = load_keras, keras_file(tmp_path / "resnet.h5", arrays)
    with pytest.raises(WeightsError, match=r"skip="):
        load(model, file)
    report = load(model, file, skip=("head",))
    assert len(report.skipped) == 4
    assert len(report.unexpected) == 2


@pytest.mark.parametrize(
    ("library", "theirs"), [("torch", ("classifier",)), ("keras", ("fc1", "fc2"))]
)
def test_a_head_of_several_layers_is_named_in_the_file_too(tmp_path, library, theirs):
    settings = {"width": 1 / 16, "hidden": 6}
    made = vgg16(9, (32, 32, 3), rng=rng(), **settings)
    arrays = arrays_for(made, names_of("vgg16", library), (32, 32, 3))
    model = vgg16(9, (32, 32, 3), rng=rng(), **settings)
    width = made.base.output_shape((32, 32, 3))[-1]
    model.head = Sequential(Flatten(), Dense(width, 5, rng=rng()))
    if library == "torch":
        load, file = load_torch, saved(tmp_path / "vgg.safetensors", arrays)
    else:
        load, file = load_keras, keras_file(tmp_path / "vgg.h5", arrays)
    with pytest.raises(WeightsError, match="4 unexpected"):
        load(model, file, skip=("head",))
    report = load(model, file, skip=("head", *theirs))
    assert len(report.loaded) == 26
    assert len(report.unexpected) == 6


def keras_file(path, arrays):
    """An old .h5 of arrays by "layer/variable"."""
    layers: dict[str, dict[str, np.ndarray]] = {}
    for name, x in arrays.items():
        layers.setdefault(name.rpartition("/")[0], {})[f"{name}:0"] = x
    with package("h5py").File(path, "w") as file:
        file.attrs["layer_names"] = list(layers)
        for layer, weights in layers.items():
            group = file.create_group(layer)
            group.attrs["weight_names"] = list(weights)
            for name, x in weights.items():
                group[name] = x
    return path


@pytest.mark.parametrize("name", ["probs", "predictions"])
def test_the_classes_of_keras_older_releases(tmp_path, name):
    names = names_of("resnet50", "keras")
    model = resnet50(5, rng=rng(), **RESNET, **names.requires)
    arrays = arrays_for(model, names, (32, 32, 3))
    expected = arrays["predictions/kernel"]
    arrays = {key.replace("predictions", name): x for key, x in arrays.items()}
    report = load_keras(model, keras_file(tmp_path / "resnet.h5", arrays))
    np.testing.assert_array_equal(model.state()["head.classes.weight"], expected)
    assert report.settings == {"epsilon": (1e-5, 1.001e-5)}


@pytest.mark.parametrize("path", ["head.clases", "basement", "classes", ""])
def test_a_path_to_skip_that_is_nowhere_is_an_error(tmp_path, path):
    model = resnet50(5, rng=rng(), **RESNET)
    arrays = arrays_for(model, names_of("resnet50", "torch"), (32, 32, 3))
    file = saved(tmp_path / "resnet.safetensors", arrays)
    with pytest.raises(WeightsError, match=f"skip names '{path}'.*want a path such as 'head"):
        load_torch(model, file, skip=(path,))


def test_settings_that_the_weights_need_are_checked(tmp_path):
    model = resnet50(5, rng=rng(), stride_in="1x1", **RESNET)
    file = saved(tmp_path / "resnet.safetensors", {"a": np.ones(1)})
    with pytest.raises(WeightsError, match="this resnet50: build it with stride_in='3x3'"):
        load_torch(model, file)


def test_epsilon_stays_with_the_network(tmp_path):
    """In every batch norm and in the settings, so that a saved file has it, too."""
    model = resnet50(5, rng=rng(), epsilon=0.01, **RESNET)
    file = saved(
        tmp_path / "resnet.safetensors",
        arrays_for(model, names_of("resnet50", "torch"), (32, 32, 3)),
    )
    report = load_torch(model, file)
    assert report.settings == {"epsilon": (0.01, 1e-5)}
    norms = [n for n in model.named_layers().values() if isinstance(n, BatchNorm)]
    assert len(norms) == 53
    assert {norm.epsilon for norm in norms} == {1e-5}
    assert model.architecture.settings["epsilon"] == 1e-5
    assert load_torch(model, file).settings == {}

    save_weights(model, tmp_path / "ours.safetensors")
    again = load_weights(tmp_path / "ours.safetensors")
    assert again.architecture == model.architecture
    x = rng(5).standard_normal((2, 32, 32, 3)).astype("float32")
    np.testing.assert_array_equal(again.forward(x)[0], model.forward(x)[0])


def test_a_network_of_unknown_architecture_needs_names(tmp_path):
    file = saved(tmp_path / "weights.safetensors", {"a": np.ones(1)})
    with pytest.raises(WeightsError, match=r"has no architecture.*names=WeightNames"):
        load_torch(small(), file)
    with pytest.raises(WeightsError, match=r"give input_shape=\(H, W, C\)"):
        load_torch(small(), file, names=NAMES)
    with pytest.raises(WeightsError, match="torch's files: load them with load_torch"):
        load_keras(small(), file, names=NAMES)
    model = small()
    model.architecture = Architecture("unheard_of", {})
    with pytest.raises(WeightsError, match="unheard_of are not known in torch's files"):
        load_torch(model, file)
    model = shufflenet_v2(5, (32, 32, 3), rng=rng())
    with pytest.raises(WeightsError, match="not known in keras's files, only in torch's"):
        load_keras(model, file)


def test_a_shared_layer_is_loaded_once(tmp_path):
    torch_or_skip()
    shared = Dense(4, 4, rng=rng())
    model = Sequential(first=shared, relu=ReLU(), second=shared)
    names = WeightNames("torch", "twice", renamed([]))
    weight = rng(1).standard_normal((4, 4)).astype("float32")
    arrays = {"first.weight": weight, "first.bias": weight[0].copy()}
    file = saved(tmp_path / "shared.safetensors", arrays)
    load_torch(model, file, names=names, input_shape=(4,))
    np.testing.assert_array_equal(shared.weight.value, weight.T)
