"""Every CUDA source compiles for the GPUs of the last years; no GPU is needed for that."""

from importlib.resources import files

import numpy as np
import pytest

from tests.kernels.cuda.test_conv import GEOMETRIES
from tinynet.kernels.cuda import conv, pooling, source, tensor_conv
from tinynet.layers.pooling import pool_window_over
from tinynet.layers.window import pair, window_over
from tinynet.precision import bfloat16

core = pytest.importorskip(
    "cuda.core", reason='NVIDIA\'s runtime compiler is not installed: pip install ".[gpu-check]"'
)

GPUS = ["sm_80", "sm_90", "sm_100"]  # Ampere, Hopper, Blackwell


def conv_definitions(name, dtype, weights=None):
    shape, w_shape, stride, padding, dilation, groups = GEOMETRIES[name]
    window = window_over(shape[1:3], w_shape[:2], pair(stride, ""), padding, pair(dilation, ""))
    x, w = np.empty(shape, dtype), np.empty(w_shape, weights or dtype)
    return conv.definitions(x, w, window, groups, has_bias=True, relu=True)


def pool_definitions(dtype):
    window = pool_window_over((9, 8), (3, 3), (2, 2), 1)
    return pooling.definitions(window, np.empty((2, 9, 8, 5), dtype))


def tensor_definitions(tile, dtype, stride, pool):
    window = window_over((15, 14), (3, 3), (stride, stride), "same")
    x, w = np.empty((2, 15, 14, 24), dtype), np.empty((3, 3, 24, 40), "float32")
    return tensor_conv.definitions(x, w, window, tile, pool)


TENSOR_TILES = tensor_conv.WIDE, tensor_conv.NARROW, tensor_conv.SLIM, tensor_conv.SHORT
KINDS = bfloat16(), np.dtype("float32")

CASES = {
    "conv": [
        conv_definitions(name, *dtypes)
        for name in ("3x3", "7x7, stride 2", "groups", "depthwise")
        for dtypes in (("float32",), ("float64",), (bfloat16(), "float32"))
    ],
    "optimizers": [(("REAL", real),) for real in ("float", "double")],
    "tensor_conv": [
        tensor_definitions(tile, kind, *more)
        for kind in KINDS
        for tile, *more in zip(TENSOR_TILES, (1, 1, 2, 2), (True, False, True, False), strict=True)
    ],
    "tensor_filters": [source.kinds(np.empty(1, kind)) for kind in KINDS],
    "pooling": [pool_definitions(dtype) for dtype in ("float32", "float64")],
}


@pytest.mark.parametrize("gpu", GPUS)
@pytest.mark.parametrize(("name", "number"), [(n, i) for n in CASES for i in range(len(CASES[n]))])
def test_sources_compile(name, number, gpu):
    macros = [f"{key}={value}" for key, value in CASES[name][number]]
    options = core.ProgramOptions(std="c++17", arch=gpu, define_macro=macros)
    code = core.Program(source.text(name), "c++", options).compile("cubin")
    assert len(code.code) > 1000


def test_a_mistake_does_not():
    options = core.ProgramOptions(std="c++17", arch=GPUS[0])
    with pytest.raises(Exception, match="identifier"):
        core.Program("__global__ void f(float* x) { x[0] = y; }", "c++", options).compile("cubin")


def test_every_source_has_a_case():
    sources = [file.name for file in files("tinynet.kernels.cuda").iterdir()]
    assert sorted(CASES) == sorted(name[:-3] for name in sources if name.endswith(".cu"))
