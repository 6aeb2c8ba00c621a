"""engine/kernels/cuda/dense.cu, run on the processor, against the references."""

import numpy as np
import pytest

from tests.engine.gpu.fake_cupy import ndarray
from tests.engine.kernels.cuda.on_cpu import cupy_kernels
from tests.layers.support import assert_close, normal
from tinynet.backend import to_device
from tinynet.engine.kernels.cuda import dense, source
from tinynet.engine.kernels.cuda.launch import captured_step
from tinynet.engine.plan.epilogues import dense_block_backward
from tinynet.engine.precision import bfloat16
from tinynet.layers.dense import DenseCache, dense_backward, dense_forward

__all__ = ["cupy_kernels"]  # a fixture

# N, n_in, n_out
SIZES = {
    "one of each": (1, 1, 1),
    "two classes": (3, 37, 2),
    "one row": (1, 70, 9),
    "two rows a thread": (7, 33, 20),
    "four rows a thread": (13, 6, 5),
    "several tiles": (37, 21, 36),
    "in fours": (5, 64, 32),
    "many outputs": (2, 5, 67),
    "one input": (9, 1, 4),
}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch, cupy_kernels):
    """Blocks of 4 × 4 threads, and several parts of a small product."""
    monkeypatch.setattr(dense, "SIDE", 4)
    monkeypatch.setattr(dense, "LEAST_DEPTH", 6)
    monkeypatch.setattr(dense, "MOST_PARTS", 5)
    monkeypatch.setattr(dense, "THREADS", 8)
    source.forget()
    with captured_step():
        yield
    source.forget()


@pytest.fixture
def no_products(monkeypatch):
    """The references' products are an error."""

    def refuse(*_):
        raise AssertionError("a product of CuPy's, which cuBLAS would make")

    monkeypatch.setattr(ndarray, "__matmul__", refuse)


def on(x):
    return None if x is None else to_device(np.array(x), "cupy")


def off(x):
    return None if x is None else to_device(x, "numpy")


def arrays(name, bias=True, dtype="float64"):
    n, inputs, outputs = SIZES[name]
    x, w, b, dz = normal(1, (n, inputs), (inputs, outputs), (outputs,), (n, outputs))
    x, w, b, dz = (a.astype(dtype) for a in (x, w, b, dz))
    return x, w, b if bias else None, dz


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", SIZES)
def test_both_passes(name, bias, no_products):
    x, w, b, dz = arrays(name, bias)
    want, cache = dense_forward.reference(x, w, b)
    z, kept = dense_forward(on(x), on(w), on(b))
    assert_close(off(z), want)
    wanted = dense_backward.reference(dz, cache)
    for got, wish in zip(dense_backward(on(dz), kept), wanted, strict=True):
        assert (got is None) == (wish is None)
        if got is not None:
            assert_close(off(got), wish)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", SIZES)
def test_gradients_that_are_added(name, bias, no_products):
    x, w, b, dz = arrays(name, bias)
    dw, db = normal(2, w.shape, w.shape[1:])
    for need_dx in (True, False):
        want = [dw.copy(), db.copy() if bias else None]
        got = [on(dw), on(db) if bias else None]
        wish = dense_block_backward.reference(*want, dz, DenseCache(x, w, bias), need_dx)
        dx = dense_block_backward(*got, on(dz), DenseCache(on(x), on(w), bias), need_dx)
        assert (dx is None) == (wish is None) == (not need_dx)
        for a, wanted in zip((dx, *got), (wish, *want), strict=True):
            assert (a is None) == (wanted is None)
            if a is not None:
                assert_close(off(a), wanted)


@pytest.mark.parametrize("name", ["several tiles"])
def test_float32(name, no_products):
    x, w, b, dz = arrays(name, dtype="float32")
    want, cache = dense_forward.reference(x, w, b)
    z, kept = dense_forward(on(x), on(w), on(b))
    results = [z, *dense_backward(on(dz), kept)]
    for got, wish in zip(results, [want, *dense_backward.reference(dz, cache)], strict=True):
        assert got.dtype == np.float32
        np.testing.assert_allclose(off(got), wish, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["one row", "several tiles"])
