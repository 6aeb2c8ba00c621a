"""What no gradient check can see in tinynet: its masks, shuffles, augmentation.

Starting weights: tests/test_initializers.py. Every line of CHECKS is one check at the rate RATE;
by Boole's inequality all of them together raise a false alarm in at most len(CHECKS) · RATE of all
choices of SEED. Together with those of test_statistics.py that is below 1e-6, which a test holds.
The seed is fixed besides.
"""

import numpy as np
import pytest

from examples.mura.augment import AugmentSettings, augment
from tests.testing.test_statistics import RIGHT, SEEDS
from tinynet.layer import Mode
from tinynet.layers import Concat, Dropout, dropout_forward
from tinynet.losses import SoftmaxCrossEntropy
from tinynet.optimizers import Adam
from tinynet.testing import statistics
from tinynet.testing.statistics import check_independent, check_mask, check_share
from tinynet.train.data import ArrayDataset, batches, generator
from tinynet.train.step import TrainStep

SEED = 3


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


def check_steps(masks, keep_prob):
    """Masks of one step and the next, in pairs of steps that do not overlap."""
    check_independent(masks[:-1:2], masks[1::2], keep_prob)


def flips():
    """Booleans for 4000 images, in 40 batches: flipped (horizontally, vertically)."""
    pixels = np.zeros((100, 4, 4), np.uint8)
    pixels[:, 0, 0] = 255  # one corner is bright
    settings = AugmentSettings(vertical_flip=True, rotation=0)
    data = ArrayDataset(pixels, np.zeros(100), lambda x, rng: augment(x, rng, settings))
    x = [data.batch(np.arange(100), generator(SEED, "augment", 0, b))[0] for b in range(40)]
    bright = np.concatenate(x)[..., 0] > 0
    return bright[:, :, -1].any(axis=1), bright[:, -1, :].any(axis=1)


def check_epochs(n, batch_size, count):
    orders = [batches(n, batch_size, generator(SEED, "shuffle", e)) for e in range(count)]
    statistics.check_shuffles(np.array([np.concatenate(parts) for parts in orders]))


CHECKS = {
    "mask, scaled in tests": lambda: check_mask(mask_of(0.3, scale_at="test"), 0.3),
    "mask of one example": lambda: check_mask(mask_of(0.5, (1, 5000)), 0.5),
    "horizontal flips": lambda: check_share(flips()[0], 0.5, "flips"),
    "vertical flips": lambda: check_share(flips()[1], 0.5, "flips"),
    "flips of the two kinds": lambda: check_independent(*flips(), 0.5),
    "flips of neighbours": lambda: check_mask(flips()[0].reshape(40, 100), 0.5),
}
for p in (0.1, 0.5, 0.7):
    CHECKS[f"mask, keep {p}"] = lambda p=p: check_mask(mask_of(p), p)
    CHECKS[f"masks of a run, keep {p}"] = lambda p=p: check_mask(masks_of_training(p), p)
    CHECKS[f"steps, keep {p}"] = lambda p=p: check_steps(masks_of_training(p), p)
for epochs in ((6, 4, 3000), (16, 5, 4000), (16, None, 4000)):
    CHECKS[f"shuffles of {epochs}"] = lambda a=epochs: check_epochs(*a)


@pytest.mark.parametrize("name", CHECKS)
def test_randomness(name):
    CHECKS[name]()


def test_all_of_them_raise_a_false_alarm_in_less_than_one_in_a_million_runs():
    here, of_the_checks_themselves = len(CHECKS), len(RIGHT) * (len(SEEDS) + 1)
    assert (here + of_the_checks_themselves) * statistics.RATE < 1e-6


@pytest.mark.parametrize(
    ("draw", "said"),
    [
        (lambda rng, shape: rng.normal(size=shape), "are kept, a share of 0.6[89].*, want 0.5"),
        (lambda rng, shape: np.random.default_rng(0).random(shape), "the same in both masks"),
    ],
    ids=["drawn from a normal", "the same every step"],
)
def test_wrong_masks_of_dropout_are_caught(draw, said, monkeypatch):
    def forward(self, x, mode):
        return dropout_forward(x, draw(mode.rng, x.shape) < self.keep_prob, self.keep_prob)

    def check():
        check_mask(mask_of(0.5), 0.5)
        check_steps(masks_of_training(0.5), 0.5)

    monkeypatch.setattr(Dropout, "forward", forward)
    with pytest.raises(AssertionError, match=said):
        check()
