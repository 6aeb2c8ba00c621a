"""The backward trace: its figures against the passes themselves, and that it leaves no mark."""

import json
import re
from copy import deepcopy

import numpy as np
import pytest

from tests.visualize.networks import WithSide, batch, dense, everything
from tinynet.layer import EVAL, Layer, Mode
from tinynet.layers import Conv2D, Dense, ReLU, ReLU6, Sequential
from tinynet.losses import SoftmaxCrossEntropy, WithAuxiliary
from tinynet.models import googlenet
from tinynet.optimizers import SGD, Adam
from tinynet.visualize import backward_trace
from tinynet.visualize.trace import rms
from tinynet.visualize.summary import summary_rows

LABELS = np.array([0, 2, 1, 2])
LOSS = SoftmaxCrossEntropy()
NAMES = [name for name, _, _ in everything().walk((10, 10, 2))]


def trained(model):
    """The same, after a step of Adam, so that the optimiser remembers something."""
    optimizer = Adam(1e-2, weight_decay=0.1)
    z, cache = model.forward(batch(seed=9), Mode(train=True, rng=np.random.default_rng(1)))
    _, loss_cache = LOSS.forward(z, LABELS)
    model.backward(LOSS.backward(loss_cache), cache)
    optimizer.step(model.parameters())
    return model, optimizer


def root_mean_square(a):
    return float(np.sqrt((a**2).mean()))


def test_a_row_for_each_innermost_layer():
    model = everything()
    trace = backward_trace(model, LOSS, batch(), LABELS)
    assert [row.name for row in trace.rows] == NAMES
    shapes = [part.output_shape(shape) for _, part, shape in model.walk((10, 10, 2))]
    assert [row.output_shape for row in trace.rows] == shapes
    cached = [row.bytes_cached for row in summary_rows(model, (10, 10, 2))]
    alone = backward_trace(model, LOSS, batch(n=1), LABELS[:1])
    assert [row.bytes_cached for row in alone.rows] == cached


def test_figures_are_those_of_the_passes():
    model = Sequential(dense(5, 4), ReLU(), dense(4, 3))
    x = np.random.default_rng(0).standard_normal((4, 5))
    a, first = model.layers[0].forward(x)
    b, middle = model.layers[1].forward(a)
    z, last = model.layers[2].forward(b)
    value, loss_cache = LOSS.forward(z, LABELS)
    dz = LOSS.backward(loss_cache)
    db = model.layers[2].backward(dz, last)
    da = model.layers[1].backward(db, middle)
    model.layers[0].backward(da, first)
    gradients = {name: p.grad.copy() for name, p in model.parameters().items()}
    trace = backward_trace(model, LOSS, x, LABELS)
    assert trace.loss == value
    for row, y, dy in zip(trace.rows, (a, b, z), (da, db, dz), strict=True):
        assert row.activation_rms == pytest.approx(root_mean_square(y))
        assert row.gradient_rms == pytest.approx(root_mean_square(dy))
        assert row.zeros == (y == 0).mean()
    assert [row.dead is None for row in trace.rows] == [True, False, True]
    assert trace.rows[1].dead == (b == 0).all(axis=0).mean()
    both = np.concatenate([gradients["0.weight"].ravel(), gradients["0.bias"]])
    assert trace.rows[0].weight_gradient == pytest.approx(np.linalg.norm(both))
    weights = model.parameters()
    norm = np.hypot(
        np.linalg.norm(weights["2.weight"].value), np.linalg.norm(weights["2.bias"].value)
    )
    assert trace.rows[2].weight_norm == pytest.approx(norm)
    assert trace.rows[1].weight_norm is None
    assert trace.rows[1].weight_gradient is None


