"""Every operation three ways: the report's nested loops, the reference, every registered kernel.

All on the same drawn arguments. A forward pass of one way may be followed by a backward pass of
another (they share their cache), so every pair of ways is run. CASES must hold every operation of
tinynet, and every function that has a kernel: the last tests say so of who forgets.
"""

import functools
import importlib
import itertools
import pkgutil

import numpy as np
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

import tinynet
from tests.layers import loops
from tests.layers.support import assert_close, drawn_some, frozen, normal
from tinynet.backend import library_of, register, swappable, to_device
from tinynet.doctor.gpu import read_gpu
from tinynet.engine.kernels.numba import HAVE_NUMBA
from tinynet.engine.plan.epilogues import TAILS
from tinynet.layers.dense import DenseCache
from tinynet.testing.strategies import (
    conv_geometries,
    labels,
    pool_geometries,
    probabilities,
    seeds,
    tie_free_arrays,
    tie_full_arrays,
)

SHAPES = st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple)
BATCHES = st.lists(st.integers(1, 4), min_size=2, max_size=4).map(tuple)
IMAGES = st.tuples(*[st.integers(1, 4)] * 4)

# Each strategy draws (arguments of the forward pass, dy -> (y, gradients...) by loops).


@st.composite
def dense(draw):
    n, inputs, outputs = draw(st.tuples(*[st.integers(1, 5)] * 3))
    x, w, b = normal(draw(seeds()), (n, inputs), (inputs, outputs), (outputs,))
    arguments = (x, w, b if draw(st.booleans()) else None)
    return arguments, functools.partial(loops.dense, *arguments)


@st.composite
def conv2d(draw):
    g = draw(conv_geometries(max_batch=2))
    x, w, b = normal(draw(seeds()), g.input_shape, g.weight_shape, (g.filters,))
    b = b if g.bias else None

    def by_loops(dz):
        dx, dw, db = loops.conv2d_backward(dz, x, w, g)
        return loops.conv2d_forward(x, w, b, g), dx, dw, None if b is None else db

    return (x, w, b, g.stride, g.padding, g.dilation, g.groups), by_loops


@st.composite
def pool2d(draw, function, with_padding_counted=False):
    g = draw(pool_geometries(max_batch=2))
    x = frozen(draw(tie_free_arrays(g.input_shape) | tie_full_arrays(g.input_shape)))
    more = (draw(st.booleans()),) if with_padding_counted else ()
    arguments = (x, g.pool_size, g.stride, g.padding, *more)
    return arguments, lambda dy: function(x, dy, g, *more)


@st.composite
def of_one_array(draw, function, shapes):
    (x,) = normal(draw(seeds()), draw(shapes))
    return (x,), functools.partial(function, x)


@st.composite
def relu(draw):
    x = frozen(draw(SHAPES.flatmap(tie_full_arrays)))
    arguments = (x, draw(st.sampled_from([0.0, 1.0, -0.5])))
    return arguments, functools.partial(loops.relu, *arguments)


@st.composite
def relu6(draw):
    x = frozen(3 + 3 * draw(SHAPES.flatmap(tie_full_arrays)))  # 0, 3 and 6: the kinks too
    return (x,), functools.partial(loops.relu6, x)


@st.composite
def scale(draw):
    (x,) = normal(draw(seeds()), draw(SHAPES))
    arguments = (x, draw(st.sampled_from([0.1, -2.0])))
    return arguments, functools.partial(loops.scale, *arguments)


@st.composite
def gate(draw):
    shape = draw(SHAPES | IMAGES)
    a_channel = len(shape) == 4 and draw(st.booleans())
    arguments = normal(draw(seeds()), shape, (shape[0], shape[3]) if a_channel else shape)
    return tuple(arguments), functools.partial(loops.gate, *arguments)


@st.composite
def channel_shuffle(draw):
    groups, per_group = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    (x,) = normal(draw(seeds()), (*draw(SHAPES), groups * per_group))
    return (x, groups), functools.partial(loops.channel_shuffle, x, groups)


@st.composite
def channel_slice(draw):
    (x,) = normal(draw(seeds()), draw(SHAPES))
    start = draw(st.integers(0, x.shape[-1] - 1))
    arguments = (x, start, draw(st.integers(start + 1, x.shape[-1])))
    return arguments, functools.partial(loops.channel_slice, *arguments)


