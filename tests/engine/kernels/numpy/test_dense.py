"""tinynet/engine/kernels/numpy/dense.py: what drawn arguments in test_three_ways do not show."""

import numpy as np
import pytest

from tests.layers.support import assert_close, normal
from tinynet.engine import threads
from tinynet.engine.plan.epilogues import dense_block_backward
from tinynet.layers.dense import DenseCache, dense_backward, dense_forward

SIZES = [(3, 9, 4), (1, 4, 1), (0, 6, 2), (5, 3, 2)]  # N, n_in, n_out; the last one is not cut


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("strided", [True, False])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_by_rows_as_in_one_piece(sizes, strided, bias):
    n, n_in, n_out = sizes
    x, w, b, dz = normal(1, (n, n_in), (n_in, n_out), (n_out,), (n, n_out), strided=strided)
    b = b if bias else None
    want, cache = dense_forward.reference(x, w, b)
    z, kept = dense_forward.kernels["numpy"](x, w, b)
    assert_close(z, want)
    assert kept == cache
    wanted = dense_backward.reference(dz, cache)
    got = dense_backward.kernels["numpy"](dz, cache)
    for a, b in zip(got, wanted, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert_close(a, b)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("need_dx", [True, False])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_gradients_are_added_and_dx_is_returned_where_it_is_needed(sizes, need_dx, bias):
    n, n_in, n_out = sizes
    x, w, dz = normal(1, (n, n_in), (n_in, n_out), (n, n_out))
    dx, dw, db = dense_backward.reference(dz, DenseCache(x, w, True))
    kernels = dense_block_backward.reference, dense_block_backward.kernels["numpy"]
    for way in kernels:
        sums = np.full(w.shape, 2.0), np.full(n_out, 3.0) if bias else None
        got = way(*sums, dz, DenseCache(x, w, bias), need_dx)
        assert_close(sums[0], 2 + dw)
        if bias:
            assert_close(sums[1], 3 + db)
        if need_dx:
            assert_close(got, dx)
        else:
            assert got is None


def test_sizes_that_do_not_meet_are_the_references_error():
    with pytest.raises(ValueError, match=r"dense: x is \(2, 5\) and w \(6, 3\), want"):
        dense_forward.kernels["numpy"](np.zeros((2, 5)), np.zeros((6, 3)))


def test_bits_do_not_depend_on_the_number_of_threads(monkeypatch):
    x, w, dz = (a.astype("float32") for a in normal(2, (7, 40), (40, 5), (7, 5)))
    found = []
    for count in (1, 2, 3):
        monkeypatch.setattr(threads, "thread_count", lambda count=count: count)
        dw = np.zeros_like(w)
        dx = dense_block_backward.kernels["numpy"](dw, None, dz, DenseCache(x, w, False))
        z, _ = dense_forward.kernels["numpy"](x, w)
        found.append((z, dx, dw, *dense_backward.kernels["numpy"](dz, DenseCache(x, w, False))[:2]))
    for arrays in found[1:]:
        for got, want in zip(arrays, found[0], strict=True):
            np.testing.assert_array_equal(got, want)
