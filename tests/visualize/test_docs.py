"""docs/visualize.md: its snippets run and print what it says, its links lead somewhere."""

import re
from pathlib import Path

from tests.oracles import package
from tests.snippets import run

PAGE = Path(__file__).parents[2] / "docs" / "visualize.md"


def test_the_page_says_what_its_snippets_print(tmp_path, monkeypatch):
    package("matplotlib")
    monkeypatch.chdir(tmp_path)
    _, wrong = run(PAGE.read_text(encoding="utf-8"))
    assert wrong == []
    assert [file.name for file in tmp_path.iterdir()] == ["model.svg"]


def test_links_of_the_page_lead_somewhere():
    links = re.findall(r"\]\(([\w./]+)\)", PAGE.read_text(encoding="utf-8"))
    assert len(links) == 6
    assert [link for link in links if not (PAGE.parent / link).exists()] == []
    assert all((PAGE.parent / link).stat().st_size < 250_000 for link in links)
