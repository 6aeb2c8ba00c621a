"""docs/equations.md held to the code: ids, functions, docstrings, tests, links, snippets."""

import ast
import doctest
import importlib
import inspect
import re
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

from tinynet import (
    ensemble,
    initializers,
    layers,
    losses,
    metrics,
    optimizers,
    regularizers,
    schedules,
)

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "equations.md").read_text(encoding="utf-8")
SUBSECTIONS = {"2.1": 0, "2.2": 2, "2.3": 6, "2.4": 3, "2.5": 6, "2.6": 4, "2.7": 0}
CHAPTER_2 = [
    f"{s}.{n}".removesuffix(".0") for s, last in SUBSECTIONS.items() for n in range(last + 1)
]
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
def resolve(dotted: str) -> tuple[Any, list[str]]:
    """What a dotted path leads to, unwrapped, and the docstrings of it and of its class."""
    parts = dotted.split(".")
    depth = next(n for n in range(len(parts), 0, -1) if is_module(".".join(parts[:n])))
    found: Any = importlib.import_module(".".join(parts[:depth]))
    docstrings = []
    for name in parts[depth:]:
        found = inspect.getattr_static(found, name)
        docstrings.append(inspect.getdoc(found) or "")
    return inspect.unwrap(found.fget if isinstance(found, property) else found), docstrings


def is_module(dotted: str) -> bool:
    return any((ROOT / dotted.replace(".", "/")).with_suffix(s).exists() for s in (".py", ""))


def sections_named(text: str) -> set[str]:
    """Sections that a docstring names: §2.3.1, and §2.3.1-2 for both."""
    found = set()
    for section, last in re.findall(r"§(\d+(?:\.\d+)*)(?:-(\d+))?", text):
        stem, _, first = section.rpartition(".")
        found |= {f"{stem}.{n}" for n in range(int(first), int(last or first) + 1)}
    return found


@cache
def functions_in(file: str) -> set[str]:
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
        function, docstrings = resolve(dotted)
        assert inspect.getsourcefile(function) == str(ROOT / file)
        named = sections_named("\n".join(docstrings))
        if equation.ours:  # then the module may name it, or the heading above it, for all
            of_module = sections_named(inspect.getmodule(function).__doc__ or "")
            named |= {equation.section for s in of_module if equation.section.startswith(s)}
        if equation.computed:
            assert equation.section in named, (
                f"the docstring of {dotted} does not name §{equation.section}"
            )


@each_equation
def test_names_a_test_that_exists(equation):
    assert equation.tests, "no test checks it"
    for file, test, _ in equation.tests:
        assert test in functions_in(file)


@each_equation
def test_maths_is_balanced(equation):
    blocks = re.findall(r"```math\n(.*?)```", equation.body, re.S)
    assert len(blocks) == 1
    tex = re.sub(r"\\[{}|]", "", blocks[0])
    assert tex.count("{") == tex.count("}")
    lefts, rights = (re.findall(rf"\\{word}(?![a-z])", tex) for word in ("left", "right"))
    assert len(lefts) == len(rights)
    begins, ends = (re.findall(rf"\\{word}{{(\w+)}}", tex) for word in ("begin", "end"))
    assert sorted(begins) == sorted(ends)


def test_every_link_leads_somewhere():
    for file, test, linked in TEST_LINK.findall(PAGE):
        assert linked == file
        assert test in functions_in(file), f"{file} has no {test}"
    for _, file in CODE_LINK.findall(PAGE):
        assert (ROOT / file).is_file()
    titles = re.findall(r"^#+ (.*)$", PAGE, re.M)
    anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
    assert set(re.findall(r"\]\(#([^)]*)\)", PAGE)) <= anchors
    backticked = set(re.findall(r"`(tinynet\.[\w.]+|tests/[\w/.:]+)`", PAGE))
    linked = {dotted for dotted, _ in CODE_LINK.findall(PAGE)}
    linked |= {f"{file}::{test}" for file, test, _ in TEST_LINK.findall(PAGE)}
    assert {name for name in backticked - linked if not (ROOT / name).is_file()} <= {
        "tinynet.train.step.TrainStep"
    }


def public_names(module: ModuleType, pattern: str) -> set[str]:
    """Functions and classes whose names fit and whose docstrings name a section of the report."""
    found = {name: inspect.unwrap(f) for name, f in vars(module).items() if callable(f)}
    return {
        f"{f.__module__}.{name}"
        for name, f in found.items()
        if (inspect.isfunction(f) or inspect.isclass(f))
        and re.search(pattern, name)
        and "Report §" in (f.__doc__ or "")
        and f.__module__.startswith(module.__name__)
    }


@pytest.mark.parametrize(
    ("module", "pattern"),
    [
        (layers, "_(forward|backward)$"),
        (losses, "_(forward|backward)$"),
        (optimizers, "_update$|^bias_"),
        (schedules, "^[A-Z](?!chedule$)"),  # all but the protocol
        (initializers, "^[a-z]"),
        (regularizers, "_(penalty|gradient)$"),
        (metrics, "^[A-Za-z]"),
        (ensemble, "^[A-Za-z]"),
    ],
)
def test_everything_of_the_report_has_an_equation(module, pattern):
    on_page = {
        f"{found.__module__}.{found.__name__}"
        for equation in EQUATIONS
        if equation.computed
        for dotted, _ in equation.functions
        if (found := resolve(dotted)[0])
    }
    wanted = public_names(module, pattern)
    assert len(wanted) >= 3
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
