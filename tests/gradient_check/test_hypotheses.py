"""The message names the cause: planted bugs, and what the checker must say of each."""

import re

import numpy as np
import pytest

from tinynet.gradient_check import GradientError, check_backward, check_gradients
from tinynet.layer import Mode
from tinynet.layers import (
    Dense,
    Residual,
    Sigmoid,
    avg_pool2d_backward,
    avg_pool2d_forward,
    batchnorm_backward,
    batchnorm_forward,
    conv2d_backward,
    conv2d_forward,
    dense_backward,
    dense_forward,
    dropout_backward,
    dropout_forward,
    max_pool2d_forward,
    relu_forward,
    sigmoid_forward,
    softmax_forward,
    sum_pool2d_backward,
    sum_pool2d_forward,
)


def normal(*shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape) for shape in shapes]


X, W, B, GAMMA = normal((5, 4), (4, 4), (4,), (4,))
IMAGE, FILTERS, BIAS = normal((2, 7, 7, 2), (3, 3, 2, 2), (2,))


def spoilt(backward, i, change):
    """``backward`` with its i-th gradient changed."""

    def wrong(dy, cache):
        found = backward(dy, cache)
        gradients = list(found) if isinstance(found, tuple) else [found]
        gradients[i] = change(gradients[i], dy, cache)
        return tuple(gradients)

    return wrong


def batchnorm_terms(mean, variance):
    """dx with the paths through the mean and the variance weighted: 1, 1 is right."""

    def backward(dy, c):
        m = c.x_hat.size // c.x_hat.shape[-1]
        axes = tuple(range(dy.ndim - 1))
        along = (dy * c.x_hat).sum(axis=axes) / m
        dx = dy - mean * dy.sum(axis=axes) / m - variance * c.x_hat * along
        return c.gamma * c.inv_std * dx

    return backward


def overwritten_conv(dz, c):
    p, w = c.padded, c.w
    dp = np.zeros_like(p)
    for y in range(dz.shape[1]):
        for x in range(dz.shape[2]):
            window = np.einsum("nk,ijck->nijc", dz[:, y, x], w)
            dp[:, y : y + 3, x : x + 3] = window  # it should be +=
    return dp


def overwritten_max_pool(dy, cache, x=IMAGE):
    dx = np.zeros_like(x)
    for n, i, j, c in np.ndindex(dy.shape):
        window = x[n, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3, c]
        a, b = np.unravel_index(window.argmax(), window.shape)
        dx[n, 2 * i + a, 2 * j + b, c] = dy[n, i, j, c]
    return dx


def flipped_dx(dz, c):
    return conv2d_backward(dz, c._replace(w=c.w[::-1, ::-1]))[0]


def one(index, factor):
    def change(gradient, dy, cache):
        gradient[index] *= factor
        return gradient

    return change


def pool(x):
    return max_pool2d_forward(x, 3, 2)


