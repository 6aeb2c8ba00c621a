"""The message names the cause: planted bugs, and what the checker must say of each."""

import re

import numpy as np
import pytest

from tinynet.gradient_check import GradientError, check_backward, check_gradients
from tinynet.layer import Mode
from tinynet.layers import (
    Sigmoid,
    batchnorm_backward,
    batchnorm_forward,
    dense_forward,
    sigmoid_forward,
)
from tinynet.testing.planted import PLANTED

BY_NAME = {planted.name: planted for planted in PLANTED}


def normal(*shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape) for shape in shapes]


X, W, B, GAMMA = normal((5, 4), (4, 4), (4,), (4,))

SAID = {
    "dense: sign of dx": "the sign is wrong",
    "dense: db averaged": "N = 3 times too small: a sum over the batch taken for a mean",
    "convolution: db averaged over positions": "1 / the size of axes 1, 2 of the output, a sum",
    "average pool: average not divided": "the size of axes 0, 1 of the output, a mean taken for",
    "dense layer: adds its gradient twice": "is each counted twice",
    "dropout: scale forgotten": "0.6 times what they should be: a factor is missing or extra",
    "dense: dw transposed": "it is transposed$",
    "convolution: dw height and width swapped": "it is transposed: axes 0 and 1",
    "dense: dx by w not transposed": "it would be right if w were transposed",
    "convolution: dw flipped": "it is flipped in height and width",
    "convolution: dx with the filter flipped": "right if w were flipped in height and width",
    "ReLU: everything passes": "right elsewhere: is a mask missing",
    "ReLU: only the negative passes": "is the mask inverted",
    "dropout: mask forgotten": "is a mask missing",
    "batch norm: mean term dropped": "the same all along axis 0: .* the path through a mean",
    "gate layer: path forgotten": "the same all along axes 1, 2: .* the path through a mean",
    "batch norm: variance term dropped": "line in x along axis 0: .* the path through a variance",
    "batch norm: m is the batch alone": "a straight line in x along axes 0, 1, 2",
    "batch norm: dx without gamma": "it lacks the factor gamma",
    "softmax: diagonal only": "only the diagonal of the Jacobian",
    "convolution: dx overwritten": r"overwritten \(=\) instead of added to \(\+=\)",
    "average pool: overlapping averages overwritten": r"overwritten \(=\) instead of added",
    "convolution: dw of the last example": "only one of the contributions",
    "dense: last example dropped": "one contribution .* is missing",
    "batch norm: dgamma and dbeta swapped": "the gradient of beta: are two results in the wrong",
    "sum pool: remainder column first": "it is shifted by 1 along axis 2",
    "softmax cross-entropy, batch of 64: last example left out": "63 on axis 0, the last: are rem",
    "average pool: padding counted": "within 2 of the border in height or width: is the padding",
    "convolution: dw of the first group": "among the last 2 on axis 3",
    "convolution: one tap of one filter": "all other elements are right",
    "max pool: winner of another channel": "all wrong elements have index 1 on axis 3",
    "max pool: first window only": "it is zero where it should not be, and right elsewhere",
    "sigmoid: upstream forgotten": "it lacks the factor dy",
    "ReLU: multiplied by the output": "it has the factor x once too often",
    "channel shuffle: left where it is": "it is dy itself",
    "residual: shortcut forgotten": "dy itself is missing from it: .* a shortcut's",
    "dense: weight decay in the gradient only": "it is 0.01 times w too large",
    "batch norm of 12-bit pixels: every other example halved": "0 has its own factor, 0.5, 1, 0.5",
    "flatten: channels first": "the values are right, in the wrong places",
    "dense: dw in single precision": "it is right to 7 digits: is a part computed in float32",
    "dense: dw in half precision": "it is right to 3 digits: is a part computed in float16",
    "dense: db forgotten": "it is zero everywhere",
}


def cause(check, *args):
    """What the checker says of the first wrong gradient."""
    with pytest.raises(GradientError) as caught:
        check(*args)
    return next(fault for fault in caught.value.report.faults if " is wrong in " in fault)