@st.composite
def local_response_norm(draw):
    (a,) = normal(draw(seeds()), draw(SHAPES))
    constants = draw(st.sampled_from([(1e-4, 0.75, 2.0), (0.5, 2.0, 1.0)]))
    arguments = (a, draw(st.sampled_from([1, 3, 5])), *constants)
    return arguments, functools.partial(loops.local_response_norm, *arguments)


@st.composite
def dropout(draw):
    (x,) = normal(draw(seeds()), draw(SHAPES))
    mask = frozen(np.random.default_rng(draw(seeds())).random(x.shape) < 0.5)
    keep_prob, scale_at = (
        draw(st.sampled_from([0.1, 0.7])),
        draw(st.sampled_from(["train", "test"])),
    )
    arguments = (x, mask if draw(st.booleans()) else None, keep_prob, scale_at)
    return arguments, functools.partial(loops.dropout, *arguments)


@st.composite
def adaptive_pool2d(draw):
    (x,), size = normal(draw(seeds()), draw(IMAGES)), draw(st.tuples(*[st.integers(1, 4)] * 2))
    return (x, size), functools.partial(loops.adaptive_avg_pool2d, x, size)


@st.composite
def batchnorm(draw, moving=False):
    shape = draw(
        st.tuples(st.integers(1, 5), st.integers(1, 4)) | st.tuples(*[st.integers(1, 3)] * 4)
    )
    x, gamma, beta, mean, root = normal(draw(seeds()), shape, *[shape[-1:]] * 4)
    statistics = (mean, root**2 + 0.1) if moving else ()
    arguments = (x, gamma, beta, *statistics, draw(st.sampled_from([1e-3, 0.1])))
    function = loops.batchnorm_frozen if moving else loops.batchnorm
    return arguments, functools.partial(function, *arguments)


def tails(size):
    """What may follow an array (N, height, width, C): a pool 2×2 must fit."""
    return st.sampled_from(TAILS if min(size) >= 2 else TAILS[:2])


@st.composite
def conv2d_block(draw):
    g = draw(conv_geometries(max_batch=2))
    x, w, b = normal(draw(seeds()), g.input_shape, g.weight_shape, (g.filters,))
    b, tail = b if g.bias else None, draw(tails(g.output_size))

    def by_loops(dy):
        z = loops.conv2d_forward(x, w, b, g)
        y, dz = loops.tail(z, tail, dy)
        dx, dw, db = loops.conv2d_backward(dz, x, w, g)
        return y, dx, dw, None if b is None else db

    return (x, w, b, g.stride, g.padding, g.dilation, g.groups, tail), by_loops


@st.composite
def batchnorm_block(draw):
    shape = draw(st.tuples(*[st.integers(1, 4)] * 4))
    x, gamma, beta = normal(draw(seeds()), shape, shape[-1:], shape[-1:])
    arguments, tail = (x, gamma, beta, draw(st.sampled_from([1e-3, 0.1]))), draw(tails(shape[1:3]))

    def by_loops(dy):
        z, *_ = loops.batchnorm(*arguments, np.zeros_like(x))
        y, dz = loops.tail(z, tail, dy)
        return y, *loops.batchnorm(*arguments, dz)[1:]

    return (*arguments, tail), by_loops


@st.composite
def loss(draw, function, inputs):
    n, k = draw(st.tuples(st.integers(1, 5), st.integers(2, 4)))
    x = frozen(draw(inputs(n, k)))
    y = frozen(draw(labels(n, k, one_hot=True) | probabilities(n, k)))
    weights = abs(normal(draw(seeds()), (n,))[0]) if draw(st.booleans()) else None
    return (x, y, weights), lambda _: function(x, y, weights)


CASES = {
    "adaptive_avg_pool2d": adaptive_pool2d(),
    "avg_pool2d": pool2d(loops.avg_pool2d, with_padding_counted=True),
    "batchnorm": batchnorm(),
    "batchnorm_block": batchnorm_block(),
    "batchnorm_frozen": batchnorm(moving=True),
    "channel_shuffle": channel_shuffle(),
    "channel_slice": channel_slice(),
    "conv2d": conv2d(),
    "conv2d_block": conv2d_block(),
    "cross_entropy": loss(loops.cross_entropy, probabilities),
    "dense": dense(),
    "dropout": dropout(),
    "flatten": of_one_array(loops.flatten, BATCHES),
    "gate": gate(),
    "global_avg_pool2d": of_one_array(loops.global_avg_pool2d, IMAGES),
    "local_response_norm": local_response_norm(),
    "max_pool2d": pool2d(loops.max_pool2d),
    "relu": relu(),
    "relu6": relu6(),
    "scale": scale(),
    "sigmoid": of_one_array(loops.sigmoid, SHAPES),
    "softmax": of_one_array(loops.softmax, SHAPES),
    "softmax_cross_entropy": loss(
        loops.softmax_cross_entropy, lambda n, k: st.builds(lambda s: normal(s, (n, k))[0], seeds())
    ),
    "sum_pool2d": pool2d(loops.sum_pool2d),
}


