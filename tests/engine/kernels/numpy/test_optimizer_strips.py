"""tinynet/engine/kernels/numpy/optimizers.py: strips give the references' bits."""

import numpy as np
import pytest

from tinynet.engine.kernels.numpy import optimizers as strips
from tinynet.optimizers import (
    adam_update,
    gradient_descent_update,
    momentum_update,
    rmsprop_update,
)

pytestmark = pytest.mark.usefixtures("numpy_kernels")

# function, arrays that it changes, the numbers after the gradient
UPDATES = {
    "gradient descent": (gradient_descent_update, 1, (0.1,)),
    "momentum": (momentum_update, 2, (0.1, 0.9, False)),
    "Nesterov": (momentum_update, 2, (0.1, 0.9, True)),
    "RMSProp": (rmsprop_update, 2, (0.1, 0.1, 1e-6)),
    "Adam": (adam_update, 3, (0.1, 0.1, 0.001, 1e-8, (0.19, 0.002))),
}


def arrays(changed, size, dtype):
    rng = np.random.default_rng(0)
    made = [rng.normal(size=size).astype(dtype) for _ in range(changed + 1)]
    return [made[0], *(x**2 for x in made[1:-1])], made[-1]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [(8,), (3, 5), (7, 3, 2), (64,)], ids=str)
@pytest.mark.parametrize("name", UPDATES)
def test_bits_are_the_references(name, size, dtype, monkeypatch):
    monkeypatch.setattr(strips, "STRIP", 4)
    reached = []
    cut = strips.over_blocks
    monkeypatch.setattr(strips, "over_blocks", lambda *a: reached.append(cut(*a)))
    function, changed, numbers = UPDATES[name]
    (got, g), (want, _) = arrays(changed, size, dtype), arrays(changed, size, dtype)
    function(*got, g, *numbers)
    function.reference(*want, g, *numbers)
    assert len(reached) == 1
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", UPDATES)
def test_what_cannot_be_cut_goes_to_the_reference(name, monkeypatch):
    monkeypatch.setattr(strips, "STRIP", 4)
    function, changed, numbers = UPDATES[name]
    (got, g), (want, _) = arrays(changed, (9, 4), "float64"), arrays(changed, (9, 4), "float64")
    mixed = g.astype("float32")
    for gradient, pick in ((g.T.copy().T, slice(None)), (g[::2], slice(None, None, 2))):
        function(*(x[pick] for x in got), gradient, *numbers)
        function.reference(*(x[pick] for x in want), gradient, *numbers)
    function(*got, mixed, *numbers)
    function.reference(*want, mixed, *numbers)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)