@pytest.mark.parametrize("bug", SAID)
def test_the_cause_is_named(bug):
    said = cause(BY_NAME[bug].case().check)
    assert re.search(SAID[bug], said), said


def scaled(factor):
    return lambda dy, y: factor * dy * y * (1 - y)


# name: (forward, backward, arguments, what the message must say)
MORE = {
    "m - 1": (
        batchnorm_forward,
        lambda dy, c: batchnorm_backward(dy, c)[0] * np.sqrt(5 / 4),
        (X, GAMMA, B),
        r"√\(m / \(m − 1\)\), m = 5",
    ),
    "a mean taken for a sum": (sigmoid_forward, scaled(5), (X,), "N = 5 times too large"),
    "another epsilon": (sigmoid_forward, scaled(1.0005), (X,), "1.0005 times what they should be"),
    "NaN": (sigmoid_forward, scaled(np.nan), (X,), "it holds NaN"),
    "reversed": (
        sigmoid_forward,
        lambda dy, y: (dy * y * (1 - y))[::-1],
        (X,),
        "it is reversed along axis 0",
    ),
}


@pytest.mark.parametrize("bug", MORE)
def test_the_cause_of_more_is_named(bug):
    forward, backward, args, said = MORE[bug]
    assert re.search(said, cause(check_backward, forward, backward, args))


def test_an_error_without_a_pattern_is_told_plainly():
    def backward(dy, y):
        return dy * np.cos(7 * y)

    with pytest.raises(GradientError) as caught:
        check_backward(sigmoid_forward, backward, (X,))
    fault = caught.value.report.faults[0]
    assert re.fullmatch(
        r"the gradient of x is wrong in 20 of 20 elements; at \(\d, \d\) got \S+, want \S+", fault
    )


@pytest.mark.parametrize("seed", range(5))
def test_arguments_are_put_back_after_a_hypothesis_has_changed_them(seed):
    x, w, b = normal((3, 4), (4, 4), (4,), seed=seed)
    seen = []

    def forward(x, w, b):
        seen.append((x.copy(), w.copy()))
        return dense_forward(x, w, b)

    with pytest.raises(GradientError, match="if w were transposed"):
        check_backward(forward, lambda dz, c: dz @ c.w, (x, w, b))
    assert any(np.array_equal(w_seen, w.T) for _, w_seen in seen)
    arrays = [(x, w, b), normal((3, 4), (4, 4), (4,), seed=seed)]
    assert all(np.array_equal(a, c) for a, c in zip(*arrays, strict=True))


def test_a_guess_is_not_made_of_a_coincidence_in_a_tiny_array():
    with pytest.raises(GradientError) as caught:
        check_backward(sigmoid_forward, lambda dy, y: dy * y, (np.array([[0.3, -0.2]]),))
    fault = caught.value.report.faults[0]
    for word in ("mean", "variance", "shifted", "places", "overwritten"):
        assert word not in fault


def test_a_wrong_layer_in_training_is_explained_with_its_own_masks():
    class NoMask(Sigmoid):
        def forward(self, x, mode=None):
            keep = mode.rng.random(x.shape) < 0.5
            return x * keep, keep

        def backward(self, dy, cache):
            return dy * 1.0

    mode = Mode(train=True, rng=np.random.default_rng(0))
    with pytest.raises(GradientError, match="is a mask missing"):
        check_gradients(NoMask(), X, mode)


def test_a_forward_pass_that_refuses_what_a_hypothesis_tries_is_no_error():
    w = np.triu(np.abs(W)) + 1

    def forward(x, w):
        if (w < 0.5).any() or w[0, 3] < w[3, 0]:
            raise ValueError("w must be larger above the diagonal")
        return x @ w, (x, w)

    with pytest.raises(GradientError, match="the gradient of x is wrong in"):
        check_backward(forward, lambda dy, c: (dy @ c[1], c[0].T @ dy), (X, w))
