"""``python -m tinynet``: commands and exit statuses."""

import json
import os
import sys
from functools import partial

import pytest

from tests.doctor.facts import RATES
from tinynet.__main__ import main
from tinynet.doctor import findings


@pytest.fixture(autouse=True)
def known_rates(monkeypatch):
    """Examine this machine, but measure nothing, with one core too many in use."""
    environ = {"OMP_NUM_THREADS": "100000"}
    quick = partial(findings.examine, environ, lambda machine: RATES)
    monkeypatch.setattr(findings, "examine", quick)


def test_doctor_prints_a_report_and_ends_with_0_where_there_is_advice(capsys):
    assert main(["doctor"]) == 0
    out, err = capsys.readouterr()
    assert "What holds this machine back:" in out
    assert "OMP_NUM_THREADS=100000" in out
    assert err == ""  # nothing but the report where the output is no terminal


def test_doctor_prints_json(capsys):
    assert main(["doctor", "--json"]) == 0
    read = json.loads(capsys.readouterr().out)
    assert read["rates"]["side"] == RATES.side
    assert any("OMP_NUM_THREADS=100000" in piece["found"] for piece in read["advice"])


def test_a_reader_that_leaves_early_is_no_error(monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", encoding="utf-8") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        assert main(["doctor"]) == 0


@pytest.mark.parametrize("arguments", [[], ["nurse"], ["doctor", "--yaml"]])
def test_a_wrong_command_ends_with_2(capsys, arguments):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: python -m tinynet" in capsys.readouterr().err
