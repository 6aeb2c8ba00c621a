"""The report's sums written as nested loops: slow, and plain enough to be right.  §2.2-2.5.

``sides`` is the padding, ((top, bottom), (left, right)); a cell outside the input is padding.
The derivatives are added up one path at a time: a gradient goes from an output to an input times
the one by the other, and nothing is put outside a sum or cancelled.
"""

import itertools
import math

import numpy as np


def windows(geometry):
    """(y, x, [(i, j, row, column), ...]) for each window: its cells inside the input."""
    (kernel_h, kernel_w), (stride_h, stride_w), (dilation_h, dilation_w) = geometry.window()
    (top, bottom), (left, right) = geometry.sides
    height, width = geometry.height, geometry.width
    reach_h, reach_w = (kernel_h - 1) * dilation_h + 1, (kernel_w - 1) * dilation_w + 1
    for y, first_row in enumerate(range(-top, height + bottom - reach_h + 1, stride_h)):
        for x, first_column in enumerate(range(-left, width + right - reach_w + 1, stride_w)):
            cells = []
            for i, j in itertools.product(range(kernel_h), range(kernel_w)):
                row, column = first_row + i * dilation_h, first_column + j * dilation_w
                if 0 <= row < height and 0 <= column < width:
                    cells.append((i, j, row, column))
            yield y, x, cells


