"""engine/kernels/cuda/optimizers.cu, run on the processor, against the references."""

import numpy as np
import pytest

from tests.engine.kernels.cuda.on_cpu import cupy_kernels
from tinynet.backend import to_device
from tinynet.engine.kernels.cuda import launch, optimizers
from tinynet.optimizers import (
    adam_update,
    gradient_descent_update,
    momentum_update,
    rmsprop_update,
)

__all__ = ["cupy_kernels"]  # a fixture

# function, arrays that it changes, the numbers after the gradient
UPDATES = {
    "gradient descent": (gradient_descent_update, 1, (0.1,)),
    "momentum": (momentum_update, 2, (0.1, 0.9, False)),
    "Nesterov": (momentum_update, 2, (0.1, 0.9, True)),
    "RMSProp": (rmsprop_update, 2, (0.1, 0.1, 1e-6)),
    "Adam": (adam_update, 3, (0.1, 0.1, 0.001, 1e-8, (0.19, 0.002))),
}


@pytest.fixture(autouse=True)
def few_threads(cupy_kernels, monkeypatch):
    """Two blocks of 8 threads, so that a thread takes several numbers, and some none at the end."""
    for module in (launch, optimizers):
        monkeypatch.setattr(module, "THREADS", 8)
    monkeypatch.setattr(launch, "MOST_BLOCKS", 2)


def arrays(changed, shape, dtype):
    rng = np.random.default_rng(0)
    w, *memory, g = (rng.normal(size=shape).astype(dtype) for _ in range(changed + 1))
    return [w, *(x**2 for x in memory)], g


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("float64", 1e-14)])
@pytest.mark.parametrize("shape", [(1,), (3, 5), (7, 3, 2)], ids=str)
@pytest.mark.parametrize("name", UPDATES)
def test_updates(name, shape, dtype, tolerance):
    function, changed, numbers = UPDATES[name]
    want, g = arrays(changed, shape, dtype)
    got = [to_device(a.copy(), "cupy") for a in want]
    for _ in range(2):
        function.reference(*want, g, *numbers)
        assert function(*got, to_device(g, "cupy"), *numbers) is None
    for a, b in zip(got, want, strict=True):
        assert a.dtype == dtype
        np.testing.assert_allclose(to_device(a, "numpy"), b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", UPDATES)
def test_what_is_not_covered_goes_to_the_reference(name):
    """Arrays with gaps, of two dtypes, and none at all."""
    function, changed, numbers = UPDATES[name]
    for pick, dtype in ((slice(None, None, 2), "float64"), (slice(None), "float32")):
        want, g = arrays(changed, (6, 3), "float64")
        got = [to_device(a.copy(), "cupy") for a in want]
        function.reference(*(a[pick] for a in want), g[pick].astype(dtype), *numbers)
        function(*(a[pick] for a in got), to_device(g[pick].astype(dtype), "cupy"), *numbers)
        for a, b in zip(got, want, strict=True):
            np.testing.assert_allclose(to_device(a, "numpy"), b, rtol=1e-12)
    nothing, g = arrays(changed, (0,), "float32")
    function(*(to_device(a, "cupy") for a in nothing), to_device(g, "cupy"), *numbers)
