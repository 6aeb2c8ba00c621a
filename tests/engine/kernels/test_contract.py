"""What every set of kernels promises, operation by operation.

*Drawn, in float64*: loops, reference and kernels agree on the same arguments, which are read-only.
A forward pass of one set may be followed by a backward pass of another (they share their cache), so
every pair is run. *Fixed, in float32*: shapes that take each of the kernels' algorithms, against
the reference in float64; bits and memory; what is not finite; what no kernel covers.
``cuda/test_operations.py`` does the second for CUDA sources.
"""

import importlib
import itertools
import pkgutil
import tracemalloc
from functools import partial

import numpy as np
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

import tinynet
from tests.layers import loops
from tests.layers.pairs import PAIRS, SHAPES, cases
from tests.layers.support import assert_close, frozen, normal
from tinynet import layers
from tinynet.backend import (
    library_of,
    load_kernels,
    register,
    swappable,
    to_device,
    use_kernels,
    use_reference,
)
from tinynet.doctor import read_gpu
from tinynet.engine import threads
from tinynet.engine.kernels.numba import HAVE_NUMBA
from tinynet.engine.memory import Workspace
from tinynet.engine.plan import epilogues
from tinynet.engine.plan.epilogues import EPILOGUES
from tinynet.layers.dense import DenseCache
from tinynet.optimizers.base import UPDATE_RULES
from tinynet.testing.strategies import (
    conv_geometries,
    labels,
    probabilities,
    seeds,
)

load_kernels("numba")
drawn_few = settings(max_examples=15)
drawn_many = settings(max_examples=200)

# Each strategy draws (arguments of the forward pass, dy -> (y, gradients...) by loops).


def that_fit(size):
    """Epilogues of an array (N, height, width, C): a pool 2×2 must fit."""
    return st.sampled_from(EPILOGUES if min(size) >= 2 else EPILOGUES[:2])


@st.composite
def conv2d_fused(draw):
    g = draw(conv_geometries(max_batch=2))
    x, w, b = normal(draw(seeds()), g.input_shape, g.weight_shape, (g.filters,))
    b, epilogue = b if g.bias else None, draw(that_fit(g.output_size))

    def by_loops(dy):
        z = loops.conv2d_forward(x, w, b, g)
        y, dz = loops.epilogue(z, epilogue, dy)
        dx, dw, db = loops.conv2d_backward(dz, x, w, g)
        return y, dx, dw, None if b is None else db

    return (x, w, b, g.stride, g.padding, g.dilation, g.groups, epilogue), by_loops


@st.composite
def batchnorm_fused(draw):
    shape = draw(st.tuples(*[st.integers(1, 4)] * 4))
    x, gamma, beta = normal(draw(seeds()), shape, shape[-1:], shape[-1:])
    arguments = x, gamma, beta, draw(st.sampled_from([1e-3, 0.1]))
    epilogue = draw(that_fit(shape[1:3]))

    def by_loops(dy):
        z, *_ = loops.batchnorm(*arguments, np.zeros_like(x))
        y, dz = loops.epilogue(z, epilogue, dy)
        return y, *loops.batchnorm(*arguments, dz)[1:]

    return (*arguments, epilogue), by_loops


@st.composite
def loss(draw, function, inputs):
    n, k = draw(st.tuples(st.integers(1, 5), st.integers(2, 4)))
    x = frozen(draw(inputs(n, k)))
    y = frozen(draw(labels(n, k, one_hot=True) | probabilities(n, k)))
    weights = abs(normal(draw(seeds()), (n,))[0]) if draw(st.booleans()) else None
    return (x, y, weights), lambda _: function(x, y, weights)


CASES = {
    **{name: cases(name).map(lambda case: (case.arguments, case.loops)) for name in PAIRS},
    "batchnorm_fused": batchnorm_fused(),
    "conv2d_fused": conv2d_fused(),
    "softmax_cross_entropy": loss(
        loops.softmax_cross_entropy, lambda n, k: st.builds(lambda s: normal(s, (n, k))[0], seeds())
    ),
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
    "dense_fused_backward": dense_gradients(),
    "gradient_descent_update": update(1, RATES),
    "momentum_update": update(2, RATES, SHARES, [True, False]),
    "rmsprop_update": update(2, RATES, SHARES, EPSILONS),
}


# What has a test of its own below: masks, and what is of storage alone.
OTHERS = {"dropout_mask", "added", "converted"}


