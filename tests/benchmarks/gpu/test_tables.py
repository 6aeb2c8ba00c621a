"""Figures in the tables and the picture, worked out by hand from made-up results."""

import copy

from benchmarks.gpu import plots, ratios, tables
from tests.benchmarks.gpu import made_up
from tests.benchmarks.test_tables import rows


def test_floors():
    row = made_up.results()["ops"]["rows"][0]
    # 750 GFLOP at 750 TFLOP/s, and 1.5 GB at 3000 GB/s
    assert ratios.op_floor_ms(row | {"precision": "bf16"}, made_up.CEILINGS) == 1.0
    assert ratios.op_floor_ms(row | {"precision": "fp32"}, made_up.CEILINGS) == 15.0
    assert ratios.op_floor_ms(row | {"multiply_adds": 0}, made_up.CEILINGS) == 0.5
    assert ratios.op_floor_ms(row, ratios.NO_CEILINGS) is None
    assert ratios.step_floor_ms(375 * 10**9, "tf32", made_up.CEILINGS) == 1.875


def test_ratios_are_to_the_fastest_that_ran():
    variants = made_up.variants("tf32", 10.0, 25.0)
    assert ratios.theirs(variants) == "torch channels_last"
    assert ratios.speed(variants).median == 2.5
    assert ratios.memory(variants) == 0.5
    variants["torch channels_last"] = {"failed": "no memory"}
    assert ratios.theirs(variants) == "torch CUDA graph"
    assert ratios.speed(variants).median == 5
    variants["tinynet"] = {"failed": "no kernel", "losses": [1.0]}
    assert ratios.speed(variants) is None
    assert ratios.memory(variants) is None


def test_ops():
    found = rows(tables.ops_table(made_up.results()["ops"], made_up.CEILINGS))
    name, precision, *cells = next(row for row in found if row[0].startswith("batch norm:"))
    assert precision == "bf16"
    assert cells == [
        *("2.00 (2.00 to 2.00)", "2.50 (1.00 to 4.00)", "1.25", "1"),
        *("0.50", "0.40", "1e-03", "2e-03"),
    ]


def test_an_operation_that_failed_says_why():
    part = {"rows": [made_up.results()["ops"]["rows"][0]]}
    part["rows"][0] |= {"ms": {}, "failed": {"both": "operations: no answer | in 60 s"}}
    (row,) = rows(tables.ops_table(part, ratios.NO_CEILINGS))
    assert row[2] == "failed: operations: no answer / in 60 s"
    part["rows"][0].pop("bytes")  # as the parent writes it
    assert rows(tables.ops_table(part, ratios.NO_CEILINGS)) == [row]


def test_steps():
    part = copy.deepcopy(made_up.results()["steps"])
    part["networks"]["VGG16 224, batch 64"]["precisions"]["bf16"]["torch CUDA graph"] = {
        "failed": "torch CUDA graph: out of memory"
    }
    found = rows(tables.steps_table(part, made_up.CEILINGS))
    at = next(i for i, row in enumerate(found) if row[0] == "VGG16 224, batch 64, bf16")
    assert found[at] == [
        *("VGG16 224, batch 64, bf16", "tinynet", "10.0 (10.0 to 10.0)", "6400"),
        *("2.50 (2.50 to 2.50)", "100", "–", "0.50", "0.27", "1e-04"),
    ]
    assert found[at + 1][1:7] == [
        *("torch channels_last", "25.0 (25.0 to 25.0)", "2560", "–", "200", "150"),
    ]
    assert found[at + 2][2] == "failed: torch CUDA graph: out of memory"


def test_scaling():
    found = rows(tables.scaling_table(made_up.results()["scaling"]))
    ours, theirs = 1 + 0.08, 3 + 8 / 90
    assert found[0][:5] == [
        *("bf16", "8", f"{8e3 / ours:.0f}", f"{8e3 / theirs:.0f}", "torch channels_last"),
    ]
    assert found[0][6] == "0.50"


def test_correctness_and_ceilings():
    page = tables.page(made_up.results())
    assert "3 passed, 1 failed" in page
    assert "| FAILED a/b |" in page
    assert "| 3 steps twice, tf32 | **other bits** |" in page
    assert "| 3 steps twice, bf16 | tinynet: no kernel |" in page
    assert "750.0 TFLOP/s" in page
    assert "NVIDIA H100 80GB HBM3; driver 580.159, python 3.12.3, cupy-cuda13x 14.2.0" in page
    assert "Not measured, for lack of time: dense, x, fp32." in page


def test_a_part_that_failed_or_is_not_there():
    results = {k: made_up.results()[k] for k in ("date", "machine", "steps")}
    page = tables.page(results | {"ceilings": {"failed": "operations: its process ended"}})
    assert "Failed: operations: its process ended" in page
    assert "## scaling" not in page


def test_the_picture_is_drawn_of_what_is_there(tmp_path):
    whole = made_up.results()
    plots.plot(whole, file := tmp_path / "whole.png")
    assert file.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    common = {k: whole[k] for k in ("date", "machine")}
    sizes = {"whole": file.stat().st_size}
    for part in ("steps", "scaling", "ops"):
        some = common | {part: whole[part], "ceilings": made_up.CEILINGS}
        plots.plot(some, file := tmp_path / f"{part}.png")
        sizes[part] = file.stat().st_size
    assert min(sizes.values()) > 10_000
    assert max(sizes, key=sizes.get) == "whole"
    plots.plot(common | {"steps": {"failed": "no process"}}, file := tmp_path / "none.png")
    assert not file.exists()
