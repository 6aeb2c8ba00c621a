"""What every compiled kernel but the convolutions keeps to, operation by operation.

Drawn geometries in float64, and every cache with every backward pass, are in test_three_ways.
"""

import tracemalloc

import numpy as np
import pytest

from tinynet import layers
from tinynet.backend import use_kernels
from tinynet.engine import threads
from tinynet.engine.kernels.numba import MODULES, load
from tinynet.engine.memory import Workspace
from tinynet.engine.plan import epilogues

pytest.importorskip("numba", reason='Numba is not installed: pip install ".[fast]"')

SHAPE = 7, 5, 6, 37  # more channels than a vector instruction takes at once, and some left over


def of_channels(x):
    """gamma, beta, mean and variance (C,)."""
    rng = np.random.default_rng(1)
    gamma, beta, mean, root = rng.standard_normal((4, x.shape[-1])).astype(x.dtype)
    return gamma, beta, mean, root**2


# operation -> where it is, the arguments after x
OPERATIONS = {
    "relu": (layers, lambda x: (0.25,)),
    "relu6": (layers, lambda x: ()),
    "max_pool2d": (layers, lambda x: (2,)),
    "max_pool2d, overlapping": (layers, lambda x: (3, 2, "same")),
    "sum_pool2d": (layers, lambda x: ((2, 3), 2, 1)),
    "avg_pool2d": (layers, lambda x: (3, 2, "same")),
    "global_avg_pool2d": (layers, lambda x: ()),
    "batchnorm": (layers, lambda x: of_channels(x)[:2]),
    "batchnorm_frozen": (layers, of_channels),
    **{
        f"batchnorm_block, {tail}": (
            epilogues,
            lambda x, tail=tail: (*of_channels(x)[:2], 0.1, tail),
        )
        for tail in epilogues.TAILS
    },
}
each_operation = pytest.mark.parametrize("name", OPERATIONS)
each_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])


def functions(name):
    """The forward and the backward function, swappable."""
    place, _ = OPERATIONS[name]
    operation = name.split(",")[0]
    return getattr(place, f"{operation}_forward"), getattr(place, f"{operation}_backward")


def normal(shape, dtype, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def both_passes(name, x, kernels):
    """(y, gradients...) and the cache."""
    forward, backward = functions(name)
    with use_kernels(kernels):
        y, cache = forward(x, *OPERATIONS[name][1](x))
        gradients = backward(normal(y.shape, y.dtype, 2), cache)
    return (y, *(gradients if isinstance(gradients, tuple) else (gradients,))), cache


def assert_near(got, want, dtype):
    """To rounding, beside the largest element."""
    tolerance = 4e-6 if dtype == "float32" else 1e-13
    assert got.dtype == dtype
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * abs(want).max(), equal_nan=True)


@each_dtype
@each_operation
def test_results_are_the_references(name, dtype):
    x = 2 * normal(SHAPE, dtype) + 1
    got, _ = both_passes(name, x, "fast")
    wanted, _ = both_passes(name, x, "reference")
    for one, other in zip(got, wanted, strict=True):
        assert_near(one, other, dtype)


@each_dtype
@each_operation
def test_the_cache_serves_the_reference(name, dtype):
    x = normal(SHAPE, dtype)
    got, cache = both_passes(name, x, "fast")
    gradients = functions(name)[1].reference(normal(got[0].shape, dtype, 2), cache)
    gradients = gradients if isinstance(gradients, tuple) else (gradients,)
    for one, other in zip(got[1:], gradients, strict=True):
        assert_near(one, other, dtype)


@each_operation
def test_bits_do_not_depend_on_the_number_of_threads(name, monkeypatch):
    x, results = normal(SHAPE, "float32"), []
    for count in (1, 2, 3):
        monkeypatch.setattr(threads, "thread_count", lambda count=count: count)
        results.append(both_passes(name, x, "fast")[0])
    for one, two, three in zip(*results, strict=True):
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(one, three)