def swappables():
    """Every function of tinynet that kernels replace, and not only cut into strips."""
    names = [module.name for module in pkgutil.walk_packages(tinynet.__path__, "tinynet.")]
    names = [name for name in names if not name.startswith("tinynet.engine.kernels.numba.")]
    values = [value for name in names for value in vars(importlib.import_module(name)).values()]
    found = {v.__name__: v for v in values if getattr(v, "kernels", None) and v.reference}
    found = {n: f for n, f in found.items() if f not in UPDATE_RULES or len(f.kernels) > 1}
    return dict(sorted(found.items()))


def uncovered(functions):
    """Names of functions that have no case."""
    covered = {f"{name}_{direction}" for name in CASES for direction in ("forward", "backward")}
    return [name for name in functions if name not in covered | set(UPDATES) | OTHERS]


SWAPPABLES = swappables()
COMPARED = [n for n in CASES if {f"{n}_forward", f"{n}_backward"} & set(SWAPPABLES)]
ON_GPU = pytest.param(
    "cupy",
    marks=[
        pytest.mark.gpu,
        pytest.mark.skipif(not read_gpu().devices, reason="there is no NVIDIA GPU with CuPy"),
    ],
)
LIBRARIES = ["numpy", ON_GPU]
SETS = {"numpy": ("numpy", "numba"), "cupy": ("cuda",)}  # of a library's kernels


def ways(name, library):
    """The reference, and the kernels that there are."""
    function = SWAPPABLES.get(name) or getattr(layers, name, None) or getattr(tinynet.losses, name)
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
    shape = ways(f"{name}_forward", "numpy")[0](*arguments)[0].shape
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
@pytest.mark.parametrize("name", COMPARED)
@drawn_few
@given(data=st.data(), seed=seeds())
def test_loops_reference_and_kernels_agree(name, library, data, seed):
    compare(name, library, *data.draw(CASES[name]), seed)


@pytest.mark.slow
@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("name", COMPARED)
@drawn_many
@given(data=st.data(), seed=seeds())
def test_loops_reference_and_kernels_agree_on_many_drawn_arguments(name, library, data, seed):
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
@drawn_few
@given(data=st.data())
def test_updates_by_loops_reference_and_kernels_agree(name, library, data):
    compare_update(name, library, *data.draw(UPDATES[name]))


@pytest.mark.parametrize("library", LIBRARIES)
@drawn_few
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
@drawn_few
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


def test_every_function_with_a_kernel_has_a_case():
    assert len(SWAPPABLES) >= 25
    assert uncovered(SWAPPABLES) == [], "give it loops in loops.py and a line in CASES"


def test_a_kernel_without_a_comparison_is_noticed():
    @swappable
    def mish_forward(x):
        return x, None

    @register(mish_forward, "numpy")
    def mish_forward_numpy(x):
        return x, None

    found = {**SWAPPABLES, "mish_forward": mish_forward}
    assert uncovered(found) == ["mish_forward"]


WITH_KERNELS = [(name, s) for name, f in SWAPPABLES.items() for s in f.kernels if s != "cuda"]


@pytest.mark.parametrize(("name", "kernels"), [k for k in WITH_KERNELS if k[0] not in OTHERS])
def test_a_wrong_kernel_is_caught(name, kernels, monkeypatch):
    """One element off by a millionth, in one kernel after the other."""
    kernel = SWAPPABLES[name].kernels[kernels]

    def wrong(*arguments):
        result = kernel(*arguments)
        first = result[0] if isinstance(result, tuple) else result
        first = arguments[0] if name in UPDATES else first
        first.reshape(-1)[-1] += 1e-6
        return result

    cases = UPDATES[name] if name in UPDATES else CASES[name.rsplit("_", 1)[0]]
    example = find(cases, lambda _: True, settings=settings(phases=[Phase.generate]))

    def compared():
        if name in UPDATES:
            compare_update(name, "numpy", *example)
        else:
            compare(name.rsplit("_", 1)[0], "numpy", *example, seed=1)

    compared()
    monkeypatch.setitem(SWAPPABLES[name].kernels, kernels, wrong)
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        compared()


# Fixed shapes, in float32: more channels than a vector instruction takes at once, and some left.

SHAPE = 7, 5, 6, 37


