"""Every operation by CUDA sources, run on the processor or a GPU, against the references.

Each case is run in float64, float32 and bfloat16 (activations; weights and sums are float32 then,
and results are rounded once, when they are stored), with small blocks.
"""

import numpy as np
import pytest

from tests.engine.gpu.fake_cupy import ndarray
from tests.engine.kernels.cuda.few_threads import few_threads
from tests.engine.kernels.cuda.on_cpu import cupy_kernels
from tinynet import layers
from tinynet.backend import to_device
from tinynet.engine.kernels.cuda import columns, conv, few_channels
from tinynet.engine.kernels.cuda.batchnorm import statistics
from tinynet.engine.kernels.cuda.columns import channel_sums
from tinynet.engine.kernels.cuda.elementwise import add, cast, relu, relu_gradient
from tinynet.engine.kernels.cuda.epilogues import epilogue_backward_cuda, epilogue_forward_cuda
from tinynet.engine.kernels.cuda.launch import captured_step
from tinynet.engine.plan import epilogues
from tinynet.engine.plan.epilogues import EPILOGUES, epilogue_backward, epilogue_forward
from tinynet.engine.precision import bfloat16
from tinynet.layers.dense import DenseCache
from tinynet.layers.window import window_over

__all__ = ["cupy_kernels", "few_threads"]  # fixtures
pytestmark = pytest.mark.usefixtures("few_threads")

# shape of x, (kernel height, kernel width, C / groups, K), stride, padding, dilation, groups
CONVOLUTIONS = {
    "3x3": ((2, 7, 6, 3), (3, 3, 3, 5), 1, "same", 1, 1),
    "1x1": ((2, 4, 5, 7), (1, 1, 7, 3), 1, "valid", 1, 1),
    "one of each": ((1, 2, 2, 1), (1, 1, 1, 1), 1, "valid", 1, 1),
    "one tile and a number": ((1, 4, 4, 17), (1, 1, 17, 17), 1, "valid", 1, 1),
    "stride 2": ((2, 7, 8, 5), (3, 3, 5, 4), 2, 1, 1, 1),
    "stride over the kernel": ((1, 8, 9, 5), (2, 2, 5, 3), 3, 0, 1, 1),
    "7x7, stride 2": ((1, 11, 12, 3), (7, 7, 3, 4), 2, 3, 1, 1),
    "asymmetric": ((2, 5, 9, 4), (1, 7, 4, 4), (1, 2), ((0, 0), (3, 2)), 1, 1),
    "dilated": ((1, 9, 8, 2), (3, 2, 2, 12), (1, 2), 2, (2, 3), 1),
    "groups": ((2, 5, 5, 6), (3, 3, 2, 9), 1, "same", 1, 3),
    "depthwise": ((2, 6, 5, 5), (3, 3, 1, 5), 2, 1, 1, 5),
    "padding larger than the kernel": ((1, 3, 3, 2), (2, 2, 2, 2), 1, 3, 1, 1),
}
ODD, PACKED = (2, 5, 7, 3), (1, 3, 6, 40)


def arrays(*shapes):
    """x, and weights after it; variances are positive."""
    rng = np.random.default_rng(1)
    return [2 * rng.standard_normal(s) + 0.5 for s in shapes]


def per_channel(shape, count):
    x, *more = arrays(shape, *[shape[-1:]] * count)
    return [x, *more[:3], *(a**2 + 0.1 for a in more[3:])]


