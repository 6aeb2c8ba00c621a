"""The snippets of the pages run, and print what the page says; links lead somewhere."""

import re
from pathlib import Path

import pytest

from tests.oracles import package
from tests.snippets import nearly, run, same

DOCS = Path(__file__).parents[1] / "docs"
WRITES = {  # page -> files of its snippets
    "gradient_checks.md": [],
    "own_kernels.md": [],
    "visualize.md": ["model.svg"],
}
# what a section needs, beside those that need nothing
NEEDS = {"Numba": "numba", "CUDA": "cupy", "PyTorch": "torch", "JAX": "jax"}
SECTION = re.compile(rf"^## ({'|'.join(NEEDS)}).*?(?=^## |\Z)", re.M | re.S)
each_page = pytest.mark.parametrize("page", WRITES)


@each_page
def test_a_page_says_what_its_snippets_print(page, tmp_path, monkeypatch):
    package("matplotlib")
    monkeypatch.chdir(tmp_path)
    runs_as_it_says(SECTION.sub("", (DOCS / page).read_text(encoding="utf-8")), page)
    assert [file.name for file in tmp_path.iterdir()] == WRITES[page]


@pytest.mark.slow
@pytest.mark.parametrize("name", NEEDS)
def test_a_section_for_another_library_says_what_its_snippets_print(name):
    package(NEEDS[name])
    page = (DOCS / "own_kernels.md").read_text(encoding="utf-8")
    sections = {found[1]: found[0] for found in SECTION.finditer(page)}
    start = page[: page.index("\n## An object")] + "\n"
    runs_as_it_says(start + sections[name], "own_kernels.md")


def runs_as_it_says(text, page):
    _, wrong = run(text)
    report = "\n".join(f"{code}prints\n{got}the page says\n{want}" for code, got, want in wrong)
    assert not wrong, f"python -m tests.snippets docs/{page}\n{report}"


def test_a_page_is_rewritten_with_what_is_printed_now():
    snippet = ">>> for i in range(2):\n...     print(i)\n7\n>>> a = 3\n>>> a\n3\n"
    page = f"Text\n\n```python\n{snippet}```\n>>> no\n"
    fresh, wrong = run(page)
    assert fresh == page.replace("\n7\n", "\n0\n1\n")
    assert wrong == [("for i in range(2):\n    print(i)\n", "0\n1\n", "7\n")]
    assert run(fresh) == (fresh, [])


@pytest.mark.parametrize(
    ("got", "want", "alike"),
    [
        ("2e-11", "9e-12", True),
        ("2e-11", "2e-09", False),
        ("0e+00", "2e-16", True),
        ("0e+00", "2e-06", False),
        ("0.93", "0.95", True),
        ("0.93", "0.81", False),
        ("186", "188", True),
        ("3", "4", False),
        ("-3.0", "3.0", False),
    ],
)
def test_numbers_are_compared_as_numbers(got, want, alike):
    assert nearly(got, want) == alike
    assert same(f"passes {got} of 200", f"passes {want}  of 200") == alike


def test_words_must_be_the_same():
    assert not same("True", "False")
    assert not same("1 2", "1")


@each_page
def test_links_of_a_page_lead_somewhere(page):
    links = re.findall(r"\]\(([\w./]+)\)", (DOCS / page).read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if not (DOCS / link).exists()] == []