def of_channels(x):
    """gamma, beta, mean and variance (C,)."""
    rng = np.random.default_rng(1)
    gamma, beta, mean, root = rng.standard_normal((4, x.shape[-1])).astype(x.dtype)
    return gamma, beta, mean, root**2


def filters(shape, *more):
    """The arguments of a convolution after x."""

    def arguments(x):
        w, b = numbers(shape, x.dtype, 3), numbers(shape[-1:], x.dtype, 4)
        return (w, b, *more)

    return arguments


# what is run, and after a comma how -> shape of x, the arguments after it
FIXED = {
    "relu": (SHAPE, lambda x: (0.25,)),
    "relu6": (SHAPE, lambda x: ()),
    "max_pool2d": (SHAPE, lambda x: (2,)),
    "max_pool2d, overlapping": (SHAPE, lambda x: (3, 2, "same")),
    "max_pool2d, dilated": (SHAPE, lambda x: (2, 2, 0, 2)),
    "sum_pool2d": (SHAPE, lambda x: ((2, 3), 2, 1)),
    "avg_pool2d, dilated": (SHAPE, lambda x: (3, 2, "same", True, (1, 2))),
    "avg_pool2d": (SHAPE, lambda x: (3, 2, "same")),
    "global_avg_pool2d": (SHAPE, lambda x: ()),
    "batchnorm, neurons": ((9, 37), lambda x: of_channels(x)[:2]),
    "batchnorm_frozen": (SHAPE, of_channels),
    **{
        f"batchnorm_fused, {e}": (SHAPE, lambda x, e=e: (*of_channels(x)[:2], 0.1, e))
        for e in EPILOGUES
    },
    "dense": ((5, 40), filters((40, 12))),
    "dense, of a sequence": ((5, 2, 40), filters((40, 12))),
    "conv2d, by itself": ((7, 6, 7, 8), filters((3, 3, 8, 12), 1, "same")),
    "conv2d_fused, few channels": (
        (12, 12, 11, 1),
        filters((3, 3, 1, 12), 1, "same", 1, 1, "relu_pool"),
    ),
    "conv2d_fused, few filters": (
        (12, 12, 11, 6),
        filters((3, 3, 6, 3), 1, "same", 1, 1, "relu_pool"),
    ),
    "conv2d_fused, strides": ((5, 9, 8, 17), filters((5, 3, 17, 19), 2, 1, 1, 1, "relu")),
    "conv2d_fused, 1x1": ((5, 6, 5, 33), filters((1, 1, 33, 20), 1, 0, 1, 1, "relu")),
    "conv2d_fused, groups": ((5, 7, 6, 12), filters((3, 3, 4, 9), 1, 1, 1, 3, "relu")),
    "conv2d_fused, depthwise": ((5, 7, 6, 20), filters((3, 3, 1, 20), 1, 1, 1, 20, "relu")),
    **{
        f"conv2d_fused, {channels} channels, {e}": (
            (12, 13, 11, channels),
            filters((3, 3, channels, 64), 1, padding, 1, 1, e),
        )
        for channels in (20, 64)
        for e, padding in zip(EPILOGUES, ("same", "valid", ((0, 2), (2, 1))), strict=True)
    },
}
CONVOLUTIONS = [name for name in FIXED if name.startswith("conv2d")]
WINOGRAD = 2e-5  # of the largest element: its numbers are scaled up to 25 times on the way
with_numba = pytest.mark.skipif(
    not HAVE_NUMBA, reason='Numba is not installed: pip install ".[fast]"'
)
each_set = pytest.mark.parametrize("kernels", ["numpy", pytest.param("numba", marks=with_numba)])


