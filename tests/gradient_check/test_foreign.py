"""Subjects from elsewhere: torch, custom_vjp, vjp closures, stateful objects, nests, complex."""

import numpy as np
import pytest

from tinynet.gradient_check import GradientError, check_backward, check_function
from tinynet.gradient_check.choice import check_any
from tinynet.layers import ReLU

rng = np.random.default_rng(0)
X, W, B = rng.standard_normal((5, 3)), rng.standard_normal((3, 4)), rng.standard_normal(4)
Z = X + 1j * rng.standard_normal((5, 3))


class Layer:
    """An affine map that keeps its gradients as attributes; ``wrong`` spoils db."""

    def __init__(self, wrong=0.0):
        self.W, self.b, self.wrong = W.astype("float32"), B.copy(), wrong

    def forward(self, x):
        self.x = x
        return x @ self.W + self.b

    def backward(self, dy):
        self.dW, self.db = self.x.T @ dy, dy.sum(axis=0) * (1 + self.wrong)
        return dy @ self.W.T


class InLists(Layer):
    def __init__(self, wrong=0.0):
        super().__init__(wrong)
        self.params = [self.W, self.b]
        self.grads = [np.zeros_like(a) for a in self.params]

    def backward(self, dy):
        dx = super().backward(dy)
        self.grads[0][...], self.grads[1][...] = self.dW, self.db
        del self.dW, self.db
        return dx


class InDicts(Layer):
    def __init__(self, wrong=0.0):
        self.params, self.grads, self.wrong = {"W": W, "b": B}, {}, wrong

    def forward(self, x):
        self.x = x
        return x @ self.params["W"] + self.params["b"]

    def backward(self, dy):
        self.grads = {"dW": self.x.T @ dy, "db": dy.sum(axis=0) * (1 + self.wrong)}
        return dy @ self.params["W"].T


class Returned(Layer):
    def backward(self, dy):
        dx = super().backward(dy)
        found = {"x": dx, "dW": self.dW, "db": self.db}
        del self.dW, self.db
        return found


class Accumulating(Layer):
    def __init__(self, wrong=0.0):
        super().__init__(wrong)
        self.grad_W, self.grad_b = np.zeros((3, 4)), np.zeros(4)

    def backward(self, dy):
        self.grad_W += self.x.T @ dy
        self.grad_b += dy.sum(axis=0) * (1 + self.wrong)
        self.dx = dy @ self.W.T


class WithRate(Layer):
    def backward(self, dy, rate=0.1):
        return super().backward(dy)


class Called(Layer):
    __call__ = Layer.forward
    forward = None


class Slotted:
    __slots__ = ("W", "b", "db", "dW", "wrong", "x")
    __init__, forward, backward = Layer.__init__, Layer.forward, Layer.backward


class Wrapping:
    """Whatever it lacks, the layer inside has: a copy must not be one of that."""

    def __init__(self, wrong=0.0):
        self.inner = Layer(wrong)

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def forward(self, x):
        return 2 * self.inner.forward(x)

    def backward(self, dy):
        return self.inner.backward(2 * dy)


class Network:
    def __init__(self, wrong=0.0):
        self.layers = [Layer(), Layer(wrong)]
        self.layers[1].W = rng.standard_normal((4, 4))

    def forward(self, x):
        return self.layers[1].forward(self.layers[0].forward(x))

    def backward(self, dy):
        return self.layers[0].backward(self.layers[1].backward(dy))


@pytest.mark.parametrize(
    "kind",
    [Layer, InLists, InDicts, Returned, Accumulating, Called, Slotted, Wrapping, Network],
)
def test_object_that_keeps_its_state(kind):
    report = check_function(kind(), [X])
    assert len(report.arrays) == (5 if kind is Network else 3)
    assert {check.method for check in report.arrays} == {"complex step"}
    with pytest.raises(GradientError, match=r"the gradient of \S*(b|1) is wrong in 4 of 4"):
        check_function(kind(1e-7), [X])


def test_fixture_and_command_know_what_has_its_backward_pass_within():
    assert check_any(WithRate(), X, seed=1).ok
    assert check_any(tanh, X, W).ok
    with pytest.raises(GradientError):
        check_any(tanh_spoilt, X, W)


def test_parameter_without_a_gradient_is_named():
    class Unfamiliar(Layer):
        def __init__(self):
            super().__init__()
            self.steps = np.zeros(4)

        def backward(self, dy):
            dx = super().backward(dy)
            self.gradient_of_b = self.__dict__.pop("db")
            return dx

    (note,) = check_function(Unfamiliar(), [X]).notes
    assert note.startswith("y depends on b, whose gradient was not found")


