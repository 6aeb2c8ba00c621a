"""One training step: the number shown is the function differentiated, and nothing else moves."""

import numpy as np
import pytest

from tests.small_run import LOSS, assert_same, copy_of
from tinynet.backend import use_kernels
from tinynet.layer import EVAL, Layer
from tinynet.layers import BatchNorm, Conv2D, Dense, Dropout, Flatten, ReLU, Sequential
from tinynet.losses import CrossEntropy, MeanSquaredError, SoftmaxCrossEntropy, WithAuxiliary
from tinynet.optimizers import SGD, Adam
from tinynet.regularizers import L1, L2
from tinynet.train import fit
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


WEIGHTS = (1.0, 0.2)
LOSSES = {
    "mean": LOSS,
    "smoothed": SoftmaxCrossEntropy(label_smoothing=0.1),
    "weighted": SoftmaxCrossEntropy(WEIGHTS),
    "weighted mean": SoftmaxCrossEntropy(WEIGHTS, 0.1, mean_over="weights"),
    "a piece without weight": SoftmaxCrossEntropy((0.0, 1.0), mean_over="weights"),
    "squares": MeanSquaredError(),
}


def steps_in_pieces(micro_batch, loss=LOSS, labels=None, **more):
    """(losses, weights, last outputs) of some steps on 13 examples, in pieces of 4, 4 and 5."""
    model, (x, y) = network(), batch(13)
    y[:4] = 0
    y = np.eye(2)[y] if isinstance(loss, MeanSquaredError) or labels == "one-hot" else y
    step = TrainStep(model, loss, Adam(0.01), micro_batch=micro_batch, **more)
    return [step(x, y) for _ in range(3)], copy_of(model), step.last_output


@pytest.mark.parametrize("kernels", ["reference", "numpy", "numba"])
@pytest.mark.parametrize("name", LOSSES)
def test_micro_batches_add_up_to_the_batch(name, kernels):
    with use_kernels(kernels):
        values, weights, output = steps_in_pieces(None, LOSSES[name], regularizer=L2(0.1))
        got, found, z = steps_in_pieces(5, LOSSES[name], regularizer=L2(0.1))
    np.testing.assert_allclose(got, values, rtol=1e-12)
    np.testing.assert_allclose(z, output, rtol=1e-9)
    for n, w in weights.items():
        np.testing.assert_allclose(found[n], w, rtol=1e-9, atol=1e-12)


def test_micro_batches_of_one_hot_labels_and_of_more_than_there_are():
    loss = LOSSES["weighted mean"]
    whole, pieces = (steps_in_pieces(m, loss, "one-hot")[0] for m in (None, 1))
    np.testing.assert_allclose(pieces, whole, rtol=1e-12)
    assert steps_in_pieces(13, loss)[0] == steps_in_pieces(None, loss)[0]


def test_micro_batches_of_a_network_with_auxiliary_outputs():
    class Two(Sequential):
        wiring = ""

        def forward(self, x, mode=EVAL):
            r, cache = super().forward(x, mode)
            return (r, 2 * r) if mode.train else r, cache

        def backward(self, dy, cache):
            return super().backward(dy[0] + 2 * dy[1], cache)

    def made(micro_batch):
        model = Two(*network().layers)
        step = TrainStep(model, WithAuxiliary(LOSS), SGD(0.1), micro_batch=micro_batch)
        return step(*batch(7)), copy_of(model), step.last_output

    (value, weights, (z, _)), (got, found, (first, second)) = made(None), made(3)
    assert got == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(first, z, rtol=1e-12)
    np.testing.assert_array_equal(second, 2 * first)
    np.testing.assert_allclose(found["3.weight"], weights["3.weight"], rtol=1e-12)


