"""docs/performance.md is what the newest results that are kept say."""

import copy

import pytest

from benchmarks.machine import describe
from benchmarks.page import KINDS, PAGE, PARTS, newest, read, renewed, rounded, write
from benchmarks.plots import plot
from benchmarks.processes import ROOT
from tests.benchmarks import made_up

TEXT = PAGE.read_text(encoding="utf-8")


def test_the_page_is_made_from_the_newest_results():
    assert renewed(TEXT, {kind: newest(kind) for kind in KINDS}) == TEXT


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_are_there_where_results_are(kind):
    shown = f"figures/cpu_{kind}.png" in TEXT
    assert shown == bool(newest(kind))
    assert not shown or (ROOT / "docs" / "figures" / f"cpu_{kind}.png").is_file()


def test_other_results_make_another_page():
    results = made_up.all_kinds()
    page = renewed(TEXT, results)
    assert renewed(page, results) == page
    for kind, (_, number) in {
        "steps": ("ms", results["steps"]["steps"]["W48"]["training"]["tinynet NumPy"]["ms"]),
        "ops": ("ms", results["ops"]["ops"][0]["ours"]["tinynet Numba"]),
        "scaling": (
            "ms",
            results["scaling"]["panels"]["side"][0]["variants"]["tinynet Numba"]["ms"],
        ),
        "loader": ("per s", results["loader"]["networks"]["demo"]["decode"]),
    }.items():
        before = copy.copy(number)
        number[:] = [7 * value for value in number]
        assert renewed(page, results) != page, kind
        number[:] = before


def test_without_results_the_page_says_so():
    page = renewed(TEXT, dict.fromkeys(KINDS, {}))
    for name, kind in [(name, kind) for kind, marks in PARTS.items() for name in marks]:
        text = page.split(f"<!-- {name} -->\n")[1].split(f"\n<!-- /{name} -->")[0]
        assert text == f"Not measured yet: `python -m benchmarks {kind}`."


def test_a_page_without_a_mark_is_refused():
    with pytest.raises(ValueError, match="<!-- loader -->"):
        renewed(TEXT.replace("<!-- loader -->", ""), dict.fromkeys(KINDS, {}))


@pytest.mark.parametrize(
    "parts",
    [
        *([results] for results in made_up.all_kinds().values()),
        pytest.param(list(made_up.gpu().values()), marks=pytest.mark.slow),
    ],
    ids=[*KINDS, "gpu"],
)
def test_pictures_are_drawn(parts, tmp_path):
    file = tmp_path / "picture.png"
    plot(parts, file)
    assert file.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert file.stat().st_size > 10_000


def test_the_newest_results_are_the_last_by_date(tmp_path):
    assert newest("steps", tmp_path) == {}
    (tmp_path / "cpu-steps-2020-12-31.json").write_text('{"rounds": 1}')
    (tmp_path / "cpu-steps-2021-01-01.json").write_text('{"rounds": 2}')
    (tmp_path / "cpu-ops-2022-01-01.json").write_text('{"rounds": 3}')
    assert newest("steps", tmp_path) == {"rounds": 2}
    written = write(tmp_path / "cpu-steps-2022-01-01.json", rounded({"a": 1 / 3, "b": [1e6 / 7]}))
    assert read(written) == newest("steps", tmp_path) == {"a": 0.33333, "b": [142860.0]}


def test_results_of_earlier_versions_are_read_by_present_names(tmp_path):
    (tmp_path / "cpu-ops-2020-12-31.json").write_text('{"ops": [{"ours": {"tinynet fast": [1]}}]}')
    assert newest("ops", tmp_path) == {"ops": [{"ours": {"tinynet Numba": [1]}}]}


def test_results_that_are_not_whole_are_none(tmp_path):
    (tmp_path / "x.json").write_text('{"date": ')
    assert read(tmp_path / "x.json") == read(tmp_path / "y.json") == {}


def test_a_machine_in_one_line():
    assert describe(made_up.MACHINE) == (
        "A processor, 2 of 2 cores; python 3.12.0, numpy 2.4.0; "
        "NumPy's BLAS: openblas Zen, torch: AVX2 mkl"
    )