def test_object_given_is_not_touched():
    layer = Layer()
    before = vars(layer).copy()
    check_function(layer, [X])
    assert vars(layer) == before


class ByShape(Layer):
    def forward(self, x):
        self.kept = self.kept if getattr(self, "kept", x[:0]).shape == x.shape else x.copy()
        return super().forward(x)

    def backward(self, dy):
        dx = super().backward(dy)
        self.dW = self.kept.T @ dy
        return dx


class Steps(Layer):
    def backward(self, dy):
        dx = super().backward(dy)
        self.W -= self.dW
        return dx


@pytest.mark.parametrize(
    ("kind", "said"), [(ByShape, "gradient of W is wrong"), (Steps, "backward modifies W")]
)
def test_object_that_keeps_or_changes_too_much(kind, said):
    with pytest.raises(GradientError, match=said):
        check_function(kind(), [X])


def tanh(x, w):
    y = np.tanh(x @ w)
    return y, lambda dy: ((dy * (1 - y * y)) @ w.T, x.T @ (dy * (1 - y * y)))


def tanh_spoilt(x, w):
    y, vjp = tanh(x, w)
    return y, lambda dy: (vjp(dy)[0], vjp(dy)[1] * 1.0001)


class CustomVJP:
    """As jax.custom_vjp keeps them: fun, and fwd and bwd, to which defvjp sets them."""

    def __init__(self, fun, fwd, bwd, nondiff_argnums=()):
        self.fun, self.fwd, self.bwd, self.nondiff_argnums = fun, fwd, bwd, nondiff_argnums

    def __call__(self, *args):
        return self.fun(*args)


def power(n, x):
    return x**n


def power_fwd(n, x):
    return x**n, x


def power_bwd(n, x, dy):
    return (n * x ** (n - 1) * dy,)


VJPS = {
    "closure": (tanh, tanh_spoilt, [X, W]),
    "custom_vjp": (
        CustomVJP(np.sin, lambda x: (np.sin(x), x), lambda x, dy: (np.cos(x) * dy,)),
        CustomVJP(np.sin, lambda x: (np.sin(x), x), lambda x, dy: (np.sin(x) * dy,)),
        [X],
    ),
    "custom_vjp with an argument that is not differentiated": (
        CustomVJP(power, power_fwd, power_bwd, (0,)),
        CustomVJP(power, power_fwd, lambda n, x, dy: (x ** (n - 1) * dy,), (0,)),
        [3, X],
    ),
    "custom_vjp in JAX's convention": (
        CustomVJP(np.square, lambda z: (z * z, z), lambda z, dy: (2 * z * dy,)),
        CustomVJP(np.square, lambda z: (z * z, z), lambda z, dy: (2 * z.conj() * dy,)),
        [Z],
    ),
    "custom_vjp whose bwd returns no tuple": (
        CustomVJP(np.sin, lambda x: (np.sin(x), x), lambda x, dy: [np.cos(x) * dy]),
        CustomVJP(np.sin, lambda x: (np.sin(x), x), lambda x, dy: np.cos(x) * dy),
        [X],
    ),
    "custom_vjp whose fwd differs": (
        CustomVJP(np.sin, lambda x: (np.sin(x), x), lambda x, dy: (np.cos(x) * dy,)),
        CustomVJP(np.sin, lambda x: (2 * np.sin(x), x), lambda x, dy: (2 * np.cos(x) * dy,)),
        [X],
    ),
}


@pytest.mark.parametrize("name", VJPS)
def test_function_that_returns_its_vjp(name):
    right, wrong, args = VJPS[name]
    assert check_function(right, args).ok
    with pytest.raises(GradientError):
        check_function(wrong, args)


def listed(xs):
    return xs[0] * np.sin(xs[1]), xs


def listed_backward(dy, xs):
    return [dy * np.sin(xs[1]), dy * xs[0] * np.cos(xs[1])]


def affine(x, p):
    return x @ p["w"] + p["b"], (x, p["w"])


def affine_backward(dy, cache):
    x, w = cache
    return dy @ w.T, {"w": x.T @ dy, "b": dy.sum(axis=0)}


def affine_by_name(dy, cache):
    dx, dp = affine_backward(dy, cache)
    return {"dx": dx, "p": dp}


def affine_spoilt(dy, cache):
    dx, dp = affine_backward(dy, cache)
    return dx, dp | {"b": dp["b"] * 2}


def several(x):
    return (x * x, x.argmax(axis=1), {"sine": np.sin(x)}), x


def several_backward(dy, x):
    assert dy[1] is None
    return 2 * x * dy[0] + np.cos(x) * dy[2]["sine"]


