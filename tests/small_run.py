"""A small problem, a small network, and what tests of training compare."""

import json

import numpy as np

from tinynet.layers import Dense, ReLU, Sequential
from tinynet.losses import SoftmaxCrossEntropy
from tinynet.optimizers import SGD
from tinynet.train import fit

LOSS = SoftmaxCrossEntropy()


def network(seed=0, inputs=2, hidden=16):
    rng = np.random.default_rng(seed)
    layers = [Dense(inputs, hidden, rng=rng), ReLU(), Dense(hidden, 2, rng=rng)]
    return Sequential(*layers).to(dtype="float64")


def two_classes(n=60, seed=0):
    """Points inside and outside a circle."""
    x = np.random.default_rng(seed).uniform(-1, 1, size=(n, 2))
    return x, (np.hypot(*x.T) < 0.7).astype(int)


def history_of(model=None, optimizer=None, train=None, validation=None, *, epochs=1, **settings):
    """``fit`` on the small problem, in silence."""
    given = (model or network(), LOSS, optimizer or SGD(0.1), train or two_classes(), validation)
    return fit(*given, epochs=epochs, **{"progress": False} | settings)


def rising(values):
    """A metric that returns the given numbers, one an epoch, whatever the predictions."""
    left = iter(values)

    def score(y, p):
        return next(left)

    return score


def copy_of(model):
    return {name: np.array(x) for name, x in model.state().items()}


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name, x in a.items():
        assert np.array_equal(x, b[name]), name


def files_in(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def rows_of(folder):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    text = (folder / "history.jsonl").read_text()
    assert text.endswith("\n")
    return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]
