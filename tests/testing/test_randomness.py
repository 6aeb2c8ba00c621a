"""What no gradient check can see in tinynet: its masks, starting weights, shuffles, augmentation.

Every line of CHECKS is one check at the rate RATE; by Boole's inequality all of them together
raise a false alarm in at most len(CHECKS) · RATE of all choices of SEED. Together with those of
test_statistics.py that is below 1e-6, which a test holds. The seed is fixed besides.
"""

import itertools
import math

import numpy as np
import pytest

from examples.mura.augment import AugmentSettings, affine_maps, augment
from tests.testing.test_statistics import RIGHT, SEEDS
from tinynet.initializers import fan_in_uniform, fans, glorot_uniform, he_normal
from tinynet.layer import Mode
from tinynet.layers import Concat, Conv2D, Dense, Dropout, dropout_forward
from tinynet.losses import SoftmaxCrossEntropy
from tinynet.optimizers import Adam
from tinynet.testing.statistics import (
    RATE,
    check_independent,
    check_mask,
    check_normal,
    check_share,
    check_shuffles,
    check_uniform,
)
from tinynet.train.data import ArrayDataset, batches, generator
from tinynet.train.step import TrainStep

SEED = 3
SHAPES = [(300, 200), (3, 5, 40, 60), (2, 1, 7, 900)]  # a dense layer's, and filters


def masks_of_training(keep_prob, steps=6):
    """Masks (steps, 2 layers, 40 examples, 250 neurons), as training draws them."""
    model = Concat(Dropout(keep_prob), Dropout(keep_prob))
    step = TrainStep(model, SoftmaxCrossEntropy(), Adam(), seed=SEED)
    masks = []
    for _ in range(steps):
        step(np.ones((40, 250), np.float32), np.zeros(40, int))
        masks.append(np.split(step.last_output != 0, 2, axis=1))
    return np.array(masks)


def mask_of(keep_prob, shape=(40, 10, 10, 25), scale_at="train"):
    mode = Mode(train=True, rng=generator(SEED, "dropout", 0))
    y, _ = Dropout(keep_prob, scale_at).forward(np.ones(shape, np.float32), mode)
    return y != 0


def epochs(n, batch_size, count):
    """The order of an epoch in each row, as fit draws it."""
    orders = [batches(n, batch_size, generator(SEED, "shuffle", e)) for e in range(count)]
    return np.array([np.concatenate(parts) for parts in orders])


def check_steps(masks, keep_prob):
    """Masks of one step and the next, in pairs of steps that do not overlap."""
    check_independent(masks[:-1:2], masks[1::2], keep_prob)


def flips(horizontal=True, vertical=True):
    """Whether each of 4000 images, in 40 batches, was flipped: (horizontally, vertically)."""
    pixels = np.zeros((100, 4, 4), np.uint8)
    pixels[:, 0, 0] = 255  # one corner is bright
    settings = AugmentSettings(horizontal, vertical, rotation=0)
    data = ArrayDataset(pixels, np.zeros(100), lambda x, rng: augment(x, rng, settings))
    x = [data.batch(np.arange(100), generator(SEED, "augment", 0, b))[0] for b in range(40)]
    bright = np.concatenate(x)[..., 0] > 0
    return bright[:, :, -1].any(axis=1), bright[:, -1, :].any(axis=1)


def checks_of_masks():
    for keep in (0.1, 0.5, 0.7):
        yield f"mask, keep {keep}", lambda p=keep: check_mask(mask_of(p), p)
        yield f"masks of a run, keep {keep}", lambda p=keep: check_mask(masks_of_training(p), p)
        yield f"steps, keep {keep}", lambda p=keep: check_steps(masks_of_training(p), p)
    yield "mask, scaled in tests", lambda: check_mask(mask_of(0.3, scale_at="test"), 0.3)
    yield "mask of one example", lambda: check_mask(mask_of(0.5, (1, 5000)), 0.5)


def starting_weights(initializer, shape, dtype):
    return initializer(shape, generator(SEED, initializer.__name__), dtype)


def checks_of_initialisers():
    for shape, dtype in itertools.product(SHAPES, ("float32", "float64")):
        fan_in, fan_out = fans(shape)
        uniform = {
            glorot_uniform: math.sqrt(6 / (fan_in + fan_out)),
            fan_in_uniform: 1 / math.sqrt(fan_in),
        }
        for f, limit in uniform.items():
            yield (
                f"{f.__name__} {shape} {dtype}",
                lambda a=(f, shape, dtype), h=limit: check_uniform(starting_weights(*a), -h, h),
            )
        yield (
            f"he_normal {shape} {dtype}",
            lambda a=(he_normal, shape, dtype), n=fan_in: check_normal(
                starting_weights(*a), 0, 2 / n
            ),
        )
    # what the layers start with unless told
    limit = math.sqrt(6 / 500)
    dense = Dense(300, 200, rng=generator(SEED, "dense"))
    yield "Dense", lambda: check_uniform(dense.weight.value, -limit, limit)
    conv_limit = math.sqrt(6 / (3 * 5 * (40 + 60)))
    conv = Conv2D(40, 60, (3, 5), rng=generator(SEED, "conv"))
    yield "Conv2D", lambda: check_uniform(conv.weight.value, -conv_limit, conv_limit)