def connections(geometry):
    """(k, c, channel) for each filter k: its c-th weight looks at ``channel`` of the input."""
    per_group = geometry.channels // geometry.groups
    filters_per_group = geometry.filters // geometry.groups
    for k in range(geometry.filters):
        for c in range(per_group):
            yield k, c, (k // filters_per_group) * per_group + c


def conv2d_forward(x, w, b, geometry):
    """z = Σ_i Σ_j Σ_c w_ijc p_ijc + b, for every position and filter.  §2.5.2."""
    z = np.zeros(geometry.output_shape)
    if b is not None:
        z += b
    for n in range(geometry.batch):
        for y, x_, cells in windows(geometry):
            for i, j, row, column in cells:
                for k, c, channel in connections(geometry):
                    z[n, y, x_, k] += w[i, j, c, k] * x[n, row, column, channel]
    return z


def conv2d_backward(dz, x, w, geometry):
    """dx, dw, db: each product in the forward sum hands dz times one factor to the other."""
    dx, dw = np.zeros_like(x), np.zeros_like(w)
    for n in range(geometry.batch):
        for y, x_, cells in windows(geometry):
            for i, j, row, column in cells:
                for k, c, channel in connections(geometry):
                    dx[n, row, column, channel] += w[i, j, c, k] * dz[n, y, x_, k]
                    dw[i, j, c, k] += x[n, row, column, channel] * dz[n, y, x_, k]
    return dx, dw, dz.sum(axis=(0, 1, 2))


def each_window(geometry):
    """(n, y, x, channel, [(row, column), ...]) for every window of every channel."""
    for n, channel in itertools.product(range(geometry.batch), range(geometry.channels)):
        for y, x, cells in windows(geometry):
            yield n, y, x, channel, [(row, column) for _, _, row, column in cells]


def max_pool2d(x, dy, geometry):
    """y, dx: the largest value, and the gradient to the first cell that holds it.  §2.5.4."""
    y, dx = np.zeros(geometry.output_shape), np.zeros_like(x)
    for n, a, b, c, cells in each_window(geometry):
        winner = cells[0]
        for row, column in cells[1:]:
            if x[n, row, column, c] > x[n, *winner, c]:
                winner = row, column
        y[n, a, b, c] = x[n, *winner, c]
        dx[n, *winner, c] += dy[n, a, b, c]
    return y, dx


def epilogue(z, kind, dy):
    """y, dz: nothing, ReLU, or ReLU and a max-pool 2×2, by ``kind``.  §2.2.2, §2.5.4."""
    if kind == "none":
        return z, dy
    if kind == "relu":
        return relu(z, 0, dy)
    r, _ = relu(z, 0, np.zeros_like(z))
    y, dr = np.zeros_like(dy), np.zeros_like(z)
    for n, a, b, c in np.ndindex(dy.shape):
        cells = [(n, 2 * a + i, 2 * b + j, c) for i in (0, 1) for j in (0, 1)]
        winner = max(cells, key=r.__getitem__)  # the first of the largest
        y[n, a, b, c] = r[winner]
        dr[winner] += dy[n, a, b, c]
    return y, relu(z, 0, dr)[1]


def sum_pool2d(x, dy, geometry):
    """y, dx: the sum, and the gradient to every cell.  §2.5.4."""
    y, dx = np.zeros(geometry.output_shape), np.zeros_like(x)
    for n, a, b, c, cells in each_window(geometry):
        for row, column in cells:
            y[n, a, b, c] += x[n, row, column, c]
            dx[n, row, column, c] += dy[n, a, b, c]
    return y, dx


def avg_pool2d(x, dy, geometry, count_padding):
    """y, dx: the mean, and the gradient shared among the cells it is over.  §2.5.4.

    What the padding "ceil" adds never counts.
    """
    (kernel_h, kernel_w), _, _ = geometry.window()
    y, dx = np.zeros(geometry.output_shape), np.zeros_like(x)
    for n, a, b, c, cells in each_window(geometry):
        counted = count_padding and geometry.padding != "ceil"
        count = kernel_h * kernel_w if counted else len(cells)
        for row, column in cells:
            y[n, a, b, c] += x[n, row, column, c] / count
            dx[n, row, column, c] += dy[n, a, b, c] / count
    return y, dx


def global_max_pool2d(x, dy):
    """y, dx: the largest of each channel of each image, the first of equals."""
    y, dx = x.max(axis=(1, 2)), np.zeros_like(x)
    for n, c in np.ndindex(y.shape):
        row, column = divmod(int(np.argmax(x[n, :, :, c])), x.shape[2])
        dx[n, row, column, c] = dy[n, c]
    return y, dx


def global_avg_pool2d(x, dy):
    """y, dx: the mean of each channel of each image.  §2.5.4."""
    batch, height, width, channels = x.shape
    y, dx = np.zeros((batch, channels)), np.zeros_like(x)
    for n, h, w, c in np.ndindex(x.shape):
        y[n, c] += x[n, h, w, c] / (height * width)
        dx[n, h, w, c] = dy[n, c] / (height * width)
    return y, dx


def dense(x, w, b, dz):
    """z, dx, dw, db: z_j = Σ_i w_ij a_i + b_j for every example.  §2.2.1, §2.3.2."""
    (inputs, outputs), z = w.shape, np.zeros((len(x), w.shape[1]))
    dx, dw, db = np.zeros_like(x), np.zeros_like(w), np.zeros(outputs)
    for n, j in np.ndindex(len(x), outputs):
        z[n, j] += 0 if b is None else b[j]
        db[j] += dz[n, j]
        for i in range(inputs):
            z[n, j] += w[i, j] * x[n, i]
            dx[n, i] += dz[n, j] * w[i, j]
            dw[i, j] += dz[n, j] * x[n, i]
    return z, dx, dw, None if b is None else db


def dense_fused_backward(dw, db, dz, cache):
    """dw, db after the gradients of ``dense`` were added.  §2.3.2."""
    _, _, more_dw, more_db = dense(*cache[:2], np.zeros(len(db)), dz)
    return dw + more_dw, db + more_db


def each_number(function, slope, x, dy):
    """y, dx of a function that takes every number by itself."""
    y, dx = np.zeros_like(x), np.zeros_like(x)
    for i in np.ndindex(x.shape):
        y[i] = function(x[i])
        dx[i] = dy[i] * slope(x[i])
    return y, dx


def relu(x, threshold, dy):
    """y, dx: max{x, m}.  §2.2.2."""
    return each_number(lambda v: max(v, threshold), lambda v: float(v > threshold), x, dy)


def relu6(x, dy):
    """y, dx: min{max{x, 0}, 6}.  §2.2.2."""
    return each_number(lambda v: min(max(v, 0), 6), lambda v: float(0 < v < 6), x, dy)


def leaky_relu(x, slope, dy):
    """y, dx: x above 0, s x below."""
    return each_number(
        lambda v: v if v > 0 else slope * v, lambda v: 1.0 if v > 0 else slope, x, dy
    )


def tanh(x, dy):
    """y, dx: 1 - 2 / (e²ˣ + 1), whose slope is 1 / cosh² x."""
    return each_number(lambda v: 1 - 2 / (math.exp(2 * v) + 1), lambda v: math.cosh(v) ** -2, x, dy)


def gelu(x, dy):
    """y, dx: x Φ(x), Φ the normal distribution function."""

    def below(v):
        return 0.5 * math.erfc(-v / math.sqrt(2))

    def density(v):
        return math.exp(-(v**2) / 2) / math.sqrt(2 * math.pi)

    return each_number(lambda v: v * below(v), lambda v: below(v) + v * density(v), x, dy)


def scale(x, factor, dy):
    """y, dx: factor · x.  §2.2.2."""
    return each_number(lambda v: factor * v, lambda _: factor, x, dy)


def gate(x, g, dy):
    """y, dx, dg: each number times its own gate, or its channel's.  §2.2.2."""
    y, dx, dg = np.zeros_like(x), np.zeros_like(x), np.zeros_like(g)
    for i in np.ndindex(x.shape):
        of = i if g.shape == x.shape else (i[0], i[3])
        y[i] = x[i] * g[of]
        dx[i] += dy[i] * g[of]
        dg[of] += dy[i] * x[i]
    return y, dx, dg


def channel_shuffle(x, groups, dy):
    """y, dx: place j of group i goes to place i of stack j.  §2.5.2."""
    y, dx = np.zeros_like(x), np.zeros_like(x)
    per_group = x.shape[-1] // groups
    for cell in np.ndindex(x.shape[:-1]):
        for i, j in itertools.product(range(groups), range(per_group)):
            y[cell][j * groups + i] = x[cell][i * per_group + j]
            dx[cell][i * per_group + j] = dy[cell][j * groups + i]
    return y, dx


def channel_slice(x, start, stop, dy):
    """y, dx: the channels from start to before stop.  §2.5.2."""
    y, dx = np.zeros((*x.shape[:-1], stop - start)), np.zeros_like(x)
    for cell in np.ndindex(x.shape[:-1]):
        for c in range(start, stop):
            y[cell][c - start] = x[cell][c]
            dx[cell][c] = dy[cell][c - start]
    return y, dx


def local_response_norm(a, size, alpha, beta, k, dy):
    """b, da: a_c / (k + α Σ_j a_j²)^β over the neighbours j of c.  §2.4.3.

    a_j moves b_c through the sum, and b_j through the numerator too.
    """
    b, da = np.zeros_like(a), np.zeros_like(a)
    channels = range(a.shape[-1])
    for cell in np.ndindex(a.shape[:-1]):
        for c in channels:
            near = [j for j in channels if abs(j - c) <= size // 2]
            s = k + alpha * sum(a[cell][j] ** 2 for j in near)
            b[cell][c] = a[cell][c] / s**beta
            da[cell][c] += dy[cell][c] / s**beta
            for j in near:
                through_s = -beta * a[cell][c] / s ** (beta + 1) * 2 * alpha * a[cell][j]
                da[cell][j] += dy[cell][c] * through_s
    return b, da


def softmax(x, dy):
    """y, dx over the last axis: the two cases of ∂y_i/∂x_j.  §2.2.2, §2.3.2."""
    y, dx = np.zeros_like(x), np.zeros_like(x)
    for row in np.ndindex(x.shape[:-1]):
        n = x.shape[-1]
        for j in range(n):
            y[row][j] = math.exp(x[row][j]) / sum(math.exp(x[row][k]) for k in range(n))
        for i, j in itertools.product(range(n), range(n)):
            slope = y[row][i] * (1 - y[row][i]) if i == j else -y[row][i] * y[row][j]
            dx[row][j] += dy[row][i] * slope
    return y, dx


def dropout(x, mask, keep_prob, scale_at, dy):
    """y, dx: what is kept is scaled, what is not is 0.  §2.4.1."""
    y, dx = np.zeros_like(x), np.zeros_like(x)
    for i in np.ndindex(x.shape):
        if mask is None:
            scale = keep_prob if scale_at == "test" else 1.0
        else:
            scale = (1 / keep_prob if scale_at == "train" else 1.0) if mask[i] else 0.0
        y[i], dx[i] = x[i] * scale, dy[i] * scale
    return y, dx


def batchnorm(x, gamma, beta, epsilon, dy):
    """y, dx, dgamma, dbeta: each channel by its own mean and variance.  §2.4.3, §2.3.2.

    x_k moves x̂_i directly, through the mean and through the variance.
    """
    y, dx = np.zeros_like(x), np.zeros_like(x)
    dgamma, dbeta = np.zeros_like(gamma), np.zeros_like(beta)
    cells = list(np.ndindex(x.shape[:-1]))
    m = len(cells)
    for c in range(x.shape[-1]):
        mean = sum(x[i][c] for i in cells) / m
        variance = sum((x[i][c] - mean) ** 2 for i in cells) / m
        deviation = math.sqrt(variance + epsilon)
        for i in cells:
            x_hat = (x[i][c] - mean) / deviation
            y[i][c] = gamma[c] * x_hat + beta[c]
            dgamma[c] += dy[i][c] * x_hat
            dbeta[c] += dy[i][c]
            for k in cells:
                by_mean = -1 / deviation * (1 / m)
                by_variance = -(x[i][c] - mean) / (2 * deviation**3) * (2 * (x[k][c] - mean) / m)
                slope = (1 / deviation if i == k else 0) + by_mean + by_variance
                dx[k][c] += dy[i][c] * gamma[c] * slope
    return y, dx, dgamma, dbeta


def batchnorm_frozen(x, gamma, beta, mean, variance, epsilon, dy):
    """y, dx, dgamma, dbeta: by a mean and a variance that x does not move.  §2.4.3."""
    y, dx = np.zeros_like(x), np.zeros_like(x)
    dgamma, dbeta = np.zeros_like(gamma), np.zeros_like(beta)
    for *cell, c in np.ndindex(x.shape):
        i = (*cell, c)
        deviation = math.sqrt(variance[c] + epsilon)
        y[i] = gamma[c] * (x[i] - mean[c]) / deviation + beta[c]
        dx[i] = dy[i] * gamma[c] / deviation
        dgamma[c] += dy[i] * (x[i] - mean[c]) / deviation
        dbeta[c] += dy[i]
    return y, dx, dgamma, dbeta


def group_norm(x, gamma, beta, groups, epsilon, dy):
    """y, dx, dgamma, dbeta: each group of channels of each image as one channel of batch norm."""
    x_hat, dx, one = np.zeros_like(x), np.zeros_like(x), np.ones(1)
    per_group = x.shape[-1] // groups
    for n, k in np.ndindex(len(x), groups):
        group = n, ..., slice(k * per_group, (k + 1) * per_group)
        cells, dcells = x[group].reshape(-1, 1), (gamma * dy)[group].reshape(-1, 1)
        found = batchnorm(cells, one, 0 * one, epsilon, dcells)
        x_hat[group], dx[group] = (a.reshape(x[group].shape) for a in found[:2])
    axes = tuple(range(x.ndim - 1))
    return gamma * x_hat + beta, dx, (dy * x_hat).sum(axes), dy.sum(axes)


def layer_norm(x, gamma, beta, epsilon, dy):
    """y, dx, dgamma, dbeta: each vector as the one group of an image."""
    vectors, dvectors = x.reshape(-1, x.shape[-1]), dy.reshape(-1, x.shape[-1])
    y, dx, dgamma, dbeta = group_norm(vectors, gamma, beta, 1, epsilon, dvectors)
    return y.reshape(x.shape), dx.reshape(x.shape), dgamma, dbeta


def cross_entropy(p, y, weights):
    """L, dp: the mean over the examples of −Σ_j y_ij log p_ij, each weighted.  §2.3.1-2."""
    value, dp = 0.0, np.zeros_like(p)
    for i, j in np.ndindex(p.shape):
        share = (1 if weights is None else weights[i]) / len(p)
        if y[i, j]:
            value -= share * y[i, j] * math.log(p[i, j])
            dp[i, j] = -share * y[i, j] / p[i, j]
    return np.float64(value), dp


def softmax_cross_entropy(z, y, weights):
    """L, dz: the one after the other, by the chain rule.  §2.3.2."""
    p, _ = softmax(z, np.zeros_like(z))
    value, dp = cross_entropy(p, y, weights)
    return value, softmax(z, dp)[1]


def each_weight(update, changed, g):
    """The first arrays of an update after it, one number at a time; they are not changed."""
    changed = [a.copy() for a in changed]
    for i in np.ndindex(g.shape):
        for a, value in zip(changed, update(*(a[i] for a in changed), g[i]), strict=True):
            a[i] = value
    return changed


def gradient_descent_update(w, g, rate):
    """w: w − η g.  §2.3.3."""
    return each_weight(lambda w, g: (w - rate * g,), (w,), g)


def momentum_update(w, u, g, rate, momentum, nesterov):
    """w, u: u ← μ u + g, then w − η u, or w − η (g + μ u).  §2.3.4."""

    def update(w, u, g):
        u = momentum * u + g
        return w - rate * (g + momentum * u if nesterov else u), u

    return each_weight(update, (w, u), g)


def rmsprop_update(w, v, g, rate, alpha, epsilon):
    """w, v: v ← α g² + (1 − α) v, then w − η g / (√v + ε).  §2.3.4."""

    def update(w, v, g):
        v = alpha * g**2 + (1 - alpha) * v
        return w - rate * g / (math.sqrt(v) + epsilon), v

    return each_weight(update, (w, v), g)


def adam_update(w, m, v, g, rate, beta, alpha, epsilon, corrections):
    """w, m, v: as RMSProp, m ← β g + (1 − β) m for g; each divided by a correction.  §2.3.4."""

    def update(w, m, v, g):
        m = beta * g + (1 - beta) * m
        v = alpha * g**2 + (1 - alpha) * v
        step = (m / corrections[0]) / (math.sqrt(v / corrections[1]) + epsilon)
        return w - rate * step, m, v

    return each_weight(update, (w, m, v), g)


def adaptive_avg_pool2d(x, output_size, dy):
    """y, dx: the mean of the cells under each window of an even partition.  §2.5.4."""
    y, dx = np.zeros_like(dy), np.zeros_like(x)
    for n, a, b, c in np.ndindex(dy.shape):
        (top, bottom), (left, right) = (
            (math.floor(k * size / parts), math.ceil((k + 1) * size / parts))
            for k, size, parts in zip((a, b), x.shape[1:3], output_size, strict=True)
        )
        share = 1 / ((bottom - top) * (right - left))
        for i in range(top, bottom):
            for j in range(left, right):
                y[n, a, b, c] += share * x[n, i, j, c]
                dx[n, i, j, c] += share * dy[n, a, b, c]
    return y, dx


def flatten(x, dy):
    """y, dx: one neuron after the other, row by row, channels first of all.  §2.5.5."""
    y, dx = np.zeros((x.shape[0], x[0].size)), np.zeros_like(x)
    place = [0] * x.shape[0]
    for n, *cell in np.ndindex(x.shape):
        y[n, place[n]] = x[n, *cell]
        dx[n, *cell] = dy[n, place[n]]
        place[n] += 1
    return y, dx


def sigmoid(x, dy):
    """y, dx: eˣ / (1 + eˣ), whose slope is eˣ / (1 + eˣ)².  §2.2.2."""
    return each_number(
        lambda v: math.exp(v) / (1 + math.exp(v)),
        lambda v: math.exp(v) / (1 + math.exp(v)) ** 2,
        x,
        dy,
    )
