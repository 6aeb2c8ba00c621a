"""docs/seeing.md: its snippets run and print what it says, its links lead somewhere."""

import re
from pathlib import Path

import numpy as np

from tests.oracles import package
from tests.snippets import run
from tinynet.visualize.shapes import CROSS, RING, SIZE, shapes

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
    assert all((PAGE.parent / link).stat().st_size < 150_000 for link in links)


def test_shapes_are_brighter_than_the_noise_and_where_they_are_said_to_be():
    x, y, corners = shapes(40, noise=0.01, rng=np.random.default_rng(0))
    assert (y == np.arange(40) % 2).all()
    for image, label, (row, column) in zip(x[..., 0], y, corners, strict=True):
        bright = np.argwhere(image > 0.5)
        assert (bright.min(axis=0) >= (row, column)).all()
        assert (bright.max(axis=0) < (row + SIZE, column + SIZE)).all()
        middle = image[row + SIZE // 2, column + SIZE // 2] > 0.5
        assert middle == (label == CROSS) != (label == RING)