@each_operation
def test_nan_is_where_the_reference_has_it(name):
    x = normal((3, 4, 6, 5), "float64")
    x[0, 0, 1, 2] = x[1, 2, 2, 3] = x[1, 3, 3, 3] = np.nan
    got, _ = both_passes(name, x, "fast")
    wanted, _ = both_passes(name, x, "reference")
    assert np.isnan(got[0]).any()
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)


NOT_COVERED = {
    "strided": lambda x: x[..., ::2],
    "float16": lambda x: x.astype("float16"),
    "complex": lambda x: x + 1j,  # has no order in the references either
    "empty": lambda x: x[:0],
    "two dtypes": lambda x: x,
}
LEAVES_OUT = {
    "complex": ("relu6", "max_pool2d", "batchnorm_block, relu_pool"),
    "two dtypes": ("relu", "max_pool2d", "sum_pool2d", "avg_pool2d", "global"),  # no other array
}


@pytest.mark.filterwarnings("ignore:Mean of empty slice:RuntimeWarning")
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (name, kind)
        for name in OPERATIONS
        for kind in NOT_COVERED
        if not name.startswith(LEAVES_OUT.get(kind, "-"))
    ],
)
def test_what_is_not_covered_is_handed_on(name, kind):
    x = NOT_COVERED[kind](normal((4, 4, 6, 6), "float64"))
    forward, backward = functions(name)
    more = OPERATIONS[name][1](x)
    if kind == "two dtypes":
        more = tuple(m.astype("float32") if isinstance(m, np.ndarray) else m for m in more)
    with use_kernels("numpy"), np.errstate(all="ignore"):
        want, want_cache = forward(x, *more)
        dy = normal(want.shape, "float64", 2).astype(want.dtype)[..., ::-1]
        wanted = backward(dy, want_cache)
    with use_kernels("fast"), np.errstate(all="ignore"):
        got, cache = forward(x, *more)
        results = backward(dy, cache)
    np.testing.assert_array_equal(got, want)
    assert got.dtype == want.dtype
    np.testing.assert_equal(results, wanted)


@each_operation
def test_a_step_that_was_made_before_asks_the_system_for_nothing_large(name, monkeypatch):
    monkeypatch.setattr(threads, "BLOCK_BYTES", 1 << 20)
    x = normal((16, 32, 32, 32), "float32")
    forward, backward = functions(name)
    arguments = x, *OPERATIONS[name][1](x)
    dy = normal(forward(*arguments)[0].shape, "float32")
    workspace = Workspace()
    for _ in range(3):
        with workspace:
            tracemalloc.start()
            y, cache = forward(*arguments)
            backward(dy, cache)
            del y, cache
            _, most = tracemalloc.get_traced_memory()
            tracemalloc.stop()
    assert most < x.nbytes // 16


def test_batch_norm_of_neurons():
    x = normal((9, 37), "float32")
    for name in ("batchnorm", "batchnorm_frozen"):
        got, _ = both_passes(name, x, "fast")
        wanted, _ = both_passes(name, x, "reference")
        for one, other in zip(got, wanted, strict=True):
            assert_near(one, other, "float32")


def test_a_pool_that_does_not_fit_is_refused_as_by_the_reference():
    x = normal((2, 1, 4, 3), "float32")
    with pytest.raises(ValueError, match="the window covers 2 × 2 cells"):
        both_passes("batchnorm_block, relu_pool", x, "fast")


def test_the_first_of_equal_cells_wins():
    x = np.ones((2, 4, 4, 40), "float32")
    for name in ("max_pool2d", "max_pool2d, overlapping"):
        _, cache = both_passes(name, x, "fast")
        _, want = both_passes(name, x, "reference")
        np.testing.assert_array_equal(cache.winner, want.winner)
        assert cache.winner.dtype == want.winner.dtype


def test_every_module_registers_what_its_line_says():
    for module, names in MODULES.items():
        load(module)
        for function in names:
            kernel = function.kernels["fast"]
            assert kernel.__module__ == f"tinynet.engine.kernels.numba.{module}", function.__name__
