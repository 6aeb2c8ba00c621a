"""The functions on vectors that compiled products and transforms are made of."""

import numpy as np
import pytest

numba = pytest.importorskip("numba", reason='Numba is not installed: pip install ".[fast]"')

from tinynet.engine.kernels.numba.vectors import (  # noqa: E402
    LANES,
    load,
    load_broadcast,
    load_bytes,
    load_some,
    multiply_add,
    store,
    store_bytes,
    store_some,
    where_equal,
    where_greater,
)


@numba.njit
def every_function(x, y, some, numbers, copies):
    a, b = load(x, 0), load(x, LANES)
    store(y, 0, a + b)
    store(y, LANES, a - b)
    store(y, 2 * LANES, a * b)
    store(y, 3 * LANES, 3 * a)
    store(y, 4 * LANES, multiply_add(a, b, load_broadcast(x, 1)))
    store(y, 5 * LANES, where_greater(a, b, a, b))
    store(y, 6 * LANES, where_equal(a, b, a, load_broadcast(x, 0)))
    store_some(some, 0, load_some(x, 0, 3), LANES)
    store_some(some, LANES, a, 2)
    store_bytes(copies, 0, load_bytes(numbers, 0))


def test_vectors():
    rng = np.random.default_rng(0)
    x = rng.standard_normal(2 * LANES).astype(np.float32)
    x[LANES + 1] = x[1]
    a, b = x[:LANES], x[LANES:]
    y, some = np.zeros(7 * LANES, np.float32), np.full(2 * LANES, 7, np.float32)
    numbers = np.arange(250, 250 + LANES, dtype=np.int64).astype(np.uint8)
    copies = np.zeros(LANES, np.uint8)
    every_function(x, y, some, numbers, copies)
    got = y.reshape(7, LANES)
    np.testing.assert_array_equal(got[:4], [a + b, a - b, a * b, 3 * a])
    np.testing.assert_allclose(got[4], a.astype(float) * b + x[1], rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(got[5], np.maximum(a, b))
    np.testing.assert_array_equal(got[6], np.where(a == b, a, x[0]))
    np.testing.assert_array_equal(some[:LANES], [*x[:3], *[0] * (LANES - 3)])
    np.testing.assert_array_equal(some[LANES:], [*x[:2], *[7] * (LANES - 2)])
    np.testing.assert_array_equal(copies, numbers)


def test_nan_in_a_comparison_takes_the_second():
    @numba.njit
    def larger(x, y):
        zero = load(y, 0)
        store(y, 0, where_greater(zero, load(x, 0), zero, load(x, 0)))

    x, y = np.full(LANES, np.nan, np.float32), np.zeros(LANES, np.float32)
    larger(x, y)
    assert np.isnan(y).all()
