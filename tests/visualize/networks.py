"""Small networks for the tests, among them what no container expresses."""

import numpy as np

from tinynet.layer import EVAL, Layer, join
from tinynet.layers import (
    BatchNorm,
    Concat,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    Gate,
    GlobalAvgPool2D,
    MaxPool2D,
    ReLU,
    Residual,
    Sequential,
    Sigmoid,
)  # fmt: skip
from tinynet.models import Classifier

DTYPE = "float64"


def conv(channels, filters, kernel=3, seed=0, **options):
    rng = np.random.default_rng([seed, channels, filters])
    return Conv2D(channels, filters, kernel, padding="same", rng=rng, dtype=DTYPE, **options)


def dense(features, neurons):
    return Dense(features, neurons, rng=np.random.default_rng([features, neurons]), dtype=DTYPE)


def everything():
    """(10, 10, 2) -> 3 logits by every container, batch norm and dropout."""
    base = Sequential(
        conv=conv(2, 4),
        bn=BatchNorm(4).to(dtype=DTYPE),
        relu=ReLU(),
        pool=MaxPool2D(2),
        block=Residual(Sequential(conv=conv(4, 4), relu=ReLU())),
        stack=Concat(Sequential(), Sequential(conv(4, 3, 1), ReLU()), conv(4, 2)),
        gate=Gate(Sequential(GlobalAvgPool2D(), dense(9, 9), Sigmoid())),
    )
    head = Sequential(
        flatten=Flatten(), hidden=dense(225, 6), relu=ReLU(), drop=Dropout(0.5), classes=dense(6, 3)
    )
    return Classifier(base, head)


def batch(n=4, side=10, channels=2, seed=0):
    return np.random.default_rng(seed).standard_normal((n, side, side, channels))


class WithSide(Layer):
    """Written by hand: a base, a head, and a second classifier of what the first stage makes."""

    def __init__(self):
        self.base = Sequential(first=conv(2, 4), second=conv(4, 5))
        self.head = Sequential(pool=GlobalAvgPool2D(), classes=dense(5, 3))
        self.side = Sequential(pool=GlobalAvgPool2D(), classes=dense(4, 3))

    def forward(self, x, mode=EVAL):
        a, first = self.base.layers[0].forward(x, mode)
        s, side = self.side.forward(a, mode)
        b, second = self.base.layers[1].forward(a, mode)
        z, head = self.head.forward(b, mode)
        return z + s, (first, side, second, head)

    def backward(self, dy, cache):
        first, side, second, head = cache
        da = self.base.layers[1].backward(self.head.backward(dy, head), second)
        return self.base.layers[0].backward(da + self.side.backward(dy, side), first)

    def output_shape(self, input_shape):
        return self.head.output_shape(self.base.output_shape(input_shape))

    def walk(self, input_shape, prefix=""):
        first, second = self.base.children().items()
        yield from first[1].walk(input_shape, join(prefix, "base.first"))
        middle = first[1].output_shape(input_shape)
        yield from self.side.walk(middle, join(prefix, "side"))
        yield from second[1].walk(middle, join(prefix, "base.second"))
        yield from self.head.walk(second[1].output_shape(middle), join(prefix, "head"))
