"""One training step: the number shown is the function differentiated, and nothing else moves."""

import numpy as np
import pytest

from tests.small_run import LOSS, assert_same, copy_of
from tinynet.layer import Layer
from tinynet.layers import BatchNorm, Dense, Dropout, ReLU, Sequential
from tinynet.losses import CrossEntropy
from tinynet.optimizers import SGD, Adam
from tinynet.regularizers import L1, L2
from tinynet.train.step import TrainingError, TrainStep


def network(keep_prob=1.0):
    rng = np.random.default_rng(0)
    layers = [Dense(3, 5, rng=rng), ReLU(), Dropout(keep_prob), Dense(5, 2, rng=rng)]
    return Sequential(*layers).to(dtype="float64")


def batch(n=6):
    rng = np.random.default_rng(1)
    return rng.normal(size=(n, 3)), rng.integers(0, 2, n)


@pytest.mark.parametrize("regularizer", [None, L2(0.3), L1(0.2)])
@pytest.mark.parametrize("keep_prob", [1.0, 0.6])
def test_the_update_is_the_gradient_of_the_number_returned(regularizer, keep_prob):
    """With SGD at rate 1, w_before − w_after is ∂L/∂w; central differences of L say the same."""
    model = network(keep_prob)
    before = copy_of(model)

    def loss_value():
        return TrainStep(model, LOSS, SGD(0.0), regularizer=regularizer)(*batch())

    TrainStep(model, LOSS, SGD(1.0), regularizer=regularizer)(*batch())
    gradient = {name: before[name] - p.value for name, p in model.parameters().items()}
    model.load_state(before)
    for name, p in model.parameters().items():
        index = np.unravel_index(np.abs(gradient[name]).argmax(), p.shape)
        values = []
        for h in (1e-6, -1e-6):
            p.value[index] += h
            values.append(loss_value())
            p.value[index] -= h
        assert (values[0] - values[1]) / 2e-6 == pytest.approx(gradient[name][index], rel=1e-6)


def test_it_returns_a_python_float_and_the_mean_loss_before_the_update():
    x, y = batch()
    model = network()
    expected, _ = LOSS.forward(model.forward(x)[0], y)
    value = TrainStep(model, LOSS, SGD(0.5))(x, y)
    assert type(value) is float
    assert value == expected
    assert LOSS.forward(model.forward(x)[0], y)[0] < expected


def test_gradients_do_not_add_up_over_steps():
    model = network()
    step = TrainStep(model, LOSS, SGD(0.0))
    step(*batch())
    once = model.parameters()["0.weight"].grad.copy()
    step(*batch())
    assert np.array_equal(model.parameters()["0.weight"].grad, once)


def test_the_masks_follow_from_seed_and_count():
    def losses(seed, counts):
        step = TrainStep(network(0.5), LOSS, SGD(0.0), seed=seed)
        values = []
        for count in counts:
            step.count = count
            values.append(step(*batch()))
        return values

    assert losses(0, [0, 1, 2]) == losses(0, [2, 1, 0])[::-1]
    assert len(set(losses(0, range(4)) + losses(1, range(4)))) == 8


def test_it_counts_and_keeps_the_last_output():
    x, y = batch()
    model = network()
    step = TrainStep(model, LOSS, SGD(0.1))
    with pytest.raises(ValueError, match="no step has been made yet"):
        step.last_probabilities()
    z, _ = model.forward(x)
    step(x, y)
    assert step.count == 1
    assert np.array_equal(step.last_output, z)
    assert np.array_equal(step.last_probabilities(), LOSS.probabilities(z))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_in_the_input_is_named_and_changes_no_weight(bad):
    x, y = batch()
    x[2, 1] = x[4, 0] = bad
    model, optimizer = network(), Adam(0.1)
    step = TrainStep(model, LOSS, optimizer)
    with pytest.raises(TrainingError, match=r"2 of the 6 inputs hold NaN .* is number 2 of"):
        step(x, y)
    assert_same(copy_of(network()), model.state())
    assert optimizer.state()["step"] == 0
    assert step.count == 0


def test_nan_in_the_weights_is_named():
    model = network()
    model.parameters()["3.bias"].value[0] = np.nan
    with pytest.raises(TrainingError, match=r"3\.bias holds NaN .* lower the learning rate \(0\.1"):
        TrainStep(model, LOSS, SGD(0.1))(*batch())


def test_a_learning_rate_far_too_large_ends_in_one_clear_line():
    step = TrainStep(network(), LOSS, SGD(1e200))
    step(*batch())
    with pytest.raises(TrainingError, match="lower the learning rate") as seen:
        step(*batch())
    assert "\n" not in str(seen.value)


def test_an_infinite_loss_of_finite_outputs():
    class Sure(Layer):
        def forward(self, x, mode):
            return np.tile([1.0, 0.0], (len(x), 1)), None

    with pytest.raises(TrainingError, match="the loss is inf: input and weights are finite"):
        TrainStep(Sure(), CrossEntropy(), SGD(0.1))(batch()[0], np.ones(6, int))


def test_it_knows_whether_the_last_step_was_whole():
    x, y = batch()
    model = Sequential(BatchNorm(3), *network().layers).to(dtype="float64")
    step = TrainStep(model, LOSS, SGD(0.1))
    step(x, y)
    assert step.whole
    with pytest.raises(ValueError, match="labels"):
        step(x, y + 5)  # by now the moving statistics have moved
    assert not step.whole
