from benchmarks.ratios import (
    Ratio,
    floor_ms,
    memory_ratio,
    paired,
    speed_ratio,
    step_floor_ms,
)
from tests.benchmarks import made_up

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
