"""Figures in the tables, worked out by hand from made-up results."""

from benchmarks.tables import (
    Ratio,
    floor_ms,
    loader_table,
    memory_ratio,
    ops_table,
    page,
    paired,
    scaling_table,
    speed_ratio,
    step_floor_ms,
    steps_table,
)  # fmt: skip
from tests.benchmarks import made_up


def rows(table):
    """Cells of each row below the head."""
    lines = table.splitlines()
    assert len({line.count(" | ") for line in lines}) == 1, "rows of different lengths"
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def test_steps():
    found = rows(steps_table(made_up.steps()["steps"], "training"))
    w48 = dict(zip([row[1] for row in found[:8]], found[:8], strict=True))
    # torch's fastest stock variant is the third of all, with malloc the sixth
    ratios = "3.00 (3.00 to 3.00)", "6.00 (6.00 to 6.00)"
    rates = f"{128 / 0.105:.0f}", f"{6 / 0.105:.0f}"
    row = ["W48", "tinynet NumPy", "105 (100 to 110)", *ratios, *rates, "50", "0.33"]
    assert w48["tinynet NumPy"] == row
    assert w48["tinynet Numba"][3:5] == ["1.50 (1.50 to 1.50)", "3.00 (3.00 to 3.00)"]
    assert w48["torch contiguous"][3:5] == ["–", "–"]
    assert w48["torch.compile"][2] == "failed: no compiler / here"


def test_inference_counts_one_pass():
    row = rows(steps_table(made_up.steps()["steps"], "inference"))[0]
    assert row[6] == f"{2 / 0.105:.0f}"


def test_ops():
    product, move = rows(ops_table(made_up.ops()["ops"]))
    # 2³¹ operations are a product of 2³¹ in 0.5 ms, which is longer than the copy's 0.1
    times, ratios = ("2", "1", "4"), ("2.00 (2.00 to 2.00)", "4.00 (4.00 to 4.00)")
    floors = "0.25", "0.50", "0.12"
    assert product == ["dense, forward", "W128", *times, *ratios, "2.15e+03 GFLOP/s", *floors]
    assert move[2:5] == ["2", "–", "4"]
    assert move[6:] == ["–", "0.5 GB/s", "0.25", "–", "0.12"]


def test_scaling_and_loader():
    first = rows(scaling_table(made_up.scaling()["panels"]))[0]
    ratios = "3.00 (3.00 to 3.00)", "1.50 (1.50 to 1.50)"
    assert first == ["batch", "8", "88", "176", "264", *ratios]
    demo, slow, _ = rows(loader_table(made_up.loader()["networks"]))
    assert demo[2:] == ["300", "4000", "1000", "4.0", "900", "1.00 %", "20 ms"]
    assert slow[5] == "2.0 (**less than 3**)"


def test_steps_on_a_gpu():
    found = made_up.gpu()
    table = rows(steps_table(found["steps"]["steps"], "", found["ceilings"]))
    at = next(i for i, row in enumerate(table) if row[0] == "VGG16 224, batch 64, bf16")
    assert table[at] == [
        *("VGG16 224, batch 64, bf16", "tinynet", "10.00 (10.00 to 10.00)", "2.50 (2.50 to 2.50)"),
        *("6400", "600000", "100", "0.50", "0.60", "1e-04"),
    ]
    failed = next(row for row in table[at:] if row[1] == "torch.compile")
    assert failed[2] == "failed: out of memory"


def test_ops_on_a_gpu():
    row = rows(ops_table(made_up.gpu()["ops"]["ops"]))[0]
    assert row[2:] == [
        *("2", "2.5", "1.25 (0.50 to 2.00)", "3.75e+05 GFLOP/s", "0.50", "0.40", "1e-03"),
    ]
    failed = made_up.gpu()["ops"]["ops"][0]
    failed |= {"ours": {}, "failed": {"tinynet": "operations: no answer | in 60 s"}}
    other = made_up.gpu()["ops"]["ops"][1]
    (told,) = [row for row in rows(ops_table([failed, other])) if "failed" in row[2]]
    assert told[2] == "failed: operations: no answer / in 60 s"
    unmeasured = {"ours": {}, "theirs": {}, "copy": [], "products": {}}
    (checked,) = rows(ops_table([other | unmeasured]))
    assert checked[2:] == ["–", "–", "–", "–", "–", "–", "1e-03"]
    assert "failed: operations" in ops_table([failed | unmeasured])


def test_the_page_of_a_gpu_has_every_part():
    results = made_up.gpu()
    text = page(results)
    assert "NVIDIA H100 80GB HBM3; driver 580.159, python 3.12.3, cupy-cuda13x 14.2.0" in text
    for part in ("correctness", "ceilings", "ops", "steps", "kernels", "scaling"):
        assert f"## {part}, 12 s" in text
    assert "- tests: 3 passed, 1 failed\n- FAILED a" in text
    assert "Failed: WorkerError: its process ended" in text
    assert "Not measured, for lack of time: dense, x, fp32." in text
    some = {k: results[k] for k in ("date", "machine", "steps")}
    assert "## scaling" not in page(some)


# The ratios.

MEASURED = {
    "tinynet Numba": {"ms": [10.0, 20.0, 10.0], "peak_mb": 100.0},
    "torch contiguous": {"ms": [30.0, 50.0, 90.0], "peak_mb": 400.0},
    "torch channels_last": {"ms": [20.0, 80.0, 21.0], "peak_mb": 200.0},
    "torch.compile": {"failed": "no compiler"},
    "torch contiguous + malloc": {"ms": [15.0, 15.0, 15.0], "peak_mb": 500.0},
}


def test_a_ratio_is_of_rounds_and_not_of_medians():
    ratio = paired([30, 50, 90], [10, 20, 10])
    assert ratio == Ratio(3, 2.5, 9)
    assert str(ratio) == "3.00 (2.50 to 9.00)"


def test_ratios_are_against_the_fastest_of_those_that_ran():
    assert speed_ratio(MEASURED, "tinynet Numba") == Ratio(2.1, 2, 4)
    assert speed_ratio(MEASURED, "tinynet Numba", malloc=True) == Ratio(1.5, 0.75, 1.5)
    assert memory_ratio(MEASURED, "tinynet Numba") == 0.5
    assert speed_ratio(MEASURED, "tinynet NumPy") is None
    assert memory_ratio({"tinynet Numba": MEASURED["tinynet Numba"]}, "tinynet Numba") is None


def test_floors_are_of_what_bounds_the_work():
    row = made_up.gpu()["ops"]["ops"][0]
    # 750 GFLOP in the product's 1 ms; the copy takes half of that
    assert floor_ms(row) == (1.0, True)
    assert floor_ms(row | {"multiply_adds": 0, "products": {}}) == (0.5, False)
    assert floor_ms(row | {"copy": [3.0]}) == (3.0, False)
    assert floor_ms(row | {"products": {}}) is None
    assert floor_ms(row | {"copy": []}) is None


def test_a_steps_floor_is_three_passes_at_the_ceilings_rate():
    found = made_up.gpu()
    result, ceilings = found["steps"]["steps"]["VGG16 224, batch 64"], found["ceilings"]
    assert step_floor_ms(result, "training, bf16", ceilings) == 6
    assert step_floor_ms(result, "training, tf32", ceilings) == 12
    assert step_floor_ms(result, "training, bf16", {}) is None
