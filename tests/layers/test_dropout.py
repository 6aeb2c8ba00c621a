import numpy as np
import pytest

from tests.layers.support import assert_close, normal, torch_pass
from tinynet.layer import Mode
from tinynet.layers import Dropout, dropout_backward, dropout_forward


def training(seed=0):
    return Mode(train=True, rng=np.random.default_rng(seed))


@pytest.mark.parametrize("keep_prob", [0.1, 0.5, 1.0])
def test_torch_s_own_mask_gives_torch_s_own_result(torch, keep_prob):
    x, dy = normal(0, (6, 5), (6, 5))
    torch.manual_seed(0)
    wanted = torch_pass(torch, lambda x: torch.nn.functional.dropout(x, 1 - keep_prob), dy, x)
    y, cache = dropout_forward(x, wanted[0] != 0, keep_prob)
    assert_close(y, wanted[0])
    assert_close(dropout_backward(dy, cache), wanted[1])


def test_kept_neurons_are_scaled_once():
    x, mask = np.array([1.0, 2.0, 3.0, 4.0]), np.array([True, False, True, True])
    assert dropout_forward(x, mask, 0.5, "train")[0].tolist() == [2, 0, 6, 8]
    assert dropout_forward(x, mask, 0.5, "test")[0].tolist() == [1, 0, 3, 4]
    assert dropout_forward(x, None, 0.5, "train")[0].tolist() == [1, 2, 3, 4]
    assert dropout_forward(x, None, 0.5, "test")[0].tolist() == [0.5, 1, 1.5, 2]


@pytest.mark.parametrize("scale_at", ["train", "test"])
def test_mean_over_masks_in_training_is_the_output_outside_it(scale_at):
    # all 2^4 masks, each weighted by its probability: exact, nothing is drawn
    x, keep_prob = np.array([1.0, -2.0, 3.0, 0.5]), 0.7
    mean = np.zeros(4)
    for bits in range(16):
        mask = np.array([bool(bits >> k & 1) for k in range(4)])
        chance = np.prod(np.where(mask, keep_prob, 1 - keep_prob))
        mean += chance * dropout_forward(x, mask, keep_prob, scale_at)[0]
    assert_close(mean, dropout_forward(x, None, keep_prob, scale_at)[0])


def test_each_pass_draws_a_fresh_mask_from_the_mode_s_generator():
    layer, x, mode = Dropout(0.5), np.ones((4, 50)), training(1)
    first, second = (layer.forward(x, mode)[0] for _ in range(2))
    assert not np.array_equal(first, second)
    assert np.array_equal(first, layer.forward(x, training(1))[0])
    assert not np.array_equal(first, layer.forward(x, training(2))[0])


def test_share_of_kept_neurons():
    # binomial: 0.7 ± 6 standard deviations, missed by a correct layer 2 times in 1e9 seeds
    y, cache = Dropout(0.7).forward(np.ones((100, 1000)), training())
    assert cache.mask.mean() == pytest.approx(0.7, abs=6 * np.sqrt(0.21 / 1e5))
    assert np.unique(y).tolist() == [0, pytest.approx(1 / 0.7)]


def test_keeping_all_changes_nothing():
    (x,) = normal(0, (3, 4))
    assert np.array_equal(Dropout(1.0).forward(x, training())[0], x)


def test_frozen_dropout_keeps_all_and_draws_nothing():
    layer, mode = Dropout(0.5), training()
    before = mode.rng.bit_generator.state
    layer.freeze(parameters=False, statistics=False)
    x = np.ones((2, 3), np.float32)
    assert np.array_equal(layer.forward(x, mode)[0], x)
    assert mode.rng.bit_generator.state == before
    layer.unfreeze()
    assert not np.array_equal(layer.forward(x, mode)[0], x)


@pytest.mark.parametrize("scale_at", ["train", "test"])
@pytest.mark.parametrize("mode", [Mode(), training()])
def test_keeps_float32(scale_at, mode):
    y, cache = Dropout(0.5, scale_at).forward(np.ones((2, 3), np.float32), mode)
    assert y.dtype == dropout_backward(y, cache).dtype == np.float32


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Dropout(0), r"keep_prob is 0, want a probability in \(0, 1\]"),
        (lambda: Dropout(1.5), "keep_prob is 1.5"),
        (lambda: Dropout(0.5, "never"), "scale_at is 'never', want 'train' or 'test'"),
        (
            lambda: Dropout(0.5).forward(np.ones((1, 2)), Mode(train=True)),
            r"Dropout\(keep_prob=0.5\): .* mode.rng is None",
        ),
    ],
)
def test_errors_say_what_came_and_what_was_wanted(call, message):
    with pytest.raises(ValueError, match=message):
        call()