# operation, and after a comma how -> x and weights, the other arguments
CASES = {
    **{
        f"conv2d_fused, {name}, {epilogue}": (
            lambda s=s, w=w: arrays(s, w, w[-1:]),
            (*more, epilogue),
        )
        for i, (name, (s, w, *more)) in enumerate(CONVOLUTIONS.items())
        for epilogue in dict.fromkeys(
            (EPILOGUES[i % 3], "relu_pool" if name in ("3x3", "groups") else "none")
        )
    },
    "conv2d, 3x3": (lambda: arrays((2, 7, 6, 3), (3, 3, 3, 5), (5,)), (1, "same", 1, 1)),
    **{
        f"batchnorm_fused, {shape}, {e}": (lambda s=shape: per_channel(s, 2), (1e-3, e))
        for shape in (ODD, PACKED)
        for e in EPILOGUES
    },
    "batchnorm, neurons": (lambda: per_channel((11, 3), 2), ()),
    "batchnorm_frozen, images": (lambda: per_channel(ODD, 4), ()),
    "batchnorm_frozen, neurons": (lambda: per_channel((7, 40), 4), ()),
    "max_pool2d, 2x2": (lambda: arrays((1, 5, 7, 3)), (2,)),
    "max_pool2d, 3x3, stride 2": (lambda: arrays((2, 7, 6, 2)), (3, 2, 1)),
    "max_pool2d, overlapping": (lambda: arrays((1, 4, 5, 2)), ((2, 3), 1, "same")),
    "max_pool2d, dilated": (lambda: arrays((1, 7, 8, 2)), (2, 2, 1, (2, 3))),
    "max_pool2d, stride over the window": (lambda: arrays((1, 8, 8, 2)), (2, 3, "valid")),
    "relu, packed": (lambda: arrays((2, 4, 8)), (0.5,)),
    "relu, odd": (lambda: arrays((3, 5)), ()),
    "dropout, packed": (lambda: arrays((2, 4, 8)), (np.arange(64).reshape(2, 4, 8) % 3 > 0, 0.7)),
    "dropout, outside training": (lambda: arrays((3, 5)), (None, 0.7, "test")),
    "scale": (lambda: arrays((3, 5)), (0.3,)),
    "dense, of a sequence": (lambda: arrays((2, 3, 33), (33, 20), (20,)), ()),
    **{
        f"dense, {n} × {i} × {o}": (lambda n=n, i=i, o=o: arrays((n, i), (i, o), (o,)), ())
        for n, i, o in ((1, 1, 1), (3, 37, 2), (7, 33, 20), (37, 21, 36), (5, 64, 32))
    },
}
QUICK = (
    *("conv2d_fused, 3x3, relu_pool", "conv2d_fused, stride 2, relu", "conv2d_fused, groups, none"),
    *(f"batchnorm_fused, {ODD}, relu_pool", f"batchnorm_fused, {PACKED}, relu"),
    *("batchnorm_frozen, images", "max_pool2d, 3x3, stride 2", "relu, packed", "dropout, packed"),
    "dense, 7 × 33 × 20",
)
each_case = pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in QUICK else [pytest.mark.slow]) for n in CASES]
)
# of numbers near 1; bfloat16: half a step of what is stored
TOLERANCE = {"float64": 1e-11, "float32": 5e-5, "bfloat16": 1.01 * 2.0**-8}


def on(x):
    """Arrays moved, the rest as it is."""
    return to_device(x, "cupy") if isinstance(x, np.ndarray) else x


def off(x):
    """As float64, exactly: NumPy's functions know no bfloat16."""
    return to_device(x, "numpy").astype("float64")


def functions(name):
    operation = name.split(",")[0]
    place = epilogues if "fused" in operation else layers
    return getattr(place, f"{operation}_forward"), getattr(place, f"{operation}_backward")


def given(name, dtype):
    """x in dtype, the weights in the dtype of sums, the other arguments."""
    made, more = CASES[name]
    x, *weights = made()
    real = "float64" if dtype == "float64" else "float32"
    return [x.astype(dtype), *(w.astype(real) for w in weights), *more]


def exact(values):
    is_real = [isinstance(v, np.ndarray) and v.dtype != bool for v in values]
    return [v.astype("float64") if real else v for v, real in zip(values, is_real, strict=True)]


def many(gradients):
    return list(gradients) if isinstance(gradients, tuple) else [gradients]