def numbers(shape, dtype="float32", seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def functions(name):
    """The forward and the backward function, swappable."""
    operation = name.split(",")[0]
    place = epilogues if "fused" in operation else layers
    return getattr(place, f"{operation}_forward"), getattr(place, f"{operation}_backward")


def both_passes(name, kernels, x=None, dy=None):
    """[y, gradients...], and the cache."""
    forward, backward = functions(name)
    x = numbers(FIXED[name][0]) if x is None else x
    with use_kernels(kernels):
        y, cache = forward(x, *FIXED[name][1](x))
        gradients = backward(numbers(y.shape, y.dtype, 2) if dy is None else dy, cache)
    return [y, *(gradients if isinstance(gradients, tuple) else (gradients,))], cache


def assert_near(got, want, tolerance):
    """To a tolerance of the largest element; None stays None."""
    assert len(got) == len(want)
    for one, other in zip(got, want, strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(
            one, other, rtol=0, atol=tolerance * max(1e-3, abs(other).max(initial=0))
        )


@each_set
@pytest.mark.parametrize("name", FIXED)
def test_float32_is_near_the_reference_in_float64(name, kernels):
    got, cache = both_passes(name, kernels)
    assert {a.dtype for a in got} == {np.dtype("float32")}
    forward, backward = functions(name)
    x = numbers(FIXED[name][0])
    exact = [a.astype("float64") if isinstance(a, np.ndarray) else a for a in FIXED[name][1](x)]
    y, exact_cache = forward.reference(x.astype("float64"), *exact)
    if "fused" in name:  # ReLU and pool decide by rounding where numbers are near: as the kernel
        exact_cache = exact_cache[0], cache[1]
    elif "max_pool" in name:
        exact_cache = cache
    gradients = backward.reference(numbers(y.shape, seed=2).astype("float64"), exact_cache)
    gradients = gradients if isinstance(gradients, tuple) else (gradients,)
    assert_near(got, [y, *gradients], WINOGRAD if name in CONVOLUTIONS else 5e-6)


@each_set
@pytest.mark.parametrize("name", FIXED)
def test_bits_do_not_depend_on_the_number_of_threads(name, kernels, monkeypatch):
    """But of compiled convolutions' dw and db, sums over all images, the last ones may."""
    results = []
    for count in (1, 2, 3):
        monkeypatch.setattr(threads, "thread_count", lambda count=count: count)
        results.append(both_passes(name, kernels)[0])
    exact = 2 if kernels == "numba" and name in CONVOLUTIONS else len(results[0])
    for other in results[1:]:
        assert_near(other, results[0], 1e-5)
        for got, want in zip(other[:exact], results[0], strict=False):
            np.testing.assert_array_equal(got, want)


@each_set
@pytest.mark.parametrize("name", [name for name in FIXED if name not in CONVOLUTIONS])
def test_nan_is_where_the_reference_has_it(name, kernels):
    x = numbers(FIXED[name][0], "float64")
    x.reshape(-1)[3::89] = np.nan
    got, _ = both_passes(name, kernels, x)
    wanted, _ = both_passes(name, "reference", x)
    assert np.isnan(got[0]).any()
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)


@each_set
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_nan_stays_in_its_image_and_is_not_hidden(name, kernels):
    """Winograd's algorithm spreads it over a tile."""
    x = numbers(FIXED[name][0])
    x[3, 4, 4, 0] = np.nan
    y = both_passes(name, kernels, x)[0][0]
    assert np.isnan(y[3]).any()
    assert not np.isnan(np.delete(y, 3, axis=0)).any()
    dy = np.zeros_like(y)
    dy[2, 1, 1] = np.nan
    _, dx, dw, db = both_passes(name, kernels, dy=dy)[0]
    assert np.isnan(dw).any()
    assert np.isnan(db).any()
    assert np.isnan(dx[2]).any()


NOT_COVERED = {
    "strided": lambda x: x[..., ::2],
    "float16": lambda x: x.astype("float16"),
    "complex": lambda x: x + 1j,  # has no order in the references either
    "empty": lambda x: x[:0],
    "two dtypes": lambda x: x,
}
LEAVES_OUT = {  # it is covered, or it is an error
    "strided": ("conv2d", "dense"),
    "empty": ("dense",),
    "complex": ("relu6", "max_pool2d", "conv2d", "batchnorm_fused, relu_pool"),
    "two dtypes": ("relu", "max_pool2d", "sum_pool2d", "avg_pool2d", "global"),  # no other array
}


@pytest.mark.filterwarnings("ignore:Mean of empty slice:RuntimeWarning")
@each_set
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (name, kind)
        for name in FIXED
        for kind in NOT_COVERED
        if not name.startswith(LEAVES_OUT.get(kind, "-"))
        and (name not in CONVOLUTIONS or "groups" in name)
    ],
)
def test_what_is_not_covered_is_handed_on(name, kind, kernels):
    x = NOT_COVERED[kind](numbers(FIXED[name][0], "float64"))
    forward, backward = functions(name)
    more = FIXED[name][1](x)
    if kind == "two dtypes":
        more = tuple(m.astype("float32") if isinstance(m, np.ndarray) else m for m in more)
    found = []
    for chosen in (kernels, "reference"):
        with use_kernels(chosen), np.errstate(all="ignore"):
            y, cache = forward(x, *more)
            dy = numbers(y.shape, "float64", 2).astype(y.dtype)[..., ::-1]
            gradients = backward(dy, cache)
        found.append([y, *(gradients if isinstance(gradients, tuple) else (gradients,))])
    for got, want in zip(*found, strict=True):
        assert got.dtype == want.dtype
        tolerance = {"float16": 0.05}.get(kind, 1e-5 if "two" in kind else 1e-10)
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)


