"""docs/equations.md against the code, and the equations that no other test checks."""

import ast
import doctest
import importlib
import inspect
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from scipy.signal import convolve2d, correlate2d

from tinynet import initializers, layers, losses, metrics, optimizers, regularizers
from tinynet.layer import Mode
from tinynet.layers import BatchNorm, Conv2D, Dense, Flatten, MaxPool2D, ReLU, Sequential

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "equations.md").read_text(encoding="utf-8")
CHAPTER_2 = """2.1 2.2 2.2.1 2.2.2 2.3 2.3.1 2.3.2 2.3.3 2.3.4 2.3.5 2.3.6 2.4 2.4.1 2.4.2 2.4.3
    2.5 2.5.1 2.5.2 2.5.3 2.5.4 2.5.5 2.5.6 2.6 2.6.1 2.6.2 2.6.3 2.6.4 2.7""".split()
WITHOUT_EQUATIONS = {"2.1", "2.2", "2.3", "2.4", "2.5.1", "2.6"}  # introductions, and words alone

CODE_LINK = re.compile(r"\[`(tinynet\.[\w.]+)`\]\(\.\./([\w/.]+)\)")
TEST_LINK = re.compile(r"\[`(tests/[\w/]+\.py)::(\w+)`\]\(\.\./([\w/.]+)\)")


class Equation(NamedTuple):
    """One entry of the page."""

    id: str
    section: str  # "2.3.1", from the id
    heading: str  # the section it stands under
    body: str
    functions: list[tuple[str, str]]  # (dotted path, file) that compute it or that it holds for
    tests: list[tuple[str, str, str]]  # (file, test, linked file)

    @property
    def computed(self) -> bool:
        return "\nComputed by" in self.body

    @property
    def ours(self) -> bool:
        return self.body.rstrip().endswith("*Ours.*") or "*Ours.*\n" in self.body


def parse(page: str) -> list[Equation]:
    """The entries, in the page's order: from one heading to the next."""
    equations, heading = [], ""
    for part in re.split(r"^(?=#+ )", page, flags=re.MULTILINE):
        title, _, body = part.partition("\n")
        if found := re.match(r"#{2,3} (2[\d.]*) ", title):
            heading = found[1]
        if found := re.fullmatch(r"#### (E(2[\d.]*)-[a-z0-9-]+)", title):
            claim = re.search(r"^(?:Computed by|Holds for) .*?(?=\n\n|\Z)", body, re.M | re.S)
            text = claim[0] if claim else ""
            codes, tests = CODE_LINK.findall(text), TEST_LINK.findall(text)
            equations.append(Equation(found[1], found[2], heading, body, codes, tests))
    return equations


EQUATIONS = parse(PAGE)
each_equation = pytest.mark.parametrize("equation", EQUATIONS, ids=lambda e: e.id)


@cache
def resolve(dotted: str) -> tuple[object, list[str]]:
    """The object of a dotted path, and the docstrings of it and of the class around it."""
    parts = dotted.split(".")
    depth = next(n for n in range(len(parts), 0, -1) if is_module(".".join(parts[:n])))
    found: object = importlib.import_module(".".join(parts[:depth]))
    docstrings = []
    for name in parts[depth:]:
        found = inspect.getattr_static(found, name)
        docstrings.append(inspect.getdoc(found) or "")
    return found, docstrings


def is_module(dotted: str) -> bool:
    return any((ROOT / dotted.replace(".", "/")).with_suffix(s).exists() for s in (".py", ""))


def sections_named(text: str) -> set[str]:
    """Sections that a docstring names: §2.3.1, and §2.3.1-2 for both."""
    found = set()
    for section, last in re.findall(r"§(\d+(?:\.\d+)*)(?:-(\d+))?", text):
        stem, _, first = section.rpartition(".")
        found |= {f"{stem}.{n}" for n in range(int(first), int(last or first) + 1)}
    return found


def source_of(found: object) -> Path:
    found = found.fget if isinstance(found, property) else found
    return Path(inspect.getsourcefile(inspect.unwrap(found)))