def rows(ids, x, w):
    return x[ids] * w, (ids, x, w)


def rows_backward(dy, cache):
    ids, x, w = cache
    dx = np.zeros_like(x)
    np.add.at(dx, ids, dy * w)
    return None, dx, (dy * x[ids]).sum(axis=0)


NESTS = {
    "list": (listed, listed_backward, lambda dy, xs: listed_backward(dy, xs[::-1]), [[X, X + 1]]),
    "dict": (affine, affine_backward, affine_spoilt, [X, {"w": W, "b": B}]),
    "by name": (affine, affine_by_name, affine_spoilt, [X, {"w": W, "b": B}]),
    "several outputs": (several, several_backward, lambda dy, x: 2 * x * dy[0], [X]),
    "several outputs, one in float32": (
        lambda x: ((x.astype("float32") ** 2, np.sin(x)), x),
        lambda dy, x: 2 * x * dy[0] + np.cos(x) * dy[1],
        lambda dy, x: 2 * x * dy[0] + np.cos(x) * dy[1] * 1.01,
        [X],
    ),
    "None for whole numbers": (
        rows,
        rows_backward,
        lambda dy, cache: (None, *rows_backward(dy[::-1], cache)[1:]),
        [np.array([0, 2, 2]), X, X[0]],
    ),
    "complex": (
        lambda z: (z * z, z),
        lambda dy, z: 2 * z.conj() * dy,
        lambda dy, z: 2 * z * dy,
        [Z],
    ),
    "complex to real": (
        lambda z: (abs(z) ** 2, z),
        lambda dy, z: 2 * z * dy,
        lambda dy, z: 2 * z.real * dy,
        [Z],
    ),
    "real to complex": (
        lambda x: (np.fft.fft(x), len(x[0])),
        lambda dy, n: (np.fft.ifft(dy) * n).real,
        lambda dy, n: np.fft.ifft(dy) * n,
        [X],
    ),
}


@pytest.mark.parametrize("name", NESTS)
def test_nested_and_complex_arguments_and_outputs(name):
    forward, backward, wrong, args = NESTS[name]
    report = check_backward(forward, backward, args)
    assert report.ok
    assert not report.unchecked
    with pytest.raises(GradientError):
        check_backward(forward, wrong, args)


def test_gradients_left_out_of_a_dict_are_named():
    report = check_backward(affine, lambda dy, c: {"p": {"w": c[0].T @ dy}}, [X, {"w": W, "b": B}])
    assert report.unchecked == ["x", "p.b"]


@pytest.mark.parametrize("returned", [{"q": X}, {"p": {"v": W}}, (X, W, B, B), (X, (W, B))])
def test_gradient_without_an_argument_is_refused_with_the_names(returned):
    with pytest.raises(ValueError, match=r"3 float arrays \(x, p.w, p.b\)"):
        check_backward(affine, lambda dy, cache: returned, [X, {"w": W, "b": B}])


def test_outputs_that_reuse_memory_or_rely_on_a_layout():
    memory = np.empty_like(X)

    def reusing(x):
        return (np.multiply(x, x, out=memory), x + 1), x

    with pytest.raises(GradientError, match="changes what an earlier call returned"):
        check_backward(reusing, lambda dy, x: 2 * x * dy[0] + dy[1], [X])

    def in_memory_order(dy, x):
        return 2 * x * dy[0].ravel("K").reshape(x.shape) + dy[1]

    with pytest.raises(GradientError, match="transposed arrays"):
        check_backward(lambda x: ((x * x, x + 1), x), in_memory_order, [X])


class Foreign:
    """An array of a library that NumPy's functions do not take."""

    def __init__(self, a):
        self.a, self.dtype, self.shape = np.array(a), np.asarray(a).dtype, np.shape(a)

    def __array__(self, dtype=None, copy=None):
        return self.a

    def __array_namespace__(self):
        return type("namespace", (), {"asarray": staticmethod(Foreign)})

    def times(self, other):
        return Foreign(self.a * other.a)


def test_array_of_another_library_is_passed_as_such():
    args = [Foreign(X), Foreign(X + 1)]

    def product(x, y):
        return x.times(y), (x, y)

    def product_backward(dy, cache):
        return dy.times(cache[1]), dy.times(cache[0])

    assert check_backward(product, product_backward, args).ok
    with pytest.raises(GradientError, match="are two results in the wrong order"):
        check_backward(product, lambda *a: product_backward(*a)[::-1], args)