def test_bfloat16_activations(name, no_products):
    """Sums in float32 of the rounded numbers; z and dx are rounded once."""
    x, w, b, dz = arrays(name, dtype="float32")
    x, dz = x.astype(bfloat16()), dz.astype(bfloat16())
    want, cache = dense_forward.reference(x.astype(np.float32), w, b)
    wanted = [want, *dense_backward.reference(dz.astype(np.float32), cache)]
    z, kept = dense_forward(on(x), on(w), on(b))
    results = [z, *dense_backward(on(dz), kept)]
    for i, (got, wish) in enumerate(zip(results, wanted, strict=True)):
        assert got.dtype == (bfloat16() if i < 2 else np.float32)
        tolerance = 2**-8 if i < 2 else 1e-5
        np.testing.assert_allclose(
            off(got).astype(np.float32), wish, rtol=tolerance, atol=tolerance / 10
        )


def test_nan_is_not_hidden_and_stays_in_its_row(no_products):
    x, w, b, dz = arrays("several tiles")
    x[3, 4], dz[5, 6] = np.nan, np.inf
    with np.errstate(all="ignore"):
        want, cache = dense_forward.reference(x, w, b)
        wanted = [want, *dense_backward.reference(dz, cache)]
    z, kept = dense_forward(on(x), on(w), on(b))
    for got, wish in zip([z, *dense_backward(on(dz), kept)], wanted, strict=True):
        np.testing.assert_array_equal(np.isfinite(off(got)), np.isfinite(wish))
        assert not np.isfinite(wish).all()


def test_arrays_with_gaps_and_off_a_multiple_of_four(no_products):
    x, w, b, dz = arrays("in fours")
    want, cache = dense_forward.reference(x, w, b)
    wanted = [want, *dense_backward.reference(dz, cache)]
    wide, long = np.repeat(x, 2, axis=1), np.concatenate([[0.0], w.ravel()])
    off_by_one = on(long)[1:].reshape(w.shape)
    z, kept = dense_forward(on(wide)[:, ::2], off_by_one, on(b))
    for got, wish in zip([z, *dense_backward(on(dz), kept)], wanted, strict=True):
        assert_close(off(got), wish)


def test_what_is_not_covered_goes_to_the_reference():
    x, w, b, dz = arrays("two classes")
    whole = (x * 3).astype(int), (w * 3).astype(int)
    z, _ = dense_forward(*map(on, whole))
    np.testing.assert_array_equal(off(z), whole[0] @ whole[1])
    with pytest.raises(ValueError, match="want \\(N, n_in\\)"):
        dense_forward(on(x), on(w[1:]))
    with pytest.raises(TypeError, match="one library"):
        dense_forward(on(x), w)
    nothing, kept = dense_forward(on(x[:0]), on(w), on(b))
    assert nothing.shape == (0, 2)
    assert [a.shape for a in dense_backward(on(dz[:0]), kept)] == [(0, 37), (37, 2), (2,)]
    dw, db = np.zeros((37, 4)), np.zeros(2)
    gaps = on(dw)
    dense_block_backward(gaps[:, ::2], on(db), on(dz), DenseCache(on(x), on(w), True))
    assert_close(off(gaps)[:, ::2], x.T @ dz)


def test_eager_float_arrays_keep_cublas(no_products, cupy_kernels):
    if cupy_kernels.ndarray is not ndarray:
        pytest.skip("CuPy's own product cannot be replaced by one that refuses")
    x, w, _, _ = arrays("two classes")
    with captured_step(False), pytest.raises(AssertionError, match="cuBLAS"):
        dense_forward(on(x), on(w))


def test_bits_do_not_change_from_run_to_run():
    x, w, b, dz = arrays("several tiles", dtype="float32")
    found = []
    for _ in range(3):
        z, kept = dense_forward(on(x), on(w), on(b))
        found.append([off(a) for a in (z, *dense_backward(on(dz), kept))])
    for again in found[1:]:
        for a, first in zip(again, found[0], strict=True):
            np.testing.assert_array_equal(a, first)
