"""benchmarks/scaling.py: which points there are, and what a part of them renews."""

from argparse import Namespace

import pytest

from benchmarks import __main__ as command
from benchmarks import scaling
from benchmarks.results import write
from benchmarks.scaling import BASE, PANELS, measure_scaling, points


@pytest.fixture
def measured(monkeypatch):
    """Workloads and threads that were measured; each run's times are the next number."""
    asked, times = [], iter(range(1, 100))

    def measure(workload, kind, variants, rounds, threads):
        asked.append((workload, threads))
        return {"tinynet NumPy": {"ms": [next(times)] * rounds}}

    monkeypatch.setattr(scaling, "measure", measure)
    return asked


def test_one_thing_changes_at_a_time():
    for panel, line in points(2).items():
        for value, workload, threads in line:
            changed = {
                name
                for name in ("batch", "side", "filters")
                if getattr(workload, name) != getattr(BASE, name)
            } | ({"threads"} if threads != 2 else set())
            assert changed <= {panel} | ({"batch"} if panel == "side" else set()), (panel, value)


def test_the_base_is_measured_once(measured):
    panels = measure_scaling(2, 2)
    assert tuple(panels) == PANELS
    assert len(measured) == len(set(measured))
    bases = [
        point["variants"]["tinynet NumPy"]["ms"][0]
        for line in panels.values()
        for point in line
        if scaling._where(point) == (BASE, 2)
    ]
    assert len(bases) == 3
    assert len(set(bases)) == 1


def test_a_part_keeps_the_other_panels_but_for_the_base(measured):
    before = measure_scaling(2, 2)
    measured.clear()
    panels = measure_scaling(2, 2, ["threads"], before)
    assert tuple(panels) == PANELS
    assert [threads for _, threads in measured] == [1, 2]
    new = panels["threads"][1]["variants"]
    for panel in ("batch", "side", "filters"):
        for old, point in zip(before[panel], panels[panel], strict=True):
            at_base = scaling._where(point) == (BASE, 2)
            assert point["variants"] == (new if at_base else old["variants"])


def test_a_part_of_nothing_is_a_part(measured):
    assert tuple(measure_scaling(2, 2, ["batch"])) == ("batch",)


def test_another_machines_panels_are_not_taken(measured, tmp_path, capsys):
    write(
        "scaling",
        {"machine": {"processor": "A", "mhz": 1.23456789}, "panels": measure_scaling(2, 2)},
        tmp_path,
    )
    asked = Namespace(names=["threads"], rounds=2, threads=2, out=tmp_path)
    asked.machine = {"processor": "A", "mhz": 1.23456789}
    found, whole = command.scaling(asked)
    assert (tuple(found["panels"]), whole) == (PANELS, True)
    asked.machine = {"processor": "B", "mhz": 1.23456789}
    found, whole = command.scaling(asked)
    assert (tuple(found["panels"]), whole) == (("threads",), False)
