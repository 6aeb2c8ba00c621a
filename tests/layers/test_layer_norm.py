import numpy as np
import pytest

from tests.layers.support import assert_close, normal, torch_pass
from tinynet.layers import LayerNorm, layer_norm_backward, layer_norm_forward

SHAPES = [(5, 4), (2, 3, 4), (2, 3, 2, 4)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_each_vector_has_mean_0_and_variance_1(shape):
    (x,) = normal(0, shape)
    y, _ = layer_norm_forward(7 + 3 * x, np.ones(4), np.zeros(4), 0.0)
    np.testing.assert_allclose(y.mean(axis=-1), 0, atol=1e-12)
    np.testing.assert_allclose(y.var(axis=-1), 1, rtol=1e-12)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_both_passes_equal_torchs(torch, shape):
    x, gamma, beta, dy = normal(1, shape, (4,), (4,), shape)

    def theirs(x, gamma, beta):
        return torch.nn.functional.layer_norm(x, (4,), gamma, beta)

    y, cache = layer_norm_forward(x, gamma, beta)
    wanted = torch_pass(torch, theirs, dy, x, gamma, beta)
    for got, want in zip((y, *layer_norm_backward(dy, cache)), wanted, strict=True):
        assert_close(got, want)


def test_another_number_of_features_is_refused():
    with pytest.raises(ValueError, match=r"LayerNorm\(4\): input is \(2, 3\), want \(N, 4\)"):
        LayerNorm(4).forward(np.zeros((2, 3), np.float32))
    with pytest.raises(ValueError, match="want 4 features last"):
        LayerNorm(4).output_shape((3,))
