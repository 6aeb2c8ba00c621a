import numpy as np
import pytest

from tests.layers.support import assert_close, normal, torch_pass
from tinynet.layers import GroupNorm, batchnorm_forward, group_norm_backward, group_norm_forward


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


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_both_passes_equal_torchs(torch, groups):
    x, gamma, beta, dy = normal(2, (2, 3, 4, 6), (6,), (6,), (2, 3, 4, 6))

    def theirs(x, gamma, beta):
        y = torch.nn.functional.group_norm(x.permute(0, 3, 1, 2), groups, gamma, beta)
        return y.permute(0, 2, 3, 1)

    y, cache = group_norm_forward(x, gamma, beta, groups)
    wanted = torch_pass(torch, theirs, dy, x, gamma, beta)
    for got, want in zip((y, *group_norm_backward(dy, cache)), wanted, strict=True):
        assert_close(got, want)


def test_groups_that_do_not_divide_the_channels():
    with pytest.raises(ValueError, match="groups is 4, want a divisor of the 6 channels"):
        GroupNorm(4, 6)
