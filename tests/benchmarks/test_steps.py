"""The method (check, then turns), workers, and whole networks that take no time."""

import json
from dataclasses import asdict, replace
from unittest.mock import Mock

import numpy as np
import pytest

from benchmarks import steps, turns
from benchmarks.backends import CPU, Run, new_pool
from benchmarks.device import Cpu, copy, product
from benchmarks.peers import same_bits, subject, train_step
from benchmarks.processes import Pool, WorkerError, environment
from benchmarks.steps import BASE, PANELS, Point, measure, measure_scaling, panels
from benchmarks.turns import Check
from benchmarks.variants import EAGER, NUMBA, NUMPY, STOCK, WITH_ALLOCATOR, Variant, installed
from benchmarks.workloads import KINDS, NETWORKS, vgg_like
from tests.oracles import torch_or_skip

TINY = vgg_like(16, 4, (4, 6), 8, batch_norm=True)
LOSSES = Check(1e-3, "losses", calls=2)


@pytest.fixture
def run():
    backend = replace(CPU, threads=1, rounds=2, step_turn=0.01)
    with new_pool(backend) as pool:
        yield Run(backend, pool)


class Fake:
    """A worker without a process, whose subject has the losses that its task says."""

    process, peak_mb = None, 1.0

    def __init__(self, name, fails, asked):
        self.variant, self.fails, self.asked = Variant(name, "tinynet"), fails, asked

    def ask(self, do, name, task=None, **more):
        self.losses = task or getattr(self, "losses", None)
        self.asked.append((do, name))
        if do == self.fails:
            raise WorkerError(f"{name}: broken")
        return {"ms": float(len(self.asked))}

    def results(self, name, calls):
        return [np.array(loss) for loss in self.losses[:calls]]


def measured(run, losses, fails=None, references=("a", "b"), strict=True, **more):
    """Return what is found of fake workers, and who was timed, in this order."""
    backend, asked = replace(run.backend, name="cpu" if strict else "gpu"), []
    fakes = {name: Fake(name, (fails or {}).get(name), asked) for name in losses}
    tasks = {name: (fakes[name], loss) for name, loss in losses.items()}
    found = turns.measure(replace(run, backend=backend), tasks, references, LOSSES, 0.1, **more)
    return found, [name for do, name in asked if do == "time"]


def test_all_take_turns_and_every_second_round_goes_backwards(run):
    found, timed = measured(run, {"a": [1.0, 0.5], "b": [1.0, 0.5001]})
    assert timed == ["a", "b", "b", "a"]
    assert found["a"]["ms"][1] - found["a"]["ms"][0] == 3
    assert found["a"]["difference"] == 0
    assert found["b"]["difference"] == pytest.approx(2e-4)


@pytest.mark.parametrize(("wrong", "apart"), [(0.502, "4.0e-03"), (np.nan, "nan")])
def test_another_result_is_refused(run, wrong, apart):
    losses = {"a": [1.0, 0.5], "b": [1.0, wrong]}
    said = f"the results of b and of a differ by {apart}"
    with pytest.raises(WorkerError, match=said):
        measured(run, losses)
    found, timed = measured(run, losses, strict=False)
    assert said in found["b"]["failed"]
    assert timed == ["a", "a"]
    assert "b" in measured(run, losses, may_fail=["b"])[0]


def test_who_fails_is_left_out_and_another_is_the_reference(run):
    losses = dict.fromkeys("abc", [1.0, 0.5])
    found, timed = measured(run, losses, {"a": "make"}, strict=False)
    assert (found["a"], timed) == ({"failed": "a: broken"}, ["b", "c", "c", "b"])
    found, timed = measured(run, losses, {"c": "time"}, strict=False)
    assert ("ms" in found["c"], timed) == (False, ["a", "b", "c", "b", "a"])
    found, timed = measured(run, losses, {"a": "make"}, ["a"], strict=False)
    assert (found["b"]["failed"], timed) == ("nothing to compare it with: a: broken", [])
    with pytest.raises(WorkerError, match="c: broken"):
        measured(run, losses, {"c": "time"})


def test_a_network_learned_by_heart_is_no_failure():
    learned = [np.array(0.7), np.array(0.0)], [np.array(0.7), np.array(1e-6)]
    assert turns.difference(*learned[::-1], "losses") == pytest.approx(1e-6 / 0.007)


@pytest.mark.parametrize(
    ("kind", "other"),
    [
        ("training", STOCK[1]),
        pytest.param("inference", WITH_ALLOCATOR[0], marks=pytest.mark.slow),
    ],
)
def test_a_workload_is_checked_and_timed(run, kind, other):
    variants, _ = installed((NUMPY, other))
    found = measure(run, Point(TINY, kind), variants)
    assert list(found) == [v.name for v in variants]
    for entry in found.values():
        assert len(entry["ms"]) == 2
        assert min(entry["ms"]) > 0
        assert 10 < entry["peak_mb"] < 4000
        assert entry["difference"] < 1e-4


