"""ReLU as a layer by itself, ``cast.cu`` run on the processor, against the reference, exactly."""

import numpy as np
import pytest

from tests.engine.kernels.cuda.few_threads import few_threads
from tests.engine.kernels.cuda.on_cpu import cupy_kernels
from tinynet.backend import to_device
from tinynet.engine.precision import bfloat16
from tinynet.layers.activations import relu_backward, relu_forward

__all__ = ["cupy_kernels", "few_threads"]  # fixtures
pytestmark = pytest.mark.usefixtures("few_threads")


def off(x):
    return to_device(x, "numpy").astype("float64")


@pytest.mark.parametrize("threshold", [0.0, 0.5, -1.0])
@pytest.mark.parametrize("shape", [(3, 5), (2, 4, 8), (1,)], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64", bfloat16()], ids=str)
def test_both_passes(dtype, shape, threshold):
    x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    x.reshape(-1)[::4], x.reshape(-1)[1::6] = threshold, np.nan
    dy = np.random.default_rng(1).standard_normal(shape).astype(dtype)
    want, cache = relu_forward.reference(x.astype("float64"), threshold)
    y, kept = relu_forward(to_device(x, "cupy"), threshold)
    dx = relu_backward(to_device(dy, "cupy"), kept)
    assert y.dtype == dx.dtype == dtype
    np.testing.assert_array_equal(off(y), want)
    np.testing.assert_array_equal(to_device(kept, "numpy"), cache)
    np.testing.assert_array_equal(off(dx), relu_backward.reference(dy.astype("float64"), cache))


def test_what_is_not_covered_goes_to_the_reference():
    halves = to_device(np.array([-1, 0, 2], "float16"), "cupy")
    y, slope = relu_forward(halves)
    assert off(y).tolist() == [0, 0, 2]
    assert off(relu_backward(halves, slope)).tolist() == [0, 0, 2]
    singles = to_device(np.array([-1, 0, np.nan], "float32"), "cupy")
    slopes = to_device(np.array([1.0, 0.0, 0.0], "float32"), "cupy")
    np.testing.assert_array_equal(off(relu_backward(singles, slopes)), [-1, 0, np.nan])
    assert relu_forward(singles[:0])[0].shape == (0,)
