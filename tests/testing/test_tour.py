"""The tour is run, and what it says is what happened."""

import re
import sys
from collections import defaultdict

import numpy as np
import pytest

from tinynet.layers import dense_backward, dense_forward
from tinynet.testing.tour import main
from tinynet.testing.tour.guide import WIDTH, Guide, close, slope_along_a_line
from tinynet.testing.tour.stations import STATIONS


class Recorder(Guide):
    """Keeps the verdicts of each kind of check, in order."""

    def __init__(self):
        super().__init__(ask=False)
        self.verdicts = defaultdict(list)

    def usual(self, *args, **kwargs):
        self.verdicts["usual"].append(super().usual(*args, **kwargs))

    def usual_often(self, *args, **kwargs):
        self.verdicts["often"].append(super().usual_often(*args, **kwargs))

    def ours(self, *args, **kwargs):
        self.verdicts["ours"].append(super().ours(*args, **kwargs))

    def finding(self, message):
        self.verdicts["found"].append("want 0.5" in message)
        super().finding(message)


# What the text of each station claims: which checks pass.
CLAIMS = {
    "dense": {"usual": [True], "ours": [False, True]},
    "softmax": {"usual": [True, True], "ours": [False]},
    "one_weight": {"ours": [False]},
    "float32": {"usual": [False], "ours": [True]},
    "batchnorm": {"usual": [True], "ours": [False]},
    "mask": {"ours": [True], "found": [True, False]},
}


@pytest.mark.parametrize("station", STATIONS, ids=lambda station: station.__name__)
def test_the_verdicts_are_what_the_station_says(station):
    guide = Recorder()
    station(guide)
    often = guide.verdicts.pop("often", [100])
    assert often[0] >= 90
    assert dict(guide.verdicts) == CLAIMS[station.__name__]


def test_every_station_is_printed_in_80_columns_and_plain_text(capsys):
    assert main(["--no-input"]) == 0
    printed = capsys.readouterr().out
    for number, station in enumerate(STATIONS, start=1):
        assert f"{number} of {len(STATIONS)}: {station.__doc__}\n" in printed
    assert max(map(len, printed.splitlines())) <= WIDTH
    assert "\x1b" not in printed
    assert "3 of 3 elements" in printed  # of db
    assert "N = 5" in printed  # the factor between mean and sum
    assert re.search(r"are kept, a share of 0\.6[89]\d*, want 0\.5", printed)


def test_the_wrong_lines_are_shown_beside_the_right_ones(capsys):
    main(["--no-input"])
    printed = capsys.readouterr().out
    for line in ("db = dz.mean(axis=0)", "db = dz.sum(axis=0)", "return dy - total"):
        assert line in printed
    assert "def " not in printed


def sit_down(monkeypatch, answers):
    """Somebody is at the terminal and types these, then closes it."""
    answers = iter(answers)

    def answer(prompt):
        print(prompt)
        try:
            return next(answers)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", answer)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)


def test_guesses_are_asked_for_and_judged(monkeypatch, capsys):
    sit_down(monkeypatch, ["2", "", "1", "", "", ""])
    assert main([]) == 0
    printed = capsys.readouterr().out
    assert len(re.findall(r"^Yes\.$", printed, re.M)) == 1
    assert len(re.findall(r"^It is 2\.$", printed, re.M)) == 1
    assert "Your guess, 1 to 3, or Enter" in printed
    assert "6 of 6" in printed  # it goes on by itself when the input is closed


def test_nothing_is_asked_without_a_terminal_or_when_told_so(monkeypatch):
    def answer(prompt):
        raise AssertionError("it asked")

    monkeypatch.setattr("builtins.input", answer)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    assert main([]) == 0
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    assert main(["--no-input"]) == 0


def test_the_usual_check_is_no_straw_man():
    """It passes right code, in float64, and sees a plain error in it."""
    rng = np.random.default_rng(0)
    args = [rng.standard_normal(s) for s in ((5, 4), (4, 3), (3,))]

    def wrong(dz, cache):
        dx, dw, db = dense_backward(dz, cache)
        return dx, dw, db / len(dz)

    for seed in range(20):
        assert close(*slope_along_a_line(dense_forward, dense_backward, args, seed=seed))
        assert not close(*slope_along_a_line(dense_forward, wrong, args, seed=seed))
