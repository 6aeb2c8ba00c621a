import numpy as np
import pytest

from tinynet.gradient_check import check_loss
from tinynet.losses import BinaryCrossEntropy, SoftmaxCrossEntropy


def drawn(shape):
    rng = np.random.default_rng(0)
    return 3 * rng.standard_normal(shape), rng.random(shape)


def test_equals_its_definition_and_the_softmax_of_two_classes():
    z, y = drawn((6, 1))
    p = 1 / (1 + np.exp(-z))
    value, _ = BinaryCrossEntropy().forward(z, y)
    assert value == pytest.approx(-(y * np.log(p) + (1 - y) * np.log(1 - p)).mean(), rel=1e-14)
    two, _ = SoftmaxCrossEntropy().forward(np.hstack([0 * z, z]), np.hstack([1 - y, y]))
    assert value == pytest.approx(two, rel=1e-14)


@pytest.mark.parametrize("shape", [(6, 1), (4, 3)])
def test_gradients(shape):
    check_loss(BinaryCrossEntropy(), *drawn(shape))


def test_equals_torchs():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    z, y = drawn((5, 4))
    value, cache = BinaryCrossEntropy().forward(z, y)
    theirs = torch.tensor(z, requires_grad=True)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(theirs, torch.tensor(y))
    loss.backward()
    assert value == pytest.approx(loss.item(), rel=1e-14)
    np.testing.assert_allclose(BinaryCrossEntropy().backward(cache), theirs.grad, rtol=1e-12)


def test_finite_and_exact_for_logits_far_out():
    z = np.array([[-1e4], [1e4]], np.float32)
    value, cache = BinaryCrossEntropy().forward(z, np.array([1, 0]))
    assert value == 1e4
    assert BinaryCrossEntropy().backward(cache).tolist() == [[-0.5], [0.5]]


def test_probabilities_are_those_of_both_classes():
    p = BinaryCrossEntropy().probabilities(np.array([[0.0], [np.log(3)]]))
    np.testing.assert_allclose(p, [[0.5, 0.5], [0.25, 0.75]])
    assert BinaryCrossEntropy().probabilities(np.zeros((2, 3))).shape == (2, 3)


@pytest.mark.parametrize(
    ("z", "y", "words"),
    [
        ((3, 1), np.zeros(4), r"labels are \(4,\) for predictions \(3, 1\)"),
        ((3, 2), np.zeros(3), r"labels are \(3,\) for predictions \(3, 2\)"),
        ((3, 1), np.array([0, 1, 2]), "labels run from 0 to 2, want 0 to 1"),
        ((0, 1), np.zeros(0), "at least one"),
    ],
)
def test_labels_that_do_not_fit(z, y, words):
    with pytest.raises(ValueError, match=words):
        BinaryCrossEntropy().forward(np.zeros(z), y)
