"""``python -m tinynet``: commands and exit statuses."""

import os
import sys

import pytest

from tinynet import doctor
from tinynet.__main__ import main


@pytest.fixture(autouse=True)
def brief(monkeypatch):
    """A report without measurements."""
    monkeypatch.setattr(doctor, "rates", lambda: ())


def test_doctor_prints_a_report(capsys):
    assert main(["doctor"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("tinynet     ")
    assert err == ""


def test_a_reader_that_leaves_early_is_no_error(monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", encoding="utf-8") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        assert main(["doctor"]) == 0


@pytest.mark.parametrize("arguments", [[], ["nurse"], ["doctor", "--yaml"]])
def test_a_wrong_command_ends_with_2_and_one_line(capsys, arguments):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert line.endswith("see python -m tinynet --help")


def test_help_names_the_commands(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    assert "doctor" in capsys.readouterr().out
