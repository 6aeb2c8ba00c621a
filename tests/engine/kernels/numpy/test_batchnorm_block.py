"""Batch-norm blocks of the NumPy kernels against their references."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.layers.support import assert_close, drawn_some, normal
from tinynet.engine import threads
from tinynet.engine.memory import Workspace
from tinynet.engine.plan.epilogues import TAILS, batchnorm_block_backward, batchnorm_block_forward
from tinynet.testing.strategies import seeds

forward = batchnorm_block_forward.kernels["numpy"]
backward = batchnorm_block_backward.kernels["numpy"]


@drawn_some
@given(
    shape=st.tuples(*[st.integers(1, 5)] * 4),
    tail=st.sampled_from(TAILS),
    strided=st.booleans(),
    seed=seeds(),
)
def test_every_shape_and_either_cache(shape, tail, strided, seed):
    assume(tail != "relu_pool" or min(shape[1:3]) > 1)
    x, gamma, beta = normal(seed, shape, shape[-1:], shape[-1:], strided=strided)
    want, reference_cache = batchnorm_block_forward.reference(x, gamma, beta, 0.1, tail)
    y, cache = forward(x, gamma, beta, 0.1, tail)
    assert_close(y, want)
    for name in ("inv_std", "mean", "variance"):
        assert_close(getattr(cache, name), getattr(reference_cache, name))
    (dy,) = normal(seed + 1, y.shape)
    gradients = batchnorm_block_backward.reference(dy, reference_cache)
    for kept, way in (
        (reference_cache, backward),
        (cache, batchnorm_block_backward.reference),
        (cache, backward),
    ):
        for got, wanted in zip(way(dy, kept), gradients, strict=True):
            assert_close(got, wanted)


def test_the_cache_holds_the_input_itself():
    x, gamma, beta = normal(0, (3, 4, 4, 2), (2,), (2,))
    _, cache = forward(x, gamma, beta, tail="relu_pool")
    assert cache.x is x
    assert cache.tail.y is None


def test_a_large_mean_costs_no_digits():
    x, gamma, beta = (a.astype(np.float32) for a in normal(0, (8, 6, 6, 3), (3,), (3,)))
    shifted = x + np.float32(1024)
    exact = shifted.astype(np.float64) - 1024
    want, _ = batchnorm_block_forward.reference(exact, gamma.astype(float), beta.astype(float))
    assert abs(forward(shifted, gamma, beta)[0] - want).max() < 1e-3


def test_a_nan_reaches_its_channel_alone():
    x, gamma, beta = normal(0, (4, 6, 6, 2), (2,), (2,))
    x = x.copy()
    x[1, 2, 3, 0] = np.nan
    for tail in TAILS:
        y, _ = forward(x, gamma, beta, tail=tail)
        assert np.isnan(y[..., 0]).all()
        assert not np.isnan(y[..., 1]).any()


@pytest.mark.parametrize("tail", TAILS)
def test_threads_change_no_bit_and_a_workspace_suffices(tail, monkeypatch):
    x, gamma, beta = (a.astype(np.float32) for a in normal(0, (9, 40, 40, 8), (8,), (8,)))

    def both():
        y, cache = forward(x, gamma, beta, 1e-3, tail)
        return [y, *backward(y, cache)]

    results = []
    for count in (3, 2, 1):
        monkeypatch.setattr(threads, "thread_count", lambda count=count: count)
        results.append(both())
    for three, two, one in zip(*results, strict=True):
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(one, three)
    workspace, sizes = Workspace(), []
    for _ in range(4):
        with workspace:
            both()
        sizes.append(workspace.allocated)
    assert sizes[2] == sizes[3] > 0