# name: (forward, backward, arguments, what the message must say)
CAUSES = {
    "sign": (
        dense_forward,
        spoilt(dense_backward, 0, lambda g, *_: -g),
        (X, W, B),
        "the sign is wrong",
    ),
    "mean for sum": (
        dense_forward,
        spoilt(dense_backward, 2, lambda g, *_: g / 5),
        (X, W, B),
        "N = 5 times too small: a sum over the batch taken for a mean",
    ),
    "mean over the positions": (
        conv2d_forward,
        spoilt(conv2d_backward, 2, lambda g, *_: g / 25),
        (IMAGE, FILTERS, BIAS),
        "1 / the size of axes 1, 2 of the output, a sum taken for a mean",
    ),
    "m - 1": (
        batchnorm_forward,
        lambda dy, c: batchnorm_backward(dy, c._replace(inv_std=c.inv_std * np.sqrt(5 / 4))),
        (X, GAMMA, B),
        r"√\(m / \(m − 1\)\), m = 5",
    ),
    "counted twice": (
        dense_forward,
        spoilt(dense_backward, 1, lambda g, *_: 2 * g),
        (X[:3], W[:, :3], B[:3]),
        "counted twice",
    ),
    "transposed": (
        dense_forward,
        spoilt(dense_backward, 1, lambda g, *_: g.T.copy()),
        (X, W, B),
        "it is transposed",
    ),
    "height and width exchanged": (
        conv2d_forward,
        spoilt(conv2d_backward, 1, lambda g, *_: g.transpose(1, 0, 2, 3).copy()),
        (IMAGE, FILTERS, BIAS),
        "it is transposed: axes 0 and 1",
    ),
    "w not transposed": (
        dense_forward,
        lambda dz, c: dz @ c.w,
        (X, W, B),
        "it would be right if w were transposed",
    ),
    "flipped filter": (
        conv2d_forward,
        spoilt(conv2d_backward, 1, lambda g, *_: g[::-1, ::-1].copy()),
        (IMAGE, FILTERS, BIAS),
        "it is flipped in height and width",
    ),
    "flipped filter, in dx": (
        conv2d_forward,
        flipped_dx,
        (IMAGE, FILTERS, BIAS),
        "it would be right if w were flipped in height and width",
    ),
    "batch reversed": (
        sigmoid_forward,
        lambda dy, y: (dy * y * (1 - y))[::-1],
        (X,),
        "it is reversed along axis 0",
    ),
    "mask missing": (
        relu_forward,
        lambda dy, c: dy * 1.0,
        (X,),
        "right elsewhere: is a mask missing",
    ),
    "mask inverted": (relu_forward, lambda dy, c: dy * ~c, (X,), "is the mask inverted"),
    "dropout without its mask": (
        dropout_forward,
        lambda dy, c: dy * c.scale,
        (X, X > 0, 0.5),
        "is a mask missing",
    ),
    "dropout's scale": (
        dropout_forward,
        spoilt(dropout_backward, 0, lambda g, *_: g / 4),
        (X, X > 0, 0.5),
        "0.25 times what they should be",
    ),
    "the path through the mean": (
        batchnorm_forward,
        batchnorm_terms(0, 1),
        (X, GAMMA, B),
        "the same all along axis 0: .* the path through a mean",
    ),
    "the path through the mean, of images": (
        batchnorm_forward,
        batchnorm_terms(0, 1),
        (IMAGE, GAMMA[:2], B[:2]),
        "the same all along axes 0, 1, 2: .* the path through a mean",
    ),
    "the path through the variance": (
        batchnorm_forward,
        batchnorm_terms(1, 0),
        (X, GAMMA, B),
        "a straight line in x along axis 0: .* the path through a variance",
    ),
    "scale left out": (
        batchnorm_forward,
        lambda dy, c: batchnorm_backward(dy, c)[0] / c.gamma,
        (X, GAMMA, B),
        "it lacks the factor gamma",
    ),
    "softmax's diagonal": (
        softmax_forward,
        lambda dy, y: dy * y * (1 - y),
        (X,),
        "only the diagonal of the Jacobian",
    ),
    "overwritten": (
        conv2d_forward,
        overwritten_conv,
        (IMAGE, FILTERS, BIAS),
        r"overwritten \(=\) instead of added to \(\+=\)",
    ),
    "overwritten, max pooling": (
        pool,
        overwritten_max_pool,
        (IMAGE,),
        r"overwritten \(=\) instead of added to \(\+=\)",
    ),
    "last example only": (
        dense_forward,
        spoilt(dense_backward, 2, lambda g, dz, c: dz[-1].copy()),
        (X, W, B),
        "only one of the contributions",
    ),
    "one example left out": (
        dense_forward,
        spoilt(dense_backward, 1, lambda g, dz, c: c.x[:-1].T @ dz[:-1]),
        (X, W, B),
        "one contribution .* is missing",
    ),
    "wrong argument": (
        lambda a, b: (a * b, (a, b)),
        lambda dy, c: (dy * c[0], dy * c[1]),
        (X, X + 1),
        "this is the gradient of b: are two results in the wrong order",
    ),
    "off by one": (
        sum_pool2d_forward,
        spoilt(sum_pool2d_backward, 0, lambda g, *_: np.roll(g, 1, axis=2)),
        (IMAGE, 2),
        "it is shifted by 1 along axis 2",
    ),
    "remainder rows": (
        sum_pool2d_forward,
        spoilt(sum_pool2d_backward, 0, one(np.s_[:, -1], 0.0)),
        (IMAGE, 3, 2),
        "have index 6 on axis 1, the last: are remainder rows left out",
    ),
    "padding": (
        lambda x: avg_pool2d_forward(x, 3, 1, 1),
        lambda dy, c: avg_pool2d_backward(dy * c.n / 9, c),
        (IMAGE,),
        "within 2 of the border in height or width: is the padding",
    ),
    "one element": (
        conv2d_forward,
        spoilt(conv2d_backward, 1, one((2, 1, 0, 1), 1.01)),
        (IMAGE, FILTERS, BIAS),
        "all other elements are right",
    ),
    "one channel": (
        conv2d_forward,
        spoilt(conv2d_backward, 1, one(np.s_[..., 1], 1.01)),
        (IMAGE, FILTERS, BIAS),
        "all wrong elements have index 1 on axis 3",
    ),
    "no dy": (sigmoid_forward, lambda dy, y: y * (1 - y), (X,), "it lacks the factor dy"),
    "the output for its slope": (relu_forward, lambda dy, c: dy * X * c, (X,), "the factor x once"),
    "dy handed on": (sigmoid_forward, lambda dy, y: dy * 1.0, (X,), "it is dy itself"),
    "weight decay": (
        dense_forward,
        spoilt(dense_backward, 1, lambda g, dz, c: g + 0.01 * c.w),
        (X, W, B),
        "it is 0.01 times w too large",
    ),
    "a weight for each example": (
        sigmoid_forward,
        lambda dy, y: dy * y * (1 - y) * np.array([[1], [2], [1], [3], [1]]),
        (X,),
        "each index of axis 0 has its own factor, 1, 2, 1, 3, 1",
    ),
    "another order": (
        lambda x: (x.reshape(5, 4) * 1.0, None),
        lambda dy, c: dy.T.reshape(5, 2, 2),
        (X.reshape(5, 2, 2),),
        "the values are right, in the wrong places",
    ),
    "single precision": (
        dense_forward,
        spoilt(dense_backward, 1, lambda g, *_: g.astype("f").astype(float)),
        (X, W, B),
        "it is right to [78] digits: is a part computed in float32",
    ),
    "another epsilon": (
        batchnorm_forward,
        lambda dy, c: (
            batchnorm_backward(dy, c._replace(gamma=c.gamma * 1.0005))[:1]
            + batchnorm_backward(dy, c)[1:]
        ),
        (X, GAMMA, B),
        "1.0005 times what they should be",
    ),
    "zero": (sigmoid_forward, lambda dy, y: 0 * dy, (X,), "it is zero everywhere"),
    "NaN": (sigmoid_forward, lambda dy, y: np.nan * dy, (X,), "it holds NaN"),
}


@pytest.mark.parametrize("bug", CAUSES)
def test_the_cause_is_named(bug):
    forward, backward, args, cause = CAUSES[bug]
    with pytest.raises(GradientError) as caught:
        check_backward(forward, backward, args)
    faults = [fault for fault in caught.value.report.faults if " is wrong in " in fault]
    assert len(faults) >= 1
    assert re.search(cause, faults[0]), faults[0]


def test_a_forgotten_shortcut():
    class Forgets(Residual):
        def backward(self, dy, cache):
            return self.main.backward(dy, cache[0])

    model = Forgets(Dense(4, 4, rng=np.random.default_rng(0)))
    with pytest.raises(GradientError, match="dy itself is missing from it: .* a shortcut's"):
        check_gradients(model, X)


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