@each_set
@pytest.mark.parametrize("name", [*CONVOLUTIONS, "batchnorm_fused, relu_pool", "avg_pool2d"])
def test_a_second_call_asks_the_system_for_nothing(name, kernels, monkeypatch):
    monkeypatch.setattr(threads, "thread_count", lambda: 1)  # two may overlap more, or less
    workspace, sizes = Workspace(), []
    x = numbers((12 * FIXED[name][0][0], *FIXED[name][0][1:]))
    for _ in range(4):
        with workspace:
            both_passes(name, kernels, x)
        sizes.append(workspace.allocated)
    assert sizes[0] > 0
    assert sizes[2] == sizes[3]


@with_numba
@pytest.mark.parametrize("name", [n for n in FIXED if not n.startswith(("conv2d", "dense"))])
def test_compiled_steps_take_all_large_arrays_from_the_workspace(name, monkeypatch):
    monkeypatch.setattr(threads, "BLOCK_BYTES", 1 << 20)
    x = numbers((16, 32, 32, 32) if len(FIXED[name][0]) == 4 else (16 * 32 * 32, 32))
    workspace, dy = Workspace(), numbers(both_passes(name, "numba", x)[0][0].shape)
    for _ in range(3):
        with workspace:
            tracemalloc.start()
            both_passes(name, "numba", x, dy)
            _, most = tracemalloc.get_traced_memory()
            tracemalloc.stop()
    assert most < x.nbytes // 16


@pytest.mark.parametrize("kernels", ["reference", "numpy", "numba"])
@pytest.mark.parametrize("name", ["conv2d_fused, 1x1", "conv2d_fused, 64 channels, relu_pool"])
def test_the_input_gradient_is_left_out_and_the_input_is_kept_as_it_is(name, kernels):
    x = numbers(FIXED[name][0])
    with use_kernels(kernels):
        y, cache = epilogues.conv2d_fused_forward(x, *FIXED[name][1](x))
        _, *with_dx = epilogues.conv2d_fused_backward(y, cache)
        dx, *without = epilogues.conv2d_fused_backward(y, cache, need_dx=False)
    assert cache[0].x is x
    assert dx is None
    for got, want in zip(without, with_dx, strict=True):
        np.testing.assert_array_equal(got, want)


NORMS = {
    "batchnorm": layers.batchnorm_forward,
    "batchnorm, ReLU": partial(epilogues.batchnorm_fused_forward, epilogue="relu"),
    "batchnorm, pool": partial(epilogues.batchnorm_fused_forward, epilogue="relu_pool"),
    "group norm": partial(layers.group_norm_forward, groups=2),
    "layer norm": layers.layer_norm_forward,
}


@pytest.mark.parametrize("kernels", ["reference", "numpy", pytest.param("numba", marks=with_numba)])
@pytest.mark.parametrize("mean", [1, 1e4, -1e6])
@pytest.mark.parametrize("name", NORMS)
def test_a_large_mean_costs_no_digits(name, mean, kernels):
    x = (numbers((8, 16, 16, 8)) + mean).astype("float32")
    gamma, beta, *_ = of_channels(x)
    with use_reference():
        want, _ = NORMS[name](*(a.astype("float64") for a in (x, gamma, beta)))
    with use_kernels(kernels):
        y, _ = NORMS[name](x, gamma, beta)
    np.testing.assert_allclose(y, want, atol=5e-5)


# rule, arrays that it changes, the numbers after the gradient
RULES = {
    "gradient_descent_update": (1, (0.1,)),
    "momentum_update": (2, (0.1, 0.9, False)),
    "momentum_update, Nesterov": (2, (0.1, 0.9, True)),
    "rmsprop_update": (2, (0.1, 0.1, 1e-6)),
    "adam_update": (3, (0.1, 0.1, 0.001, 1e-8, (0.19, 0.002))),
}


