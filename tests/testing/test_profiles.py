"""tests/conftest.py: without options every run draws the same; a seed draws anew."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

PROBE = """
from hypothesis import given, settings
from hypothesis import strategies as st

def test_draws():
    seen = []

    @settings(max_examples=20)
    @given(st.integers(0, 2**64))
    def draw(x):
        seen.append(x)

    draw()
    print("drew", seen)
"""


@pytest.mark.slow
def test_every_run_draws_the_same_and_each_seed_draws_its_own(tmp_path):
    (tmp_path / "conftest.py").write_text((TESTS / "conftest.py").read_text(encoding="utf-8"))
    (tmp_path / "test_probe.py").write_text(PROBE)

    def draw(*options):
        command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", *options]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return re.search(r"drew \[(.*)\]", done.stdout)[1]

    seeded = [draw("--hypothesis-profile=seeded", f"--hypothesis-seed={s}") for s in (1, 2, 1)]
    assert seeded[0] == seeded[2]
    assert len({draw(), draw(), *seeded}) == 3
    assert len(seeded[0].split()) == 20


def test_no_test_fixes_what_the_profile_decides():
    fixed = re.compile(r"\b(?:derandomize|database|deadline)=|@seed\(")
    files = [f for f in TESTS.rglob("*.py") if f.name != "conftest.py" and f != Path(__file__)]
    assert [str(f) for f in files if fixed.search(f.read_text(encoding="utf-8"))] == []