def test_accumulation_with_batch_norm_is_torch_s(torch):
    """Each piece is normalised by itself, and moves the statistics."""
    (x, y), model = batch(12), Sequential(BatchNorm(3), *network().layers).to(dtype="float64")
    nn = torch.nn
    twin = nn.Sequential(nn.BatchNorm1d(3, eps=1e-3), nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))
    twin.double()
    for linear, name in ((twin[1], "1"), (twin[3], "4")):
        linear.weight.data = torch.tensor(model.state()[f"{name}.weight"].T)
        linear.bias.data = torch.tensor(model.state()[f"{name}.bias"])
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.5)
    step = TrainStep(model, LOSS, SGD(0.5), micro_batch=4)
    for _ in range(3):
        optimizer.zero_grad()
        for i in range(0, 12, 4):
            z = twin(torch.tensor(x[i : i + 4]))
            (nn.functional.cross_entropy(z, torch.tensor(y[i : i + 4])) / 3).backward()
        optimizer.step()
        step(x, y)
    state = model.state()
    np.testing.assert_allclose(state["4.weight"], twin[3].weight.detach().numpy().T, rtol=1e-9)
    np.testing.assert_allclose(state["0.gamma"], twin[0].weight.detach().numpy(), rtol=1e-9)
    np.testing.assert_allclose(state["0.running_mean"], twin[0].running_mean.numpy(), rtol=1e-9)


def test_micro_batches_take_less_memory():
    def allocated(micro_batch):
        rng = np.random.default_rng(0)
        layers = Conv2D(1, 8, 3, rng=rng), ReLU(), Flatten(), Dense(8 * 30 * 30, 2, rng=rng)
        step = TrainStep(Sequential(*layers), LOSS, SGD(0.1), micro_batch=micro_batch)
        for _ in range(2):
            step(np.ones((32, 32, 32, 1), np.float32), np.ones(32, int))
        return step.workspace.allocated

    with use_kernels("numpy"):
        assert allocated(4) < allocated(None) / 3


@pytest.mark.parametrize("loss", ["mean", "weighted", "weighted mean", "a piece without weight"])
@pytest.mark.parametrize("bad", [-1, 2])
def test_a_wrong_label_in_a_later_piece_changes_nothing(bad, loss):
    x, y = batch(12)
    y[:4], y[9] = 0, bad
    model = Sequential(BatchNorm(3), *network().layers).to(dtype="float64")
    before = copy_of(model)
    with pytest.raises(ValueError, match="labels run from"):
        TrainStep(model, LOSSES[loss], Adam(0.1), micro_batch=4)(x, y)
    assert_same(before, model.state())
    x[10], y[9] = np.nan, 0
    with pytest.raises(TrainingError, match="1 of the 12 inputs"):
        TrainStep(model, LOSS, Adam(0.1), micro_batch=4)(x, y)
    assert_same(before, model.state())


@pytest.mark.parametrize(
    ("labels", "match"),
    [
        (np.zeros(6, int), "has class weight 0"),
        (np.ones(4, int), r"labels are \(4,\) for predictions \(6, 2\)"),
        (np.ones(7, int), r"labels are \(7,\) for predictions \(6, 2\)"),
        (np.array(1), r"labels are \(\) for predictions"),
        (np.zeros(6), "labels are float64, want integers"),
        (np.zeros(6, bool), "has class weight 0"),  # two classes, in pieces of two
    ],
)
def test_labels_that_do_not_fit_a_batch_in_pieces_are_refused_as_in_one(labels, match):
    for micro_batch in (2, None):
        model = network()
        step = TrainStep(model, LOSSES["a piece without weight"], SGD(0.1), micro_batch=micro_batch)
        with pytest.raises(ValueError, match=match):
            step(batch()[0], labels)
        assert_same(copy_of(network()), model.state())


@pytest.mark.parametrize(
    ("micro_batch", "error"), [(0, ValueError), (1.5, ValueError), ("8", TypeError)]
)
def test_micro_batches_that_make_no_sense(micro_batch, error):
    with pytest.raises(error, match="micro_batch is .*, want a whole number from 1"):
        TrainStep(network(), LOSS, SGD(0.1), micro_batch=micro_batch)


@pytest.mark.parametrize("by", ["value", "norm", "global_norm"])
def test_a_gradient_that_is_not_finite_is_not_clipped_away(by):
    class Overflows(ReLU):
        def backward(self, dy, cache):
            return np.full_like(dy, np.inf)

    model = Sequential(
        Dense(3, 5, rng=np.random.default_rng(0)), Overflows(), *network().layers[3:]
    )
    optimizer = SGD(0.1, clip=1.0, clip_by=by)
    with pytest.raises(TrainingError, match="the weights are no longer finite: 0.weight"):
        fit(model.to(dtype="float64"), LOSS, optimizer, batch(), epochs=1, progress=False)
