"""Figures in the tables, worked out by hand from made-up results."""

from benchmarks.tables import loader_table, ops_table, scaling_table, steps_table, targets_table
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
    assert w48["tinynet NumPy"] == [
        "W48",
        "tinynet NumPy",
        "105 (100 to 110)",
        "3.00 (3.00 to 3.00)",
        "6.00 (6.00 to 6.00)",
        f"{128 / 0.105:.0f}",
        f"{6 / 0.105:.0f}",
        "50",
        "0.33",
    ]
    assert w48["tinynet fast"][3:5] == ["1.50 (1.50 to 1.50)", "3.00 (3.00 to 3.00)"]
    assert w48["torch contiguous"][3:5] == ["–", "–"]
    assert w48["torch.compile"][2] == "failed: no compiler / here"


def test_inference_counts_one_pass():
    row = rows(steps_table(made_up.steps()["steps"], "inference"))[0]
    assert row[6] == f"{2 / 0.105:.0f}"


def test_targets():
    steps = made_up.steps()["steps"]
    found = rows(targets_table(steps))
    assert len(found) == 30
    verdicts = {tuple(row[:4]): row[5] for row in found}
    assert verdicts["W128", "training, tinynet fast", "torch / this", "≥ 3"] == "**missed**"
    assert verdicts["W128", "training, tinynet NumPy", "torch / this", "≥ 1.5"] == "met"
    memory = "peak memory, this / torch"
    assert verdicts["W48", "training, tinynet NumPy", memory, "≤ 0.6"] == "met"
    assert verdicts["W48", "training, tinynet fast", memory, "≤ 0.6"] == "**missed**"
    del steps["W48"]["training"]["tinynet fast"]
    assert rows(targets_table(steps))[1][4:] == ["–", "not measured"]
    del steps["W48"]["training"]
    assert len(rows(targets_table(steps))) == 25


def test_ops():
    product, move = rows(ops_table(made_up.ops()["ops"]))
    # 2³¹ operations are a product of 2³¹ in 0.5 ms, which is longer than the copy's 0.1
    assert product == [
        "dense, forward",
        "W128",
        "2",
        "1",
        "4",
        "2.00 (2.00 to 2.00)",
        "4.00 (4.00 to 4.00)",
        "2.15e+03 GFLOP/s",
        "0.25",
        "0.50",
        "0.12",
    ]
    assert move[2:5] == ["2", "–", "4"]
    assert move[6:] == ["–", "0.5 GB/s", "0.25", "–", "0.12"]


def test_scaling_and_loader():
    first = rows(scaling_table(made_up.scaling()["panels"]))[0]
    assert first == [
        "batch",
        "8",
        "88",
        "176",
        "264",
        "3.00 (3.00 to 3.00)",
        "1.50 (1.50 to 1.50)",
    ]
    demo, slow, _ = rows(loader_table(made_up.loader()["networks"]))
    assert demo[2:] == ["300", "4000", "1000", "4.0", "900", "1.00 %", "20 ms"]
    assert slow[5] == "2.0 (**less than 3**)"
