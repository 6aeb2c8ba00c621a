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

drawn = settings(max_examples=20)
seen = []

@drawn
@given(st.integers(0, 2**64))
def test_draws(x):
    seen.append(x)

def test_shows():
    print("drew", seen)
"""


@pytest.fixture(scope="module")
def draw(tmp_path_factory):
    """The numbers that a test module beside our conftest.py draws, given options of pytest."""
    folder = tmp_path_factory.mktemp("probe")
    (folder / "conftest.py").write_text((TESTS / "conftest.py").read_text(encoding="utf-8"))
    (folder / "test_probe.py").write_text(PROBE)

    def run(*options):
        command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", *options]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return re.search(r"drew \[(.*)\]", done.stdout)[1]

    return run


def test_without_options_every_run_draws_the_same(draw):
    assert draw() == draw()
    assert len(draw().split()) == 20


def test_a_seed_draws_its_own_every_time(draw):
    one, two = (draw("--hypothesis-profile=seeded", f"--hypothesis-seed={s}") for s in (1, 2))
    assert one == draw("--hypothesis-profile=seeded", "--hypothesis-seed=1")
    assert len({draw(), one, two}) == 3


def test_no_test_fixes_what_the_profile_decides():
    fixed = re.compile(r"\b(?:derandomize|database|deadline)=|@seed\(")
    files = [f for f in TESTS.rglob("*.py") if f.name != "conftest.py" and f != Path(__file__)]
    assert [str(f) for f in files if fixed.search(f.read_text(encoding="utf-8"))] == []