def close(got, want, tolerance):
    """Each to the tolerance of its dtype, of its numbers and of one in thirty of the largest."""
    assert len(got) == len(want)
    for one, other in zip(got, want, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            assert one.shape == other.shape
            rounding = TOLERANCE[one.dtype.name] if tolerance is None else tolerance
            scale = np.nanmax(abs(other), initial=1e-3, where=np.isfinite(other))
            np.testing.assert_allclose(off(one), other, rtol=rounding, atol=rounding * scale / 30)


def same_choices(name, kept, cache):
    """The reference's cache with the kernel's ReLU and winners: rounding may decide otherwise."""
    if "fused" in name:
        y, winner = (None if a is None else off(a) for a in kept[1][1:3])
        return cache[0], cache[1]._replace(y=y, winner=winner)
    return cache


@pytest.mark.parametrize("dtype", ["float64", "float32", bfloat16()], ids=str)
@each_case
def test_both_passes(name, dtype):
    forward, backward = functions(name)
    arguments = given(name, dtype)
    want, cache = forward.reference(*exact(arguments))
    dy = np.random.default_rng(2).standard_normal(want.shape).astype(dtype)
    with captured_step():  # or dense layers are cuBLAS's
        y, kept = forward(*map(on, arguments))
        gradients = many(backward(on(dy), kept))
        again = [forward(*map(on, arguments))[0], *many(backward(on(dy), kept))]
    assert y.dtype == gradients[0].dtype == dtype
    assert {g.dtype for g in gradients[1:]} <= {np.dtype("f8" if dtype == "float64" else "f4")}
    wanted = many(backward.reference(dy.astype("float64"), same_choices(name, kept, cache)))
    close([y], [want], None)
    close(gradients, wanted, 1e-4 if dtype == "float32" else None)
    for one, other in zip([y, *gradients], again, strict=True):
        np.testing.assert_array_equal(off(one), off(other))  # the same bits twice


@each_case
def test_either_pass_may_be_the_references(name):
    forward, backward = functions(name)
    arguments = [on(a) for a in given(name, "float64")]
    with captured_step():
        y, of_kernel = forward(*arguments)
        want, of_reference = forward.reference(*arguments)
        dy = on(np.random.default_rng(2).standard_normal(y.shape))
        wanted = [off(g) for g in many(backward.reference(dy, of_reference))]
        close(many(backward(dy, of_reference)), wanted, None)
        close(many(backward.reference(dy, of_kernel)), wanted, None)


@each_case
def test_what_is_not_finite_is_where_the_reference_has_it(name):
    forward, backward = functions(name)
    x, *more = given(name, "float64")
    x.reshape(-1)[1::9] = np.nan
    with np.errstate(all="ignore"), captured_step():
        want, cache = forward.reference(x, *more)
        y, kept = forward(on(x), *map(on, more))
        np.testing.assert_array_equal(np.isnan(off(y)), np.isnan(want))
        if "relu_pool" in name:
            np.testing.assert_array_equal(off(kept[1].winner), cache[1].winner)
        x = given(name, "float64")[0]
        want, cache = forward.reference(x, *more)
        _, kept = forward(on(x), *map(on, more))
        dy = np.ones(want.shape)
        dy.reshape(-1)[:: max(2, dy.size - 2)] = np.nan
        wanted, found = many(backward.reference(dy, cache)), many(backward(on(dy), kept))
    for got, wish in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(np.isnan(off(got)), np.isnan(wish))


@each_case
def test_arrays_with_gaps_and_at_odd_addresses(name):
    """No load of 16 bytes then: a GPU would refuse it."""
    forward, backward = functions(name)
    x, *more = given(name, "float32")
    gaps = on(np.repeat(x, 2, axis=1))[:, ::2]
    odd = on(np.concatenate([[9], x.reshape(-1)]).astype("float32"))[1:].reshape(x.shape)
    assert not columns.is_aligned(odd)
    with captured_step():
        want, _ = forward(on(x), *map(on, more))
        for view in (gaps, odd):
            y, cache = forward(view, *map(on, more))
            np.testing.assert_allclose(off(y), off(want), rtol=1e-5, atol=1e-5)
            backward(y, cache)


@pytest.mark.parametrize("kind", ["float16", "two dtypes", "empty"])
@each_case
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_what_is_not_covered_goes_to_the_reference(name, kind):
    forward, _ = functions(name)
    x, *more = given(name, "float64")
    if kind == "empty" and name.startswith(("max_pool", "batchnorm", "conv2d_fused, one")):
        pytest.skip("a mean or a maximum of nothing")
    if kind == "two dtypes":
        more = [
            a.astype("f4") if isinstance(a, np.ndarray) and a.dtype == "f8" else a for a in more
        ]
    else:
        dtype = {"float16": "float16", "empty": "float64"}[kind]
        x = (3 * x).astype(dtype)[: 0 if kind == "empty" else None]
        if kind == "empty" and name.startswith("dropout") and more[0] is not None:
            more[0] = more[0][:0]
    with captured_step(), np.errstate(all="ignore"):
        want, _ = forward.reference(x, *more)
        y, _ = forward(on(x), *map(on, more))
    assert (y.dtype, y.shape) == (want.dtype, want.shape)
    np.testing.assert_allclose(off(y), want.astype("float64"), rtol=2e-3, atol=1e-3)


def test_the_input_gradient_is_left_out():
    x, w, b, *more = given("conv2d_fused, 3x3, relu_pool", "float64")
    y, cache = epilogues.conv2d_fused_forward(on(x), on(w), on(b), *more)
    dx, *without = epilogues.conv2d_fused_backward(y, cache, need_dx=False)
    assert dx is None
    for got, want in zip(without, epilogues.conv2d_fused_backward(y, cache)[1:], strict=True):
        np.testing.assert_array_equal(off(got), off(want))


def test_every_number_of_rows():
    """None left out and none twice, whatever blocks and threads the rows end in."""
    for m in range(1, 70):
        x, gamma, beta = per_channel((m, 3), 2)
        want, cache = layers.batchnorm_forward.reference(x, gamma, beta)
        y, kept = layers.batchnorm_forward(on(x), on(gamma), on(beta))
        dy = np.cos(x)
        wanted = layers.batchnorm_backward.reference(dy, cache)
        close([y, *layers.batchnorm_backward(on(dy), kept)], [want, *wanted], 1e-9)


def test_statistics_keep_their_digits():
    """The mean of x² less the square of the mean would have no figure left."""
    spread = np.random.default_rng(0).standard_normal((900, 3))
    first = spread.copy()
    first[0] = 1000
    for x in (spread, spread + 1e4, first):
        x = x.astype("float32")
        (mean, variance, *_), wide = statistics(on(x), 1e-3), x.astype("float64")
        np.testing.assert_allclose(off(variance), wide.var(axis=0), rtol=1e-5)
        np.testing.assert_allclose(off(mean), wide.mean(axis=0), rtol=1e-4, atol=1e-6)
    mean, variance, *_ = statistics(on(np.full((2, 3, 5, 3), 0.1, "float32")), 1e-3)
    np.testing.assert_array_equal(off(variance), 0)
    np.testing.assert_array_equal(off(mean), np.float64(np.float32(0.1)))


def numbers(shape, kind, dtype, seed=0):
    """Of many sizes, some not finite or halfway between two of bfloat16; or with many equal."""
    rng = np.random.default_rng(seed)
    if kind == "ties":
        return rng.integers(-3, 2, shape).astype(dtype)
    x = rng.standard_normal(shape) * 10.0 ** rng.integers(-20, 20, shape)
    odd = [1 + 2.0**-8, 1 + 3 * 2.0**-8, -0.0, np.inf, -np.inf, np.nan, 3.4e38, 1e-40]
    x.reshape(-1)[: len(odd)] = odd[: x.size]
    with np.errstate(over="ignore", invalid="ignore"):
        return x.astype(dtype)


DTYPES = ["float32", "float64", bfloat16()]
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)


