"""engine/kernels/cuda/cast.cu, run on the processor, against NumPy and ml_dtypes, to the bit."""

import numpy as np
import pytest

from tests.engine.kernels.cuda.few_threads import few_threads
from tests.engine.kernels.cuda.on_cpu import cupy_kernels
from tinynet.backend import to_device
from tinynet.engine.kernels.cuda.cast import add, cast, relu, relu_gradient
from tinynet.engine.precision import bfloat16

__all__ = ["cupy_kernels", "few_threads"]  # fixtures
pytestmark = pytest.mark.usefixtures("few_threads")

DTYPES = ["float32", "float64", bfloat16()]
SHAPES = [(3, 5), (2, 4, 8), (1,)]  # 40 and more numbers by packs


def on(x):
    return to_device(x, "cupy")


def off(x):
    return to_device(x, "numpy")


def numbers(shape, dtype, seed=0):
    """Of many sizes, some not finite, some halfway between two numbers of bfloat16."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape) * 10.0 ** rng.integers(-20, 20, shape)
    flat = x.reshape(-1)
    odd = [1 + 2.0**-8, 1 + 3 * 2.0**-8, -0.0, np.inf, -np.inf, np.nan, 3.4e38, 1e-40]
    flat[: len(odd)] = odd[: flat.size]
    with np.errstate(over="ignore", invalid="ignore"):
        return x.astype(dtype)


def wide(x):
    return x.astype("float64")


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("to", DTYPES, ids=str)
@pytest.mark.parametrize("of", DTYPES, ids=str)
def test_casts(of, to, shape):
    x = numbers(shape, of)
    through = x.astype("float32") if np.dtype(to) == bfloat16() else x  # rounded to float32 first
    want = through.astype(to)
    for name in (to, str(np.dtype(to))):
        y = cast(on(x), name)
        assert y.dtype == to
        assert y.shape == shape
        np.testing.assert_array_equal(wide(off(y)), wide(want))
        np.testing.assert_array_equal(np.signbit(wide(off(y))), np.signbit(wide(want)))


def test_the_same_dtype_is_the_same_array():
    x = on(numbers((3, 5), "float32"))
    assert cast(x, "float32") is x
    halves = np.array([0.1, 1e-6, np.nan], "float32")
    np.testing.assert_array_equal(off(cast(on(halves), "float16")), halves.astype("float16"))
    assert off(cast(on(np.arange(3)), "float32")).tolist() == [0, 1, 2]
    assert cast(on(np.empty((0, 3), "float32")), bfloat16()).shape == (0, 3)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_sums_and_relu(dtype, shape):
    a, b = numbers(shape, dtype), numbers(shape, dtype, seed=1)
    with np.errstate(all="ignore"):
        real = "float32" if np.dtype(dtype) == bfloat16() else dtype
        sum_ = (a.astype(real) + b.astype(real)).astype(dtype)
        gradient = wide(a) * (wide(b) > 0)
    for got, want in (
        (add(on(a), on(b)), sum_),
        (relu(on(a)), np.maximum(wide(a), 0)),
        (relu_gradient(on(a), on(b)), gradient),
    ):
        assert got.dtype == dtype
        assert got.shape == shape
        np.testing.assert_array_equal(wide(off(got)), wide(want))


def test_an_array_that_begins_in_between_or_has_gaps():
    x = on(numbers((41,), "float32"))
    for view in (x[1:], x[::2], x[:40]):
        np.testing.assert_array_equal(off(cast(view, "float64")), wide(off(view)))


def test_arrays_of_two_shapes_or_dtypes():
    x = on(numbers((3, 5), "float32"))
    for other in (x[:2], cast(x, "float64")):
        for function in (add, relu_gradient):
            with pytest.raises(ValueError, match=r"want them the same"):
                function(x, other)
    whole = on(np.array([-1, 0, 2]))
    assert off(add(whole, whole)).tolist() == [-2, 0, 4]
    assert off(relu(whole)).tolist() == [0, 0, 2]
    assert off(relu_gradient(whole, whole)).tolist() == [0, 0, 2]
