"""Drawn arguments of every pure pair, with the report's loops and torch's function as oracles.

Each function below is named after its pair: ``relu`` draws arguments of ``relu_forward`` and
returns them as a ``Case``. A new layer's pair is tested by one more function here; ``test_pairs``
finds it.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from tests.layers import loops
from tests.layers.support import channels_first, channels_last, frozen, normal, torch_padding
from tinynet.testing.strategies import (
    conv_geometries,
    pool_geometries,
    seeds,
    tie_free_arrays,
    tie_full_arrays,
)

BATCHES = st.lists(st.integers(1, 4), min_size=2, max_size=4).map(tuple)
IMAGES = st.tuples(*[st.integers(1, 4)] * 4)
SHAPES = st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple)
SMALL_IMAGES = st.tuples(*[st.integers(1, 3)] * 4)
VECTORS = st.tuples(st.integers(1, 5), st.integers(1, 4))


class Case(NamedTuple):
    """Arguments of one forward pass, and oracles for it."""

    arguments: tuple[Any, ...]
    loops: Callable[..., Any]  # dy -> (y, gradients...)
    torch: Callable[..., Any]  # (torch, the float arrays as tensors) -> y


PAIRS: dict[str, Callable[..., Case]] = {}


def pair(draw_case):
    PAIRS[draw_case.__name__] = draw_case
    return draw_case


@st.composite
def cases(draw, name, kinks=True):
    """Cases of a pair; without ``kinks`` no argument is near one, so that gradients exist."""
    return PAIRS[name](draw, kinks)


def arrays(draw, *shapes):
    """Standard normal arrays, some with gaps in memory."""
    return normal(draw(seeds()), *shapes, strided=draw(st.booleans()))


def around_kinks(draw, shape, kinks):
    """-1, 0 and 1 alone, or any numbers; without ``kinks`` none within 0.02 of a tenth."""
    if kinks:
        return (
            frozen(draw(tie_full_arrays(shape))) if draw(st.booleans()) else arrays(draw, shape)[0]
        )
    return draw(tie_free_arrays(shape)) + 0.02


@pair
def relu(draw, kinks):
    x, m = around_kinks(draw, draw(SHAPES), kinks), draw(st.sampled_from([0.0, 1.0, -0.5]))
    # torch's threshold(x, m, m) is m where x <= m: max{x, m}
    return Case((x, m), partial(loops.relu, x, m), lambda t, x: t.nn.functional.threshold(x, m, m))


@pair
def relu6(draw, kinks):
    x = around_kinks(draw, draw(SHAPES), kinks)
    x = 3 + 3 * x if kinks else 20 * x + 1  # at 0, 3 and 6; or beyond both kinks, and not at one
    return Case((x,), partial(loops.relu6, x), lambda t, x: t.nn.functional.relu6(x))


@pair
def leaky_relu(draw, kinks):
    x, slope = around_kinks(draw, draw(SHAPES), kinks), draw(st.sampled_from([0.01, 0.3, 0.0]))
    return Case(
        (x, slope),
        partial(loops.leaky_relu, x, slope),
        lambda t, x: t.nn.functional.leaky_relu(x, slope),
    )


def smooth(draw, kinks, function, oracle):
    """A function of each number, or of each vector, without settings.

    Far from 0 it is flat, and rounded: without ``kinks`` no number is there.
    """
    (x,) = arrays(draw, draw(SHAPES))
    x = x * draw(st.sampled_from([1.0, 30.0])) if kinks else x
    return Case((x,), partial(function, x), oracle)


@pair
def sigmoid(draw, kinks):
    return smooth(draw, kinks, loops.sigmoid, lambda t, x: t.sigmoid(x))


@pair
def tanh(draw, kinks):
    return smooth(draw, kinks, loops.tanh, lambda t, x: t.tanh(x))


@pair
def gelu(draw, kinks):
    return smooth(draw, kinks, loops.gelu, lambda t, x: t.nn.functional.gelu(x))


@pair
def softmax(draw, kinks):
    (x,) = arrays(draw, draw(SHAPES))
    axis = draw(st.integers(-x.ndim, x.ndim - 1))
    x = x * draw(st.sampled_from([1.0, 30.0])) if kinks else x

    def by_loops(dy):
        moved = [np.ascontiguousarray(np.moveaxis(a, axis, -1)) for a in (x, dy)]
        return [np.moveaxis(a, -1, axis) for a in loops.softmax(*moved)]

    return Case((x, axis), by_loops, lambda t, x: t.softmax(x, dim=axis))


@pair
def scale(draw, kinks):
    (x,), factor = arrays(draw, draw(SHAPES)), draw(st.sampled_from([0.1, -2.0, 0.0]))
    return Case((x, factor), partial(loops.scale, x, factor), lambda t, x: x * factor)


@pair
def flatten(draw, kinks):
    (x,) = arrays(draw, draw(BATCHES))
    return Case((x,), partial(loops.flatten, x), lambda t, x: x.reshape(len(x), -1))


@pair
def dense(draw, kinks):
    inputs, outputs = draw(st.tuples(*[st.integers(1, 5)] * 2))
    lead = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple))
    x, w, b = arrays(draw, (*lead, inputs), (inputs, outputs), (outputs,))
    arguments = x, w, b if draw(st.booleans()) else None

    def by_loops(dz):
        rows = x.reshape(-1, inputs), *arguments[1:], dz.reshape(-1, outputs)
        z, dx, *more = loops.dense(*rows)
        return z.reshape(dz.shape), dx.reshape(x.shape), *more

    return Case(
        arguments,
        by_loops,
        lambda t, x, w, b=None: t.nn.functional.linear(x, w.T, b),
    )


@pair
def conv2d(draw, kinks):
    g = draw(conv_geometries(max_batch=2))
    x, w, b = arrays(draw, g.input_shape, g.weight_shape, (g.filters,))
    b = b if g.bias else None
    _, stride, dilation = g.window()

    def by_loops(dz):
        dx, dw, db = loops.conv2d_backward(dz, x, w, g)
        return loops.conv2d_forward(x, w, b, g), dx, dw, None if b is None else db

    def by_torch(t, x, w, b=None):
        padded = t.nn.functional.pad(channels_first(x), torch_padding(g))
        filters = w.permute(3, 2, 0, 1).clone(memory_format=t.contiguous_format)
        return channels_last(
            t.nn.functional.conv2d(padded, filters, b, stride, 0, dilation, g.groups)
        )

    return Case((x, w, b, g.stride, g.padding, g.dilation, g.groups), by_loops, by_torch)


def pool2d(draw, kinks, function, torch_pool, *more, padded_with=0.0):
    g = draw(pool_geometries(max_batch=2))
    x = around_kinks(draw, g.input_shape, kinks)

    def by_torch(t, x):
        padded = t.nn.functional.pad(channels_first(x), torch_padding(g), value=padded_with)
        return channels_last(torch_pool(t.nn.functional, padded, *g.window()))

    arguments = x, g.pool_size, g.stride, g.padding, *more, g.dilation
    return Case(arguments, lambda dy: function(x, dy, g, *more), by_torch)


def torch_sums(functional, padded, kernel, stride, dilation):
    """A depthwise convolution with ones: torch's average pooling has no dilation."""
    ones = padded.new_ones(padded.shape[1], 1, *kernel)
    return functional.conv2d(padded, ones, None, stride, 0, dilation, padded.shape[1])


