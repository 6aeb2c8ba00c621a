"""The tour's stations: each shows a pair, asks, runs the usual check and then tinynet's."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinynet.backend import Array
from tinynet.layers import (
    batchnorm_forward,
    dense_backward,
    dense_forward,
    dropout_backward,
    dropout_forward,
    softmax_forward,
)
from tinynet.testing.statistics import check_mask
from tinynet.testing.tour.guide import Guide

WELCOME = """A backward pass is checked against the slope of the forward pass, measured: move the
    input a little, see how much the output changes. The check that most people write moves all
    numbers at once, along one random line, and compares one slope with one slope. You will see what
    it lets through, and guess first."""
GOODBYE = """check_backward(forward, backward, args) checks any pair of functions, and
    check_gradients(layer, x) a layer or a whole model, every element. docs/gradient_checks.md works
    out why each of these checks misses what it misses."""

# The code that is shown. It is tinynet's own, written out, and the same with one thing wrong.


def _dense_mean(dz: Array, cache: Any) -> Any:
    dx, dw = dz @ cache.w.T, cache.x.T @ dz
    db = dz.mean(axis=0)
    return dx, dw, db


def _dense_sum(dz: Array, cache: Any) -> Any:
    dx, dw = dz @ cache.w.T, cache.x.T @ dz
    db = dz.sum(axis=0)
    return dx, dw, db


def _softmax_right(dy: Array, cache: Any) -> Array:
    y = cache.y
    total = (dy * y).sum(axis=-1, keepdims=True)
    return y * (dy - total)


def _softmax_wrong(dy: Array, cache: Any) -> Array:
    y = cache.y
    total = (dy * y).sum(axis=-1, keepdims=True)
    return dy - total


def _one_weight_off(dz: Array, cache: Any) -> Any:
    dx, dw, db = dense_backward(dz, cache)
    dw[-1, -1] *= 1.001
    return dx, dw, db


def _batchnorm_wrong(dy: Array, cache: Any) -> Any:
    dgamma, dbeta = (dy * cache.x_hat).sum(axis=0), dy.sum(axis=0)
    dx = dy - cache.x_hat * dgamma / len(dy)
    return cache.gamma * cache.inv_std * dx, dgamma, dbeta


def _batchnorm_right(dy: Array, cache: Any) -> Any:
    dgamma, dbeta = (dy * cache.x_hat).sum(axis=0), dy.sum(axis=0)
    dx = dy - dbeta / len(dy) - cache.x_hat * dgamma / len(dy)
    return cache.gamma * cache.inv_std * dx, dgamma, dbeta


def _mask_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.normal(size=shape) < 0.5


def _mask_uniform(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.uniform(size=shape) < 0.5


def _normal(*shapes: tuple[int, ...]) -> list[Array]:
    rng = np.random.default_rng(1)
    return [rng.standard_normal(shape) for shape in shapes]


def dense(guide: Guide) -> None:
    """A dense layer, and a batch of one"""
    guide.say("z = x w + b, for a batch of examples in the rows of x. Two backward passes:")
    guide.code(A=_dense_mean, B=_dense_sum)
    guide.guess(
        "The usual check is run on one example, x of shape (1, 4). What comes out?",
        [
            "A is wrong, and it says so",
            "A is wrong, and it passes A",
            "B is wrong, and it passes B",
        ],
        right=2,
    )
    x, w, b = _normal((5, 4), (4, 3), (3,))
    guide.usual(dense_forward, _dense_mean, x[:1], w, b)
    guide.say(
        """b is added to every example, so its gradient is the sum over them. Of one example the
        sum is the mean. A check is only as good as its input; with five examples:"""
    )
    guide.ours(dense_forward, _dense_mean, x, w, b)
    guide.say("And B, the right one:")
    guide.ours(dense_forward, _dense_sum, x, w, b)


def softmax(guide: Guide) -> None:
    """Softmax, and an upstream gradient of ones"""
    guide.say("The derivative of softmax, from the gradient dy of its output y:")
    guide.code(A=_softmax_right, B=_softmax_wrong)
    guide.guess(
        """A loss is needed to have a slope at all. The shortest is the sum of the outputs, whose
        dy is all ones. What will the usual check say with it?""",
        ["it passes A and refuses B", "it passes both", "it passes B and refuses A"],
        right=2,
    )
    (x,) = _normal((3, 4))
    guide.usual(softmax_forward, _softmax_right, x, dy=np.ones_like(x))
    guide.usual(softmax_forward, _softmax_wrong, x, dy=np.ones_like(x))
    guide.say(
        """Probabilities sum to 1 whatever the input: the slope is 0, and 0 times any mistake is 0.
        Batch norm, whose outputs sum to N times beta, hides mistakes in the same way. An upstream
        gradient drawn at random has no such luck:"""
    )
    guide.ours(softmax_forward, _softmax_wrong, x)


def one_weight(guide: Guide) -> None:
    """One weight among 10,000"""
    guide.say("The dense layer is right again, but for one weight, its gradient 0.1% too large:")
    guide.code(A=_one_weight_off)
    guide.guess(
        """dw has 100 x 100 elements. The usual check, with a random dy this time, compares a sum
        over all of them, and allows one part in 10,000. How often will it notice, if it is run
        100 times along 100 lines?""",
        ["nearly always", "about every second time", "hardly ever"],
        right=3,
    )
    x, w, b = _normal((4, 100), (100, 100), (100,))
    guide.usual_often(dense_forward, _one_weight_off, x, w, b)
    guide.say(
        """One wrong term of 10,000 is lost in the sum. The only remedy is to measure a slope
        for every element:"""
    )
    guide.ours(dense_forward, _one_weight_off, x, w, b)


def float32(guide: Guide) -> None:
    """Right code in float32"""
    guide.say("Now nothing is wrong. The dense layer as it should be, with weights in float32:")
    guide.code(B=_dense_sum)
    guide.guess(
        "What will the usual check say?", ["it passes, of course", "it calls it wrong"], right=2
    )
    args = [a.astype(np.float32) for a in _normal((4, 100), (100, 100), (100,))]
    guide.usual(dense_forward, _dense_sum, *args)
    guide.say(
        """A float32 has 7 digits. The loss is rounded to them, and the difference of two losses,
        divided by a step of 0.001, makes the rounding 1,000 times as large. So people raise the
        tolerance until right code passes, and wrong code passes with it. tinynet checks a copy in
        float64, with steps and tolerances chosen for each element:"""
    )
    guide.ours(dense_forward, _dense_sum, *args)


def batchnorm(guide: Guide) -> None:
    """Batch norm, at its starting weights"""
    guide.say("Batch norm subtracts the batch's mean, which every example moves. Its gradient:")
    guide.code(A=_batchnorm_wrong, B=_batchnorm_right)
    guide.guess(
        """A lacks the term of the mean. The usual check is run on a new layer, gamma 1 and beta 0,
        with half the sum of squares for a loss, so that dy is y. What will it say of A?""",
        ["it passes", "it fails"],
        right=1,
    )
    (x,) = _normal((6, 3))
    gamma, beta = np.ones(3), np.zeros(3)
    y, _ = batchnorm_forward(x, gamma, beta)
    guide.usual(batchnorm_forward, _batchnorm_wrong, x, gamma, beta, dy=y)
    guide.say(
        """The missing term is the mean of dy. Here dy is y, and the mean of y is beta: 0, at the
        start, and only there. Neither the upstream gradient nor the weights should be special:"""
    )
    guide.ours(batchnorm_forward, _batchnorm_wrong, x, gamma, beta)


def mask(guide: Guide) -> None:
    """Dropout, and what no gradient check can see"""
    guide.say("Dropout keeps each neuron with probability 0.5. Two ways to draw who is kept:")
    guide.code(A=_mask_normal, B=_mask_uniform)
    guide.guess(
        "What will tinynet's check say of the backward pass after A?",
        ["it is wrong", "it is right", "some elements cannot be decided"],
        right=2,
    )
    (x,) = _normal((4, 6))
    kept = _mask_normal(np.random.default_rng(0), x.shape)
    guide.ours(dropout_forward, dropout_backward, x, kept, 0.5)
    guide.say(
        """And so it is: the exact derivative of a layer that is not dropout. A gradient check asks
        whether the backward pass fits the forward pass, not whether the forward pass is what
        you meant. For this one has to count (tinynet.testing.statistics):"""
    )
    for name, draw in (("A", _mask_normal), ("B", _mask_uniform)):
        try:
            check_mask(draw(np.random.default_rng(0), (200, 500)), 0.5)
            guide.finding(f"{name}: the share, and the independence of neighbours, are right")
        except AssertionError as error:
            guide.finding(f"{name}: {error}")


STATIONS = (dense, softmax, one_weight, float32, batchnorm, mask)
