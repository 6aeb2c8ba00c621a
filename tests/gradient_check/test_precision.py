"""Code that computes in float32 or less is judged by its own precision, and told so."""

import numpy as np
import pytest

from tinynet.gradient_check import GradientError, check_backward
from tinynet.gradient_check.checkable import CheckablePair
from tinynet.gradient_check.precision import precision_of


def normal(*shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape) for shape in shapes]


# Right pairs, computed in ``dtype`` inside; ``out`` is what they give back, None for the same.


def dense(dtype, out):
    def forward(x, w, b):
        x, w, b = (a.astype(dtype) for a in (x, w, b))
        return (x @ w + b).astype(out), (x, w)

    def backward(dy, cache):
        x, w = cache
        dy = dy.astype(dtype)
        return (dy @ w.T).astype(out), (x.T @ dy).astype(out), dy.sum(axis=0).astype(out)

    return forward, backward


def tanh(dtype, out):
    def forward(x):
        y = np.tanh(x.astype(dtype))
        return y.astype(out), y

    return forward, lambda dy, y: (dy.astype(dtype) * (1 - y * y)).astype(out)


def swish(dtype, out):
    """The sigmoid alone is in ``dtype``."""

    def forward(x):
        s = (1 / (1 + np.exp(-x.astype(dtype)))).astype("float64")
        return x * s, (x, s)

    def backward(dy, cache):
        x, s = cache
        return dy * (s + x * s * (1 - s))

    return forward, backward


def norm(dtype, out):
    def forward(x):
        x = x.astype(dtype)
        centred = x - x.mean(axis=1, keepdims=True)
        inv_std = 1 / np.sqrt((centred**2).mean(axis=1, keepdims=True) + dtype(1e-3))
        return (centred * inv_std).astype(out), (centred * inv_std, inv_std)

    def backward(dy, cache):
        y, inv_std = cache
        dy = dy.astype(dtype)
        mean, along = dy.mean(axis=1, keepdims=True), (dy * y).mean(axis=1, keepdims=True)
        return (inv_std * (dy - mean - y * along)).astype(out)

    return forward, backward


def cross_entropy(dtype, out):
    def forward(z):
        z = z.astype(dtype)
        e = np.exp(z - z.max(axis=1, keepdims=True))
        p = e / e.sum(axis=1, keepdims=True)
        return np.asarray(-np.log(p[:, 0]).mean(), out), p

    def backward(dy, p):
        dz = p.copy()
        dz[:, 0] -= 1
        return (dy.astype(dtype) * dz / dtype(len(p))).astype(out)

    return forward, backward


def relu_dense(dtype, out):
    """A hidden layer in between, with kinks."""

    def forward(x, w, v):
        x, w, v = (a.astype(dtype) for a in (x, w, v))
        h = x @ w
        return (np.maximum(h, 0) @ v).astype(out), (x, w, v, h)

    def backward(dy, cache):
        x, w, v, h = cache
        dy = dy.astype(dtype)
        dh = (dy @ v.T) * (h > 0)
        dv = np.maximum(h, 0).T @ dy
        return (dh @ w.T).astype(out), (x.T @ dh).astype(out), dv.astype(out)

    return forward, backward


KERNELS = {
    dense: lambda n, m: ((n, m), (m, 3), (3,)),
    tanh: lambda n, m: ((n, m),),
    swish: lambda n, m: ((n, m),),
    norm: lambda n, m: ((n, m + 2),),
    cross_entropy: lambda n, m: ((n, m + 1),),
    relu_dense: lambda n, m: ((n, m), (m, 4), (4, 2)),
}


def drawn(kernel, dtype, seed):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, 8, 2)
    out = (dtype, np.float64)[seed % 2]
    scale = 10 ** rng.uniform(-1, 0.5)
    args = [rng.standard_normal(shape) * scale for shape in KERNELS[kernel](*sizes)]
    return *kernel(dtype, out), args


def spoilt(backward, share=0.01, seed=0):
    """One element of the first gradient, no small one, is off by that part."""

    def wrong(dy, cache):
        found = backward(dy, cache)
        found = found if isinstance(found, tuple) else (found,)
        first = found[0].astype("float64")
        at = np.unravel_index(seed % first.size, first.shape)
        if not abs(first[at]) > 0.3 * abs(first).max():
            at = np.unravel_index(abs(first).argmax(), first.shape)
        first[at] *= 1 + share
        return (first.astype(found[0].dtype), *found[1:])

    return wrong


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("kernel", KERNELS)
def test_right_float32_code_is_right_and_an_error_of_a_hundredth_found(kernel, seed):
    forward, backward, args = drawn(kernel, np.float32, seed)
    report = check_backward(forward, backward, args)
    assert "computed in float32: tolerance 8e-06" in str(report)
    with pytest.raises(GradientError, match="is wrong in 1 of"):
        check_backward(forward, spoilt(backward, seed=seed), args)


@pytest.mark.slow
@pytest.mark.parametrize("kernel", KERNELS)
def test_many_drawn_float32_kernels(kernel):
    found = 0
    for seed in range(40):
        forward, backward, args = drawn(kernel, np.float32, seed)
        assert check_backward(forward, backward, args).ok, seed
        try:
            check_backward(forward, spoilt(backward, seed=seed), args)
        except GradientError as error:
            found += "is wrong in 1 of" in str(error)
    assert found >= 36  # in float32 a slope of a large loss, or beside a kink, is known less well


