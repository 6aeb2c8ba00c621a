"""The backward trace: its figures against the passes themselves, and that it leaves no mark."""

import json
import re
from copy import deepcopy

import numpy as np
import pytest

from tests.oracles import package
from tests.visualize.networks import WithSide, batch, dense, everything
from tinynet.layer import Mode, summary_rows
from tinynet.layers import Conv2D, Dense, Flatten, ReLU, ReLU6, Sequential
from tinynet.losses import SoftmaxCrossEntropy, WithAuxiliary
from tinynet.models import googlenet
from tinynet.optimizers import SGD, Adam
from tinynet.train import fit
from tinynet.visualize import TraceCallback, backward_trace
from tinynet.visualize.trace import rms

LABELS = np.array([0, 2, 1, 2])
LOSS = SoftmaxCrossEntropy()


def step(model, optimizer, seed):
    """One training step on ``batch()``, by hand."""
    z, cache = model.forward(batch(), Mode(train=True, rng=np.random.default_rng(seed)))
    _, loss_cache = LOSS.forward(z, LABELS)
    model.zero_grad()
    model.backward(LOSS.backward(loss_cache), cache)
    optimizer.step(model.parameters())


def root_mean_square(a):
    return float(np.sqrt((a**2).mean()))


def test_a_row_for_each_innermost_layer():
    model = everything()
    rows = summary_rows(model, (10, 10, 2))
    trace = backward_trace(model, LOSS, batch(n=1), LABELS[:1])
    for key in ("name", "output_shape", "bytes_cached"):
        assert [getattr(row, key) for row in trace.rows] == [getattr(row, key) for row in rows]


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
    assert [row.dead for row in trace.rows] == [None, (b == 0).all(axis=0).mean(), None]
    both = np.concatenate([gradients["0.weight"].ravel(), gradients["0.bias"]])
    assert trace.rows[0].weight_gradient == pytest.approx(np.linalg.norm(both))
    weights = model.parameters()
    both = np.concatenate([weights["2.weight"].value.ravel(), weights["2.bias"].value])
    assert trace.rows[2].weight_norm == pytest.approx(np.linalg.norm(both))
    assert trace.rows[1].weight_norm is trace.rows[1].weight_gradient is None


@pytest.mark.parametrize(
    "optimizer",
    [
        SGD(0.1, momentum=0.9),
        Adam(1e-2, weight_decay=0.1),
        SGD(0.1, clip=1e-3, rates={"head": 0.5}),
    ],
)
def test_updates_are_those_that_the_optimiser_then_makes(optimizer):
    model = everything()
    step(model, optimizer, seed=1)  # so that the optimiser remembers something
    model.base.children()["conv"].freeze()
    trace = backward_trace(model, LOSS, batch(), LABELS, optimizer=optimizer, seed=3)
    plain = backward_trace(model, LOSS, batch(), LABELS, seed=3)  # gradients are shown unclipped
    for row, without in zip(trace.rows, plain.rows, strict=True):
        assert row.weight_gradient == without.weight_gradient
    before = {name: p.value.copy() for name, p in model.parameters().items()}
    step(model, optimizer, seed=3)
    after = {name: p.value for name, p in model.parameters().items()}
    ratios = {row.name: row.update_ratio for row in trace.rows}
    assert ratios["base.conv"] is ratios["base.relu"] is None
    for name in ("base.block.main.conv", "base.gate.path.1", "head.hidden"):
        keys = [key for key in before if key.startswith(name)]
        change = np.sqrt(sum(((after[key] - before[key]) ** 2).sum() for key in keys))
        size = np.sqrt(sum((before[key] ** 2).sum() for key in keys))
        assert ratios[name] == pytest.approx(change / size, rel=1e-9)
        assert ratios[name] > 0


def test_model_and_optimiser_are_as_before():
    model, optimizer = everything(), Adam(1e-2)
    step(model, optimizer, seed=1)

    def whole():
        arrays = [*model.state().values(), *(p.grad for p in model.parameters().values())]
        return deepcopy([*arrays, *optimizer.state().values()])

    layers = list(model.named_layers().values())
    before, attributes = whole(), [set(vars(layer)) for layer in layers]
    backward_trace(model, LOSS, batch(), LABELS, optimizer=optimizer)
    for mine, kept in zip(whole(), before, strict=True):
        np.testing.assert_array_equal(mine, kept)
    with pytest.raises(ValueError, match="labels are"):
        backward_trace(model, LOSS, batch(), LABELS[:2])
    assert [set(vars(layer)) for layer in layers] == attributes


def test_a_layer_used_twice_has_two_rows_and_one_weight():
    layer, x = dense(3, 3), np.random.default_rng(0).random((4, 3))
    trace = backward_trace(Sequential(layer, ReLU(), layer), LOSS, x, LABELS)
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


@pytest.mark.parametrize("relu", [ReLU(), ReLU6(), ReLU(0.5)])
def test_dead_channels(relu):
    rng = np.random.default_rng(0)
    conv = Conv2D(2, 4, 3, rng=rng, dtype="float64")
    conv.bias.value[:] = [0, -1e3, 0, -1e3]
    model = Sequential(conv, relu, Flatten(), Dense(256, 3, rng=rng, dtype="float64"))
    trace = backward_trace(model, LOSS, batch(), LABELS)
    assert trace.rows[1].dead == 0.5
    assert "many dead units: 1 (50% of its units)" in str(trace)


