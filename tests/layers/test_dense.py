import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.layers.support import assert_close, drawn, drawn_few, normal, torch_pass
from tinynet.gradient_check import check_backward, check_gradients
from tinynet.layers import Dense, dense_backward, dense_forward
from tinynet.testing.strategies import seeds

SIZES = st.tuples(st.integers(1, 6), st.integers(1, 8), st.integers(1, 8))


@drawn
@given(sizes=SIZES, bias=st.booleans(), strided=st.booleans(), seed=seeds())
def test_equals_torch(torch, sizes, bias, strided, seed):
    n, n_in, n_out = sizes
    x, w, b, dz = normal(seed, (n, n_in), (n_in, n_out), (n_out,), (n, n_out), strided=strided)
    b = b if bias else None
    z, cache = dense_forward(x, w, b)
    dx, dw, db = dense_backward(dz, cache)

    def linear(x, w, b):
        return torch.nn.functional.linear(x, w.T, b)

    wanted = torch_pass(torch, linear, dz, x, w, b)
    for got, want in zip((z, dx, dw), wanted, strict=False):
        assert_close(got, want)
    assert (db is None) == (b is None)
    if bias:
        assert_close(db, wanted[3])


@drawn_few
@given(sizes=SIZES, bias=st.booleans(), seed=seeds())
def test_gradients(sizes, bias, seed):
    n, n_in, n_out = sizes
    x, w, b = normal(seed, (n, n_in), (n_in, n_out), (n_out,))
    check_backward(dense_forward, dense_backward, (x, w, b if bias else None))
    check_gradients(Dense(n_in, n_out, bias, rng=np.random.default_rng(seed)), x)


def test_is_the_report_s_double_loop():
    x, w, b, dz = normal(0, (3, 4), (4, 5), (5,), (3, 5))
    z, cache = dense_forward(x, w, b)
    dx, dw, db = dense_backward(dz, cache)
    want_z, want_dx, want_dw, want_db = (np.zeros(a.shape) for a in (z, x, w, b))
    for n in range(3):
        for j in range(5):
            want_z[n, j] = b[j] + sum(w[i, j] * x[n, i] for i in range(4))
            want_db[j] += dz[n, j]
            for i in range(4):
                want_dx[n, i] += dz[n, j] * w[i, j]
                want_dw[i, j] += dz[n, j] * x[n, i]
    for got, want in zip((z, dx, dw, db), (want_z, want_dx, want_dw, want_db), strict=True):
        assert_close(got, want)


def test_starts_with_glorot_weights_and_no_bias_term():
    layer = Dense(100, 50, rng=np.random.default_rng(0))
    limit = np.sqrt(6 / 150)
    assert abs(layer.weight.value).max() <= limit
    assert layer.weight.value.std() == pytest.approx(limit / np.sqrt(3), rel=0.05)
    assert not layer.bias.value.any()
    assert layer.weight.value.dtype == np.float32


def test_same_generator_seed_same_weights():
    one, other = (Dense(4, 3, rng=np.random.default_rng(7)) for _ in range(2))
    assert np.array_equal(one.weight.value, other.weight.value)


def test_declares_its_output_shape_and_cost():
    layer = Dense(4, 3, rng=np.random.default_rng(0))
    y, _ = layer.forward(np.zeros((2, 4), np.float32))
    assert y.shape == (2, *layer.output_shape((4,)))
    assert y.dtype == np.float32
    assert layer.multiply_adds((4,)) == 12


def test_without_bias_has_one_parameter():
    layer = Dense(4, 3, bias=False, rng=np.random.default_rng(0))
    assert list(layer.parameters()) == ["weight"]


def test_errors_name_the_layer_what_came_and_what_was_wanted():
    layer = Dense(4, 3, rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"Dense\(4, 3\): input is \(2, 5\), want \(N, 4\)"):
        layer.forward(np.zeros((2, 5), np.float32))
    with pytest.raises(TypeError, match=r"Dense\(4, 3\): input is float64, .* are float32"):
        layer.forward(np.zeros((2, 4)))
    with pytest.raises(ValueError, match=r"Dense\(4, 3\): input shape is \(5,\), want \(4,\)"):
        layer.output_shape((5,))
    with pytest.raises(ValueError, match=r"x is \(2, 5\) and w \(4, 3\)"):
        dense_forward(np.zeros((2, 5)), np.zeros((4, 3)))
