import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.layers.support import assert_close, drawn, drawn_few, normal, torch_pass
from tinynet.gradient_check import check_backward, check_gradients
from tinynet.layer import EVAL, Mode
from tinynet.layers import Dropout, dropout_backward, dropout_forward
from tinynet.testing.strategies import seeds

SHAPES = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple)
KEEP = st.sampled_from([0.1, 0.5, 0.7, 1.0])
SCALE_AT = st.sampled_from(["train", "test"])


def mask_of(seed, shape, keep_prob):
    return np.random.default_rng(seed + 1).random(shape) < keep_prob


@drawn
@given(shape=SHAPES, keep_prob=KEEP, scale_at=SCALE_AT, strided=st.booleans(), seed=seeds())
def test_training_equals_torch_with_the_same_mask(torch, shape, keep_prob, scale_at, strided, seed):
    x, dy = normal(seed, shape, shape, strided=strided)
    mask = mask_of(seed, shape, keep_prob)
    y, cache = dropout_forward(x, mask, keep_prob, scale_at)
    t_mask = torch.tensor(mask)

    def oracle(x):  # torch's dropout draws its own mask; this is what it does with one
        kept = x.masked_fill(~t_mask, 0.0)
        return kept / keep_prob if scale_at == "train" else kept

    wanted = torch_pass(torch, oracle, dy, x)
    assert_close(y, wanted[0])
    assert_close(dropout_backward(dy, cache), wanted[1])


@drawn
@given(shape=SHAPES, keep_prob=KEEP, seed=seeds())
def test_torch_s_own_mask_gives_torch_s_own_result(torch, shape, keep_prob, seed):
    x, dy = normal(seed, shape, shape)
    torch.manual_seed(seed)
    wanted = torch_pass(
        torch, lambda x: torch.nn.functional.dropout(x, p=1 - keep_prob, training=True), dy, x
    )
    y, cache = dropout_forward(x, wanted[0] != 0, keep_prob)
    assert_close(y, wanted[0])
    assert_close(dropout_backward(dy, cache), wanted[1])


@drawn
@given(shape=SHAPES, keep_prob=KEEP, scale_at=SCALE_AT, seed=seeds())
def test_outside_training_nothing_is_dropped(shape, keep_prob, scale_at, seed):
    x, dy = normal(seed, shape, shape)
    y, cache = dropout_forward(x, None, keep_prob, scale_at)
    scale = 1.0 if scale_at == "train" else keep_prob
    assert_close(y, x * scale)
    assert_close(dropout_backward(dy, cache), dy * scale)


@drawn_few
@given(shape=SHAPES, keep_prob=KEEP, scale_at=SCALE_AT, seed=seeds())
def test_gradients(shape, keep_prob, scale_at, seed):
    (x,) = normal(seed, shape)
    layer = Dropout(keep_prob, scale_at)
    for mask in (mask_of(seed, shape, keep_prob), None):
        check_backward(dropout_forward, dropout_backward, (x, mask, keep_prob, scale_at))
    check_gradients(layer, x, Mode(train=True, rng=np.random.default_rng(seed)))
    check_gradients(layer, x)


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


def test_layer_draws_its_mask_from_the_mode_s_generator():
    layer, x = Dropout(0.5), np.ones((4, 50))
    passes = [layer.forward(x, Mode(True, np.random.default_rng(s)))[0] for s in (1, 1, 2)]
    assert np.array_equal(passes[0], passes[1])
    assert not np.array_equal(passes[0], passes[2])


def test_layer_draws_a_fresh_mask_at_every_pass():
    mode = Mode(True, np.random.default_rng(0))
    layer, x = Dropout(0.5), np.ones((4, 50))
    assert not np.array_equal(layer.forward(x, mode)[0], layer.forward(x, mode)[0])


def test_share_of_kept_neurons():
    # binomial: 0.7 ± 6 standard deviations, missed by a correct layer 2 times in 1e9 seeds
    y, cache = Dropout(0.7).forward(np.ones((100, 1000)), Mode(True, np.random.default_rng(0)))
    assert cache.mask.mean() == pytest.approx(0.7, abs=6 * np.sqrt(0.21 / 1e5))
    assert np.unique(y).tolist() == [0, pytest.approx(1 / 0.7)]


def test_keeping_all_changes_nothing():
    (x,) = normal(0, (3, 4))
    y, _ = Dropout(1.0).forward(x, Mode(True, np.random.default_rng(0)))
    assert np.array_equal(y, x)


def test_frozen_dropout_keeps_all_and_draws_nothing():
    layer, rng = Dropout(0.5), np.random.default_rng(0)
    before = rng.bit_generator.state
    layer.freeze(parameters=False, statistics=False)
    x = np.ones((2, 3), np.float32)
    y, _ = layer.forward(x, Mode(True, rng))
    assert np.array_equal(y, x)
    assert rng.bit_generator.state == before
    layer.unfreeze()
    assert not np.array_equal(layer.forward(x, Mode(True, rng))[0], x)


def test_keeps_float32():
    x = np.ones((2, 3), np.float32)
    for mode in (EVAL, Mode(True, np.random.default_rng(0))):
        for scale_at in ("train", "test"):
            layer = Dropout(0.5, scale_at)
            y, cache = layer.forward(x, mode)
            assert y.dtype == layer.backward(y, cache).dtype == np.float32
            assert y.shape == (2, *layer.output_shape((3,)))


def test_errors_say_what_came_and_what_was_wanted():
    with pytest.raises(ValueError, match=r"keep_prob is 0, want a probability in \(0, 1\]"):
        Dropout(0)
    with pytest.raises(ValueError, match="keep_prob is 1.5"):
        Dropout(1.5)
    with pytest.raises(ValueError, match="scale_at is 'never', want 'train' or 'test'"):
        Dropout(0.5, "never")
    with pytest.raises(ValueError, match=r"Dropout\(keep_prob=0.5\): .* mode.rng is None"):
        Dropout(0.5).forward(np.ones((1, 2)), Mode(train=True))
