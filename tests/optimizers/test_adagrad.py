import numpy as np
import pytest

from tinynet.backend import use_kernels
from tinynet.layer import Parameter
from tinynet.optimizers import Adagrad, adagrad_update


def test_known_numbers():
    w, v = np.array([1.0, 1.0]), np.array([0.0, 5.0])
    adagrad_update(w, v, np.array([3.0, 2.0]), 0.5, 0.0)
    assert v.tolist() == [9.0, 9.0]
    np.testing.assert_allclose(w, [0.5, 1 - 1 / 3], rtol=1e-15)


def test_equals_torchs():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    start = np.random.default_rng(0).normal(size=(4, 3))
    ours, theirs = {"weight": Parameter(start.copy())}, torch.tensor(start)
    optimizer, mine = (
        torch.optim.Adagrad([theirs], 0.1, weight_decay=0.01),
        Adagrad(0.1, weight_decay=0.01),
    )
    for step in range(50):
        g = np.random.default_rng(step).normal(size=(4, 3))
        ours["weight"].grad[...], theirs.grad = g, torch.tensor(g)
        mine.step(ours)
        optimizer.step()
    np.testing.assert_allclose(ours["weight"].value, theirs.numpy(), rtol=1e-12)


def test_long_arrays_are_updated_as_short_ones():
    rng = np.random.default_rng(0)
    w, v, g = rng.normal(size=(3, 200_000))
    want_w, want_v = w.copy(), v**2
    adagrad_update.reference(want_w, want_v, g, 0.1, 1e-10)
    with use_kernels("numpy"):
        got_v = v**2
        adagrad_update(w, got_v, g, 0.1, 1e-10)
    np.testing.assert_array_equal(w, want_w)
    np.testing.assert_array_equal(got_v, want_v)
