import numpy as np
import pytest

from tinynet.layer import EVAL, Layer, Mode, Parameter, check_input
from tinynet.layers import BatchNorm, Concat, Conv2D, Dense, Dropout, ReLU, Residual, Sequential
from tinynet.optimizers import SGD


def model(seed=0):
    rng = np.random.default_rng(seed)
    return Sequential(
        Residual(Sequential(Dense(4, 4, rng=rng), BatchNorm(4), ReLU())),
        Dropout(0.5),
        Concat(Dense(4, 2, bias=False, rng=rng), Dense(4, 1, rng=rng)),
    )


class Scale(Layer):
    """A user's own layer: y = w x, with a count of passes."""

    buffer_names = ("passes",)

    def __init__(self):
        self.weight = Parameter(np.ones(2))
        self.passes = np.zeros(1)

    def forward(self, x, mode=EVAL):
        self.passes += 1
        return x * self.weight.value, x


def test_a_parameter_starts_with_a_zero_gradient_of_its_own():
    value = np.ones((2, 3), np.float32)
    parameter = Parameter(value)
    assert parameter.shape == parameter.grad.shape == (2, 3)
    assert parameter.grad.dtype == np.float32
    assert not parameter.grad.any()
    assert parameter.trainable
    assert repr(parameter) == "Parameter(2, 3) float32"
    assert repr(Parameter(value, trainable=False)) == "Parameter(2, 3) float32, not trainable"


def test_evaluation_is_the_default_mode():
    assert not EVAL.train
    assert EVAL.rng is None
    assert Mode() == EVAL
    with pytest.raises(AttributeError):
        EVAL.train = True


def test_parameters_and_buffers_have_dotted_names_in_order():
    names = [
        "0.main.0.weight",
        "0.main.0.bias",
        "0.main.1.gamma",
        "0.main.1.beta",
        "2.0.weight",
        "2.1.weight",
        "2.1.bias",
    ]
    buffers = ["0.main.1.running_mean", "0.main.1.running_var"]
    assert list(model().parameters()) == names
    assert list(model().buffers()) == buffers
    assert list(model().state()) == names + buffers


def test_parameters_are_the_layer_s_own_not_copies():
    layer = model()
    layer.parameters()["2.1.bias"].value[...] = 7
    assert layer.layers[2].branches[1].bias.value.tolist() == [7]
    assert layer.state()["2.1.bias"].tolist() == [7]


def test_layers_held_as_attributes_are_found():
    class Two(Layer):
        def __init__(self):
            self.first = Dense(2, 3, rng=np.random.default_rng(0))
            self.scale = Scale()
            self.own = Parameter(np.ones(1))
            self.number = 3

    assert list(Two().parameters()) == ["own", "first.weight", "first.bias", "scale.weight"]
    assert list(Two().buffers()) == ["scale.passes"]


def test_gradients_add_up_until_they_are_zeroed():
    layer = Dense(2, 3, rng=np.random.default_rng(0))
    x, dy = np.ones((4, 2), np.float32), np.ones((4, 3), np.float32)
    for passes in (1, 2):
        _, cache = layer.forward(x)
        layer.backward(dy, cache)
        assert layer.bias.grad.tolist() == [4 * passes] * 3
    grad = layer.bias.grad
    layer.zero_grad()
    assert layer.bias.grad is grad
    assert not layer.bias.grad.any()
    assert not layer.weight.grad.any()


def test_freezing_is_three_separate_things():
    def frozen(layer):
        return (
            not any(p.trainable for p in layer.parameters().values()),
            layer.layers[0].main.layers[1].frozen_statistics,
            layer.layers[1].frozen_dropout,
        )

    layer = model()
    assert frozen(layer) == (False, False, False)
    layer.freeze()
    assert frozen(layer) == (True, True, True)
    layer.unfreeze(statistics=False)
    assert frozen(layer) == (False, True, False)
    layer.unfreeze()
    layer.freeze(parameters=False, statistics=False)
    assert frozen(layer) == (False, False, True)


def test_freezing_a_part_leaves_the_rest():
    layer = model()
    layer.layers[0].freeze()
    trainable = [name for name, p in layer.parameters().items() if p.trainable]
    assert trainable == ["2.0.weight", "2.1.weight", "2.1.bias"]
    assert not layer.layers[1].frozen_dropout


def test_a_frozen_parameter_still_gets_its_gradient():
    layer = Dense(2, 3, rng=np.random.default_rng(0))
    layer.freeze()
    _, cache = layer.forward(np.ones((4, 2), np.float32))
    layer.backward(np.ones((4, 3), np.float32), cache)
    assert layer.bias.grad.tolist() == [4, 4, 4]


def test_to_converts_values_gradients_and_buffers():
    layer = model()
    before = {name: a.copy() for name, a in layer.state().items()}
    assert layer.to(dtype="float64") is layer
    for name, a in layer.state().items():
        assert a.dtype == np.float64
        assert np.array_equal(a, before[name])
    assert {p.grad.dtype for p in layer.parameters().values()} == {np.dtype("float64")}
    y, _ = layer.forward(np.ones((2, 4)))
    assert y.dtype == np.float64
    assert layer.to("numpy", "float32").state()["2.1.bias"].dtype == np.float32


