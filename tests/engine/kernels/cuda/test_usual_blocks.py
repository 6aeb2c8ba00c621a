"""Kernels in blocks of their usual size, which other tests make small.

On a GPU with arrays as large as a network's: many blocks, parts and chunks.
"""

import numpy as np
import pytest

from tests.engine.kernels.cuda.on_cpu import Module, cupy_kernels
from tinynet.backend import to_device
from tinynet.engine.gpu.multi_tensor import MultiTensorUpdate
from tinynet.engine.gpu.random import DeviceRandom
from tinynet.engine.kernels.cuda import source
from tinynet.engine.kernels.cuda.launch import captured_step
from tinynet.engine.plan.epilogues import dense_fused_backward
from tinynet.engine.precision import bfloat16
from tinynet.layer import Parameter
from tinynet.layers.dense import dense_backward, dense_forward
from tinynet.losses import softmax_cross_entropy_backward, softmax_cross_entropy_forward
from tinynet.optimizers import SGD, Adam
from tinynet.train.data import generator

__all__ = ["cupy_kernels"]  # a fixture


@pytest.fixture
def large(cupy_kernels):
    """Whether there is a GPU for large arrays."""
    source.forget()
    return cupy_kernels.RawModule is not Module


def on(x):
    return to_device(x, "cupy")


def off(x):
    return to_device(x, "numpy")


def normal(seed, *shapes):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


DENSE = {  # N, n_in, n_out: on the processor, on a GPU
    "a first dense layer": ((9, 150, 68), (64, 25088, 512)),
    "two classes": ((5, 200, 2), (32, 100_000, 2)),
    "odd": ((37, 67, 33), (257, 1025, 333)),
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", DENSE)
def test_dense(name, dtype, large):
    """Within the rounding of sums, and in bfloat16 of half a last place."""
    n, inputs, outputs = DENSE[name][large]
    x, w, b, dz = normal(1, (n, inputs), (inputs, outputs), (outputs,), (n, outputs))
    if dtype == "bfloat16":
        x, dz = x.astype(bfloat16()), dz.astype(bfloat16())
    exact = [a.astype(np.float64) for a in (x, w, b, dz)]
    z, cache = dense_forward.reference(*exact[:3])
    wanted = [z, *dense_backward.reference(exact[3], cache)]
    with captured_step():
        z, kept = dense_forward(on(x), on(w), on(b))
        results = [z, *dense_backward(on(dz), kept)]
        more = on(w.copy()), on(b.copy())
        dx = dense_fused_backward(*more, on(dz), kept)
    wanted += [exact[1] + wanted[2], exact[2] + wanted[3], wanted[1]]
    for got, want in zip([*results, *more, dx], wanted, strict=True):
        rounding = 2**-8 if got.dtype == bfloat16() else 1e-5
        error = abs(off(got).astype(np.float64) - want).max()
        assert error <= rounding * abs(want).max()


def test_softmax_cross_entropy(large):
    n, classes = (600, 1000) if large else (5, 300)
    (z,), y = normal(1, (n, classes)), np.random.default_rng(2).integers(0, classes, n)
    want, cache = softmax_cross_entropy_forward.reference(z.astype(np.float64), y)
    value, kept = softmax_cross_entropy_forward(on(z), on(y))
    assert float(value) == pytest.approx(float(want), rel=1e-6)
    wanted = softmax_cross_entropy_backward.reference(cache)
    dz = off(softmax_cross_entropy_backward(kept))
    np.testing.assert_allclose(dz, wanted, rtol=1e-4, atol=1e-9)


def test_masks(large):
    device = DeviceRandom.from_generator(generator(1, "dropout", 2))
    host = generator(1, "dropout", 2)
    for shape in [(64, 56, 56, 63), (5, 7)] if large else [(41, 53), (5, 7)]:
        mask = off(device.random_mask(shape, 0.7))
        np.testing.assert_array_equal(mask, host.random(shape) < 0.7)


@pytest.mark.parametrize("make", [lambda: Adam(0.01), lambda: SGD(0.01, momentum=0.9)])
def test_all_parameters_together(make, large):
    shapes = [(3000, 1001), (7,), (512, 3, 3, 64)] if large else [(129, 131), (7,)]
    values, gradients = normal(1, *shapes), normal(2, *shapes)
    found = []
    for device in ("numpy", "cupy"):
        made = {str(i): Parameter(to_device(w.copy(), device)) for i, w in enumerate(values)}
        for p, g in zip(made.values(), gradients, strict=True):
            p.grad[...] = to_device(g, device)
        optimizer = make()
        if device == "numpy":
            optimizer.step(made)
        else:
            by = MultiTensorUpdate(optimizer, made)
            optimizer.count(by.names)
            by.launch(on(by.numbers(optimizer)), on(np.array(1, np.float32)))
        found.append([off(p.value) for p in made.values()])
    for want, got in zip(*found, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