@pytest.mark.parametrize("optimizer", [SGD(0.1, momentum=0.9), None])
def test_updates_are_those_that_the_optimiser_then_makes(optimizer):
    model, adam = trained(everything())
    optimizer = optimizer or adam
    model.base.children()["conv"].freeze()
    trace = backward_trace(model, LOSS, batch(), LABELS, optimizer=optimizer, seed=3)
    before = {name: p.value.copy() for name, p in model.parameters().items()}
    model.zero_grad()
    z, cache = model.forward(batch(), Mode(train=True, rng=np.random.default_rng(3)))
    _, loss_cache = LOSS.forward(z, LABELS)
    model.backward(LOSS.backward(loss_cache), cache)
    optimizer.step(model.parameters())
    after = {name: p.value for name, p in model.parameters().items()}
    ratios = {row.name: row.update_ratio for row in trace.rows}
    assert ratios["base.conv"] is None
    assert ratios["base.relu"] is None
    for name in ("base.block.main.conv", "base.gate.path.1", "head.hidden"):
        keys = [key for key in before if key.startswith(name)]
        change = np.sqrt(sum(((after[key] - before[key]) ** 2).sum() for key in keys))
        size = np.sqrt(sum((before[key] ** 2).sum() for key in keys))
        assert ratios[name] == pytest.approx(change / size, rel=1e-9)
        assert ratios[name] > 0


def test_model_and_optimiser_are_as_before():
    model, optimizer = trained(everything())

    def whole():
        arrays = [*model.state().values(), *(p.grad for p in model.parameters().values())]
        return deepcopy([*arrays, *optimizer.state().values()])

    layers = list(model.named_layers().values())
    before, attributes = whole(), [set(vars(layer)) for layer in layers]
    backward_trace(model, LOSS, batch(), LABELS, optimizer=optimizer)
    for mine, kept in zip(whole(), before, strict=True):
        np.testing.assert_array_equal(mine, kept)
    assert [set(vars(layer)) for layer in layers] == attributes


def test_a_batch_that_does_not_fit_leaves_nothing_behind():
    model = everything()
    before = [set(vars(layer)) for layer in model.named_layers().values()]
    with pytest.raises(ValueError, match="labels are"):
        backward_trace(model, LOSS, batch(), LABELS[:2])
    assert [set(vars(layer)) for layer in model.named_layers().values()] == before


def test_a_layer_used_twice_has_two_rows_and_one_weight():
    layer = dense(3, 3)
    trace = backward_trace(
        Sequential(layer, ReLU(), layer), LOSS, np.random.default_rng(0).random((4, 3)), LABELS
    )
    assert [row.name for row in trace.rows] == ["0", "1", "0 (2)"]
    assert trace.rows[0].weight_gradient == trace.rows[2].weight_gradient
    assert trace.rows[0].gradient_rms != trace.rows[2].gradient_rms


def test_networks_written_by_hand():
    names = {row.name for row in backward_trace(WithSide(), LOSS, batch(), LABELS).rows}
    assert names == {name for name, _, _ in WithSide().walk((10, 10, 2))}
    model = googlenet(3, (64, 64, 1), width=0.05, rng=np.random.default_rng(0))
    x = batch(2, 64, 1).astype(np.float32)
    trace = backward_trace(model, WithAuxiliary(LOSS), x, LABELS[:2], optimizer=SGD(0.1))
    assert [r.name for r in trace.rows] == [name for name, _, _ in model.walk((64, 64, 1))]
    assert all(row.gradient_rms for row in trace.rows)
    assert any(row.name.startswith("aux2") for row in trace.rows)


class Doubled(Layer):
    """Has a layer inside, but does not run its forward pass."""

    def __init__(self):
        self.inner = dense(3, 3)

    def forward(self, x, mode=EVAL):
        return 2 * x, None

    def backward(self, dy, cache):
        return 2 * dy


def test_a_layer_whose_inner_layers_are_not_run_is_a_row_itself():
    x = np.random.default_rng(0).random((4, 3))
    trace = backward_trace(Sequential(Doubled(), dense(3, 3)), LOSS, x, LABELS)
    assert [row.name for row in trace.rows] == ["0", "1"]
    assert trace.rows[0].activation_rms == pytest.approx(2 * root_mean_square(x))


@pytest.mark.parametrize("relu", [ReLU(), ReLU6(), ReLU(0.5)])
def test_dead_channels(relu):
    rng = np.random.default_rng(0)
    conv = Conv2D(2, 4, 3, rng=rng, dtype="float64")
    conv.bias.value[:] = [0, -1e3, 0, -1e3]
    head = Sequential(conv, relu)
    x = batch()
    value = Sequential(head, Flat(), Dense(256, 3, rng=rng, dtype="float64"))
    trace = backward_trace(value, LOSS, x, LABELS)
    row = next(row for row in trace.rows if row.name == "0.1")
    assert row.dead == 0.5
    assert "many dead units: 0.1 (50% of its units)" in str(trace)