@each_dtype
@pytest.mark.parametrize("shape", [(2, 4, 6, 8), (1, 5, 7, 24), (2, 2, 3, 3)], ids=str)
def test_epilogues_to_the_bit(shape, dtype):
    for epilogue in EPILOGUES:
        for kind in ("ties", "not finite"):
            z = numbers(shape, kind, dtype)
            want, kept = epilogue_forward(z.astype("float64"), epilogue)
            y, cache = epilogue_forward_cuda(on(z), epilogue)
            assert y.dtype == dtype
            np.testing.assert_array_equal(off(y), want)
            for got, wish in zip(cache[1:3], kept[1:3], strict=True):
                assert (got is None) == (wish is None)
                if got is not None:
                    np.testing.assert_array_equal(off(got), wish)
            dy = numbers(want.shape, "ties", dtype)
            dz = epilogue_backward_cuda(on(dy), cache)
            assert dz.dtype == dtype
            np.testing.assert_array_equal(off(dz), epilogue_backward(dy.astype("float64"), kept))


def test_errors_are_the_references():
    x, gamma = on(np.ones((1, 1, 3, 2), "f4")), on(np.ones(2, "f4"))
    for call, said in (
        (lambda: epilogue_forward_cuda(x, "pool"), "epilogue is 'pool'"),
        (lambda: epilogue_forward_cuda(x, "relu_pool"), "covers 2 × 2 cells"),
        (lambda: layers.batchnorm_forward(x, gamma[:1], gamma), "batchnorm: gamma is"),
        (lambda: layers.conv2d_forward(x, on(np.ones((1, 1, 3, 1), "f4"))), "conv2d: "),
        (lambda: layers.dense_forward(gamma.reshape(1, 2), on(np.ones((3, 1), "f4"))), "dense: "),
        (lambda: layers.dropout_forward(x, None, 0), "keep_prob is 0"),
        (
            lambda: epilogues.batchnorm_fused_forward(x, gamma, gamma, 1e-3, "relu_pool"),
            "covers 2 × 2 cells",
        ),
    ):
        with pytest.raises(ValueError, match=said):
            call()


