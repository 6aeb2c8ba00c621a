"""Local response, group and layer normalisation; batch norm has its own file."""

import numpy as np
import pytest

from tests.layers.support import assert_close, normal
from tinynet.layers import (
    GroupNorm,
    LayerNorm,
    LocalResponseNorm,
    batchnorm_forward,
    group_norm_forward,
    layer_norm_forward,
    local_response_norm_forward,
)


def test_groups_of_one_channel_of_one_image_are_batch_norm():
    x, gamma, beta = normal(0, (1, 4, 3, 6), (6,), (6,))
    y, _ = group_norm_forward(x, gamma, beta, 6, 1e-3)
    assert_close(y, batchnorm_forward(x, gamma, beta, 1e-3)[0])


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_each_group_has_mean_0_and_variance_1(groups):
    (x,) = normal(1, (3, 5, 4, 6))
    y, _ = group_norm_forward(7 + 3 * x, np.ones(6), np.zeros(6), groups, 0.0)
    cells = y.reshape(3, -1, groups, 6 // groups)
    np.testing.assert_allclose(cells.mean(axis=(1, 3)), 0, atol=1e-12)
    np.testing.assert_allclose(cells.var(axis=(1, 3)), 1, rtol=1e-12)


@pytest.mark.parametrize("shape", [(5, 4), (2, 3, 4), (2, 3, 2, 4)], ids=str)
def test_each_vector_has_mean_0_and_variance_1(shape):
    (x,) = normal(0, shape)
    y, _ = layer_norm_forward(7 + 3 * x, np.ones(4), np.zeros(4), 0.0)
    np.testing.assert_allclose(y.mean(axis=-1), 0, atol=1e-12)
    np.testing.assert_allclose(y.var(axis=-1), 1, rtol=1e-12)


def test_local_response_by_hand():
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
    assert_close(
        LocalResponseNorm().forward(a)[0], local_response_norm_forward(a, 5, 1e-4, 0.75, 2.0)[0]
    )


@pytest.mark.parametrize("make", [LocalResponseNorm, lambda *a: local_response_norm_forward(A, *a)])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ((4,), "size is 4 and k 2.0, want an odd size"),
        ((0,), "size is 0"),
        ((5, 1e-4, 0.75, 0), "k 0, want .* k > 0"),
    ],
)
def test_local_response_refuses_an_even_size_and_a_k_of_zero(make, settings, message):
    with pytest.raises(ValueError, match=message):
        make(*settings)


A = np.ones((1, 4))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: LayerNorm(4).forward(np.zeros((2, 3), "f")),
            r"\(4\): input is \(2, 3\), want \(N, 4",
        ),
        (lambda: LayerNorm(4).output_shape((3,)), "want 4 features last"),
        (lambda: GroupNorm(4, 6), "groups is 4, want a divisor of the 6 channels"),
    ],
)
def test_sizes_that_do_not_fit(call, message):
    with pytest.raises(ValueError, match=message):
        call()
