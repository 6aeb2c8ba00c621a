"""tinynet/interop/onnx_*.py: what onnxruntime computes from the file is what the model computes."""

import numpy as np
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from tests.layers.support import drawn_some
from tests.oracles import package
from tinynet import EVAL, layers
from tinynet.ensemble import Ensemble
from tinynet.interop import WeightsError, export_onnx
from tinynet.layer import Layer
from tinynet.models import vgg_like

RNG = np.random.default_rng(0)


def statistics_drawn(model: Layer, seed: int = 1) -> Layer:
    """``model`` with every scale, shift, bias and moving statistic drawn."""
    rng = np.random.default_rng(seed)
    for name, x in model.state().items():
        if x.ndim == 1:
            low = 0.5 if name.endswith(("gamma", "running_var")) else -0.5
            x[...] = rng.uniform(low, low + 1, x.shape)
    return model


def in_onnxruntime(file, x):
    runtime = package("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def check(model: Layer, shape, folder, batch=3, **options):
    """The file gives what the model gives, at another batch size than 1 too."""
    package("onnx")
    file = export_onnx(model, folder / "model.onnx", shape, **options)
    x = 3 * np.random.default_rng(2).normal(size=(batch, *shape)).astype(np.float32)
    got, want = in_onnxruntime(file, x), model.forward(x, EVAL)[0]
    assert got.shape == want.shape
    if options.get("probabilities"):
        want = layers.Softmax().forward(want)[0]
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


ANYTHING = {  # layers on inputs (N, ..., 4)
    "relu": layers.ReLU(),
    "relu from 0.7": layers.ReLU(threshold=0.7),
    "relu6": layers.ReLU6(),
    "sigmoid": layers.Sigmoid(),
    "softmax": layers.Softmax(),
    "softmax over the first axis": layers.Softmax(axis=1),
    "leaky relu": layers.LeakyReLU(0.2),
    "tanh": layers.Tanh(),
    "gelu": layers.GELU(),
    "layer norm": layers.LayerNorm(4, epsilon=0.1),
    "dense": layers.Dense(4, 3, rng=RNG),
    "dense without bias": layers.Dense(4, 3, bias=False, rng=RNG),
    "dropout": layers.Dropout(0.5),
    "dropout scaled at test": layers.Dropout(0.5, scale_at="test"),
    "flatten": layers.Flatten(),
    "local response norm": layers.LocalResponseNorm(3, alpha=0.2, beta=0.6, k=1.5),
    "scale": layers.Scale(0.17),
    "slice": layers.ChannelSlice(1, 3),
    "shuffle": layers.ChannelShuffle(2),
    "gate": layers.Gate(layers.Sequential(layers.Scale(2.0), layers.Sigmoid())),
    "residual": layers.Residual(layers.Softmax()),
    "residual, projected": layers.Residual(layers.ChannelSlice(0, 2), layers.ChannelSlice(2, 4)),
    "concat": layers.Concat(
        wide=layers.ReLU(), thin=layers.Sequential(), part=layers.ChannelSlice(0, 1)
    ),
    "no layer at all": layers.Sequential(),
}
VECTORS = {
    "ensemble": Ensemble(
        [layers.Softmax(), layers.Sequential(layers.Scale(0.1), layers.Sigmoid())]
    ),
    "batch norm": layers.BatchNorm(4, epsilon=0.3),
}
for _norm in (ANYTHING["layer norm"], _group := layers.GroupNorm(2, 4, epsilon=0.1)):
    for _parameter in _norm.parameters().values():
        _parameter.value += RNG.random(4)
IMAGES = {
    "batch norm": layers.BatchNorm(4, epsilon=0.3),
    "batch norm without gamma": layers.BatchNorm(4, scale=False),
    "global average pool": layers.GlobalAvgPool2D(),
    "global max pool": layers.GlobalMaxPool2D(),
    "group norm": _group,
    "softmax over columns": layers.Softmax(axis=-2),
    "adaptive average pool": layers.AdaptiveAvgPool2D((4, 2)),
    "adaptive average pool, enlarging": layers.AdaptiveAvgPool2D(7),
    "gate by channel": layers.Gate(
        layers.Sequential(layers.GlobalAvgPool2D(), layers.Dense(4, 4, rng=RNG), layers.Sigmoid())
    ),
    "gate by pixel": layers.Gate(
        layers.Sequential(layers.Conv2D(4, 4, 1, rng=RNG), layers.Sigmoid())
    ),
    "residual, convolved": layers.Residual(layers.Conv2D(4, 4, 3, padding="same", rng=RNG)),
    "concat of pools": layers.Concat(wide=layers.MaxPool2D(3, 1, "same"), thin=layers.Sequential()),
    "one layer twice": layers.Sequential(*[layers.Conv2D(4, 4, 1, rng=RNG)] * 2),
}
SHAPES = {(4,): ANYTHING | VECTORS, (6, 5, 4): ANYTHING | IMAGES}
SHAPES |= {(6, 4): ANYTHING, (2, 3, 5, 4): ANYTHING}
CASES = [(name, shape) for shape, layers in SHAPES.items() for name in layers]


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_layers(name, shape, tmp_path):
    """On vectors, images, and what is neither: the channels are the last axis of all."""
    check(statistics_drawn(SHAPES[shape][name]), shape, tmp_path)


pairs = st.tuples(st.integers(0, 2), st.integers(0, 2))
paddings = st.sampled_from(["valid", "same", "ceil", 1]) | st.tuples(pairs, pairs)
kernels = st.tuples(st.integers(1, 4), st.integers(1, 4))
strides = st.integers(1, 3)


@pytest.mark.hypothesis
@drawn_some
@given(kernels, strides, paddings, st.integers(1, 2), st.sampled_from([1, 2, 4]), st.booleans())
def test_convolutions(tmp_path_factory, kernel, stride, padding, dilation, groups, bias):
    layer = layers.Conv2D(4, 8, kernel, stride, padding, dilation, groups, bias, rng=RNG)
    check(statistics_drawn(layer), (9, 8, 4), tmp_path_factory.mktemp("onnx"), batch=2)


@pytest.mark.hypothesis
@drawn_some
@given(st.data(), kernels, strides)
def test_pools(tmp_path_factory, data, kernel, stride):
    least = min(kernel) - 1  # ONNX wants every window to cover a cell of the input
    side = st.tuples(st.integers(0, least), st.integers(0, least))
    padding = data.draw(st.sampled_from(["valid", "same", "ceil"]) | st.tuples(side, side))
    kind = data.draw(st.sampled_from([layers.MaxPool2D, layers.AvgPool2D, layers.SumPool2D]))
    counted = {"count_padding": data.draw(st.booleans())} if kind is layers.AvgPool2D else {}
    dilation = data.draw(st.sampled_from([1, 2]))
    try:
        layer = kind(kernel, stride, padding, **counted, dilation=dilation)
        layer.output_shape((9, 8, 2))
    except ValueError:
        reject()  # a window in padding alone
    check(layer, (9, 8, 2), tmp_path_factory.mktemp("onnx"), batch=2)


def test_a_whole_network_its_probabilities_and_its_own_input_shape(tmp_path):
    model = vgg_like(3, (12, 16, 2), (4, 6), 5, batch_norm=True, rng=RNG)
    check(statistics_drawn(model), (12, 16, 2), tmp_path, batch=1)
    check(model, (12, 16, 2), tmp_path, probabilities=True)
    check(layers.Scale(0.5), (5, 4), tmp_path, probabilities=True)
    saved = package("onnx").load(export_onnx(model, tmp_path / "again.onnx"))
    (entry,) = saved.graph.input
    sizes = [d.dim_param or d.dim_value for d in entry.type.tensor_type.shape.dim]
    assert (entry.name, sizes) == ("x", ["N", 12, 16, 2])
    names = [constant.name for constant in saved.graph.initializer]
    assert "base.0.weight" in names
    assert "head.4.bias" in names


def test_a_float64_model_is_written_as_float32_and_left_as_it_is(tmp_path):
    model = layers.Dense(3, 2, rng=RNG).to(dtype="float64")
    package("onnx")
    file = export_onnx(model, tmp_path / "m.onnx", (3,))
    x = RNG.normal(size=(2, 3))
    got = in_onnxruntime(file, x.astype(np.float32))
    np.testing.assert_allclose(got, model.forward(x)[0], rtol=1e-5, atol=1e-6)
    assert model.weight.value.dtype == np.float64


class Own(Layer):
    """A layer that ONNX knows nothing of."""

    def forward(self, x, mode=EVAL):
        return x, None

    def output_shape(self, input_shape):
        return input_shape


class Halved(layers.ReLU):
    """A layer of ours with another forward pass."""

    def forward(self, x, mode=EVAL):
        y, cache = super().forward(x, mode)
        return y * 0.5, cache


class Twice(layers.Sequential):
    """A container of ours with another forward pass."""

    def forward(self, x, mode=EVAL):
        return super().forward(super().forward(x, mode)[0], mode)


class Renamed(layers.ReLU):
    """A layer of ours with the same forward pass."""

    def __init__(self):
        super().__init__()
        self.settings_of_mine = {}

    def backward(self, dy, cache):
        return super().backward(dy, cache)


class Ours(layers.Sequential):
    """A container of ours with the same forward pass."""

    def backward(self, dy, cache):
        return super().backward(dy, cache)


class Unheard(layers.Sequential):
    """A container whose layers are connected in another way."""

    wiring = "product"


def replaced() -> Layer:
    layer = layers.ReLU()
    layer.forward = layers.Sigmoid().forward
    return layer


OWN = "has no ONNX form, since it overrides the forward pass of its class: write one and register"
REFUSED = {
    Own: "(Own) has no ONNX form: write one and register it with @tinynet.interop.onnx_layers.to",
    Unheard: "(Unheard) has no ONNX form: write one and register it with @tinynet",
    Halved: f"(Halved) {OWN}",
    Twice: f"(Twice) {OWN}",
    replaced: f"(ReLU) {OWN}",
}


@pytest.mark.parametrize("make", REFUSED)
def test_a_layer_without_an_onnx_form_is_named(make, tmp_path):
    """Also one that is derived from a layer that has a form, but computes something else."""
    package("onnx")
    model = layers.Sequential(inside=layers.Residual(layers.Sequential(own=make())))
    with pytest.raises(WeightsError) as caught:
        export_onnx(model, tmp_path / "model.onnx", (3,))
    assert str(caught.value).startswith(f"inside.main.own {REFUSED[make]}")
    assert not (tmp_path / "model.onnx").exists()
    with pytest.raises(WeightsError, match=r"^the model \(\w+\) has no ONNX form"):
        export_onnx(make(), tmp_path / "model.onnx", (3,))


def test_derived_layers_with_the_same_forward_pass_are_written(tmp_path):
    check(layers.Sequential(Renamed(), Ours(Renamed())), (3,), tmp_path)


def test_errors_name_what_to_do(tmp_path):
    package("onnx")
    file = tmp_path / "model.onnx"
    with pytest.raises(WeightsError, match="shape of one input is not known: give input_shape="):
        export_onnx(layers.Dense(3, 2, rng=RNG), file)
    with pytest.raises(WeightsError, match=r"does not take an input of \(4,\): Dense"):
        export_onnx(layers.Dense(3, 2, rng=RNG), file, (4,))
    assert not file.exists()
