"""Every CUDA source compiles for the GPUs of the last years; no GPU is needed for that."""

from importlib.resources import files

import numpy as np
import pytest

from tests.engine.kernels.cuda.test_operations import CONVOLUTIONS
from tinynet.engine.gpu.multi_tensor import RULES
from tinynet.engine.kernels.cuda import (
    batchnorm,
    conv,
    epilogues,
    few_channels,
    losses,
    pooling,
    source,
    tensor_conv,
)
from tinynet.engine.kernels.cuda.columns import divide
from tinynet.engine.precision import bfloat16
from tinynet.layers.pooling import pool_window_over
from tinynet.layers.window import pair, window_over

core = pytest.importorskip(
    "cuda.core", reason='NVIDIA\'s runtime compiler is not installed: pip install ".[gpu-check]"'
)

GPUS = ["sm_80", "sm_90", "sm_100"]  # Ampere, Hopper, Blackwell


def conv_definitions(name, dtype, weights=None):
    shape, w_shape, stride, padding, dilation, groups = CONVOLUTIONS[name]
    window = window_over(shape[1:3], w_shape[:2], pair(stride, ""), padding, pair(dilation, ""))
    x, w = np.empty(shape, dtype), np.empty(w_shape, weights or dtype)
    return conv.definitions(x, w, window, groups, has_bias=True, relu=True)


def pool_definitions(dtype):
    window = pool_window_over((9, 8), (3, 3), (2, 2), 1)
    return pooling.definitions(window, np.empty((2, 9, 8, 5), dtype))


ACT_REAL = [
    (("ACT", act), ("REAL", real))
    for act, real in (("float", "float"), ("double", "double"), ("bf16", "float"))
]


def types(dtype):
    return source.dtype_macros(np.empty(0, dtype))


def columns(dtype, channels):
    return divide(1000, channels, np.dtype(dtype).itemsize).definitions


def batchnorm_definitions(dtype, channels, **more):
    return batchnorm.definitions(np.empty(0, dtype), columns(dtype, channels), **more)


def epilogue_definitions(dtype, channels):
    return epilogues.definitions(np.empty((1, 1, 1, channels), dtype), (9, 8))[0]


DTYPES = ["float32", "float64", bfloat16()]
CHANNELS = [64, 3]  # by packs of 16 bytes, and one by one


def tensor_definitions(tile, dtype, stride, pool):
    window = window_over((15, 14), (3, 3), (stride, stride), "same")
    x, w = np.empty((2, 15, 14, 24), dtype), np.empty((3, 3, 24, 40), "float32")
    return tensor_conv.definitions(x, w, window, tile, pool)


TENSOR_TILES = tensor_conv.WIDE, tensor_conv.NARROW, tensor_conv.SLIM, tensor_conv.SHORT
KINDS = bfloat16(), np.dtype("float32")

CASES = {
    "batchnorm": [
        batchnorm_definitions(dtype, channels, **more)
        for dtype in DTYPES
        for channels, more in (
            (64, {}),
            (64, {"frozen": True}),
            (64, {"epilogue": 1}),
            (64, {"epilogue": 2, "size": (9, 8)}),
            (3, {"epilogue": 2, "size": (9, 8)}),
        )
    ],
    "elementwise": [
        (*pair, ("VEC", vec))
        for pair in (
            *map(types, DTYPES),
            (("ACT", "bf16"), ("REAL", "double")),
            (("ACT", "float"), ("REAL", "double")),
        )
        for vec in (1, 8)
    ],
    "channel_sums": [(*types(d), *columns(d, channels)) for d in DTYPES for channels in CHANNELS],
    "conv": [
        conv_definitions(name, *dtypes)
        for name in ("3x3", "7x7, stride 2", "groups", "depthwise")
        for dtypes in (("float32",), ("float64",), (bfloat16(), "float32"))
    ],
    "dense": [
        (*kinds, ("SIDE", 16), ("ROWS", rows), ("FOURS", fours))
        for kinds in ACT_REAL
        for rows, fours in ((1, 0), (2, 1), (4, 1))
    ],
    "dropout": ACT_REAL,
    "few_channels": [
        few_channels.definitions(
            np.empty((2, 9, 8, 3), dtype),
            np.empty((3, 3, 3, 8), "float64" if dtype == "float64" else "float32"),
            window_over((9, 8), (3, 3), (2, 1), 1, (1, 2)),
            has_bias=True,
            relu=True,
            rows=8,
        )
        for dtype in DTYPES
    ],
    "losses": [losses.definitions(kinds, threads) for kinds in ACT_REAL for threads in (32, 256)],
    "optimizers": [
        (("REAL", real), ("RULE", rule.name))
        for real in ("float", "double")
        for rule in RULES.values()
    ],
    "pooling": [pool_definitions(dtype) for dtype in DTYPES],
    "epilogues": [
        epilogue_definitions(dtype, channels) for dtype in DTYPES for channels in CHANNELS
    ],
    "tensor_conv": [
        tensor_definitions(tile, kind, *more)
        for kind in KINDS
        for tile, *more in zip(TENSOR_TILES, (1, 1, 2, 2), (True, False, True, False), strict=True)
    ],
    "tensor_filters": [source.dtype_macros(np.empty(1, kind)) for kind in KINDS],
}


# Each case for Hopper; one of each source, and all for tensor cores, for the others as well. By
# default one of each source, for Hopper.
COMPILED = [
    pytest.param(
        name, number, gpu, marks=[] if (number, gpu) == (0, "sm_90") else [pytest.mark.slow]
    )
    for name, cases in CASES.items()
    for number in range(len(cases))
    for gpu in GPUS
    if gpu == "sm_90" or number == 0 or name == "tensor_conv"
]


@pytest.mark.parametrize(("name", "number", "gpu"), COMPILED)
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
    sources = [file.name for file in files("tinynet.engine.kernels.cuda").iterdir()]
    assert sorted(CASES) == sorted(name[:-3] for name in sources if name.endswith(".cu"))