@pytest.mark.parametrize("to", DTYPES, ids=str)
@pytest.mark.parametrize("of", DTYPES, ids=str)
def test_casts_to_the_bit(of, to):
    for shape in ((3, 5), (2, 4, 8)):
        x = numbers(shape, "not finite", of)
        with np.errstate(over="ignore"):
            through = x.astype("float32") if np.dtype(to) == bfloat16() else x  # rounded to float32
            want = through.astype(to).astype("float64")
        y = cast(on(x), to)
        assert y.dtype == to
        np.testing.assert_array_equal(off(y), want)
        np.testing.assert_array_equal(np.signbit(off(y)), np.signbit(want))
    same = on(numbers((3, 5), "ties", to))
    assert cast(same, to) is same
    np.testing.assert_array_equal(off(cast(same, "float16")), off(same))


@each_dtype
def test_sums_and_relu_to_the_bit(dtype):
    for shape in ((3, 5), (2, 4, 8)):
        a, b = numbers(shape, "not finite", dtype), numbers(shape, "ties", dtype, seed=1)
        with np.errstate(all="ignore"):
            real = "float32" if np.dtype(dtype) == bfloat16() else dtype
            sum_ = (a.astype(real) + b.astype(real)).astype(dtype).astype("float64")
            gradient = a.astype("float64") * (b.astype("float64") > 0)
        x, y = on(a), on(b)
        for got, want in (
            (add(x, y), sum_),
            (relu(x), np.maximum(a.astype("float64"), 0)),
            (relu_gradient(x, y), gradient),
        ):
            assert got.dtype == dtype
            np.testing.assert_array_equal(off(got), want)
        for function in (add, relu_gradient):
            with pytest.raises(ValueError, match=r"want them the same"):
                function(x, y[:1])


