"""Every planted bug is caught, and the same code without it passes.

Drawn geometries of the right layers pass: tests/layers/test_pairs.py.
"""

import re
from pathlib import Path

import numpy as np
import pytest

from tinynet.gradient_check import GradientError, check_gradients
from tinynet.layer import Mode
from tinynet.layers import BatchNorm, Concat, Dense, Dropout, Residual, Sequential, Sigmoid
from tinynet.testing.planted import BENCHES, PLANTED, LayerBench, Planted, table, without_bugs
from tinynet.testing.planted.bench import dx, part
from tinynet.testing.planted.table import DRAWS, page, shortened, smallest, try_out
from tinynet.testing.usual_checks import USUAL_CHECKS

PAGE = Path(__file__).parents[2] / "docs" / "planted.md"
BY_NAME = {planted.name: planted for planted in PLANTED}


@pytest.mark.parametrize("planted", PLANTED, ids=BY_NAME)
def test_the_bug_is_caught_and_the_code_without_it_passes(planted):
    case = planted.case()
    report = case.check(wrong=False)
    assert report.ok
    assert report.undecidable == 0
    with pytest.raises(GradientError):
        case.check()


def test_there_are_enough_of_them_each_with_a_name_and_its_bug_in_words():
    assert len(BY_NAME) == len(PLANTED) >= 237
    for planted in PLANTED:
        assert len(planted.bug) < 100, planted.name
        assert planted.name.startswith(planted.breaks + ": ")


def test_a_layer_without_planted_bugs_is_reported_as_missing(monkeypatch):
    assert not {"Dense", "MaxPool2D", "BatchNorm", "Residual", "CrossEntropy"} & {*without_bugs()}
    others = [bench for bench in BENCHES if bench.spoils != "dense"]
    monkeypatch.setattr("tinynet.testing.planted.BENCHES", others)
    monkeypatch.setattr(table, "growth", str)  # which takes long
    assert "Dense" in without_bugs()
    text = page([try_out(PLANTED[0])], "today")
    assert re.search("Missing, layers and losses without planted bugs: .*Dense", text)


def test_a_wrong_layer_differs_from_the_right_one_in_its_methods_only():
    cases = [b.case() for bench in BENCHES if isinstance(bench, LayerBench) for b in bench.bugs]
    for case in cases:
        right, wrong = case.right.state(), case.wrong.state()
        assert right.keys() == wrong.keys()
        assert all(np.array_equal(right[name], wrong[name]) for name in right)


def test_a_bug_with_a_misspelt_part_or_without_words_is_refused():
    (dense,) = (bench for bench in BENCHES if bench.layer == "dense")
    dense = dense.using(bugs=[])
    dense.plant("misspelt: The gradient of v.", part("dv")(lambda g, dy, c: g))
    with pytest.raises(TypeError, match=r"dense has no gradient dv: it is of \['x', 'w', 'b'\]"):
        dense.bugs[0].case()
    with pytest.raises(ValueError, match="a bug is 'name: What is wrong"):
        dense.plant("no words", dx(lambda g, dy, c: g))


def test_no_alarm_on_the_rounding_of_a_bias_before_a_batch_norm():
    rng = np.random.default_rng(519)
    x = rng.standard_normal((2, 1))

    def path():
        return Sequential(Dense(1, 1, rng=rng), BatchNorm(1), Sigmoid(), Dropout(0.5))

    shared, skip = Dense(1, 1, rng=rng), Dense(1, 1, rng=rng)
    model = Sequential(shared, Residual(path(), skip), Concat(path(), shared))
    assert check_gradients(model, x, Mode(train=True, rng=rng)).undecidable == 0


# The page.


def test_the_page_names_exactly_the_planted_bugs():
    """Run python -m tinynet.testing.planted after planting one."""
    text = PAGE.read_text(encoding="utf-8")
    said, side_by_side = text.split("## What tinynet says")[1].split("## Side by side")
    for section, cell in ((said, r"\| \*\*(.*?)\*\*:"), (side_by_side, r"\| (?!bug)(\w[^|]*?) \|")):
        names, layer = [], ""
        for line in section.splitlines():
            if line.startswith("### "):
                layer = line.removeprefix("### ")
            elif found := re.match(cell, line):
                names.append(f"{layer}: {found[1]}")
        assert names == list(BY_NAME)
    assert f"catches **{len(PLANTED)} of {len(PLANTED)}**" in text
    assert "raises no alarm" in text


class NotSpoilt:
    """A case whose "wrong" code is the right one."""

    right = BY_NAME["dense: dw transposed"].case()

    def check(self, *, wrong=True):
        return self.right.check(wrong=False)

    def subject(self, *, wrong=True, dtype="float64"):
        return self.right.subject(wrong=False, dtype=dtype)


def test_a_bug_that_is_let_through_is_shown(monkeypatch):
    monkeypatch.setattr(table, "growth", str)
    none = Planted("dense: none", "dense", "None.", "", (1, 2), lambda rng, shape: NotSpoilt())
    outcome = try_out(none)
    assert (outcome.said, outcome.smallest) == ("", None)
    assert outcome.caught == outcome.alarms
    text = page([outcome], "today")
    assert "catches **0 of 1**" in text
    assert "| **none**: None. | nothing |  |" in text
    marks = text.splitlines()[-1].split(" | ")
    assert (marks[0], marks[1], marks[-1]) == ("| none", "○", "○ |")
    assert len(marks) == len(USUAL_CHECKS) + 2
    assert "None is caught by tinynet alone." in text


def test_the_smallest_input_is_the_smallest():
    assert smallest(BY_NAME["dense: dw transposed"]) == (1, 2)  # 1×1 is its own transpose
    assert smallest(BY_NAME["dense: db averaged"]) == (2, 1)
    assert smallest(BY_NAME["sum pool: remainder column first"]) == (1, 2, 3, 1)
    assert smallest(BY_NAME["softmax cross-entropy: target minus prediction"]) == (1, 2)


def test_what_is_said_is_shortened_to_what_does_not_depend_on_the_numbers():
    long = "the gradient of w is wrong in 2 of 9 elements; at (0, 1) got 1.5, want -2e-5: its sign"
    assert shortened(long) == "dw wrong in 2 of 9 elements: its sign"
    assert shortened("backward modifies dy: copy it") == "backward modifies dy: copy it"


def test_the_command_writes_the_page(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(table, "PLANTED", PLANTED[:2])
    monkeypatch.setattr("sys.argv", ["planted", str(tmp_path / "page.md")])
    table.main()
    assert "2 of 2 caught, 0 false alarms" in capsys.readouterr().out
    text = (tmp_path / "page.md").read_text(encoding="utf-8")
    for planted in PLANTED[:2]:
        assert planted.bug in text
        rows = [line for line in text.splitlines() if planted.name.split(": ")[1] in line]
        assert len(rows) == 2
    assert f"Each ran {DRAWS} times" in text