@each_set
@pytest.mark.parametrize("name", RULES)
def test_weight_updates(name, kernels, monkeypatch):
    """Of any shape: the bits of any number of threads; NumPy's are the reference's."""
    rule, (changed, more) = SWAPPABLES[name.split(",")[0]], RULES[name]
    for dtype, shape in (("float32", (1001,)), ("float64", (7, 3, 2)), ("float32", ())):
        *start, g = abs(numbers((changed + 1, *shape), dtype))
        g = g.copy()
        g.reshape(-1)[-1:] = np.nan if shape else 1
        found = []
        for count in (1, 3):
            monkeypatch.setattr(threads, "thread_count", lambda count=count: count)
            found.append([np.array(a) for a in start])
            rule.kernels[kernels](*found[-1], g, *more)
        want = [np.array(a) for a in start]
        rule.reference(*want, g, *more)
        for one, three, reference in zip(*found, want, strict=True):
            np.testing.assert_array_equal(one, three)
            tolerance = 0 if kernels == "numpy" else 1e-6 if dtype == "float32" else 1e-14
            np.testing.assert_allclose(one, reference, rtol=tolerance, atol=tolerance)


@each_set
@pytest.mark.parametrize("name", RULES)
def test_arrays_with_gaps_and_of_two_dtypes_are_updated_by_the_reference(name, kernels):
    rule, (changed, more) = SWAPPABLES[name.split(",")[0]], RULES[name]
    *start, g = abs(numbers((changed + 1, 9, 4), "float64"))
    got, want = ([a.copy() for a in start] for _ in range(2))
    for gradient, pick in ((g[::2], np.s_[::2]), (g.astype("float32"), np.s_[:])):
        rule.kernels[kernels](*(a[pick] for a in got), gradient, *more)
        rule.reference(*(a[pick] for a in want), gradient, *more)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)


def wrong_gradients(y):
    """Gradients that are not like y: of other shapes, of another dtype, and what is no array."""
    shapes = {(), (1,) * y.ndim, y.shape[:-1], (1, *y.shape), (y.size,)}
    for axis, length in enumerate(y.shape):
        shapes |= {
            (*y.shape[:axis], n, *y.shape[axis + 1 :]) for n in (0, 1, length - 1, length + 3)
        }
    for shape in shapes - {y.shape}:
        yield np.ones(shape, y.dtype)
    yield np.ones(y.shape, "float32" if y.dtype == "float64" else "float64")
    yield y.tolist()


# Of these the cache holds booleans that stand for the input, bytes for the winners, or a shape.
ANY_DTYPE = {"relu", "relu6", "max_pool2d", "global_avg_pool2d", "flatten", "dropout"}
PUBLIC_PAIRS = {
    name.removesuffix("_backward")
    for place in (layers, epilogues)
    for name, function in vars(place).items()
    if name.endswith("_backward")
    and hasattr(function, "kernels")
    and f"{name[:-8]}forward" in vars(place)
}


@pytest.mark.parametrize("name", sorted(PUBLIC_PAIRS))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kernels", ["reference", "numpy", "numba"])
@settings(max_examples=3)
@given(data=st.data())
def test_a_wrong_gradient_is_refused_in_words(name, kernels, dtype, data):
    """Compiled kernels trust the shapes that they are given: the door is the only check."""
    forward, backward = functions(name)
    arguments = [
        a.astype(dtype) if getattr(a, "dtype", None) == np.float64 else a
        for a in data.draw(CASES[name])[0]
    ]
    with use_kernels(kernels):
        y, cache = forward(*arguments)
        for dy in wrong_gradients(y):
            if name in ANY_DTYPE and getattr(dy, "shape", None) == y.shape:
                continue
            with pytest.raises(
                (ValueError, TypeError), match=r"_backward: the gradient is .* want"
            ):
                backward(dy, cache)


