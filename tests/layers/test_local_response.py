import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.layers import loops
from tests.layers.support import (
    assert_close,
    channels_first,
    channels_last,
    drawn,
    drawn_few,
    drawn_some,
    normal,
    torch_pass,
)
from tinynet.gradient_check import check_backward, check_gradients
from tinynet.layers import (
    LocalResponseNorm,
    local_response_norm_backward,
    local_response_norm_forward,
)
from tinynet.testing.strategies import seeds

IMAGES = st.tuples(*[st.integers(1, 3)] * 3, st.integers(1, 7))
SHAPES = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple)
SIZES = st.sampled_from([1, 3, 5, 9])  # up to more neighbours than there are channels
# AlexNet's, whose terms are tiny beside k, and ones that weigh as much
CONSTANTS = st.sampled_from([(1e-4, 0.75, 2.0), (0.5, 0.75, 1.0), (2.0, 0.5, 0.1), (0.3, 2.0, 1.5)])


@drawn
@given(shape=IMAGES, size=SIZES, constants=CONSTANTS, strided=st.booleans(), seed=seeds())
def test_equals_torch(torch, shape, size, constants, strided, seed):
    alpha, beta, k = constants
    a, dy = normal(seed, shape, shape, strided=strided)
    b, cache = local_response_norm_forward(a, size, *constants)

    def oracle(a):  # torch divides alpha by the size
        norm = torch.nn.functional.local_response_norm
        return channels_last(norm(channels_first(a), size, size * alpha, beta, k))

    wanted = torch_pass(torch, oracle, dy, a)
    assert_close(b, wanted[0])
    assert_close(local_response_norm_backward(dy, cache), wanted[1])


@drawn_some
@given(shape=SHAPES, size=SIZES, constants=CONSTANTS, seed=seeds())
def test_equals_the_loops(shape, size, constants, seed):
    a, dy = normal(seed, shape, shape)
    b, cache = local_response_norm_forward(a, size, *constants)
    want_b, want_da = loops.local_response_norm(a, size, *constants, dy)
    assert_close(b, want_b)
    assert_close(local_response_norm_backward(dy, cache), want_da)


@drawn_few
@given(shape=SHAPES, size=SIZES, constants=CONSTANTS, seed=seeds())
def test_gradients(shape, size, constants, seed):
    (a,) = normal(seed, shape)
    args = (a, size, *constants)
    check_backward(local_response_norm_forward, local_response_norm_backward, args)
    check_gradients(LocalResponseNorm(size, *constants), a)


def test_a_worked_example():
    # one neighbour on each side; s = 1 + Σ a², b = a / s
    b, cache = local_response_norm_forward(np.array([[1.0, 2, 0, 3]]), 3, 1.0, 1.0, 1.0)
    assert cache.s.tolist() == [[6, 6, 14, 10]]
    assert_close(b, np.array([[1 / 6, 2 / 6, 0, 3 / 10]]))


def test_strong_neighbours_inhibit_and_others_do_not():
    a = np.array([[1.0, 0, 0, 0, 0, 0]])
    quiet, _ = local_response_norm_forward(a, 5, 1.0)
    near, _ = local_response_norm_forward(a + [[0, 0, 9, 0, 0, 0]], 5, 1.0)
    far, _ = local_response_norm_forward(a + [[0, 0, 0, 9, 0, 0]], 5, 1.0)
    assert near[0, 0] < quiet[0, 0] == far[0, 0]


def test_the_defaults_are_alexnet_s():
    (a,) = normal(0, (2, 3, 3, 8))
    b, _ = LocalResponseNorm().forward(a)
    assert_close(b, local_response_norm_forward(a, 5, 1e-4, 0.75, 2.0)[0])


def test_keeps_shape_and_dtype():
    layer = LocalResponseNorm(3)
    a = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32)
    b, cache = layer.forward(a)
    da = layer.backward(b, cache)
    assert b.shape == da.shape == (2, *layer.output_shape((3, 4, 5)))
    assert b.dtype == da.dtype == np.float32
    assert repr(layer) == "LocalResponseNorm(3)"
    assert not layer.parameters()


@pytest.mark.parametrize(
    "make",
    [LocalResponseNorm, lambda *a, **k: local_response_norm_forward(np.ones((1, 4)), *a, **k)],
)
def test_refuses_an_even_size_and_a_k_of_zero(make):
    with pytest.raises(ValueError, match="size is 4 and k 2.0, want an odd size"):
        make(4)
    with pytest.raises(ValueError, match="size is 0"):
        make(0)
    with pytest.raises(ValueError, match="k 0, want .* k > 0"):
        make(5, k=0)
