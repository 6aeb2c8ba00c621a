"""Mean and variance keep float32's digits, whatever the mean is beside the spread."""

import numpy as np
import pytest

pytest.importorskip("numba", reason='Numba is not installed: pip install ".[fast]"')

from tinynet.engine import threads  # noqa: E402
from tinynet.engine.kernels.numba.batchnorm import statistics  # noqa: E402
from tinynet.engine.kernels.numba.channel_sums import FEW, fold  # noqa: E402

CELLS = 40 * FEW


def spread_out(rng):
    return rng.standard_normal((CELLS, 3))


def far_from_0(rng):
    return 1e4 + rng.standard_normal((CELLS, 3))


def far_from_its_first_rows(rng):
    x = 1e3 + rng.standard_normal((CELLS, 3))
    x[: CELLS // 100] -= 1e3
    return x


def one_cell_far_out(rng):
    x = rng.standard_normal((CELLS, 3))
    x[0] = 1e5
    return x


@pytest.mark.parametrize("block", [1 << 14, 1 << 30])
@pytest.mark.parametrize(
    "draw", [spread_out, far_from_0, far_from_its_first_rows, one_cell_far_out]
)
def test_mean_and_variance(draw, block, monkeypatch):
    monkeypatch.setattr(threads, "BLOCK_BYTES", block)
    x = draw(np.random.default_rng(0)).astype(np.float32)
    exact = x.astype(np.float64)
    mean, variance = statistics(x)
    np.testing.assert_allclose(mean, exact.mean(axis=0), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(variance, exact.var(axis=0), rtol=3e-6)


def test_a_constant_has_no_variance():
    mean, variance = statistics(np.full((5, 4, 4, 2), 1e4, np.float32))
    assert mean.tolist() == [1e4, 1e4]
    assert variance.tolist() == [0, 0]


def test_fold_adds_the_cells_of_a_row_and_clears_them():
    lanes, total = np.arange(6, dtype=np.float32), np.array([10.0, 20.0])
    fold(lanes, total)
    assert total.tolist() == [16, 29]
    assert not lanes.any()
