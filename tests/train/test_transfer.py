"""Heads replaced, parts frozen and shown frozen, training that ends where it is frozen."""

import numpy as np
import pytest

from tests.small_run import LOSS, assert_same, copy_of
from tinynet.engine.plan import build
from tinynet.engine.plan.build import in_sequence, without_gradient
from tinynet.layer import EVAL, Mode
from tinynet.layers import Dense, Flatten, Sequential
from tinynet.models import Classifier, googlenet, vgg_like
from tinynet.optimizers import Adam
from tinynet.regularizers import L2
from tinynet.train import fit
from tinynet.train.data import generator
from tinynet.train.features import cached_features
from tinynet.train.step import TrainStep
from tinynet.train.transfer import (
    HeadOnly,
    frozen_parts,
    frozen_table,
    replace_head,
    unfreeze_from,
)


def network(classes=3, dtype="float64"):
    """Two blocks with batch norm whose moving statistics have moved."""
    rng = np.random.default_rng(0)
    model = vgg_like(classes, (8, 8, 1), (3, 4), 6, batch_norm=True, keep_prob=0.5, rng=rng)
    for name, x in model.buffers().items():
        draw = rng.uniform(0.5, 1.5, x.shape) if name.endswith("var") else rng.normal(size=x.shape)
        x[...] = draw
    return model.to(dtype=dtype)


def images(n=22, dtype="float64"):
    rng = np.random.default_rng(1)
    return rng.normal(size=(n, 8, 8, 1)).astype(dtype), rng.integers(0, 3, n)


def under(part, state):
    return {name: x for name, x in state.items() if name.startswith(part)}


def changed(model, before):
    """Names of the arrays that differ."""
    return {name for name, x in model.state().items() if not np.array_equal(x, before[name])}


# a new head


def head_of(classes):
    return Sequential(Flatten(), Dense(16, classes, rng=np.random.default_rng(0)))


def test_a_new_head_of_other_classes_leaves_the_base():
    model, before = network(3), copy_of(network(3))
    assert replace_head(model, 5, np.random.default_rng(7)) is model
    after = model.state()
    assert_same(under("base.", before), under("base.", after))
    assert model.forward(images()[0])[0].shape == (22, 5)
    assert {x.dtype for x in after.values()} == {np.dtype("float64")}
    weights = [name for name in under("head.", after) if name.endswith("weight")]
    assert len(weights) == 2
    for name in weights:  # all of it starts anew, not the last layer alone
        old = before[name]
        assert old.shape != after[name].shape or not np.array_equal(old, after[name])


def test_the_architecture_follows_the_head():
    model = replace_head(network(3), 5, np.random.default_rng(7))
    assert model.architecture.settings["num_classes"] == 5
    again = model.architecture.build()
    again.load_state(model.state())  # the same names and shapes
    replace_head(model, head_of(2))
    assert model.architecture is None


def test_a_new_head_may_be_any_layer():
    model = replace_head(network(), head_of(7).to(dtype="float64"))
    assert model.forward(images()[0])[0].shape == (22, 7)
    assert "head.1.weight" in model.parameters()


def test_what_a_new_head_needs():
    with pytest.raises(ValueError, match="give replace_head rng="):
        replace_head(network(), 5)
    by_hand = Classifier(network().base, network().head)
    with pytest.raises(ValueError, match="give replace_head a layer"):
        replace_head(by_hand, 5, np.random.default_rng(0))


def test_googlenet_s_auxiliary_classifiers_are_part_of_what_is_new():
    model = googlenet(4, (32, 32, 1), width=0.03, rng=np.random.default_rng(0))
    replace_head(model, 3, np.random.default_rng(1))
    outputs, _ = model.forward(np.zeros((2, 32, 32, 1), np.float32), Mode(True, generator(0, "x")))
    assert [z.shape for z in outputs] == [(2, 3)] * 3
    assert [part.name for part in frozen_parts(model)] == ["base", "head", "aux1", "aux2"]
    with pytest.raises(ValueError, match="aux1 and aux2 branch off inside the base"):
        HeadOnly(model)
    plain = googlenet(4, (32, 32, 1), auxiliary=False, width=0.03, rng=np.random.default_rng(0))
    assert HeadOnly(plain).head is plain.head


# what is frozen


def test_the_table_shows_the_three_separately():
    model = network()
    base, head = frozen_parts(model)
    assert (base.name, head.name) == ("base", "head")
    assert base.parameters == (0, sum(p.value.size for p in model.base.parameters().values()))
    assert (base.statistics, base.dropout, head.dropout) == ((0, 4), (0, 0), (0, 1))
    model.base.freeze(statistics=False)
    base, head = frozen_parts(model)
    assert base.parameters.frozen == base.parameters.total > 0
    assert base.statistics == (0, 4)
    assert not base.whole
    model.base.freeze()
    base, head = frozen_parts(model)
    assert base.statistics == (4, 4)
    assert base.whole
    assert head.parameters.frozen == 0
    text = frozen_table(model)
    assert "4 of 4" in text
    assert "none there" in text
    assert len(text.splitlines()) == 3


def test_deeper_tables_add_up():
    model = network()
    model.base.freeze()
    whole = frozen_parts(model, depth=0)[0].parameters
    for depth in (1, 2, 5):
        parts = frozen_parts(model, depth)
        assert sum(part.parameters.frozen for part in parts) == whole.frozen
        assert sum(part.parameters.total for part in parts) == whole.total
    assert "base.0" in [part.name for part in frozen_parts(model, 2)]


