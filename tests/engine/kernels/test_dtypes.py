"""What a dtype does is the same in every set of kernels: right to its last digits, or refused."""

import numpy as np
import pytest

from tests.layers.examples import IMAGES, example, layer_classes
from tinynet import losses, optimizers
from tinynet.backend import use_kernels
from tinynet.layer import Mode, Parameter

# of the largest number: a few roundings of the dtype
BOUNDS = {
    **{"float16": 1e-2, "bfloat16": 5e-2, "float32": 5e-6, ">f4": 5e-6, "complex64": 5e-6},
    **{"float64": 1e-13, "longdouble": 1e-13, "complex128": 1e-13},
}
OTHERS = ("int8", "uint8", "int32", "int64", "bool", "object", "U3", "m8[s]")
QUICK = ("float16", "float32", "int64")
LAYERS = layer_classes()
SETS = ("reference", "numpy", "numba")


def classes(module, base):
    """Name -> class, of the kinds of ``base`` that a module offers."""
    found = {name: kind for name, kind in vars(module).items() if isinstance(kind, type)}
    return {n: k for n, k in found.items() if issubclass(k, base) and k is not base}


LOSSES = classes(losses, losses.Loss)
del LOSSES["WithAuxiliary"]  # of other losses
OPTIMIZERS = classes(optimizers, optimizers.Optimizer)
TARGETS = {"BinaryCrossEntropy": np.arange(6) % 2, "MeanSquaredError": np.ones((6, 4))}


def of_layer(name, x):
    """[y, dx, gradients and buffers] of a training step."""
    layer = example(LAYERS[name])
    if layer.parameters():
        layer.to(dtype=x.dtype)
    y, cache = layer.forward(x, Mode(train=True, rng=np.random.default_rng(3)))
    dx = layer.backward(numbers(y.shape, y.dtype, 2), cache)
    return [y, dx, *(p.grad for p in layer.parameters().values()), *layer.buffers().values()]


def of_loss(name, z):
    f, z = LOSSES[name](), z[:, :1] if name == "BinaryCrossEntropy" else z
    if name == "CrossEntropy" and z.dtype.kind in "fcV":  # of probabilities
        z = (abs(z) / 16).astype(z.dtype)
    value, cache = f.forward(z, TARGETS.get(name, np.arange(6) % 4))
    return [value, f.backward(cache)]


def of_optimizer(name, w):
    parameter, rule = Parameter(w.copy()), OPTIMIZERS[name](0.1)
    for seed in range(3):
        parameter.grad = numbers(w.shape, w.dtype, seed)
        rule.step({"weight": parameter})
    return [parameter.value]


CASES = {
    **{f"layer {name}": (of_layer, name, IMAGES) for name in LAYERS},
    **{f"loss {name}": (of_loss, name, (6, 4)) for name in LOSSES},
    **{f"optimizer {name}": (of_optimizer, name, (6, 4)) for name in OPTIMIZERS},
}


def numbers(shape, dtype, seed=1):
    """Drawn normal; of a dtype without a sign or digits, what it makes of them."""
    x = 3 * np.random.default_rng(seed).standard_normal(shape)
    return (x if np.dtype(dtype).kind in "fcVO" else abs(x)).astype(dtype)


def dtype_of(name):
    return np.dtype(getattr(pytest.importorskip("ml_dtypes"), name) if "bfl" in name else name)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(
    "dtype",
    [d if d in QUICK else pytest.param(d, marks=pytest.mark.slow) for d in (*BOUNDS, *OTHERS)],
)
def test_a_dtype_is_right_or_refused_alike_in_every_set(name, dtype):
    run, kind, shape = CASES[name]
    x, found, refused = numbers(shape, dtype_of(dtype)), {}, {}
    for kernels in SETS:
        with use_kernels(kernels):
            try:
                found[kernels] = run(kind, x)
            except (TypeError, ValueError) as error:
                refused[kernels] = str(error)
    if refused:
        assert not found
        assert len(set(refused.values())) == 1
        return
    assert dtype in BOUNDS
    wide = np.complex128 if x.dtype.kind == "c" else np.float64
    with use_kernels("reference"):
        want = run(kind, x.astype(wide))
    for results in found.values():
        for got, exact in zip(results, want, strict=True):
            error = np.abs(np.asarray(got, wide) - exact).max()
            assert error <= BOUNDS[dtype] * max(1e-2, np.abs(exact).max())


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_most_of_them_are_not_refused(dtype):
    """Else the test above would show nothing."""
    for name, (run, kind, shape) in CASES.items():
        assert run(kind, numbers(shape, dtype))[0].dtype == dtype, name