def test_what_has_no_backward_pass_is_told_what_is_wanted():
    for function, said in [
        (np.sin, "a function that takes dy. A torch function is given tensors"),
        (Layer, "want an object of it, made by calling it"),
        (3, "want a function, or forward and backward"),
        (ReLU(), "takes more than dy: check check_backward"),
    ]:
        with pytest.raises(TypeError, match=said):
            check_function(function, [X])
    with pytest.raises(TypeError, match=r"goes to check_function\(object, args\)"):
        check_backward(Layer().forward, Layer().backward, [X])


def cube(torch, backward):
    def forward(ctx, x, power):
        ctx.save_for_backward(x)
        ctx.power = power
        return x**power, x.sin()

    functions = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    return type("Cube", (torch.autograd.Function,), functions)


def cube_backward(ctx, dy, dz):
    (x,) = ctx.saved_tensors
    return ctx.power * x ** (ctx.power - 1) * dy + x.cos() * dz, None


def test_autograd_function(torch):
    x = torch.from_numpy(X)
    assert check_function(cube(torch, cube_backward), [X, 3]).ok  # an array becomes a tensor
    report = check_function(cube(torch, cube_backward), [x, 3])
    assert [check.name for check in report.arrays] == ["x"]
    kept = []

    def stale(ctx, dy, dz):
        kept.append(ctx.saved_tensors[0])
        return 3 * kept[0] ** 2 * dy + kept[0].cos() * dz, None

    def contiguous(ctx, dy, dz):
        return cube_backward(ctx, dy.view(-1).view(5, 3), dz)

    def one_sign(ctx, dy, dz):
        return cube_backward(ctx, dy, -dz)

    for wrong, said in [
        (one_sign, "is wrong in 15 of 15"),
        (stale, "the gradient of x is wrong"),
        (contiguous, "backward raises RuntimeError for"),
    ]:
        with pytest.raises(GradientError, match=said):
            check_function(cube(torch, wrong), [x, 3])


def test_functions_of_torch_are_right(torch):
    functions, r = torch.nn.functional, torch.Generator().manual_seed(0)

    def draw(*shape, **settings):
        return torch.randn(shape, generator=r, dtype=torch.float64, **settings)

    for function, args in [
        (functions.conv2d, [draw(1, 2, 5, 4), draw(3, 2, 3, 3), draw(3)]),
        (lambda x, w, b: functions.layer_norm(x, (5,), w, b), [draw(4, 5), draw(5), draw(5)]),
        (functions.gelu, [draw(4, 5).float()]),
        (functions.cross_entropy, [draw(4, 5), torch.tensor([0, 4, 2, 2])]),
        (lambda x: functions.max_pool2d(x, 2, return_indices=True), [draw(1, 2, 4, 4)]),
        (lambda xs: torch.cat(xs), [[draw(2, 3), draw(1, 3)]]),
        (lambda x: (x * x, x.detach()), [draw(3)]),
        (lambda x: x * x, [draw()]),
        (torch.add, [draw(3), draw(3)]),
        (torch.nn.SiLU(inplace=True), [draw(3)]),
        (lambda x, y: x * 1 + y.sum(), [draw(3), draw(3)]),
        (lambda x: functions.dropout(x, 0.5), [draw(4, 3)]),
        (torch.abs, [torch.from_numpy(Z)]),
    ]:
        assert check_function(function, args).ok
    report = check_function(torch.matmul, [draw(2, 3, requires_grad=True), draw(3, 2)])
    assert len(report.arrays) == 1
    with pytest.raises(GradientError, match="returns no gradient at all"):
        check_function(lambda x: x.detach() * 2, [draw(3)])


def test_module_with_its_parameters(torch):
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.GELU(), torch.nn.Dropout(0.5)
    )
    before = {name: a.clone() for name, a in module.state_dict().items()}
    state = torch.get_rng_state()
    report = check_function(module, [torch.from_numpy(X).float()])
    assert len(report.arrays) == 5
    assert report.arrays[1].name == "0.weight"
    assert all(torch.equal(a, before[name]) for name, a in module.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())

    class Detached(torch.nn.Linear):
        def forward(self, x):
            return super().forward(x.detach()) * x.mean()

    with pytest.raises(GradientError, match="the gradient of x is wrong"):
        check_function(Detached(3, 4), [torch.from_numpy(X)])


def test_two_functions_of_tensors(torch):
    args = [torch.from_numpy(X), torch.from_numpy(W)]

    def product(x, w):
        return x @ w, (x, w)

    def product_backward(dy, cache):
        return dy @ cache[1].T, cache[0].T @ dy

    assert check_backward(product, product_backward, args).ok
    with pytest.raises(GradientError):
        check_backward(product, lambda dy, c: (dy @ c[1].T, 1.001 * c[0].T @ dy), args)