@st.composite
def update(draw, changed, *choices):
    """(arrays that are changed, the other arguments); from the second on none is negative."""
    shape = draw(SHAPES)
    w, *memory, g = normal(draw(seeds()), *[shape] * (changed + 1))
    return (w, *[a**2 for a in memory]), (g, *(draw(st.sampled_from(c)) for c in choices))


@st.composite
def dense_gradients(draw):
    """(dw, db), which are changed, and (dz, cache)."""
    n, inputs, outputs = draw(st.tuples(*[st.integers(1, 5)] * 3))
    x, dz, *arrays = normal(
        *(draw(seeds()), (n, inputs), (n, outputs)),
        *((inputs, outputs), (inputs, outputs), (outputs,)),
    )
    w, dw, db = arrays
    return (dw, db), (dz, DenseCache(x, w, True))


RATES, SHARES, EPSILONS = (0.1, 1e-3), (0.1, 0.9), (1e-7, 1e-3)
UPDATES = {
    "adam_update": update(3, RATES, SHARES, SHARES, EPSILONS, [(1.0, 1.0), (0.19, 0.02)]),
    "dense_block_backward": dense_gradients(),
    "gradient_descent_update": update(1, RATES),
    "momentum_update": update(2, RATES, SHARES, [True, False]),
    "rmsprop_update": update(2, RATES, SHARES, EPSILONS),
}


# What has a test of its own below: masks, and what is of storage alone.
OTHERS = {"dropout_mask", "added", "converted"}


def swappables():
    """Every function of tinynet that a kernel may replace."""
    names = [module.name for module in pkgutil.walk_packages(tinynet.__path__, "tinynet.")]
    if not HAVE_NUMBA:
        names = [name for name in names if not name.startswith("tinynet.engine.kernels.numba.")]
    values = [value for name in names for value in vars(importlib.import_module(name)).values()]
    found = {v.__name__: v for v in values if hasattr(v, "reference") and hasattr(v, "kernels")}
    return [found[name] for name in sorted(found)]


def uncovered(functions):
    """Names of functions that have no case."""
    covered = {f"{name}_{way}" for name in CASES for way in ("forward", "backward")}
    covered |= set(UPDATES) | OTHERS
    return [f.__name__ for f in functions if f.__name__ not in covered]


SWAPPABLES = {f.__name__: f for f in swappables()}
ON_GPU = pytest.param(
    "cupy",
    marks=[
        pytest.mark.gpu,
        pytest.mark.skipif(not read_gpu().devices, reason="there is no NVIDIA GPU with CuPy"),
    ],
)
LIBRARIES = ["numpy", ON_GPU]
SETS = {"numpy": ("numpy", "fast"), "cupy": ("cupy",)}  # of a library's kernels


def ways(name, library):
    """The reference, and the kernels that there are."""
    function = SWAPPABLES[name]
    kernels = [function.kernels[s] for s in SETS[library] if s in function.kernels]
    return [function.reference, *kernels]


def moved(values, library):
    """Arrays moved to the library; the rest as it is."""
    return [to_device(v, library) if isinstance(v, np.ndarray) else v for v in values]


def assert_all_close(results, wanted, library):
    for got, want in zip(results, wanted, strict=True):
        assert (got is None) == (want is None)
        if got is not None:
            assert library_of(got) == library
            assert_close(to_device(got, "numpy"), want)


def compare(name, library, arguments, by_loops, seed):
    """Each forward pass with each backward pass, against the loops."""
    shape = SWAPPABLES[f"{name}_forward"].reference(*arguments)[0].shape
    (dy,) = normal(seed, shape)
    wanted = by_loops(dy)
    upstream = [] if "cross_entropy" in name else [dy]  # a loss is where gradients start
    for forward, backward in itertools.product(
        ways(f"{name}_forward", library), ways(f"{name}_backward", library)
    ):
        y, cache = forward(*moved(arguments, library))
        gradients = backward(*moved(upstream, library), cache)
        gradients = gradients if isinstance(gradients, tuple) else (gradients,)
        assert_all_close((y, *gradients), wanted, library)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("name", CASES)
