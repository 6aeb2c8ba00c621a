"""tinynet.interop.load: what loading checks, what it changes, and what it leaves alone."""

import numpy as np
import pytest
import safetensors.numpy

from tests.oracles import package, torch_or_skip
from tinynet.interop import WeightNames, WeightsError, load_keras, load_torch, renamed
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


def small():
    """A convolution, batch norm and a dense layer behind a flatten of 2 × 3 cells."""
    return Sequential(
        conv=Conv2D(2, 4, 3, padding="same", rng=rng()),
        bn=BatchNorm(4),
        relu=ReLU(),
        pool=MaxPool2D(3, 2),
        flatten=Flatten(),
        fc=Dense(2 * 3 * 4, 5, rng=rng()),
    )


def small_torch():
    torch = torch_or_skip()
    torch.manual_seed(0)
    parts = torch.nn.Sequential()
    parts.add_module("conv", torch.nn.Conv2d(2, 4, 3, padding=1))
    parts.add_module("bn", torch.nn.BatchNorm2d(4))
    parts.add_module("relu", torch.nn.ReLU())
    parts.add_module("pool", torch.nn.MaxPool2d(3, 2))
    parts.add_module("flatten", torch.nn.Flatten())
    parts.add_module("fc", torch.nn.Linear(2 * 3 * 4, 5))
    parts.bn.running_mean.uniform_(-1, 1)
    parts.bn.running_var.uniform_(0.5, 2)
    return torch.nn.ModuleDict({"net": parts})


def arrays_for(model, names, shape=(32, 32, 3)):
    """Random arrays by the file's names, of the file's shapes."""
    draw = rng(3)
    ranges = {
        slot: (-0.1, 0.1) if len(slot.there) > 1 else (0.5, 1.0)
        for slot in slots(model, names, shape).values()
    }
    return {s.name: draw.uniform(*ends, s.there).astype("float32") for s, ends in ranges.items()}


def saved(path, arrays):
    """A file of arrays by the file's names: safetensors, or an old .h5."""
    if path.suffix == ".safetensors":
        safetensors.numpy.save_file(arrays, path)
        return path
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


def copied(model):
    return {name: x.copy() for name, x in model.state().items()}


