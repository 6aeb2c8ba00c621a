"""Workers, their turns, and the comparison before them, on a network that takes no time."""

import numpy as np
import pytest

from benchmarks import floors
from benchmarks.peers import subject
from benchmarks.processes import WorkerError, environment, take_turns, workers
from benchmarks.steps import differences, measure
from benchmarks.variants import FAST, NUMPY, STOCK, WITH_ALLOCATOR, Variant, installed
from benchmarks.workloads import KINDS, WORKLOADS, Workload
from tests.oracles import torch_or_skip

TINY = Workload(16, 4, (4, 6), 8, batch_norm=True)
EAGER = [v for v in (*STOCK, *WITH_ALLOCATOR) if not v.compiled]


@pytest.mark.parametrize(
    ("kind", "other"), [("training", STOCK[1]), ("inference", WITH_ALLOCATOR[0])]
)
def test_a_workload_is_checked_and_timed(kind, other):
    variants, _ = installed((NUMPY, other))
    found = measure(TINY, kind, variants, rounds=2, threads=1)
    assert list(found) == [v.name for v in variants]
    for entry in found.values():
        assert len(entry["ms"]) == 2
        assert min(entry["ms"]) > 0
        assert 10 < entry["peak_mb"] < 4000
        assert entry["difference"] < 1e-4


@pytest.mark.parametrize("variant", EAGER, ids=lambda v: v.name)
@pytest.mark.parametrize("kind", KINDS)
def test_torchs_network_is_ours(variant, kind):
    torch_or_skip()
    ours, theirs = subject(TINY, kind, NUMPY), subject(TINY, kind, variant)
    for _ in range(3):
        (want,), (got,) = ours.results(ours.call()), theirs.results(theirs.call())
        assert abs(got - want).max() < 1e-4 * abs(want).max()


def test_another_result_is_refused():
    losses = {"a": [np.array(1.0), np.array(0.5)], "b": [np.array(1.0), np.array(0.502)]}
    with pytest.raises(WorkerError, match=r"the losses of b and of a differ by 4\.0e-03"):
        differences(losses, "training")
    losses["b"][1] = np.array(np.nan)
    learned = {"a": [np.array(0.7), np.array(0.0)], "b": [np.array(0.7), np.array(1e-6)]}
    assert differences(learned, "training")["b"] == pytest.approx(1e-6 / 0.007)
    with pytest.raises(WorkerError, match="differ by nan"):
        differences(losses, "training")


def test_a_compiled_variant_may_fail_and_no_other():
    broken = Variant("broken", "neither of both", compiled=True)
    found = measure(TINY, "training", [NUMPY, broken], rounds=1, threads=1)
    assert found["broken"]["failed"].startswith("broken: KeyError")
    assert len(found["tinynet NumPy"]["ms"]) == 1
    with pytest.raises(WorkerError, match="broken"):
        measure(TINY, "training", [NUMPY, Variant("broken", "neither of both")], 1, 1)


def test_workers_take_turns():
    class Recorder:
        def __init__(self, name):
            self.name = name

        def ask(self, time, seconds):
            asked.append((self.name, time, seconds))
            return {"ms": float(len(asked))}

    asked = []
    turns = [("a", Recorder("first"), "x"), ("b", Recorder("second"), "y")]
    times = take_turns(turns, rounds=2, seconds=0.5)
    assert [name for name, _, _ in asked] == ["first", "second", "second", "first"]
    assert asked[0] == ("first", "x", 0.5)
    assert times == {"a": [1.0, 4.0], "b": [2.0, 3.0]}


def test_settings_of_the_machine_are_hidden_from_all(monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1")
    monkeypatch.setenv("TINYNET_KERNELS", "reference")
    ours, theirs = environment(FAST, 3), environment(STOCK[0], 3)
    assert not {"OPENBLAS_CORETYPE", "MALLOC_TRIM_THRESHOLD_"} & (ours.keys() | theirs.keys())
    assert (ours["TINYNET_KERNELS"], ours["OMP_NUM_THREADS"]) == ("fast", "3")
    assert "TINYNET_KERNELS" not in theirs


def test_a_worker_says_what_went_wrong():
    with workers([NUMPY], threads=1) as (worker,), pytest.raises(WorkerError, match="KeyError"):
        worker.ask(make="it", task={"kind": "op", "module": "dense", "op": "none", "shape": "x"})


def test_a_workload_survives_json():
    import json
    from dataclasses import asdict

    for workload in WORKLOADS.values():
        assert Workload.from_json(json.loads(json.dumps(asdict(workload)))) == workload


def test_work_is_counted_for_the_batch():
    # two 3×3 convolutions a block, the pool halves the side, then two dense layers
    first = 16 * 16 * 9 * (1 * 4 + 4 * 4)
    second = 8 * 8 * 9 * (4 * 6 + 6 * 6)
    assert TINY.multiply_adds() == 4 * (first + second + 4 * 4 * 6 * 8 + 8 * 2)


def test_floors_move_and_multiply_what_they_say(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    product = floors.numpy_product()
    (c,) = product.results(product.call())
    a, b = np.random.default_rng(0).standard_normal((2, floors.SIDE, floors.SIDE), np.float32)
    assert abs(c[0] - a[0] @ b).max() < 1e-3
    assert 2 * c.shape[0] * a.shape[1] * b.shape[1] == floors.PRODUCT_FLOPS
    for moved in (100, 4 << 20):
        copy = floors.copy(moved)
        copy.call()
        target = copy.results(None)[0]
        assert target.nbytes == moved // 2
        assert target.all()
