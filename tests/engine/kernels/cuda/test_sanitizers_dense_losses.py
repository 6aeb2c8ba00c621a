"""No race and nothing past an array's end in dense layers and losses; barriers are needed."""

import pytest

from tests.engine.kernels.cuda.sanitizers import complaints
from tinynet.engine.kernels.cuda import source

BARRIER = "__syncthreads();"
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
    parts = source.text(LAUNCHES[kernel][0]).split(BARRIER)
    for number in range(1, BARRIERS[kernel] + 1):
        code = BARRIER.join(parts[:number]) + ";" + BARRIER.join(parts[number:])
        assert "data race" in launch(kernel, tmp_path, code)