def test_unfreezing_the_upper_part():
    model = network()
    model.freeze()
    unfreeze_from(model, "base.7")  # the second block; its statistics stay
    trainable = {name for name, p in model.parameters().items() if p.trainable}
    later = {n for n in under("base.", model.parameters()) if int(n.split(".")[1]) >= 7}
    assert trainable == set(under("head.", model.parameters())) | later
    assert 0 < len(later) < len(under("base.", model.parameters()))
    assert frozen_parts(model)[0].statistics == (4, 4)
    assert frozen_parts(model)[1].dropout == (0, 1)
    unfreeze_from(model, "base.7", statistics=True)
    assert frozen_parts(model)[0].statistics == (2, 4)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("base.99", r"no layer 'base\.99' .* base\.0, base\.1"),
        ("stage", r"no layer 'stage' .* base, head"),
    ],
)
def test_unfreezing_from_a_layer_that_is_not_there(layer, message):
    with pytest.raises(ValueError, match=message):
        unfreeze_from(network(), layer)


# training with a frozen base


def trained(model, data, **options):
    settings = {"epochs": 3, "batch_size": 8, "seed": 5, "progress": False} | options
    return fit(model, LOSS, Adam(1e-2), data, **settings)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-4)])
def test_a_head_on_cached_features_becomes_the_head_of_the_whole_network(
    dtype, tolerance, tmp_path
):
    """The same draws; a representation may differ in its last bit, as the batch it came in does."""
    data = images(dtype=dtype)
    whole, parts = network(dtype=dtype), network(dtype=dtype)
    for model in (whole, parts):
        model.base.freeze()
    trained(whole, data)
    trained(HeadOnly(parts), cached_features(parts.base, data, tmp_path, progress=False))
    a, b = whole.state(), parts.state()
    assert_same(under("base.", a), under("base.", b))
    assert "head.1.weight" in changed(whole, network(dtype=dtype).state())
    for name, x in under("head.", a).items():
        np.testing.assert_allclose(b[name], x, rtol=0, atol=tolerance * np.abs(x).max())


def test_a_run_begun_on_features_goes_on_with_images(tmp_path):
    """Names and checkpoints are the whole network's."""
    data, model, again = images(), network(), network()
    for each in (model, again):
        each.base.freeze()
    features = cached_features(model.base, data, tmp_path, progress=False)
    trained(HeadOnly(model), features, folder=tmp_path / "run")
    unfreeze_from(again, "base.7")
    rows = trained(again, data, folder=tmp_path / "run", resume=True, epochs=5)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5]
    expected = {name for name, p in again.parameters().items() if p.trainable}
    assert changed(again, model.state()) == expected
    assert any(name.startswith("base.") for name in expected)


def test_head_only_is_the_head():
    model = network()
    r, _ = model.base.forward(images()[0])
    alone = HeadOnly(model)
    z, cache = alone.forward(r, EVAL)
    assert np.array_equal(z, model.forward(images()[0])[0])
    assert alone.backward(np.ones_like(z), cache).shape == r.shape
    assert alone.output_shape(r.shape[1:]) == (3,)
    assert alone.multiply_adds(r.shape[1:]) == model.head.multiply_adds(r.shape[1:])


# the backward pass ends at the first trainable parameter


class Watched(Sequential):
    """A base that counts its backward passes; not plain, so it stands as one layer."""

    backward_passes = 0

    def backward(self, dy, cache):
        self.backward_passes += 1
        return super().backward(dy, cache)


def watched():
    model = network()
    model.layers[0] = Watched(*model.base.layers)
    return model


def test_no_gradient_is_computed_for_a_frozen_base():
    model = watched()
    model.base.freeze(statistics=False, dropout=False)
    before = copy_of(model)
    TrainStep(model, LOSS, Adam(1e-2))(*images())
    assert model.base.backward_passes == 0
    moved = {f"base.{name}" for name in model.base.buffers()}  # the statistics
    assert changed(model, before) == set(under("head.", model.parameters())) | moved
    for name, p in model.parameters().items():
        assert p.grad.any() == name.startswith("head.")


def test_a_base_with_one_trainable_parameter_gets_its_gradient():
    model = watched()
    model.base.freeze()
    model.base.layers[0].unfreeze()
    TrainStep(model, LOSS, Adam(1e-2))(*images())
    assert model.base.backward_passes == 1


@pytest.mark.parametrize("regularizer", [None, L2(0.1)])
@pytest.mark.parametrize("start", [0, 4, 9, None])
def test_ending_early_changes_nothing(start, regularizer, monkeypatch):
    """Against the same step with a backward pass through everything, from any layer on.

    But for rounding: where the cut is, layers that else are one block are computed one by one.
    """
    losses, states = [], []
    for ending_early in (True, False):
        model = network()
        model.base.freeze(statistics=False, dropout=False)
        if start is not None:
            for layer in model.base.layers[start:]:
                layer.unfreeze()
        if not ending_early:
            monkeypatch.setattr(build, "without_gradient", lambda m: ([], in_sequence(m)))
        step = TrainStep(model, LOSS, Adam(1e-2), seed=3, regularizer=regularizer)
        losses.append([step(*images()) for _ in range(3)])
        states.append(model.state())
    np.testing.assert_allclose(*losses, rtol=1e-12)
    for name, value in states[0].items():
        np.testing.assert_allclose(value, states[1][name], rtol=1e-9, atol=1e-12, err_msg=name)


def test_where_a_network_is_cut():
    model = network()
    before, rest = without_gradient(model)
    assert (before, rest) == ([], in_sequence(model))
    model.base.freeze()
    before, rest = without_gradient(model)
    flatten = model.head.layers[0]
    assert before == [*model.base.layers, flatten]
    assert rest == model.head.layers[1:]
    model.freeze()
    before, rest = without_gradient(model)
    assert rest == []
    x = images()[0]
    for layer in before:
        x, _ = layer.forward(x, Mode())
    assert np.array_equal(x, model.forward(images()[0])[0])