def deep(scale):
    rng = np.random.default_rng(0)
    layers = [Dense(8, 8, rng=rng, dtype="float64") for _ in range(12)]
    for layer in layers:
        layer.weight.value[...] = scale * np.eye(8)
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
    x = rng.standard_normal((4, 5))
    said = backward_trace(model, LOSS, x, LABELS, optimizer=SGD(1e3)).findings()
    assert said[0] == "no gradient reaches 0, 1"
    assert "dead for this batch, all units: 2" in said
    assert any(s.startswith("one update changes more than 10% of the weights of 3") for s in said)


def test_activations_that_are_not_finite_are_named():
    model = deep(1.0)
    model.layers[4].weight.value[0, 0] = np.nan
    trace = backward_trace(model, LOSS, np.ones((4, 8)), LABELS)
    assert trace.findings() == ["activations are not finite from 4 on: lower the learning rate"]
    assert json.loads(trace.to_json())["rows"][4]["activation_rms"] is None


def test_as_text_and_json():
    trace = backward_trace(everything(), LOSS, batch(), LABELS, optimizer=SGD(0.1))
    header, rule, *lines = str(trace).splitlines()
    assert header.split()[:2] == ["name", "layer"]
    assert set(rule) == {"─"}
    assert len({len(line) for line in (header, *lines[: len(trace.rows)])}) == 1
    assert lines[0].split()[0] == "base.conv"
    assert f"loss {trace.loss:.4g}" in lines
    values = json.loads(trace.to_json())
    assert values["loss"] == trace.loss
    assert [row["name"] for row in values["rows"]] == [row.name for row in trace.rows]
    assert values["rows"][0]["output_shape"] == [10, 10, 4]
    assert values["rows"][0]["gradient_rms"] == trace.rows[0].gradient_rms


def test_root_mean_square_of_extreme_numbers():
    assert rms(np.full(7, 1e-30, np.float32)) == pytest.approx(1e-30)
    assert rms(np.full(7, 1e30, np.float32)) == pytest.approx(1e30)
    assert rms(np.zeros(0)) == 0
    assert np.isnan(rms(np.array([1, np.nan])))


def run(callbacks):
    """The weights after four epochs."""
    model, optimizer = everything(), Adam(1e-2)
    for callback in callbacks:
        callback.optimizer = optimizer
    fit(
        model, LOSS, optimizer, (batch(), LABELS), epochs=4, batch_size=2, callbacks=callbacks,
        progress=False,
    )  # fmt: skip
    return model.state()


def test_a_trace_after_each_epoch_and_the_same_training():
    traces, some = (TraceCallback(LOSS, batch(), LABELS, every=every) for every in (1, 3))
    watched, alone = run([traces, some]), run([])
    for name, a in alone.items():
        np.testing.assert_array_equal(watched[name], a)
    assert traces.epochs == [1, 2, 3, 4]
    assert some.epochs == [1, 4]
    assert len({trace.loss for trace in traces.traces}) == 4
    values = json.loads(traces.to_json())
    assert [value["epoch"] for value in values] == [1, 2, 3, 4]
    assert values[3]["rows"][0]["update_ratio"] == traces.traces[3].rows[0].update_ratio > 0


@pytest.mark.slow
def test_traces_as_pictures(tmp_path):
    imread = package("matplotlib.image").imread
    traces = TraceCallback(LOSS, batch(), LABELS, optimizer=Adam(1e-2))
    for epoch in (1, 2):
        traces({"epoch": epoch}, everything())
    for quantity in ("gradient_rms", "update_ratio", "dead"):
        traces.plot(tmp_path / f"{quantity}.png", quantity)
    traces.traces[0].plot(tmp_path / "with.png")
    backward_trace(everything(), LOSS, batch(), LABELS).plot(tmp_path / "without.png")
    images = {file.stem: imread(file)[..., :3] for file in tmp_path.iterdir()}
    assert len(images) == 5
    assert all(image.std() > 0.02 for image in images.values())
    assert len(images["with"]) > len(images["without"])  # a panel for the updates


def test_what_cannot_be_drawn_is_refused(tmp_path):
    traces = TraceCallback(LOSS, batch(), LABELS)
    with pytest.raises(ValueError, match="quantity is 'loss', want one of gradient_rms"):
        traces.plot(tmp_path / "x.png", "loss")
    with pytest.raises(ValueError, match="no epoch has been traced yet"):
        traces.plot(tmp_path / "x.png")
    traces({"epoch": 1}, everything())
    with pytest.raises(ValueError, match="no trace has update_ratio: give TraceCallback an opt"):
        traces.plot(tmp_path / "x.png", "update_ratio")
    with pytest.raises(ValueError, match="every is 0"):
        TraceCallback(LOSS, batch(), LABELS, every=0)
    assert list(tmp_path.iterdir()) == []