@cache
def tests_in(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_ids_are_unique_and_stand_in_their_section_of_chapter_2():
    ids = [equation.id for equation in EQUATIONS]
    assert sorted(set(ids)) == sorted(ids)
    assert len(ids) == PAGE.count("\n#### "), "an entry's heading is no id"
    assert [e.id for e in EQUATIONS if e.section != e.heading] == []
    order = [CHAPTER_2.index(equation.section) for equation in EQUATIONS]
    assert order == sorted(order), "the page is not in the report's order"


def test_every_section_has_an_equation():
    assert {e.section for e in EQUATIONS} == set(CHAPTER_2) - WITHOUT_EQUATIONS


@each_equation
def test_names_a_function_that_exists_and_names_its_section(equation):
    assert equation.functions, "no function computes it"
    for dotted, file in equation.functions:
        found, docstrings = resolve(dotted)
        assert source_of(found) == ROOT / file
        if equation.ours:  # the section may be named once, by the module
            docstrings = [*docstrings, inspect.getmodule(inspect.unwrap(found)).__doc__ or ""]
        if equation.computed and not isinstance(found, property):
            assert equation.section in sections_named("\n".join(docstrings)), (
                f"the docstring of {dotted} does not name §{equation.section}"
            )


@each_equation
def test_names_a_test_that_exists(equation):
    assert equation.tests, "no test checks it"


@each_equation
def test_maths_is_balanced(equation):
    blocks = re.findall(r"```math\n(.*?)```", equation.body, re.S)
    assert len(blocks) == 1
    tex = re.sub(r"\\[{}|]", "", blocks[0])
    assert tex.count("{") == tex.count("}")
    assert tex.count(r"\left") == tex.count(r"\right")
    begins, ends = (re.findall(rf"\\{word}{{(\w+)}}", tex) for word in ("begin", "end"))
    assert sorted(begins) == sorted(ends)


def test_every_link_leads_somewhere():
    for file, test, linked in TEST_LINK.findall(PAGE):
        assert linked == file
        assert test in tests_in(file), f"{file} has no {test}"
    for _, file in CODE_LINK.findall(PAGE):
        assert (ROOT / file).is_file()
    titles = re.findall(r"^#+ (.*)$", PAGE, re.M)
    anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
    assert set(re.findall(r"\]\(#([^)]*)\)", PAGE)) <= anchors
    backticked = set(re.findall(r"`(tinynet\.[\w.]+|tests/[\w/.:]+)`", PAGE))
    linked = {dotted for dotted, _ in CODE_LINK.findall(PAGE)}
    linked |= {f"{file}::{test}" for file, test, _ in TEST_LINK.findall(PAGE)}
    assert {name for name in backticked - linked if not (ROOT / name).is_file()} <= {
        "tinynet.step.TrainStep"
    }


def public_functions(module, pattern: str = "") -> set[str]:
    """Unwrapped functions of a module whose names fit: dotted module path and name."""
    names = vars(module).items()
    functions = {name: inspect.unwrap(f) for name, f in names if callable(f)}
    return {
        f"{f.__module__}.{name}"
        for name, f in functions.items()
        if inspect.isfunction(f)
        and not name.startswith("_")
        and re.search(pattern, name)
        and f.__module__.startswith(module.__name__)
    }


@pytest.mark.parametrize(
    ("module", "pattern"),
    [
        (layers, "_(forward|backward)$"),
        (losses, "_(forward|backward)$"),
        (optimizers, "_update$|corrections"),
        (initializers, ""),
        (metrics, ""),
        (regularizers, "_(penalty|gradient)$"),
    ],
)
def test_every_public_function_has_an_equation(module, pattern):
    on_page = {
        f"{function.__module__}.{function.__name__}"
        for equation in EQUATIONS
        if equation.computed
        for dotted, _ in equation.functions
        if inspect.isfunction(function := inspect.unwrap(resolve(dotted)[0]))
    }
    wanted = public_functions(module, pattern)
    assert wanted
    assert wanted - on_page == set()


def snippets() -> tuple[str, list[tuple[str, str]]]:
    """The lines that all snippets start from, and (heading, code) of each other snippet."""
    blocks, heading = [], ""
    for title, code in re.findall(r"^#+ ([^\n]*)$|^```python\n(.*?)^```", PAGE, re.M | re.S):
        heading = title or heading
        if code:
            blocks.append((heading, code))
    return blocks[0][1], blocks[1:]


@pytest.mark.parametrize("snippet", snippets()[1], ids=lambda s: s[0])
def test_snippets_do_what_the_page_says(snippet):
    heading, code = snippet
    parsed = doctest.DocTestParser().get_doctest(snippets()[0] + code, {}, heading, None, None)
    said: list[str] = []
    failed, tried = doctest.DocTestRunner().run(parsed, out=said.append)
    assert tried > 3
    assert not failed, "".join(said)


def test_every_section_with_code_has_a_snippet():
    shown = set()
    for part in re.split(r"^(?=#{2,3} )", PAGE, flags=re.M):
        if "```python" in part and (found := re.match(r"#{2,3} (2[\d.]*) ", part)):
            shown.add(found[1])
    prose = {"2.5", "2.5.2"}  # shown with §2.5.3 and §2.5.6
    assert shown == {e.section for e in EQUATIONS} - prose


# Equations that the tests of single functions have no place for.


@pytest.fixture
def normal():
    return np.random.default_rng(0).standard_normal


def parameter_count(layer):
    return sum(p.value.size for p in layer.parameters().values())


def test_parameter_counts():
    rng = np.random.default_rng(0)
    assert parameter_count(Dense(3, 4, rng=rng)) == 3 * 4 + 4
    assert parameter_count(Dense(100 * 100, 10, bias=False, rng=rng)) == 100_000
    assert parameter_count(Conv2D(1, 30, 3, bias=False, rng=rng)) == 270
    assert parameter_count(Conv2D(3, 1, 3, rng=rng)) == 28
    assert parameter_count(Conv2D(32, 1, 5, rng=rng)) == 801


def test_linear_layers_collapse_into_one(normal):
    x, w1, b1, w2, b2 = (normal(s) for s in ((5, 4), (4, 6), 6, (6, 3), 3))
    hidden, _ = layers.dense_forward(x, w1, b1)
    output, _ = layers.dense_forward(hidden, w2, b2)
    one, _ = layers.dense_forward(x, w1 @ w2, w2.T @ b1 + b2)
    np.testing.assert_allclose(output, one, rtol=1e-12)


def test_a_threshold_is_a_shift(normal):
    x = normal(100)
    y, _ = layers.relu_forward(x, 0.3)
    np.testing.assert_allclose(y, 0.3 + layers.relu_forward(x - 0.3)[0], rtol=1e-12)


def test_softmax_is_a_distribution_whatever_the_shift(normal):
    v = 10 * normal((20, 5))
    w, _ = layers.softmax_forward(v)
    assert (w > 0).all()
    np.testing.assert_allclose(w.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(w, layers.softmax_forward(v - 7)[0], rtol=1e-12)
    e = np.exp(v)
    others = (e.sum(axis=1, keepdims=True) - e) / e.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(1 - w, others, rtol=1e-9, atol=1e-12)


def test_output_layer_gradients_are_the_report_s(normal):
    a, w, b, y = normal((1, 4)), normal((4, 3)), normal(3), np.array([[0.0, 1.0, 0.0]])
    z, cache = layers.dense_forward(a, w, b)
    _, loss_cache = losses.softmax_cross_entropy_forward(z, y)
    da, dw, db = layers.dense_backward(losses.softmax_cross_entropy_backward(loss_cache), cache)
    error = (np.exp(z) / np.exp(z).sum() - y)[0]
    for i in range(4):
        assert da[0, i] == pytest.approx(sum(error[j] * w[i, j] for j in range(3)))
        assert dw[i].tolist() == pytest.approx([error[j] * a[0, i] for j in range(3)])
    assert db.tolist() == pytest.approx(error.tolist())


def test_the_first_step_of_rmsprop_and_adam():
    g = np.array([1e-3, -1.0, 1e3])
    w, v = np.zeros(3), np.zeros(3)
    optimizers.rmsprop_update(w, v, g, 0.01, 0.1, 0.0)
    np.testing.assert_allclose(w, -0.01 / np.sqrt(0.1) * np.sign(g), rtol=1e-12)
    for corrections, size in [
        ((1.0, 1.0), 0.01 * 0.1 / np.sqrt(0.001)),
        (optimizers.bias_corrections(1, 0.1, 0.001), 0.01),
    ]:
        w, m, v = np.zeros(3), np.zeros(3), np.zeros(3)
        optimizers.adam_update(w, m, v, g, 0.01, 0.1, 0.001, 0.0, corrections)
        np.testing.assert_allclose(w, -size * np.sign(g), rtol=1e-12)
    weights = sum(0.1 * 0.9 ** (7 - s) for s in range(1, 8))
    assert optimizers.bias_corrections(7, 0.1, 0.001)[0] == pytest.approx(weights)


def test_all_zero_weights_leave_only_the_output_biases_to_learn(normal):
    rng = np.random.default_rng(0)
    model = Sequential(Dense(4, 5, rng=rng), ReLU(), Dense(5, 3, rng=rng)).to(dtype="float64")
    for parameter in model.parameters().values():
        parameter.value[...] = 0
    labels = np.array([0, 0, 1, 2, 0, 1])
    z, cache = model.forward(normal((6, 4)))
    _, loss_cache = losses.softmax_cross_entropy_forward(z, labels)
    model.backward(losses.softmax_cross_entropy_backward(loss_cache), cache)
    learns = [name for name, p in model.parameters().items() if p.grad.any()]
    assert learns == ["2.bias"]
    np.testing.assert_allclose(
        model.parameters()["2.bias"].grad, 1 / 3 - np.bincount(labels) / 6, atol=1e-12
    )


def test_one_dropout_mask_may_serve_the_whole_batch(normal):
    x, dy, row = normal((6, 4)), normal((6, 4)), np.array([[True, False, True, True]])
    y, cache = layers.dropout_forward(x, row, 0.75)
    each, each_cache = layers.dropout_forward(x, np.repeat(row, 6, axis=0), 0.75)
    np.testing.assert_array_equal(y, each)
    assert not y[:, 1].any()
    np.testing.assert_array_equal(
        layers.dropout_backward(dy, cache), layers.dropout_backward(dy, each_cache)
    )


def test_a_bias_before_batch_norm_is_redundant(normal):
    u, w, b = normal((8, 4)), normal((4, 3)), 10 * normal(3)
    norm = BatchNorm(3, dtype="float64")
    without, _ = norm.forward(layers.dense_forward(u, w)[0], Mode(train=True))
    with_bias, _ = norm.forward(layers.dense_forward(u, w, b)[0], Mode(train=True))
    np.testing.assert_allclose(with_bias, without, atol=1e-12)


def test_batch_norm_backward_is_the_sum_of_three_paths(normal):
    x, gamma, dy, epsilon = normal((7, 3)), normal(3), normal((7, 3)), 1e-3
    _, cache = layers.batchnorm_forward(x, gamma, np.zeros(3), epsilon)
    m, centred, spread = 7, x - x.mean(axis=0), x.var(axis=0) + epsilon
    dx_hat = gamma * dy
    dvariance = (dx_hat * centred).sum(axis=0) * -0.5 * spread**-1.5
    dmean = -(dx_hat.sum(axis=0)) / np.sqrt(spread)
    paths = dx_hat / np.sqrt(spread) + dvariance * 2 * centred / m + dmean / m
    dx, _, _ = layers.batchnorm_backward(dy, cache)
    np.testing.assert_allclose(dx, paths, atol=1e-12)


def test_what_the_field_calls_convolution_is_a_correlation(normal):
    p, w = normal((6, 7)), normal((3, 2))
    z = layers.conv2d_forward(p[None, :, :, None], w[:, :, None, None])[0][0, :, :, 0]
    np.testing.assert_allclose(z, correlate2d(p, w, mode="valid"), atol=1e-12)
    np.testing.assert_allclose(z, convolve2d(p, w[::-1, ::-1], mode="valid"), atol=1e-12)
    assert abs(z - convolve2d(p, w, mode="valid")).max() > 0.1


def test_a_convolution_moves_with_its_input(normal):
    p, w = np.zeros((1, 12, 12, 2)), normal((3, 3, 2, 4))
    p[:, 3:7, 3:7] = normal((4, 4, 2))
    z, _ = layers.conv2d_forward(p, w, padding="same")
    moved, _ = layers.conv2d_forward(np.roll(p, (2, 3), (1, 2)), w, padding="same")
    np.testing.assert_allclose(moved, np.roll(z, (2, 3), (1, 2)), atol=1e-12)
    assert abs(moved - z).max() > 0.1  # equivariant, not invariant
    means = [layers.global_avg_pool2d_forward(y)[0] for y in (z, moved)]
    np.testing.assert_allclose(*means, atol=1e-12)


def test_convolution_backward_is_a_convolution_with_the_filter_turned(normal):
    p, w, dz = normal((2, 6, 7, 3)), normal((3, 2, 3, 4)), normal((2, 4, 6, 4))
    _, cache = layers.conv2d_forward(p, w)
    dp, _, _ = layers.conv2d_backward(dz, cache)
    turned = w[::-1, ::-1].transpose(0, 1, 3, 2)
    full, _ = layers.conv2d_forward(dz, turned, padding=((2, 2), (1, 1)))
    np.testing.assert_allclose(dp, full, atol=1e-12)


def test_sizes_of_section_2_5():
    def conv(k, padding):
        return Conv2D(1, 5, k, padding=padding, rng=np.random.default_rng(0))

    assert conv(3, "valid").output_shape((9, 8, 1)) == (7, 6, 5)
    assert conv(3, 1).output_shape((9, 8, 1)) == conv(3, "same").output_shape((9, 8, 1))
    assert conv(5, 2).output_shape((9, 8, 1)) == conv(5, "same").output_shape((9, 8, 1))
    assert conv(5, "same").output_shape((9, 8, 1)) == (9, 8, 5)
    assert MaxPool2D(2).output_shape((8, 6, 3)) == (4, 3, 3)
    assert MaxPool2D(2).output_shape((9, 7, 3)) == (4, 3, 3)
    assert Flatten().output_shape((10, 10, 5)) == (500,)
    base = [conv(3, "same"), MaxPool2D(2), Conv2D(5, 7, 3, padding="same", rng=None, initializer=zero)]
    assert Sequential(*base, MaxPool2D(2), Flatten()).output_shape((40, 24, 1)) == (10 * 6 * 7,)


def zero(shape, rng, dtype):
    return np.zeros(shape, dtype)


@pytest.mark.parametrize(
    ("kinds", "size"),
    [("cc", 5), ("cpc", 8), ("cpcp", 10), ("c", 3), ("ccc", 7)],
)
def test_receptive_field(kinds, size):
    """One output cell's gradient is non-zero on size × size cells of the input."""
    parts = {"c": lambda: Conv2D(1, 1, 3, rng=None, initializer=ones), "p": lambda: MaxPool2D(2)}
    steps, r, jump = {"c": (3, 1), "p": (2, 2)}, 1, 1
    for kind in kinds:
        r, jump = r + (steps[kind][0] - 1) * jump, jump * steps[kind][1]
    assert r == size
    reached = np.zeros((size + 6, size + 6), bool)
    model = Sequential(*(parts[kind]() for kind in kinds)).to(dtype="float64")
    for seed in range(60):  # a maximum passes the gradient to one cell: many draws reach them all
        x = np.random.default_rng(seed).standard_normal((1, size + 6, size + 6, 1))
        y, cache = model.forward(x)
        dy = np.zeros_like(y)
        dy[0, 0, 0, 0] = 1
        reached |= model.backward(dy, cache)[0, :, :, 0] != 0
    wanted = np.zeros_like(reached)
    wanted[:size, :size] = True
    np.testing.assert_array_equal(reached, wanted)


def ones(shape, rng, dtype):
    return np.ones(shape, dtype)