def test_a_torch_file_gives_torchs_outputs_also_behind_a_flatten(tmp_path):
    torch = torch_or_skip()
    theirs = small_torch().eval()
    torch.save(theirs.state_dict(), tmp_path / "weights.pth")
    model = small()
    report = load_torch(model, tmp_path / "weights.pth", names=NAMES, input_shape=SHAPE)
    x = rng(1).standard_normal((2, *SHAPE)).astype("float32")
    with torch.no_grad():
        expected = theirs["net"](torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()
    np.testing.assert_allclose(model.forward(x)[0], expected, atol=1e-6)

    assert report.loaded["fc.weight"] == "net.fc.weight"
    assert set(report.reshaped) == {"conv.weight", "fc.weight"}
    assert report.reshaped["conv.weight"] == ((4, 2, 3, 3), (3, 3, 2, 4))
    assert report.ignored == ("net.bn.num_batches_tracked",)
    assert report.settings == {"epsilon": (1e-3, 1e-5)}
    assert model.layers[1].epsilon == 1e-5
    assert (report.missing, report.unexpected, report.skipped) == ((), (), ())
    assert str(report).splitlines() == [
        f"{tmp_path / 'weights.pth'}, weights of a network of torch",
        "loaded          8   net.conv.weight → conv.weight, net.conv.bias → conv.bias, "
        "net.bn.weight → bn.gamma, …",
        "reshaped        2   conv.weight (4, 2, 3, 3) → (3, 3, 2, 4), fc.weight (5, 24) → (24, 5)",
        "skipped         0",
        "missing         0",
        "unexpected      0",
        "ignored         1   net.bn.num_batches_tracked",
        "settings        1   epsilon 0.001 → 1e-05",
    ]


def test_float64_networks_and_half_precision_files(tmp_path):
    theirs = small_torch().half()
    torch_or_skip().save(theirs.state_dict(), tmp_path / "weights.pth")
    model = small().to(dtype="float64")
    load_torch(model, tmp_path / "weights.pth", names=NAMES, input_shape=SHAPE)
    weight = model.state()["conv.weight"]
    assert weight.dtype == "float64"
    expected = theirs["net"].conv.weight.detach().numpy().transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(weight, expected)


def under(prefix):
    return lambda arrays: {prefix + name: x for name, x in arrays.items()}


WRAPPED = {
    "DataParallel": under("module."),
    "torch.compile": under("_orig_mod."),
    "both": under("module._orig_mod."),
    "both, the other way round": under("_orig_mod.module."),
    "DataParallel twice": under("module.module."),
    "FSDP": under("_fsdp_wrapped_module."),
    "a part": lambda a: {
        name.replace("net.", "net.module.") if "conv" in name else name: x for name, x in a.items()
    },
    "AveragedModel": lambda a: under("module.")(a) | {"n_averaged": np.ones((), "i8")},
    "a training module": under("model."),
    "a training module, compiled": under("model._orig_mod."),
    "deeper": under("algorithm.student."),
    "beside others": lambda a: under("model.")(a) | {"loss.weight": np.ones(3, "f4")},
}


@pytest.mark.parametrize("wrapper", WRAPPED)
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_what_a_wrapper_puts_into_names_is_taken_off(tmp_path, wrapper, suffix):
    model, file = small(), tmp_path / f"weights{suffix}"
    plain = arrays_for(model, NAMES, SHAPE)
    arrays = WRAPPED[wrapper](plain)
    if suffix == ".pth":
        torch = torch_or_skip()
        torch.save({"state_dict": {name: torch.from_numpy(x) for name, x in arrays.items()}}, file)
    else:
        saved(file, arrays)
    report = load_torch(
        model, file, names=NAMES, input_shape=SHAPE, skip=["loss"] * ("loss.weight" in arrays)
    )
    np.testing.assert_array_equal(model.state()["bn.beta"], plain["net.bn.bias"])
    assert report.ignored == (("n_averaged",) if "n_averaged" in arrays else ())


def test_names_that_are_wanted_stay_as_they_are(tmp_path):
    """Also those that look wrapped; and of two networks in a file neither is chosen."""
    model = small()
    names = WeightNames("torch", "a wrapped one", renamed([(r"^", "module.model.")]))
    arrays = arrays_for(model, names, SHAPE)
    file = saved(tmp_path / "weights.safetensors", arrays)
    load_torch(model, file, names=names, input_shape=SHAPE)
    np.testing.assert_array_equal(model.state()["bn.beta"], arrays["module.model.bn.bias"])
    plain = arrays_for(model, NAMES, SHAPE)
    for other in (under("teacher.")(plain), {"_orig_mod.student.net.conv.bias": np.ones(4, "f4")}):
        saved(file, under("student.")(plain) | other)
        with pytest.raises(WeightsError, match="several such networks|1 unexpected"):
            load_torch(model, file, names=NAMES, input_shape=SHAPE)


FAULTS = {
    "missing": (lambda a: a.pop("net.fc.bias"), r"of 8 arrays, 1 missing \(net\.fc\.bias\)"),
    "unexpected": ({"net.extra.weight": np.ones(2)}, r"1 unexpected \(net\.extra\.weight\)"),
    "another shape": (
        {"net.conv.weight": np.ones((4, 2, 5, 5), "f4")},
        r"1 of another shape \(net\.conv\.weight is \(4, 2, 5, 5\), want \(4, 2, 3, 3\)\)",
    ),
    "our own layout": (
        {"net.fc.weight": np.ones((24, 5), "f4")},
        r"net\.fc\.weight is \(24, 5\), want \(5, 24\)",
    ),
    "NaN": (
        {"net.bn.running_var": np.array([1, 2, np.nan, 3], "f4")},
        r"net\.bn\.running_var has 1 of 4 numbers that are NaN",
    ),
    "infinite": (
        {"net.conv.bias": np.array([-np.inf, np.inf, 0, 0], "f4")},
        r"net\.conv\.bias has 2 of 4",
    ),
    "too large for float32": ({"net.fc.bias": np.full(5, 1e300)}, r"net\.fc\.bias has 5 of 5"),
    "whole numbers": ({"net.fc.bias": np.ones(5, "i8")}, r"fc\.bias holds int64, want floats"),
    "complex numbers": ({"net.fc.bias": np.ones(5, "c8")}, r"fc\.bias holds complex64, want fl"),
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
    change, said = FAULTS[fault]
    model = small()
    arrays = arrays_for(model, NAMES, SHAPE)
    arrays.update(change) if isinstance(change, dict) else change(arrays)
    file = saved(tmp_path / "weights.safetensors", arrays)
    before = copied(model)
    with pytest.raises(WeightsError, match=said) as caught:
        load_torch(model, file, names=NAMES, input_shape=SHAPE)
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)
    assert all(np.array_equal(x, before[name]) for name, x in model.state().items())
    assert model.layers[1].epsilon == 1e-3


def test_settings_with_which_the_weights_compute_something_else(tmp_path):
    model = resnet50(5, rng=rng(), stride_in="1x1", **RESNET)
    file = saved(tmp_path / "a.safetensors", arrays_for(model, names_of("resnet50", "torch")))
    with pytest.raises(WeightsError, match="this resnet50: build it with stride_in='3x3'"):
        load_torch(model, file)


def test_a_new_head_keeps_its_own_weights(tmp_path):
    arrays = arrays_for(resnet50(9, rng=rng(), **RESNET), names_of("resnet50", "torch"))
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

    del arrays["fc.weight"], arrays["fc.bias"]  # a file without a head
    saved(file, arrays)
    with pytest.raises(WeightsError, match=r"2 missing \(fc\.weight, fc\.bias\)"):
        load_torch(model, file)
    report = load_torch(model, file, skip=("head.classes",))
    assert (report.missing, report.unexpected) == (("fc.weight", "fc.bias"), ())

    for path in ("head.clases", "basement", "classes", ""):
        with pytest.raises(WeightsError, match=f"skip names '{path}'.*want a path such as 'head"):
            load_torch(model, file, skip=(path,))


HEADS = {
    "torch": (".safetensors", load_torch, ["classifier"]),
    "keras": (".h5", load_keras, ["fc1", "fc2"]),
}


@pytest.mark.parametrize("library", HEADS)
def test_a_head_of_other_layers(tmp_path, library):
    """Names know nothing of the layers of a head that was put in place of theirs."""
    suffix, load, theirs = HEADS[library]
    settings = RESNET | dict(names_of("resnet50", library).requires)
    made = resnet50(9, rng=rng(), **settings)
    file = saved(tmp_path / f"a{suffix}", arrays_for(made, names_of("resnet50", library)))
    width = made.base.output_shape((32, 32, 3))[-1]
    model = resnet50(5, rng=rng(), **settings)
    pool = model.head.layers[0]
    model.head = Sequential(pool, Dense(width, 7, rng=rng()), ReLU(), Dense(7, 5, rng=rng()))
    with pytest.raises(WeightsError, match=r"skip="):
        load(model, file)
    report = load(model, file, skip=("head",))
    assert (len(report.skipped), len(report.unexpected)) == (4, 2)

    made = vgg16(9, (32, 32, 3), rng=rng(), width=1 / 16, hidden=6)  # a head of several layers
    file = saved(tmp_path / f"b{suffix}", arrays_for(made, names_of("vgg16", library)))
    made.head = Sequential(Flatten(), Dense(made.base.output_shape((32, 32, 3))[-1], 5, rng=rng()))
    with pytest.raises(WeightsError, match="4 unexpected"):
        load(made, file, skip=("head",))
    report = load(made, file, skip=("head", *theirs))
    assert (len(report.loaded), len(report.unexpected)) == (26, 6)


def test_epsilon_stays_with_the_network(tmp_path):
    """In every batch norm and in the settings, so that a saved file has it, too."""
    model = resnet50(5, rng=rng(), epsilon=0.01, **RESNET)
    file = saved(tmp_path / "a.safetensors", arrays_for(model, names_of("resnet50", "torch")))
    assert load_torch(model, file).settings == {"epsilon": (0.01, 1e-5)}
    norms = [n for n in model.named_layers().values() if isinstance(n, BatchNorm)]
    assert len(norms) == 53
    assert {norm.epsilon for norm in norms} == {1e-5}
    assert model.architecture.settings["epsilon"] == 1e-5
    assert load_torch(model, file).settings == {}


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
    with pytest.raises(WeightsError, match="unheard_of are not known in torch's.*as a WeightNames"):
        load_torch(model, file)
    model = shufflenet_v2(5, (32, 32, 3), rng=rng())
    with pytest.raises(WeightsError, match="not known in keras's files, only in torch's"):
        load_keras(model, file)


def test_a_shared_layer_is_loaded_once(tmp_path):
    shared = Dense(4, 4, rng=rng())
    model = Sequential(first=shared, relu=ReLU(), second=shared)
    names = WeightNames("torch", "twice", renamed([]))
    weight = rng(1).standard_normal((4, 4)).astype("float32")
    arrays = {"first.weight": weight, "first.bias": weight[0].copy()}
    file = saved(tmp_path / "shared.safetensors", arrays)
    load_torch(model, file, names=names, input_shape=(4,))
    np.testing.assert_array_equal(shared.weight.value, weight.T)
