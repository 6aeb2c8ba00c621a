import numpy as np
import pytest

from tinynet.gradient_check import check_loss
from tinynet.layers import Dense
from tinynet.losses import MeanSquaredError
from tinynet.optimizers import SGD
from tinynet.train import TrainStep


def test_known_numbers():
    loss = MeanSquaredError()
    value, cache = loss.forward(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1, 0], [3, 1]]))
    assert value == (4 + 9) / 4
    assert loss.backward(cache).tolist() == [[0, 1], [0, 1.5]]


@pytest.mark.parametrize(("z", "y"), [((6, 1), (6,)), ((4, 3), (4, 3))])
def test_gradients(z, y):
    rng = np.random.default_rng(0)
    check_loss(MeanSquaredError(), rng.standard_normal(z), rng.standard_normal(y))


def test_a_line_is_fitted():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((64, 2)).astype(np.float32)
    model = Dense(2, 1, rng=rng)
    step = TrainStep(model, MeanSquaredError(), SGD(0.2))
    for _ in range(60):
        value = step(x, x @ np.float32([2, -3]) + 0.5)
    assert value < 1e-8
    np.testing.assert_allclose(model.weight.value.ravel(), [2, -3], atol=1e-3)


@pytest.mark.parametrize("y", [np.zeros(3), np.zeros((4, 1))])
def test_targets_that_do_not_fit(y):
    with pytest.raises(ValueError, match=r"for predictions \(4, 2\)"):
        MeanSquaredError().forward(np.zeros((4, 2)), y)