@pytest.mark.parametrize("kernels", ["reference", "numpy", "numba"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_weights_of_another_shape_are_refused_in_words(dtype, kernels):
    x, vectors = numbers((2, 6, 6, 16), dtype), numbers((2, 6), dtype)
    w, deep = numbers((3, 3, 16, 16), dtype), numbers((6, 16), dtype)
    right, bad = numbers(16, dtype), [numbers(s, dtype) for s in ((), (1,), (15,), (17,), (1, 16))]
    for b in bad:
        for call in (
            lambda b: layers.conv2d_forward(x, w, b),
            lambda b: epilogues.conv2d_fused_forward(x, w, b, epilogue="relu"),
            lambda b: layers.dense_forward(vectors, deep, b),
            lambda b: layers.batchnorm_forward(x, b, right),
            lambda b: layers.batchnorm_forward(x, right, b),
            lambda b: layers.batchnorm_frozen_forward(x, right, right, b, right),
            lambda b: layers.batchnorm_frozen_forward(x, right, right, right, b),
            lambda b: epilogues.batchnorm_fused_forward(x, b, right, epilogue="relu_pool"),
        ):
            with use_kernels(kernels), pytest.raises(ValueError, match=r"want \(16,\) for"):
                call(b)
    b = right.astype(
        "float32" if dtype == "float64" else "float64"
    )  # another dtype: as the reference
    with use_kernels(kernels):
        found = layers.conv2d_forward(x, w, b)[0]
    np.testing.assert_allclose(found, layers.conv2d_forward.reference(x, w, b)[0], rtol=1e-4)


@pytest.mark.parametrize("kernels", ["reference", "numpy", "numba"])
@pytest.mark.parametrize("name", RULES)
def test_an_update_of_arrays_of_other_shapes_is_refused_in_words(name, kernels):
    rule, (changed, more) = SWAPPABLES[name.split(",")[0]], RULES[name]
    for which in range(changed + 1):
        for shape in ((), (3,), (1, 40), (40, 30), (50, 40)):
            arrays = [numbers((40, 40)) for _ in range(changed + 1)]
            arrays[which] = numbers(shape)
            with use_kernels(kernels), pytest.raises(ValueError, match=r"_update: w is .* want"):
                rule(*arrays, *more)


@pytest.mark.parametrize("kernels", ["reference", "numpy", "numba"])
def test_a_dense_layer_adds_to_gradients_of_its_own_shapes(kernels):
    x, w, dz = numbers((5, 40)), numbers((40, 12)), numbers((5, 12))
    cache = DenseCache(x, w, True)
    for dw, db, g in (
        (w[:3], w[0], dz),
        (w.T, w[0], dz),
        (w, w[0, :1], dz),
        (w, w[0], dz[:1]),
        (w, w[0], dz[:, :3]),
        (w, w[0], np.tile(dz, 3)),
    ):
        with (
            use_kernels(kernels),
            pytest.raises(ValueError, match=r"dense_fused_backward: .* want"),
        ):
            epilogues.dense_fused_backward(dw.copy(), db.copy(), g, cache)


def test_a_pool_that_does_not_fit_and_an_unknown_epilogue():
    for kernels in ("reference", "numpy", "numba"):
        with use_kernels(kernels):
            for x in (np.ones((1, 3, 4, 1)), np.ones((1, 3, 4, 1), np.float32)):
                w, gamma = np.ones((3, 3, 1, 1), x.dtype), np.ones(1, x.dtype)
                with pytest.raises(ValueError, match="covers 2 × 2 cells"):
                    epilogues.conv2d_fused_forward(x, w, epilogue="relu_pool")
                with pytest.raises(ValueError, match="epilogue is 'pool', want one of none"):
                    epilogues.conv2d_fused_forward(x, w, epilogue="pool")
                with pytest.raises(ValueError, match="covers 2 × 2 cells"):
                    epilogues.batchnorm_fused_forward(x[:, :1], gamma, gamma, 0.1, "relu_pool")
                with pytest.raises(ValueError, match="epilogue is 'pool', want one of none"):
                    epilogues.batchnorm_fused_forward(x, gamma, gamma, 0.1, "pool")


@each_set
@pytest.mark.parametrize("channels", [1, 6, 8, 64])
def test_ties_go_to_the_first_and_no_cell_wins_below_zero(channels, kernels):
    x, w = np.zeros((12, 12, 11, channels), "f4"), np.zeros((3, 3, channels, 64), "f4")
    for bias, winner in ((1, 0), (0, epilogues.NO_WINNER), (-1, epilogues.NO_WINNER)):
        b = np.full(64, bias, "f4")
        with use_kernels(kernels):
            y, cache = epilogues.conv2d_fused_forward(x, w, b, 1, "same", 1, 1, "relu_pool")
            _, dw, db = epilogues.conv2d_fused_backward(np.ones_like(y), cache)
        assert np.unique(y) == max(bias, 0)
        assert np.unique(cache[1].winner) == winner
        assert db.any() == (bias > 0)
        assert not dw.any()
