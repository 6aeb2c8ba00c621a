"""A change to a network between two steps is noticed."""

import numpy as np
import pytest

from tinynet.engine.gpu.step import Watch
from tinynet.layers import BatchNorm, Dense, Dropout, Sequential


def network():
    rng = np.random.default_rng(0)
    return Sequential(Dense(3, 4, rng=rng), BatchNorm(4), Dropout(0.5), Dense(4, 2, rng=rng))


def watch(model):
    return Watch([*model.named_layers().values(), *model.parameters().values()])


CHANGES = {
    "a weight's array": lambda m: setattr(m.layers[0].weight, "value", np.ones((3, 4))),
    "a gradient's array": lambda m: setattr(m.layers[0].bias, "grad", np.ones(4)),
    "what is trainable": lambda m: m.layers[3].freeze(),
    "statistics that are frozen": lambda m: setattr(m.layers[1], "frozen_statistics", True),
    "the share that dropout keeps": lambda m: setattr(m.layers[2], "keep_prob", 0.25),
    "a moving mean's array": lambda m: setattr(m.layers[1], "running_mean", np.ones(4)),
    "a layer": lambda m: m.layers.__setitem__(3, Dense(4, 5, rng=np.random.default_rng(1))),
    "a layer more": lambda m: m.layers.append(Dropout(0.1)),
    "an attribute more": lambda m: setattr(m.layers[0], "note", "new"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_changes(name):
    model = network()
    watched = watch(model)
    assert not watched.changed()
    CHANGES[name](model)
    assert watched.changed()
    watched.refresh()
    assert not watched.changed()


def test_numbers_that_change_in_place_are_no_change():
    model = network()
    watched = watch(model)
    model.layers[0].weight.value += 1
    model.zero_grad()
    model.load_state(network().state())
    assert not watched.changed()