@pair
def max_pool2d(draw, kinks):
    def torch_pool(functional, padded, kernel, stride, dilation):
        return functional.max_pool2d(padded, kernel, stride, dilation=dilation)

    return pool2d(draw, kinks, loops.max_pool2d, torch_pool, padded_with=-np.inf)


@pair
def sum_pool2d(draw, kinks):
    return pool2d(draw, kinks, loops.sum_pool2d, torch_sums)


@pair
def avg_pool2d(draw, kinks):
    count_padding = draw(st.booleans())
    case = pool2d(draw, kinks, loops.avg_pool2d, torch_sums, count_padding)
    counted = count_padding and case.arguments[3] != "ceil"
    cells = np.prod(np.broadcast_to(case.arguments[1], 2))

    def by_torch(t, x):
        return case.torch(t, x) / (cells if counted else case.torch(t, t.ones_like(x)))

    return case._replace(torch=by_torch)


@pair
def global_avg_pool2d(draw, kinks):
    (x,) = arrays(draw, draw(IMAGES))
    return Case((x,), partial(loops.global_avg_pool2d, x), lambda t, x: x.mean(dim=(1, 2)))


@pair
def global_max_pool2d(draw, kinks):
    x = around_kinks(draw, draw(IMAGES), kinks)

    def by_torch(t, x):  # amax shares a gradient among equals
        return t.nn.functional.max_pool2d(channels_first(x), x.shape[1:3])[..., 0, 0]

    return Case((x,), partial(loops.global_max_pool2d, x), by_torch)


@pair
def adaptive_avg_pool2d(draw, kinks):
    batch, height, width = draw(st.tuples(st.integers(1, 2), *[st.integers(1, 9)] * 2))
    (x,) = arrays(draw, (batch, height, width, 2))
    size = draw(st.tuples(*[st.integers(1, 5)] * 2))

    def by_torch(t, x):
        return channels_last(t.nn.functional.adaptive_avg_pool2d(channels_first(x), size))

    return Case((x, size), partial(loops.adaptive_avg_pool2d, x, size), by_torch)