@each_dtype
@pytest.mark.parametrize("shape", [(37, 1), (101, 3), (2, 5, 7, 8), (2, 5, 7, 24), (0, 2)], ids=str)
def test_channel_sums(shape, dtype):
    x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    sums, again = channel_sums(on(x)), channel_sums(on(x))
    want = x.astype("float64").reshape(-1, shape[-1]).sum(axis=0)
    np.testing.assert_allclose(off(sums), want, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(off(sums), off(again))
    if shape[0]:
        assert sums.dtype == ("float64" if dtype == "float64" else "float32")


@pytest.mark.parametrize("channels", [1, 3, 8, 33, 64, 728, 2048])
@pytest.mark.parametrize("rows", [1, 31, 3136, 10_000_000])
def test_the_division_covers_every_row_and_channel_once(rows, channels, monkeypatch):
    monkeypatch.undo()  # blocks of their usual size
    for itemsize in (2, 4, 8):
        by = columns.divide(rows, channels, itemsize)
        (across, parts), (wide, high) = by.grid, by.block
        assert wide * high <= 256
        assert across * parts <= 1056
        assert by.vec in (1, 16 // itemsize)
        assert channels % by.vec == 0
        assert (across - 1) * wide < channels // by.vec <= across * wide
        assert by.chunk % high == 0
        assert (parts - 1) * by.chunk < rows <= parts * by.chunk
        if rows == 10_000_000 and channels <= 64:
            assert across * parts > 1000, "too few blocks to keep a GPU busy"


def test_what_few_channels_covers(monkeypatch):
    monkeypatch.undo()
    x, w = np.zeros((1, 8, 8, 3), "f4"), np.zeros((3, 3, 3, 64), "f4")
    assert few_channels.covers(x, w, 1)
    assert conv.by_few_channels(x, w, window_over((8, 8), (3, 3)), 1)
    assert not few_channels.covers(x, w, 3)
    assert not few_channels.covers(np.empty((1, 8, 8, 5), "f4"), np.empty((3, 3, 5, 4), "f4"), 1)
    assert not few_channels.covers(x, np.empty((7, 7, 3, 128), "f4"), 1)  # 75 KB of filters
    assert not few_channels.covers(x, w.astype("float64"), 1)


def test_a_captured_dense_layer_asks_cublas_for_nothing(cupy_kernels, monkeypatch):
    if cupy_kernels.ndarray is not ndarray:
        pytest.skip("CuPy's own product cannot be replaced by one that refuses")

    def refuse(*_):
        raise AssertionError("a product of CuPy's, which cuBLAS would make")

    monkeypatch.setattr(ndarray, "__matmul__", refuse)
    x, w = map(on, arrays((3, 37), (37, 2)))
    with captured_step():
        z, cache = layers.dense_forward(x, w)
        layers.dense_backward(z, cache)
    with pytest.raises(AssertionError, match="cuBLAS"):
        layers.dense_forward(x, w)
    with pytest.raises(TypeError, match="one library"):
        layers.dense_forward(x, np.ones((37, 2)))


@pytest.mark.parametrize("need_dx", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_gradients_of_a_dense_layer_are_added(bias, need_dx):
    x, w, dz, dw, db = arrays((7, 33), (33, 20), (7, 20), (33, 20), (20,))
    want, got = [dw.copy(), db.copy() if bias else None], [on(dw), on(db) if bias else None]
    wish = epilogues.dense_fused_backward.reference(*want, dz, DenseCache(x, w, bias), need_dx)
    with captured_step():
        cache = DenseCache(on(x), on(w), bias)
        dx = epilogues.dense_fused_backward(*got, on(dz), cache, need_dx)
    close([dx, *got], [wish, *want], None)
    gaps = on(np.zeros((33, 40)))
    epilogues.dense_fused_backward(gaps[:, ::2], None, on(dz), DenseCache(on(x), on(w), False))
    np.testing.assert_allclose(off(gaps)[:, ::2], x.T @ dz)