def checks_of_data():
    for n, size, count in ((6, 4, 3000), (16, 5, 4000), (16, None, 4000)):
        yield (
            f"shuffles of {n} by {size}",
            lambda n=n, size=size, count=count: check_shuffles(epochs(n, size, count)),
        )
    yield "horizontal flips", lambda: check_share(flips()[0], 0.5, "flips")
    yield "vertical flips", lambda: check_share(flips()[1], 0.5, "flips")
    yield "flips of the two kinds", lambda: check_independent(*flips(), 0.5)
    yield "flips of neighbours", lambda: check_mask(flips()[0].reshape(40, 100), 0.5)


CHECKS = dict([*checks_of_masks(), *checks_of_initialisers(), *checks_of_data()])


@pytest.mark.parametrize("name", CHECKS)
def test_randomness(name):
    CHECKS[name]()


def test_all_of_them_raise_a_false_alarm_in_less_than_one_in_a_million_runs():
    here, of_the_checks_themselves = len(CHECKS), len(RIGHT) * (len(SEEDS) + 1)
    assert (here + of_the_checks_themselves) * RATE < 1e-6


def test_flips_that_are_off_never_happen():
    assert not flips(horizontal=False)[0].any()
    assert not flips(vertical=False)[1].any()


# The same checks on tinynet with a fault put into it.


def drops(draw):
    """Dropout.forward with a mask of its own: draw(rng, shape) < keep_prob."""

    def forward(self, x, mode):
        return dropout_forward(x, draw(mode.rng, x.shape) < self.keep_prob, self.keep_prob)

    return forward


def test_catches_a_mask_drawn_from_a_normal(monkeypatch):
    monkeypatch.setattr(Dropout, "forward", drops(lambda rng, shape: rng.normal(size=shape)))
    with pytest.raises(AssertionError, match="are kept, a share of 0.6[89].*, want 0.5"):
        check_mask(mask_of(0.5), 0.5)


def test_catches_the_same_mask_every_step(monkeypatch):
    rng = np.random.default_rng
    monkeypatch.setattr(Dropout, "forward", drops(lambda _, shape: rng(0).random(shape)))
    masks = masks_of_training(0.5)
    check_mask(masks[0, 0], 0.5)  # each by itself is right
    with pytest.raises(AssertionError, match="the same in both masks"):
        check_steps(masks, 0.5)


def test_catches_one_mask_for_all_examples(monkeypatch):
    monkeypatch.setattr(
        Dropout,
        "forward",
        drops(lambda r, shape: np.broadcast_to(r.random((1, *shape[1:])), shape)),
    )
    with pytest.raises(AssertionError, match="the same in both masks|are kept"):
        check_mask(mask_of(0.5), 0.5)


def test_catches_a_fan_in_that_forgets_the_receptive_field():
    shape = SHAPES[1]
    w = glorot_uniform(shape, np.random.default_rng(SEED))
    wrong = math.sqrt(6 / (shape[2] + shape[3]))
    with pytest.raises(AssertionError, match="want within"):
        check_uniform(w, -wrong, wrong)


@pytest.mark.parametrize("off", [0.95, 1.05])
def test_catches_a_variance_off_by_a_twentieth(off):
    w = he_normal(SHAPES[0], np.random.default_rng(SEED)) * math.sqrt(off)
    with pytest.raises(AssertionError, match="the variance of 60000 draws"):
        check_normal(w, 0, 2 / 300)


def test_catches_batches_drawn_with_replacement():
    orders = [generator(SEED, "shuffle", e).integers(0, 16, 16) for e in range(100)]
    with pytest.raises(AssertionError, match="drawn with replacement"):
        check_shuffles(np.array(orders))


def test_catches_one_shuffle_for_all_epochs():
    orders = [np.concatenate(batches(16, 5, generator(SEED, "shuffle", 0)))] * 4000
    with pytest.raises(AssertionError, match="in place 0: number"):
        check_shuffles(np.array(orders))


def test_catches_flips_in_a_third_of_the_images(monkeypatch):
    monkeypatch.setattr(
        "examples.mura.augment.affine_maps",
        lambda draws, side, settings: affine_maps(draws * 1.5, side, settings),
    )
    with pytest.raises(AssertionError, match="are flips, a share of 0.3"):
        check_share(flips()[0], 0.5, "flips")
