"""The tour is run, and what it says is what happened."""

import re
import sys
from collections import defaultdict

import pytest

from tinynet.testing.tour import main
from tinynet.testing.tour.guide import WIDTH, Guide
from tinynet.testing.tour.stations import STATIONS

# What the text of each station claims: which checks pass, and which findings there are.
CLAIMS = {
    "dense": {"usual": [True], "ours": [False, True]},
    "softmax": {"usual": [True, True], "ours": [False]},
    "one_weight": {"usual_often": [100], "ours": [False]},
    "float32": {"usual": [False], "ours": [True]},
    "batchnorm": {"usual": [True], "ours": [False]},
    "mask": {"ours": [True]},
}


@pytest.mark.parametrize("station", STATIONS, ids=lambda station: station.__name__)
def test_the_verdicts_are_what_the_station_says(station, monkeypatch):
    verdicts = defaultdict(list)

    def recorded(name):
        method = getattr(Guide, name)
        return lambda *args, **kwargs: verdicts[name].append(method(*args, **kwargs))

    for name in ("usual", "usual_often", "ours"):
        monkeypatch.setattr(Guide, name, recorded(name))
    station(Guide(ask=False))
    assert min(verdicts.get("usual_often", [100])) >= 90  # hardly ever noticed
    assert verdicts | {k: [100] for k in verdicts if k == "usual_often"} == CLAIMS[station.__name__]


@pytest.fixture
def sit_down(monkeypatch):
    """Put someone at the terminal who types these answers, then closes it."""

    def answering(*answers, terminal=True):
        rest = iter(answers)

        def answer(prompt):
            print(prompt)
            try:
                return next(rest)
            except StopIteration:
                raise EOFError from None

        monkeypatch.setattr("builtins.input", answer)
        monkeypatch.setattr(sys.stdin, "isatty", lambda: terminal, raising=False)

    return answering


def test_guesses_are_asked_for_and_judged(sit_down, capsys):
    sit_down("2", "", "1", "", "", "")
    assert main([]) == 0
    printed = capsys.readouterr().out
    assert len(re.findall(r"^Yes\.$", printed, re.M)) == 1
    assert len(re.findall(r"^It is 2\.$", printed, re.M)) == 1
    assert "Your guess, 1 to 3, or Enter" in printed
    assert "6 of 6" in printed  # it goes on by itself when the input is closed


@pytest.mark.parametrize(("arguments", "terminal"), [([], False), (["--no-input"], True)])
def test_without_a_terminal_or_when_told_so_it_is_only_printed(
    arguments, terminal, sit_down, capsys
):
    sit_down(terminal=terminal)
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "Your guess" not in printed
    for number, station in enumerate(STATIONS, start=1):
        assert f"{number} of {len(STATIONS)}: {station.__doc__}\n" in printed
    assert max(map(len, printed.splitlines())) <= WIDTH
    assert not re.search("\x1b|def ", printed)
    for line in ("db = dz.mean(axis=0)", "db = dz.sum(axis=0)", "return dy - total"):
        assert line in printed
    assert "3 of 3 elements" in printed  # of db
    assert "N = 5" in printed  # the factor between mean and sum
    assert re.search(r"A: .*are kept, a share of 0\.6[89]\d*, want 0\.5", printed)
    assert "B: the share, and the independence of neighbours, are right" in printed