@pytest.mark.parametrize("variant", [v for v in STOCK if not v.compiled], ids=lambda v: v.name)
@pytest.mark.parametrize("kind", KINDS)
def test_torchs_network_is_ours(variant, kind):
    torch_or_skip()
    ours, theirs = (subject(kind, asdict(TINY), "fp32", v, Cpu()) for v in (NUMPY, variant))
    assert turns.difference(theirs.values(3), ours.values(3)) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_torchs_networks_of_a_gpu_are_ours(name):
    torch_or_skip()
    small = asdict(NETWORKS[name][0].small())
    ours, theirs = (subject("training", small, "fp32", v, Cpu()) for v in (NUMPY, EAGER))
    # ResNet-50's last batch norms are here over 16 numbers, and make much of the last digits
    limit = 1e-2 if "ResNet" in name else 1e-4
    assert turns.difference(theirs.values(3), ours.values(3), "losses") < limit


def test_steps_that_differ_in_a_bit_are_noticed(monkeypatch):
    assert same_bits(Cpu(), asdict(TINY), "fp32")
    made = []

    def unsteady(*given, **more):
        made.append(train_step(*given, **more))
        weight = next(iter(made[-1].model.parameters().values())).value
        weight.flat[0] += 1e-3 * len(made)
        return made[-1]

    monkeypatch.setattr("benchmarks.peers.train_step", unsteady)
    assert not same_bits(Cpu(), asdict(TINY), "fp32")


def test_settings_of_the_machine_are_hidden_from_all(monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1")
    monkeypatch.setenv("TINYNET_KERNELS", "reference")
    ours, theirs = environment(NUMBA, 3), environment(STOCK[0], 3)
    assert not {"OPENBLAS_CORETYPE", "MALLOC_TRIM_THRESHOLD_"} & (ours.keys() | theirs.keys())
    assert (ours["TINYNET_KERNELS"], ours["OMP_NUM_THREADS"]) == ("numba", "3")
    assert "TINYNET_KERNELS" not in theirs


def test_a_worker_that_hangs_or_dies_starts_again(run):
    worker = run.worker(NUMPY)
    with pytest.raises(WorkerError, match="no answer in 0 s"):
        worker.ask("forget", limit=0.01)
    assert worker.process is None
    with pytest.raises(WorkerError, match="tinynet NumPy: KeyError: 'it'"):
        worker.ask("settle", name="it", calls=1)
    assert worker.peak_mb == 0  # an error says nothing of memory
    worker.process.kill()
    with pytest.raises(WorkerError, match="its process ended"):
        worker.ask("forget")
    assert worker.process is None


@pytest.mark.parametrize(("device", "ended"), [("gpu", True), ("cpu", False)])
def test_a_process_whose_gpu_has_failed_is_ended(device, ended):
    worker = Pool(device, 1, 10).worker(NUMPY)
    worker.process = process = Mock()
    error = "CUDARuntimeError: cudaErrorIllegalAddress: an illegal memory access"
    worker.exchange = lambda *_: json.dumps({"error": error})
    with pytest.raises(WorkerError, match="illegal memory access"):
        worker.ask("settle")
    assert (worker.process is None) == process.kill.called == ended


def test_work_is_counted_for_the_batch():
    # two 3×3 convolutions a block, the pool halves the side, then two dense layers
    first = 16 * 16 * 9 * (1 * 4 + 4 * 4)
    second = 8 * 8 * 9 * (4 * 6 + 6 * 6)
    assert TINY.multiply_adds() == 4 * (first + second + 4 * 4 * 6 * 8 + 8 * 2)


def test_floors_move_and_multiply_what_they_say(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    (c,) = product(Cpu(), "numpy", 64).values(1)
    np.testing.assert_allclose(c, Cpu().drawn(0, (64, 64)) @ Cpu().drawn(1, (64, 64)), rtol=1e-4)
    for moved in (100, 4 << 20):
        (target,) = copy(Cpu(), "numpy", moved).values(1)
        assert target.nbytes == moved // 2
        assert target.all()


@pytest.fixture
def scaled(monkeypatch):
    """Points and threads that were measured; each run's times are the next number."""
    asked = []

    def measure(run, point, variants):
        asked.append((point, run.backend.threads))
        return {NUMPY.name: {"ms": [len(asked)] * run.backend.rounds}}

    monkeypatch.setattr(steps, "measure", measure)
    return asked


def test_one_thing_changes_at_a_time(run):
    run.backend = replace(run.backend, threads=2)
    assert tuple(panels(run)) == PANELS
    for panel, line in panels(run).items():
        assert len({str(point) for _, point in line}) == len(line) > 1
        for value, point in line:
            changed = {k for k in ("batch", "side") if getattr(point.workload, k) != vars(BASE)[k]}
            changed |= {"filters"} if point.workload.settings != BASE.settings else set()
            changed |= {"threads"} if point.threads not in (None, 2) else set()
            assert changed <= {panel} | ({"batch"} if panel == "side" else set()), (panel, value)


def test_the_base_is_measured_once(run, scaled):
    run.backend = replace(run.backend, threads=2)
    found = measure_scaling(run)["panels"]
    assert tuple(found) == PANELS
    base = [p for line in found.values() for p in line if p["workload"] == asdict(BASE)]
    times = [p["variants"][NUMPY.name]["ms"][0] for p in base if p["threads"] == 2]
    assert (len(times), len(set(times))) == (3, 1)
    scaled.clear()
    assert tuple(measure_scaling(run, ["threads"])["panels"]) == ("threads",)
    assert [point.threads for point, _ in scaled] == [1, 2]
