from benchmarks.ratios import Ratio, Target, fastest, memory_ratio, paired, speed_ratio, targets

MEASURED = {
    "tinynet fast": {"ms": [10.0, 20.0, 10.0], "peak_mb": 100.0},
    "torch contiguous": {"ms": [30.0, 50.0, 90.0], "peak_mb": 400.0},
    "torch channels_last": {"ms": [20.0, 80.0, 21.0], "peak_mb": 200.0},
    "torch.compile": {"failed": "no compiler"},
    "torch contiguous + malloc": {"ms": [15.0, 15.0, 15.0], "peak_mb": 500.0},
}


def test_a_ratio_is_of_rounds_and_not_of_medians():
    ratio = paired([30, 50, 90], [10, 20, 10])
    assert ratio == Ratio(3, 2.5, 9)
    assert str(ratio) == "3.00 (2.50 to 9.00)"


def test_the_fastest_has_the_lowest_median():
    assert fastest({"a": [1, 9, 9], "b": [8, 8, 8]}) == "b"
    assert fastest({}) is None


def test_ratios_are_against_the_fastest_of_those_that_ran():
    assert speed_ratio(MEASURED, "tinynet fast", "stock") == Ratio(2.1, 2, 4)
    assert speed_ratio(MEASURED, "tinynet fast", "malloc") == Ratio(1.5, 0.75, 1.5)
    assert memory_ratio(MEASURED, "tinynet fast") == 0.5
    assert speed_ratio(MEASURED, "tinynet NumPy", "stock") is None
    assert memory_ratio({"tinynet fast": MEASURED["tinynet fast"]}, "tinynet fast") is None


def test_a_target_is_reached_from_its_side():
    least = Target("W48", "training", "tinynet fast", "stock", 2.1)
    most = Target("W48", "training", "tinynet fast", "memory", 0.5)
    steps = {"W48": {"training": MEASURED}}
    assert least.met(least.value(steps))
    assert most.met(most.value(steps))
    assert not least.met(Ratio(2.0, 1, 9))
    assert not most.met(0.51)
    assert least.value({}) is None


def test_every_target_is_named_once():
    names = [(t.workload, t.kind, t.ours, t.against) for t in targets()]
    assert len(set(names)) == len(names) == 30
