"""Compiled weight updates: the references' numbers, but for how a sum of products rounds."""

import numpy as np
import pytest

from tests.engine.kernels.numpy.test_optimizer_strips import UPDATES, arrays

pytest.importorskip("numba", reason='Numba is not installed: pip install ".[fast]"')

from tinynet.engine import threads  # noqa: E402
from tinynet.engine.kernels.numba import optimizers  # noqa: E402

each_update = pytest.mark.parametrize("name", UPDATES)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("float64", 1e-14)])
@pytest.mark.parametrize("size", [(), (1,), (3, 5), (1001,)], ids=str)
@each_update
def test_numbers_are_the_references(name, size, dtype, tolerance, monkeypatch):
    monkeypatch.setattr(optimizers, "STRIP", 64)
    function, changed, numbers = UPDATES[name]
    (got, g), (want, _) = arrays(changed, size, dtype), arrays(changed, size, dtype)
    got, want = [np.asarray(a) for a in got], [np.asarray(a) for a in want]
    for _ in range(3):
        function.kernels["fast"](*got, np.asarray(g), *numbers)
        function.reference(*want, np.asarray(g), *numbers)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@each_update
def test_bits_do_not_depend_on_the_number_of_threads(name, monkeypatch):
    monkeypatch.setattr(optimizers, "STRIP", 64)
    function, changed, numbers = UPDATES[name]
    results = []
    for count in (1, 3):
        monkeypatch.setattr(threads, "thread_count", lambda count=count: count)
        some, g = arrays(changed, (1001,), "float32")
        function.kernels["fast"](*some, g, *numbers)
        results.append(some)
    for one, three in zip(*results, strict=True):
        np.testing.assert_array_equal(one, three)


@each_update
def test_a_nan_stays_where_it_is(name):
    function, changed, numbers = UPDATES[name]
    some, g = arrays(changed, (40,), "float32")
    g[3] = np.nan
    function.kernels["fast"](*some, g, *numbers)
    for a in some:
        assert np.flatnonzero(np.isnan(a)).tolist() == [3]


@each_update
def test_what_is_not_covered_is_handed_on(name):
    function, changed, numbers = UPDATES[name]
    (got, g), (want, _) = arrays(changed, (9, 4), "float64"), arrays(changed, (9, 4), "float64")
    for gradient, pick in ((g[::2], slice(None, None, 2)), (g.astype("float32"), slice(None))):
        function.kernels["fast"](*(x[pick] for x in got), gradient, *numbers)
        function.reference(*(x[pick] for x in want), gradient, *numbers)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)