@pair
def dropout(draw, kinks):
    shape = draw(SHAPES)
    (x,), seed = arrays(draw, shape), draw(seeds())
    keep_prob = draw(st.sampled_from([0.1, 0.5, 0.7, 1.0]))
    mask = np.random.default_rng(seed).random(shape) < keep_prob if draw(st.booleans()) else None
    scale_at = draw(st.sampled_from(["train", "test"]))

    def by_torch(t, x):  # its own dropout draws its own mask; this is what it does with one
        if mask is None:
            return x * (keep_prob if scale_at == "test" else 1.0)
        kept = x.masked_fill(~t.tensor(mask), 0.0)
        return kept / keep_prob if scale_at == "train" else kept

    arguments = x, mask, keep_prob, scale_at
    return Case(arguments, partial(loops.dropout, *arguments), by_torch)


def normalised(draw, shape, function, oracle, *more):
    """Of x, with an offset and a spread in each channel, gamma and beta."""
    x, offset, spread, gamma, beta = arrays(draw, shape, *[shape[-1:]] * 4)
    arguments = x * (0.5 + abs(spread)) + offset, gamma, beta, *more
    return Case(arguments, partial(function, *arguments), oracle)


EPSILONS = st.sampled_from([1e-3, 1e-5, 0.1])


@pair
def batchnorm(draw, kinks):
    shape, epsilon = draw((VECTORS | SMALL_IMAGES).filter(lambda s: s[0] > 1)), draw(EPSILONS)

    def by_torch(t, x, gamma, beta):
        norm = t.nn.functional.batch_norm
        y = norm(x.movedim(-1, 1), None, None, gamma, beta, training=True, eps=epsilon)
        return y.movedim(1, -1)

    return normalised(draw, shape, loops.batchnorm, by_torch, epsilon)


@pair
def batchnorm_frozen(draw, kinks):
    shape, epsilon = draw(VECTORS | SMALL_IMAGES), draw(EPSILONS)
    mean, root = arrays(draw, shape[-1:], shape[-1:])

    def by_torch(t, x, gamma, beta, mean, variance):
        norm = t.nn.functional.batch_norm
        y = norm(x.movedim(-1, 1), mean.detach(), variance.detach(), gamma, beta, eps=epsilon)
        return y.movedim(1, -1)

    more = mean, root**2 + 0.1, epsilon
    return normalised(draw, shape, loops.batchnorm_frozen, by_torch, *more)


@pair
def group_norm(draw, kinks):
    groups, per_group = draw(st.tuples(st.integers(1, 3), st.integers(1, 2)))
    shape, epsilon = (2, *draw(SMALL_IMAGES)[1:3], groups * per_group), draw(EPSILONS)

    def by_torch(t, x, gamma, beta):
        y = t.nn.functional.group_norm(channels_first(x), groups, gamma, beta, epsilon)
        return channels_last(y)

    return normalised(draw, shape, loops.group_norm, by_torch, groups, epsilon)


@pair
def layer_norm(draw, kinks):
    shape, epsilon = draw(SHAPES), draw(EPSILONS)

    def by_torch(t, x, gamma, beta):
        return t.nn.functional.layer_norm(x, shape[-1:], gamma, beta, epsilon)

    return normalised(draw, shape, loops.layer_norm, by_torch, epsilon)


@pair
def local_response_norm(draw, kinks):
    (a,), size = arrays(draw, draw(IMAGES)), draw(st.sampled_from([1, 3, 5, 9]))
    # AlexNet's constants, whose terms are tiny beside k, and ones that weigh as much
    constants = st.sampled_from([(1e-4, 0.75, 2.0), (0.5, 0.75, 1.0), (2.0, 0.5, 0.1)])
    alpha, beta, k = draw(constants)

    def by_torch(t, a):  # torch divides alpha by the size
        norm = t.nn.functional.local_response_norm
        return channels_last(norm(channels_first(a), size, size * alpha, beta, k))

    arguments = a, size, alpha, beta, k
    return Case(arguments, partial(loops.local_response_norm, *arguments), by_torch)


@pair
def gate(draw, kinks):
    shape = draw(IMAGES | SHAPES)
    a_channel = len(shape) == 4 and draw(st.booleans())
    x, g = arrays(draw, shape, (shape[0], shape[3]) if a_channel else shape)

    def by_torch(t, x, g):
        return x * (g[:, None, None, :] if a_channel else g)

    return Case((x, g), partial(loops.gate, x, g), by_torch)


@pair
def channel_shuffle(draw, kinks):
    groups, per_group = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    (x,) = arrays(draw, (*draw(IMAGES)[:3], groups * per_group))

    def by_torch(t, x):
        return channels_last(t.nn.ChannelShuffle(groups)(channels_first(x)))

    return Case((x, groups), partial(loops.channel_shuffle, x, groups), by_torch)


@pair
def channel_slice(draw, kinks):
    (x,) = arrays(draw, draw(SHAPES))
    start = draw(st.integers(0, x.shape[-1] - 1))
    stop = draw(st.integers(start + 1, x.shape[-1]))
    arguments = x, start, stop
    return Case(
        arguments, partial(loops.channel_slice, *arguments), lambda t, x: x[..., start:stop]
    )