def test_to_keeps_a_shared_layer_shared():
    shared = Dense(2, 2, rng=np.random.default_rng(0))
    layer = Sequential(shared, ReLU(), shared).to(dtype="float64")
    assert layer.layers[0] is layer.layers[2] is shared
    assert list(layer.parameters()) == ["0.weight", "0.bias"]
    assert shared.weight.value.dtype == np.float64


def test_to_says_where_a_dtype_goes():
    with pytest.raises(ValueError, match=r"device is 'float64'.*model.to\(dtype='float64'\)"):
        model().to("float64")


def test_state_of_one_model_loads_into_another():
    source, target = model(1), model(2)
    source.layers[0].main.layers[1].running_mean += 3
    value = target.parameters()["2.1.weight"].value
    target.load_state(source.state())
    for name, a in target.state().items():
        assert np.array_equal(a, source.state()[name]), name
    assert target.parameters()["2.1.weight"].value is value  # copied into, not replaced


def test_loaded_state_takes_the_model_s_dtype():
    target = model(2).to(dtype="float64")
    target.load_state(model(1).state())
    assert target.state()["2.1.weight"].dtype == np.float64


def test_state_of_another_model_is_refused_whole():
    layer = model()
    before = {name: a.copy() for name, a in layer.state().items()}
    state = model(1).state()
    del state["2.0.weight"]
    state["extra"] = np.zeros(1)
    state["2.1.bias"] = np.zeros(5)
    with pytest.raises(ValueError, match="another model") as caught:
        layer.load_state(state)
    for fault in ("missing 2.0.weight", "unexpected extra", "2.1.bias is (5,), want (1,)"):
        assert fault in str(caught.value)
    for name, a in layer.state().items():
        assert np.array_equal(a, before[name]), name


def test_a_long_list_of_faults_is_cut():
    with pytest.raises(ValueError, match="; and 5 more"):
        model().load_state({})


def test_a_layer_without_its_methods_says_which_is_missing():
    class Bare(Layer):
        pass

    for call, word in (
        (lambda: Bare().forward(np.ones(1)), "no forward pass"),
        (lambda: Bare().backward(np.ones(1), None), "no backward pass"),
        (lambda: Bare().output_shape((1,)), "has no output_shape"),
    ):
        with pytest.raises(NotImplementedError, match=f"Bare (has )?{word}"):
            call()
    assert Bare().multiply_adds((1,)) == 0
    assert Bare().parameters() == Bare().buffers() == Bare().state() == {}
    assert repr(Bare()) == "Bare()"


def test_summary_counts_parameters_and_multiply_adds():
    rng = np.random.default_rng(0)
    layer = Sequential(Conv2D(1, 2, 3, rng=rng), ReLU())
    text = layer.summary((5, 5, 1))
    total = text.splitlines()[-1]
    assert "3 × 3 × 2" in total
    assert "20" in total  # 9 weights and a bias for each of two filters
    assert "162" in total  # 9 positions · 2 filters · 9 weights


class TestCheckInput:
    layer = Dense(3, 2, rng=np.random.default_rng(0))
    weight = layer.weight.value

    def test_accepts_what_fits(self):
        check_input(self.layer, np.zeros((7, 3), np.float32), (None, 3), self.weight)
        check_input(self.layer, np.zeros((7, 3)), (None, 3), None)

    def test_shape(self):
        with pytest.raises(ValueError, match=r"Dense\(3, 2\): input is \(7, 4\), want \(N, 3\)"):
            check_input(self.layer, np.zeros((7, 4)), (None, 3), None)
        with pytest.raises(ValueError, match=r"input is \(7,\), want \(N, H, W, 3\)"):
            check_input(self.layer, np.zeros(7), (None, None, None, 3), None)

    def test_dtype_and_both_remedies(self):
        with pytest.raises(TypeError) as caught:
            check_input(self.layer, np.zeros((7, 3)), (None, 3), self.weight)
        assert "input is float64, the parameters are float32" in str(caught.value)
        assert "x.astype('float32')" in str(caught.value)
        assert "model.to(dtype='float64')" in str(caught.value)

    def test_library(self):
        class DeviceArray:
            shape, dtype = (7, 3), np.dtype("float32")

        DeviceArray.__module__ = "cupy"
        with pytest.raises(TypeError, match=r"input is a cupy array.*to_device\(x, 'numpy'\)"):
            check_input(self.layer, DeviceArray(), (None, 3), self.weight)


def test_a_layer_used_twice_has_one_name_and_is_updated_once():
    shared = Dense(3, 3, rng=np.random.default_rng(0))
    model = Sequential(shared, ReLU(), shared, Dense(3, 2, rng=np.random.default_rng(1)))
    assert list(model.parameters()) == ["0.weight", "0.bias", "3.weight", "3.bias"]
    x = np.random.default_rng(2).standard_normal((4, 3), dtype=np.float32)
    y, cache = model.forward(x)
    model.backward(np.ones_like(y), cache)
    before, gradient = shared.weight.value.copy(), shared.weight.grad.copy()
    SGD(0.5).step(model.parameters())
    np.testing.assert_allclose(shared.weight.value, before - 0.5 * gradient, rtol=1e-6)
