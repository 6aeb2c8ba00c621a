"""Traces over a run, and traces as pictures."""

import json

import numpy as np
import pytest

from tests.oracles import package
from tests.visualize.networks import batch, everything
from tinynet.losses import SoftmaxCrossEntropy
from tinynet.optimizers import Adam
from tinynet.visualize import TraceCallback, backward_trace
from tinynet.visualize.trace_plot import labelled
from tinynet.train import fit

LOSS = SoftmaxCrossEntropy()
LABELS = np.array([0, 2, 1, 2, 0, 1])


def run(callbacks, epochs=4):
    model, optimizer = everything(), Adam(1e-2)
    for callback in callbacks:
        callback.optimizer = optimizer
    fit(
        model, LOSS, optimizer, (batch(6), LABELS), epochs=epochs, batch_size=3,
        callbacks=callbacks, progress=False,
    )  # fmt: skip
    return model.state()


def test_a_trace_after_each_epoch_and_the_same_training():
    traces = TraceCallback(LOSS, batch(6), LABELS)
    watched, alone = run([traces]), run([])
    for name, a in alone.items():
        np.testing.assert_array_equal(watched[name], a)
    assert traces.epochs == [1, 2, 3, 4]
    assert len({trace.loss for trace in traces.traces}) == 4
    values = json.loads(traces.to_json())
    assert [value["epoch"] for value in values] == [1, 2, 3, 4]
    assert values[3]["rows"][0]["update_ratio"] == traces.traces[3].rows[0].update_ratio > 0


def test_every_other_epoch():
    traces = TraceCallback(LOSS, batch(6), LABELS, every=3)
    run([traces])
    assert traces.epochs == [1, 4]


def drawn(file):
    """The pixels of a PNG, checked not to be blank."""
    image = package("matplotlib.image").imread(file)
    assert image[..., :3].std() > 0.02
    return image


@pytest.mark.parametrize("quantity", ["gradient_rms", "update_ratio", "dead", "zeros"])
def test_a_run_as_a_picture(tmp_path, quantity):
    package("matplotlib")
    traces = TraceCallback(LOSS, batch(6), LABELS)
    run([traces], epochs=2)
    traces.plot(tmp_path / "run.png", quantity)
    assert drawn(tmp_path / "run.png").shape[0] > 200


def test_a_trace_as_a_picture(tmp_path):
    package("matplotlib")
    with_updates = backward_trace(everything(), LOSS, batch(6), LABELS, optimizer=Adam(1e-2))
    with_updates.plot(tmp_path / "a.png")
    backward_trace(everything(), LOSS, batch(6), LABELS).plot(tmp_path / "b.png")
    assert drawn(tmp_path / "a.png").shape[0] > drawn(tmp_path / "b.png").shape[0]


def test_names_along_an_axis_have_room():
    assert labelled(20, 7.0) == list(range(20))
    for n in (71, 160, 500):
        chosen = labelled(n, 24.0)
        assert 30 < len(chosen) <= 70
        assert len(set(np.diff(chosen))) == 1


def test_what_cannot_be_drawn_is_refused(tmp_path):
    traces = TraceCallback(LOSS, batch(6), LABELS)
    with pytest.raises(ValueError, match="quantity is 'loss', want one of gradient_rms"):
        traces.plot(tmp_path / "x.png", "loss")
    with pytest.raises(ValueError, match="no epoch has been traced yet"):
        traces.plot(tmp_path / "x.png")
    traces({"epoch": 1}, everything())
    with pytest.raises(ValueError, match="no trace has update_ratio: give TraceCallback an opt"):
        traces.plot(tmp_path / "x.png", "update_ratio")
    with pytest.raises(ValueError, match="every is 0"):
        TraceCallback(LOSS, batch(6), LABELS, every=0)
    assert list(tmp_path.iterdir()) == []
