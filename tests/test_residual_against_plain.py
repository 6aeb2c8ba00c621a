"""benchmarks/residual_against_plain.py, and docs/residual.md, which shows what it found."""

import json

import numpy as np
import pytest

from benchmarks.residual_against_plain import (
    CONTROLS,
    DEPTHS,
    NETWORKS,
    PAGE,
    RESULTS,
    SETTINGS,
    Task,
    draw,
    network,
    of,
    one_run_a_line,
    renewed,
    run,
)


@pytest.fixture(scope="module")
def results():
    return json.loads(RESULTS.read_text(encoding="utf-8"))


def test_the_pages_tables_are_made_from_the_numbers(results):
    page = PAGE.read_text(encoding="utf-8")
    assert renewed(page, results) == page
    other = json.loads(json.dumps(results))
    other["runs"][0]["test_error"][-1] += 0.1
    assert renewed(page, other) != page


def test_the_numbers_are_of_these_settings_and_complete(results):
    settings = results["settings"]
    assert {name: settings[name] for name in SETTINGS} == SETTINGS
    for name in NETWORKS:
        for depth in DEPTHS:
            runs = of(results, name, depth)
            assert [r["seed"] for r in runs] == settings["seeds"]
            for r in runs:
                assert len(r["train_error"]) == len(r["test_error"]) == settings["epochs"]
                assert len(r["gradient_norms_at_the_start"]) == depth - 1
                assert r["learning_rate"] == settings["learning_rate"]
    assert list(CONTROLS) == [
        Task(*(r[key] for key in ("network", "depth", "seed")), len(r["train_error"]), *rates(r))
        for r in results["controls"]
    ]


def rates(row):
    return row["learning_rate"], row["divided_after"]


def test_results_are_json_with_a_line_a_run(results):
    text = one_run_a_line(results)
    assert json.loads(text) == results
    assert text == RESULTS.read_text(encoding="utf-8")
    rows = sum(line.startswith('{"network"') for line in text.splitlines())
    assert rows == len(results["runs"]) + len(CONTROLS)


@pytest.mark.slow
def test_one_run_trains_and_the_pictures_are_drawn(results, tmp_path):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    row = run(Task("residual", 8, 0, epochs=2))
    assert row["parameters"] == sum(
        p.value.size for p in network("plain", 8, 0).parameters().values()
    )
    assert len(row["gradient_norms_at_the_start"]) == 7
    assert row["train_error"][1] < row["train_error"][0] < 0.9
    draw(results, tmp_path)
    made = sorted(file.name for file in tmp_path.iterdir())
    assert made == ["residual_against_plain.png", "residual_gradients.png"]
    assert np.all([file.stat().st_size > 10_000 for file in tmp_path.iterdir()])