@drawn_some
@given(data=st.data(), seed=seeds())
def test_loops_reference_and_kernels_agree(name, library, data, seed):
    compare(name, library, *data.draw(CASES[name]), seed)


def compare_update(name, library, changed, more):
    """What each way makes of the arrays, against the loops."""
    wanted = getattr(loops, name)(*changed, *more)
    for way in ways(name, library):
        arrays = moved([a.copy() for a in changed], library)
        way(*arrays, *moved(more, library))
        assert_all_close(arrays, wanted, library)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("name", UPDATES)
@drawn_some
@given(data=st.data())
def test_updates_by_loops_reference_and_kernels_agree(name, library, data):
    compare_update(name, library, *data.draw(UPDATES[name]))


@pytest.mark.parametrize("library", LIBRARIES)
@drawn_some
@given(shapes=st.lists(SHAPES, min_size=1, max_size=3), seed=seeds(), before=st.integers(0, 9))
def test_masks_are_the_same_draws(library, shapes, seed, before):
    """One mask after the other by each way, of both kinds of NumPy's generators."""
    for bits in (np.random.Philox, np.random.PCG64):
        for way in ways("dropout_mask", library):
            rng, twin = (np.random.Generator(bits(seed)) for _ in range(2))
            rng.random(before), twin.random(before)
            for shape in shapes:
                mask = way(to_device(np.zeros(shape), library), rng, 0.6)
                assert library_of(mask) == library
                np.testing.assert_array_equal(to_device(mask, "numpy"), twin.random(shape) < 0.6)
            assert rng.random() == twin.random()


@pytest.mark.parametrize("library", LIBRARIES)
@drawn_some
@given(shape=SHAPES, seed=seeds())
def test_sums_and_conversions_are_numpys(library, shape, seed):
    """To the bit, as each number is rounded once."""
    a, b = (x.astype("float32") for x in normal(seed, shape, shape))
    for way in ways("added", library):
        assert_all_close([way(*moved([a, b], library))], [a + b], library)
    for way in ways("converted", library):
        for dtype in ("float32", "float64"):
            found = way(*moved([a], library), np.dtype(dtype))
            assert found.dtype == dtype
            np.testing.assert_array_equal(to_device(found, "numpy"), a.astype(dtype))


def test_every_operation_has_a_case():
    assert len(SWAPPABLES) >= 30
    assert uncovered(SWAPPABLES.values()) == [], "give it loops in loops.py and a line in CASES"


def test_a_kernel_without_a_comparison_is_noticed():
    @swappable
    def mish_forward(x):
        return x, None

    @register(mish_forward, "numpy")
    def mish_forward_blocks(x):
        return x, None

    assert uncovered([SWAPPABLES["relu_forward"], mish_forward]) == ["mish_forward"]


WITH_KERNELS = [(name, s) for name, f in SWAPPABLES.items() for s in f.kernels if s != "cupy"]


@pytest.mark.parametrize(("name", "kernels"), [k for k in WITH_KERNELS if k[0] not in UPDATES])
def test_a_wrong_kernel_is_caught(name, kernels, monkeypatch):
    """One element off by a millionth, in one kernel after the other."""
    kernel = SWAPPABLES[name].kernels[kernels]

    def wrong(*arguments):
        result = kernel(*arguments)
        first = result[0] if isinstance(result, tuple) else result
        first.reshape(-1)[-1] += 1e-6
        return result

    operation = name.rsplit("_", 1)[0]
    any_example = settings(phases=[Phase.generate])
    example = find(CASES[operation], lambda _: True, settings=any_example)
    compare(operation, "numpy", *example, seed=1)
    monkeypatch.setitem(SWAPPABLES[name].kernels, kernels, wrong)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        compare(operation, "numpy", *example, seed=1)


@pytest.mark.parametrize(("name", "kernels"), [k for k in WITH_KERNELS if k[0] in UPDATES])
def test_a_wrong_kernel_of_an_update_is_caught(name, kernels, monkeypatch):
    """The same; an update changes its arrays, and what it may return is tested elsewhere."""
    kernel = SWAPPABLES[name].kernels[kernels]

    def wrong(*arguments):
        kernel(*arguments)
        arguments[0].reshape(-1)[-1] += 1e-6

    example = find(UPDATES[name], lambda _: True, settings=settings(phases=[Phase.generate]))
    compare_update(name, "numpy", *example)
    monkeypatch.setitem(SWAPPABLES[name].kernels, kernels, wrong)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        compare_update(name, "numpy", *example)
