"""The report's sums written as nested loops: slow, and plain enough to be right.  §2.5.2-4.

``sides`` is the padding, ((top, bottom), (left, right)); a cell outside the input is padding.
"""

import itertools

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


def sum_pool2d(x, dy, geometry):
    """y, dx: the sum, and the gradient to every cell.  §2.5.4."""
    y, dx = np.zeros(geometry.output_shape), np.zeros_like(x)
    for n, a, b, c, cells in each_window(geometry):
        for row, column in cells:
            y[n, a, b, c] += x[n, row, column, c]
            dx[n, row, column, c] += dy[n, a, b, c]
    return y, dx


def avg_pool2d(x, dy, geometry, count_padding):
    """y, dx: the mean, and the gradient shared among the cells it is over.  §2.5.4."""
    (kernel_h, kernel_w), _, _ = geometry.window()
    y, dx = np.zeros(geometry.output_shape), np.zeros_like(x)
    for n, a, b, c, cells in each_window(geometry):
        count = kernel_h * kernel_w if count_padding else len(cells)
        for row, column in cells:
            y[n, a, b, c] += x[n, row, column, c] / count
            dx[n, row, column, c] += dy[n, a, b, c] / count
    return y, dx
