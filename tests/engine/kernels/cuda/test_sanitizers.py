"""No race and nothing past an array's end, in kernels that share memory; mistakes are noticed."""

import numpy as np
import pytest

from tests.engine.kernels.cuda.sanitizers import complaints
from tests.engine.kernels.cuda.test_tensor_conv import SMALL
from tinynet.engine.kernels.cuda import conv, source, tensor_conv
from tinynet.engine.precision import bfloat16
from tinynet.layers.window import window_over

pytestmark = pytest.mark.slow  # programs of their own, compiled one by one

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
    return complaints(
        code, source.options(given), "conv2d_forward", (2, 2, 1), (2, 2, 1), sizes, folder
    )


def tensor_product(code, folder, kernel="tensor_forward", sanitizer="thread"):
    """One launch of a kernel of tensor_conv.cu: all tiles of its result.

    The last of the forward pass's 3 · 3 · 24 / 32 loads is to the stage that the result lies on.
    """
    window = window_over((5, 7), (3, 3), (1, 1), "same")
    x, w = np.empty((1, 5, 7, 24), bfloat16()), np.empty((3, 3, 24, 24), "float32")
    given = tensor_conv.definitions(x, w, window, SMALL)
    arrays = {
        "tensor_forward": (x.size, w.size, 24, 35 * 24, 1, "1", "1", "1"),
        "tensor_input_gradient": (35 * 24, w.size, x.size, "1"),
        "tensor_weight_gradient": (x.size, 35 * 24, w.size, "1", "64"),
    }[kernel]
    shared = SMALL.shared_bytes(2)
    tiles = 2 * 7 if kernel == "tensor_weight_gradient" else 2 * 2  # both ends are in the last one
    grid, block = (tiles, 1, 1), (SMALL.threads, 1, 1)
    return complaints(
        code, source.options(given), kernel, grid, block, arrays, folder, shared, sanitizer
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


GUARDS = {
    "tensor_forward": ["&& k < COLUMNS;", "if (m < rows)", "top + row < rows &&"],
    "tensor_input_gradient": ["&& k < COLUMNS;", "if (m < rows)", "top + row < rows &&"],
    "tensor_weight_gradient": ["m < last &&", "&& k < N_FILTERS;", "row < ROWS &&"],
}


@pytest.mark.parametrize("kernel", GUARDS)
def test_nothing_past_the_end_of_an_array(kernel, tmp_path):
    """Tiles are larger than what is left, and every comparison that says so is needed."""
    code = source.text("tensor_conv")
    assert tensor_product(code, tmp_path, kernel, "address") == ""
    for guard in GUARDS[kernel]:
        assert guard in code
        wrong = code.replace(guard, "if (true)" if "if" in guard else ";" if ";" in guard else "")
        assert "overflow" in tensor_product(wrong, tmp_path, kernel, "address"), guard


DENSE = (("ACT", "float"), ("REAL", "float"), ("SIDE", 4), ("ROWS", 4), ("FOURS", 1))
LOSSES = (("ACT", "float"), ("REAL", "float"), ("THREADS", 8))
N, I, O, PARTS = 13, 36, 20, 3  # noqa: E741 - as in dense.cu
LAUNCHES = {  # source, its macros, grid, block, arguments
    "dense_forward": (
        *("dense", DENSE, (1, 2, PARTS), (4, 4, 1)),
        (N * I, I * O, O, N * O, PARTS * N * O, "13", "36", "20", "3", "1"),
    ),
    "dense_input_gradient": (
        *("dense", DENSE, (1, 3, PARTS), (4, 4, 1)),
        (N * O, I * O, N * I, PARTS * N * I, "13", "36", "20", "3"),
    ),
    "dense_weight_gradient": (
        *("dense", DENSE, (3, 2, 1), (4, 4, 1)),
        (N * I, N * O, I * O, "13", "36", "20", "1"),
    ),
    "dense_bias_gradient": ("dense", DENSE, (1, 1, 1), (32, 8, 1), (N * O, O, "13", "20", "1")),
    "add_parts": (
        *("dense", DENSE, (2, 1, 1), (8, 1, 1)),
        (PARTS * N * O, O, N * O, "260", "20", "3", "1"),
    ),
    "softmax_cross_entropy_forward": (
        *("losses", LOSSES, (3, 1, 1), (8, 1, 1)),
        (63, 63, 3, 63, 3, 3, "21", "1"),
    ),
    "sum_of_losses": ("losses", LOSSES, (1, 1, 1), (8, 1, 1), (21, 1, "21")),
    "softmax_cross_entropy_backward": (
        *("losses", LOSSES, (3, 1, 1), (8, 1, 1)),
        (63, 63, 3, 63, "21"),
    ),
}
BARRIERS = {"dense_forward": 2, "softmax_cross_entropy_forward": 3}


def launch(kernel, folder, code=None, sanitizer="thread"):
    """One launch, whose last tiles and rows of threads are not full."""
    name, given, grid, block, arguments = LAUNCHES[kernel]
    code, options = code or source.text(name), source.options(given)
    return complaints(code, options, kernel, grid, block, arguments, folder, sanitizer=sanitizer)


@pytest.mark.parametrize("sanitizer", ["thread", "address"])
@pytest.mark.parametrize("kernel", LAUNCHES)
def test_dense_layers_and_losses(kernel, sanitizer, tmp_path):
    assert launch(kernel, tmp_path, sanitizer=sanitizer) == ""


@pytest.mark.parametrize("kernel", BARRIERS)
def test_barriers_of_dense_layers_and_losses_are_needed(kernel, tmp_path):
    code = source.text(LAUNCHES[kernel][0])
    for number in range(BARRIERS[kernel]):
        assert "data race" in launch(kernel, tmp_path, without_barrier(code, number))