class Flat(Layer):
    """(8, 8, 4) -> (256,)."""

    def forward(self, x, mode=EVAL):
        return x.reshape(len(x), -1), x.shape

    def backward(self, dy, cache):
        return dy.reshape(cache)


def deep(scale, depth=12):
    rng = np.random.default_rng(0)
    layers = []
    for _ in range(depth):
        linear = Dense(8, 8, rng=rng, dtype="float64")
        linear.weight.value[...] = scale * np.eye(8)
        layers += [linear]
    return Sequential(*layers, Dense(8, 3, rng=rng, dtype="float64"))


@pytest.mark.parametrize(("scale", "verb"), [(0.3, "shrinks"), (3.0, "grows")])
def test_vanishing_and_exploding_gradients_are_named(scale, verb):
    x = np.random.default_rng(0).standard_normal((4, 8))
    trace = backward_trace(deep(scale), LOSS, x, LABELS)
    line = next(line for line in trace.findings() if line.startswith("the gradient"))
    said = re.fullmatch(
        rf"the gradient {verb} (\S+)-fold on its way back "
        r"between 1[12] \(rms \S+\) and 0 \(rms \S+\)",
        line,
    )
    assert said
    assert abs(np.log10(float(said[1])) - 11 * abs(np.log10(scale))) < 1  # each layer's factor
    assert line in str(trace)
    calm = backward_trace(deep(1.0), LOSS, x, LABELS)
    assert calm.findings() == []
    assert str(calm).endswith("nothing stands out")


def test_a_dead_layer_cuts_off_those_before_it():
    rng = np.random.default_rng(0)
    middle = Dense(5, 4, rng=rng, dtype="float64")
    middle.bias.value[:] = -1e3
    model = Sequential(dense(5, 5), middle, ReLU(), dense(4, 3))
    said = backward_trace(
        model, LOSS, rng.standard_normal((4, 5)), LABELS, optimizer=SGD(1e3)
    ).findings()
    assert said[0] == "no gradient reaches 0, 1"
    assert "dead for this batch, all units: 2" in said
    assert any(
        line.startswith("one update changes more than 10% of the weights of 3") for line in said
    )


def test_activations_that_are_not_finite_are_named():
    model = deep(1.0)
    model.layers[4].weight.value[0, 0] = np.nan
    trace = backward_trace(model, LOSS, np.ones((4, 8)), LABELS)
    assert trace.findings() == ["activations are not finite from 4 on: lower the learning rate"]
    assert json.loads(trace.to_json())["rows"][4]["activation_rms"] is None


def test_json_has_every_figure():
    trace = backward_trace(everything(), LOSS, batch(), LABELS, optimizer=SGD(0.1))
    values = json.loads(trace.to_json())
    assert values["loss"] == trace.loss
    assert [row["name"] for row in values["rows"]] == NAMES
    assert values["rows"][0]["output_shape"] == [10, 10, 4]
    assert values["rows"][0]["gradient_rms"] == trace.rows[0].gradient_rms


def test_table_has_a_line_for_each_layer_in_columns():
    trace = backward_trace(everything(), LOSS, batch(), LABELS)
    header, rule, *lines = str(trace).splitlines()
    assert header.split()[:2] == ["name", "layer"]
    assert set(rule) == {"─"}
    assert len({len(line) for line in (header, *lines[: len(NAMES)])}) == 1
    assert lines[0].split()[0] == "base.conv"
    assert f"loss {trace.loss:.4g}" in lines


def test_root_mean_square_of_extreme_numbers():
    assert rms(np.full(7, 1e-30, np.float32)) == pytest.approx(1e-30)
    assert rms(np.full(7, 1e30, np.float32)) == pytest.approx(1e30)
    assert rms(np.zeros(0)) == 0
    assert np.isnan(rms(np.array([1, np.nan])))
