"""Logistic regression on the pixels, against scikit-learn and by hand."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from examples.mura.baselines import (
    fit,
    held_out,
    logistic_regression,
    pooled,
    probability,
    standardised,
)
from examples.mura.model import balanced_weights
from tinynet.metrics import accuracy, auc


def blobs(n, side, strength, seed=0):
    """Noise, brighter in one corner where the label is 1: uint8 (n, side, side) and labels."""
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < 0.4).astype(np.int64)
    x = rng.normal(120, 30, (n, side, side))
    x[y == 1, : side // 4, : side // 4] += strength
    return np.clip(x, 0, 255).astype(np.uint8), y


@pytest.mark.parametrize("l2", [1.0, 0.1, 0.01])
def test_equals_scikit_learn_for_the_same_penalty(l2):
    pixels, y = blobs(300, 8, 40)
    unseen, _ = blobs(100, 8, 40, seed=1)
    x, v = standardised(pooled(pixels, 8).astype(float), pooled(unseen, 8).astype(float))
    oracle = LogisticRegression(
        C=1 / (len(y) * l2), class_weight="balanced", tol=1e-10, max_iter=5000
    ).fit(x, y)
    w, b = fit(x, y, l2=l2, iterations=1000)
    np.testing.assert_allclose(w[:, 0], oracle.coef_[0], atol=1e-3)
    np.testing.assert_allclose(b, oracle.intercept_, atol=1e-3)
    np.testing.assert_allclose(probability(v, w, b), oracle.predict_proba(v)[:, 1], atol=1e-3)
    warm, _ = fit(x, y, l2=l2, start=fit(x, y, l2=2.0), iterations=1000)
    np.testing.assert_allclose(warm, w, atol=1e-3)  # a start changes the way, not the end


def test_beats_chance_where_pixels_tell_and_not_where_they_do_not():
    patients = [f"patient{k // 3}" for k in range(600)]
    for strength, lowest, highest in ((40, 0.95, 1.0), (0, 0.35, 0.65)):
        pixels, y = blobs(900, 16, strength)
        chosen = logistic_regression(
            pixels[:600], y[:600], patients, pixels[600:], sides=(4, 16), strengths=(1.0, 0.1)
        )
        assert lowest <= auc(y[600:], chosen.probability) <= highest
        assert chosen.side in (4, 16)
        assert chosen.l2 in (1.0, 0.1)
        assert strength == 0 or accuracy(y[600:], chosen.probability > 0.5) > 0.85


def test_chooses_the_side_at_which_the_difference_shows():
    """A checkerboard of single pixels is lost when four pixels are pooled to one."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 400)
    board = np.indices((8, 8)).sum(axis=0) % 2 * 2 - 1
    pixels = 128 + 25 * board * (2 * y - 1)[:, None, None] + rng.normal(0, 20, (400, 8, 8))
    patients = [str(k) for k in range(300)]
    chosen = logistic_regression(
        pixels[:300], y[:300], patients, pixels[300:], sides=(4, 8), strengths=(0.1,)
    )
    assert chosen.side == 8
    assert auc(y[300:], chosen.probability) > 0.95


def test_held_out_patients_who_all_have_one_label_choose_nothing():
    pixels, y = blobs(40, 8, 40)
    patients = [f"label{label}" for label in y.tolist()]  # whichever is held out has one label
    chosen = logistic_regression(pixels, y, patients, pixels, sides=(4, 8), strengths=(0.1, 1.0))
    assert (chosen.side, chosen.l2, chosen.held_out_auc) == (4, 0.1, 0.5)


def test_pooling_by_hand(monkeypatch):
    pixels = np.arange(16, dtype=np.uint8).reshape(1, 4, 4)
    assert pooled(pixels, 2).tolist() == [[2.5, 4.5, 10.5, 12.5]]
    # 3 pixels in 2 blocks: one, then two of them
    assert pooled(pixels[:, :3, :3], 2)[0].tolist() == [0, 1.5, 6, 7.5]
    np.testing.assert_array_equal(pooled(pixels, 4), pixels.reshape(1, 16))
    with pytest.raises(ValueError, match="images are 4 × 4, want at least 8 × 8"):
        pooled(pixels, 8)
    many, _ = blobs(10, 8, 0)
    monkeypatch.setattr("examples.mura.baselines.POOL_AT_ONCE", 3)
    means = many.reshape(10, 4, 2, 4, 2).mean(axis=(2, 4))
    np.testing.assert_allclose(pooled(many, 4), means.reshape(10, 16), rtol=1e-6)


def test_balanced_weights_make_both_classes_count_alike():
    assert balanced_weights(np.array([0, 0, 0, 1])) == pytest.approx([4 / 6, 2.0])
    assert balanced_weights(np.array([0, 0])) is None


def test_patients_are_held_out_whole():
    patients = [f"patient{k % 20}" for k in range(100)]
    held = held_out(patients, seed=0)
    inside = {p for p, h in zip(patients, held, strict=True) if h}
    outside = {p for p, h in zip(patients, held, strict=True) if not h}
    assert len(inside) == 5
    assert not inside & outside