def of(f, *args):
    subject = CheckablePair("f", (lambda *a: (f(*a), None), None), args, ["x", "w"][: len(args)])
    return precision_of(subject, subject.forward()[0]).name


X, W = normal((4, 3), (3, 3))


@pytest.mark.parametrize(
    ("f", "name"),
    [
        (lambda x, w: x.astype("f") @ w.astype("f"), "float32"),
        (lambda x, w: (x.astype("f") @ w.astype("f")).astype(float), "float32"),
        (lambda x, w: x @ w + np.tanh(x.astype("f")), "float32"),
        (lambda x, w: (x.astype("e") @ w.astype("e")).astype(float), "float16"),
        (lambda x, w: np.tanh(x @ w), "float64"),
        (lambda x, w: np.maximum(x @ w, 0).max(), "float64"),
        (lambda x, w: np.sin(20 * x @ w), "float64"),
        (lambda x, w: np.round(x @ w), "float64"),
        (lambda x, w: 0.5 * (1 + np.tanh(x - 15)), "float64"),
        (lambda x, w: np.zeros(3), "float64"),
    ],
)
def test_the_precision_is_measured(f, name):
    assert of(f, X, W) == name


def test_a_float64_computation_that_loses_digits_is_not_taken_for_float32():
    def variance(x):
        return (x**2).mean(axis=1) - x.mean(axis=1) ** 2

    assert of(variance, X + 1e3) == "float64"


def test_a_tie_is_not_taken_for_rounding():
    assert of(lambda x: x.max(), np.ones((3, 4))) == "float64"


# Near 0, and an ε.


@pytest.mark.parametrize("size", [1e-8, 1e-10, 1e-13])
def test_an_element_close_to_a_kink_at_zero_is_decided(size):
    x = np.array([size, -size, 0.7, -0.3])
    pair = (
        (lambda x: (np.where(x > 0, x, 0.1 * abs(x)), x)),
        lambda dy, x: dy * np.where(x > 0, 1, -0.1),
    )
    assert check_backward(*pair, [x]).undecidable == 0
    with pytest.raises(GradientError, match="wrong in 1 of 4 elements"):
        check_backward(pair[0], spoilt(lambda dy, x: pair[1](dy, x), 0.01), [x])


@pytest.mark.parametrize("log", [np.log, lambda p: np.log(abs(p))])  # analytic, and not
def test_an_epsilon_in_a_log_is_named_by_either_method(log):
    p = np.random.default_rng(0).uniform(0.05, 0.95, (4, 3))

    def forward(p):
        return log(p + 1e-7), p

    with pytest.raises(GradientError, match="forward pass has ε = 1e-07 added to p, as in log"):
        check_backward(forward, lambda dy, p: dy / p, [p])
    assert check_backward(forward, lambda dy, p: dy / (p + 1e-7), [p]).ok


# Against a float64 reference.


def low(name):
    return pytest.importorskip("ml_dtypes").bfloat16 if name == "bfloat16" else np.dtype(name).type


def drawn_low(kernel, name, seed, inside):
    """The kernel with arguments and results of that dtype, computed in float32 inside, or in it."""
    dtype = low(name)
    args = [a.astype(dtype) for a in drawn(kernel, np.float32, seed)[2]]
    pair = kernel(np.float32 if inside else dtype, dtype)
    return *pair, args, kernel(np.float64, np.float64)[0]


WITH_REFERENCE = [kernel for kernel in KERNELS if kernel is not swish]
FOUND = {"float32": 0.01, "float16": 0.01, "bfloat16": 0.04}  # the error of one element


@pytest.mark.parametrize("name", FOUND)
@pytest.mark.parametrize("kernel", WITH_REFERENCE)
def test_a_kernel_against_a_float64_reference(kernel, name):
    forward, backward, args, reference = drawn_low(kernel, name, 2, inside=True)
    report = check_backward(forward, backward, args, reference=reference)
    assert f"computed in {name}: tolerance" in str(report)
    with pytest.raises(GradientError, match="is wrong in 1 of"):
        check_backward(forward, spoilt(backward, FOUND[name]), args, reference=reference)


@pytest.mark.slow
@pytest.mark.parametrize("inside", [True, False], ids=["float32 inside", "rounded throughout"])
@pytest.mark.parametrize("name", FOUND)
@pytest.mark.parametrize("kernel", WITH_REFERENCE)
def test_many_drawn_kernels_against_a_reference(kernel, name, inside):
    """Right ones are all accepted; of those that round their result alone, errors are found."""
    found = 0
    for seed in range(20):
        forward, backward, args, reference = drawn_low(kernel, name, seed, inside)
        assert check_backward(forward, backward, args, reference=reference).ok, seed
        try:
            wrong = spoilt(backward, FOUND[name], seed)
            check_backward(forward, wrong, args, reference=reference)
        except GradientError:
            found += 1
    assert found >= (15 if inside else 0)


def test_another_function_than_the_reference_is_told():
    forward, backward, args, _ = drawn_low(tanh, "float16", 2, inside=True)
    with pytest.raises(GradientError, match="forward gives another result than the reference"):
        check_backward(forward, backward, args, reference=lambda x: np.tanh(1.1 * x))


def test_of_float64_arguments_the_precision_is_measured_and_the_slopes_are_the_references():
    forward, backward = tanh(np.float32, np.float64)
    report = check_backward(forward, backward, [X], reference=np.tanh)
    assert report.arrays[0].method == "complex step"
    assert "computed in float32: tolerance 8e-06" in str(report)
