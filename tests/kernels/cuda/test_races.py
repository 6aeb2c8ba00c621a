"""No race in the kernels that share memory; and a barrier that is missing is noticed."""

import numpy as np
import pytest

from tests.kernels.cuda.races import races
from tests.kernels.cuda.test_tensor_conv import SMALL
from tinynet.kernels.cuda import conv, source, tensor_conv
from tinynet.layers.window import window_over
from tinynet.precision import bfloat16

BARRIER = "__syncthreads();"


def without_barrier(code, number):
    """The source without its barrier of that number, from 0."""
    parts = code.split(BARRIER)
    assert 0 <= number < len(parts) - 1
    return BARRIER.join(parts[: number + 1]) + BARRIER.join(parts[number + 1 :])


def product(code, folder):
    """One launch of the forward pass of conv.cu: 2 × 2 tiles, and several loads each."""
    window = window_over((3, 4), (1, 1))
    x, w = np.empty((1, 3, 4, 9), "float32"), np.empty((1, 1, 9, 11), "float32")
    given = tuple(
        (name, 2 if name == "SIDE" else value) for name, value in conv.definitions(x, w, window, 1)
    )
    sizes = (x.size, w.size, 11, 12 * 11, "1")
    return races(code, source.options(given), "conv2d_forward", (2, 2, 1), (2, 2, 1), sizes, folder)


def tensor_product(code, folder, kernel="tensor_forward"):
    """One launch of a kernel of tensor_conv.cu, two tiles of it.

    The last of the forward pass's 3 · 3 · 24 / 32 loads is to the stage that the result lies on.
    """
    window = window_over((5, 7), (3, 3), (1, 1), "same")
    x, w = np.empty((1, 5, 7, 24), bfloat16()), np.empty((3, 3, 24, 16), "float32")
    given = tensor_conv.definitions(x, w, window, SMALL)
    arrays = {
        "tensor_forward": (x.size, w.size, 16, 35 * 16, 1, "1", "1", "1"),
        "tensor_input_gradient": (35 * 16, w.size, x.size, "1"),
        "tensor_weight_gradient": (x.size, 35 * 16, w.size, "1", "64"),
    }[kernel]
    shared = SMALL.shared_bytes(2)
    block = SMALL.threads, 1, 1
    return races(
        code, source.options(given), kernel, (2, 1, 1), block, arrays, folder, shared=shared
    )


def test_conv(tmp_path):
    code = source.text("conv")
    assert product(code, tmp_path) == ""
    for number in range(2):
        assert "data race" in product(without_barrier(code, number), tmp_path)


@pytest.mark.parametrize("kernel", ["input_gradient", "weight_gradient"])
def test_gradients_on_tensor_cores(kernel, tmp_path):
    assert tensor_product(source.text("tensor_conv"), tmp_path, f"tensor_{kernel}") == ""


def test_forward_on_tensor_cores(tmp_path):
    code = source.text("tensor_conv")
    assert tensor_product(code, tmp_path) == ""
    for number in range(3):  # before a stage is overwritten, before the result is laid there, read
        assert "data race" in tensor_product(without_barrier(code, number), tmp_path)


DENSE = (("ACT", "float"), ("REAL", "float"), ("SIDE", 4), ("ROWS", 4), ("FOURS", 1))


def dense_forward(code, folder):
    """Two tiles of 13 rows by 20 columns, over 37 numbers in three parts."""
    sizes = (13 * 37, 37 * 20, 20, 13 * 20, 3 * 13 * 20, "13", "37", "20", "3", "1")
    return races(code, source.options(DENSE), "dense_forward", (1, 2, 3), (4, 4, 1), sizes, folder)


def cross_entropy(code, folder):
    """Three rows of 21 numbers by 8 threads."""
    given = source.options((("ACT", "float"), ("REAL", "float"), ("THREADS", 8)))
    name, sizes = "softmax_cross_entropy_forward", (63, 63, 3, 63, 3, 3, "21", "0")
    return races(code, given, name, (3, 1, 1), (8, 1, 1), sizes, folder)


@pytest.mark.parametrize(
    ("name", "launch", "barriers"), [("dense", dense_forward, 2), ("losses", cross_entropy, 3)]
)
def test_dense_layers_and_losses(name, launch, barriers, tmp_path):
    code = source.text(name)
    assert launch(code, tmp_path) == ""
    for number in range(barriers):
        assert "data race" in launch(without_barrier(code, number), tmp_path)
