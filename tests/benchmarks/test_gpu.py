"""What is measured on a GPU, with a stand-in for it, and whole runs rehearsed on the processor."""

import json
import types

import numpy as np
import pytest

from benchmarks import first, gpu, ops, parts, steps
from benchmarks.backends import REHEARSAL, Clock, Run, new_pool
from benchmarks.device import Cpu, Gpu, Subject
from benchmarks.ops import OPS
from benchmarks.page import read
from benchmarks.peers import subject
from benchmarks.processes import WorkerError
from benchmarks.turns import difference
from benchmarks.variants import CUDA
from benchmarks.workloads import NETWORKS
from tests.benchmarks import stand_in
from tests.engine.kernels.cuda.on_cpu import COMPILER
from tests.oracles import torch_or_skip
from tinynet.backend import library_of, use_kernels, use_reference
from tinynet.doctor import Gpu as Found

torch = torch_or_skip()
TINY = {"side": 8, "batch": 4, "settings": {"filters": (4,), "hidden": 4, "keep_prob": 1.0}}


@pytest.fixture
def on_gpu(monkeypatch):
    """What happens on the stand-in."""
    return stand_in.install(monkeypatch)


def test_the_gpu_waits_while_calls_are_queued(on_gpu):
    device, kernel = Gpu(), on_gpu.kernel("call")
    call = lambda: kernel((1,), (1,), ())  # noqa: E731
    assert device.by_events(call, 5, ahead=0.01) == 1.0  # the wait is no part of it
    assert on_gpu.log[0] == ("spin", int(1.5 * 0.01 * 2e9))
    assert [entry[0] for entry in on_gpu.log[1:6]] == ["call"] * 5
    on_gpu.log.clear()
    device.by_events(call, 1, ahead=10.0)  # too long to wait for
    assert on_gpu.log == [("call",), "synchronize"]
    on_gpu.log.clear()
    device.time(Subject(call, whole=True), 0.0)  # by the processor's clock, from idle to idle
    assert on_gpu.log == ["waited", ("call",), "waited", "waited", ("call",), ("call",), "waited"]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_arrays_are_the_same_on_every_device_and_in_torch(on_gpu, dtype):
    ours, plain = Gpu(), Cpu()
    there, here = ours.drawn(3, (5, 7), dtype), plain.drawn(3, (5, 7), dtype)
    assert (library_of(there), there.dtype.name) == ("cupy", dtype)
    assert there.host.tobytes() == here.tobytes()
    assert ours.tensor(there).dtype == getattr(torch, dtype)
    np.testing.assert_array_equal(ours.comparable(there).numpy(), plain.comparable(here))
    assert not np.array_equal(plain.drawn(4, (5, 7)), plain.drawn(3, (5, 7)))


def ours_is_theirs(op, shape, precision):
    device, given = Gpu(), op.sized("gpu", shape, small=True)
    want = op.subject(given, "torch", device, precision=precision, reference=True).values(1)
    got = op.subject(given, "tinynet", device, precision=precision).values(1)
    limit = op.tolerance or REHEARSAL.op_tolerance[precision]
    assert difference(got, want, op.norm) < limit


@pytest.mark.parametrize(
    "op", [op for op in OPS.values() if "gpu" in op.shapes], ids=lambda op: op.name
)
def test_operations_run_on_arrays_of_the_gpu(on_gpu, op):
    """What NumPy's and CuPy's arrays must not do with each other fails here."""
    with use_reference():
        ours_is_theirs(op, next(iter(op.shapes["gpu"])), "fp32")


@pytest.mark.slow
@pytest.mark.skipif(COMPILER is None, reason="g++ is not installed")
@pytest.mark.parametrize("gradient", ["forward", "weight gradient", "input gradient"])
def test_kernels_of_the_gpu_are_what_is_timed(on_gpu, gradient):
    op = OPS[f"convolution, {gradient}"]
    with use_kernels("cuda"):
        ours_is_theirs(op, next(iter(op.shapes["gpu"])), "fp32")


def test_our_step_is_asked_for_its_precision_and_its_memory(on_gpu, monkeypatch):
    made = []

    class Step:
        gpu_memory = 9 << 20

        def __init__(self, model, loss, optimizer, *, precision):
            made.append((precision, library_of(next(iter(model.parameters().values())).value)))

        def __call__(self, x, y):
            made.append((library_of(x), library_of(y)))
            return 0.5

    monkeypatch.setattr("tinynet.train.TrainStep", Step)
    device = Gpu()
    step = subject("training", TINY, "bf16", CUDA, device)
    assert step.call() == 0.5
    assert made == [("bf16", "cupy"), ("cupy", "numpy")]
    assert (device.peak_mb([step]), device.peak_mb([])) == (9, 3)
    device.free()
    assert on_gpu.log == ["freed"]


def test_a_steps_kernels_are_summed_by_name():
    def event(name, us):
        return types.SimpleNamespace(
            name=name, time_range=types.SimpleNamespace(elapsed_us=lambda: us)
        )

    assert parts.STEPS == 5
    events = [*[event("f", 100.0)] * 10, *[event("g", 1000.0)] * 5]
    rows = parts.summed(events)
    assert rows == [
        {"kernel": "g", "launches": 1, "ms": pytest.approx(1)},
        {"kernel": "f", "launches": 2, "ms": pytest.approx(0.2)},
    ]
    assert parts.said(rows, 2.0)[:2] == [
        "a step 2.000 ms, of which 0.800 between kernels",
        "1.000 ms, 50%, 1 × g",
    ]
    assert parts.rows_of(Cpu(), TINY, "fp32") == {"rows": [], "step_ms": 0.0}


def test_what_pytest_says():
    text = "..F.s\nFAILED tests/a.py::test_x - no\n1 failed, 3 passed, 2 errors in 0.1s\n"
    assert parts.outcome(text) == {
        "counts": {"failed": 1, "passed": 3, "error": 2},
        "failures": ["FAILED tests/a.py::test_x - no"],
        "tail": [],
    }
    for cut in ("....F..s  [ 40%]", "no module named pytest"):
        assert parts.outcome(cut) == {"counts": {}, "failures": [], "tail": [cut]}


def test_tests_that_take_too_long_are_cut_short(tmp_path):
    slow = tmp_path / "test_slow.py"
    slow.write_text("import time\ndef test_slow():\n    time.sleep(60)\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    found = parts.run_tests([str(slow), "-c", str(tmp_path / "pytest.ini")], limit=1)
    assert (found["exit"], found["cut_short"]) == (None, True)


def test_minutes_are_dealt_out_and_what_is_left_goes_on():
    now = [0.0]
    clock = Clock(10, {"ops": 0.25, "steps": 0.25}, lambda: now[0])
    clock.begin("ops")
    assert clock.left() == pytest.approx(300)
    now[0] = 100
    clock.begin("steps")
    assert clock.left() == pytest.approx(500)
    assert clock.has("a")
    assert not clock.has("b", 501)
    now[0] = 700
    assert not clock.has("c")
    assert clock.skipped == ["b", "c"]
    for dealt in (gpu.PARTS, first.PARTS):
        assert sum(share for share, _ in dealt.values()) == pytest.approx(1)


def rehearsed(tmp_path, *arguments):
    gpu.main([*arguments, "--dry-run", "--out", str(tmp_path)])
    (file,) = tmp_path.glob("*rehearsal-*.json")
    return file, json.loads(file.read_text(encoding="utf-8"))


def test_a_part_that_dies_leaves_the_others(tmp_path, monkeypatch):
    def dies(run):
        run.keep({"ops": ["so far"]})
        (file,) = tmp_path.glob("*.json")
        assert read(file)["ops"] == {"ops": ["so far"], "skipped": [], "whole": False}
        raise WorkerError("its process ended")

    monkeypatch.setattr(gpu, "machine", lambda run: {"gpu": "A GPU", "versions": {}})
    monkeypatch.setitem(gpu.PARTS, "ceilings", (0.5, lambda run: {"ms": {"copy": [1 / 3]}}))
    monkeypatch.setitem(gpu.PARTS, "ops", (0.5, dies))
    file, found = rehearsed(tmp_path, "ceilings", "ops")
    assert file.name.startswith("rehearsal-a-gpu-20")
    assert found["ops"]["failed"] == "WorkerError: its process ended"
    assert found["ceilings"]["ms"] == {"copy": [0.33333]}
    assert "its process ended" in file.with_suffix(".md").read_text(encoding="utf-8")
    # a part that is run again on the same day takes the place of what it was; the others stay
    monkeypatch.setitem(gpu.PARTS, "ops", (0.5, lambda run: {"ops": []}))
    _, again = rehearsed(tmp_path, "ops")
    assert (again["ops"]["ops"], "failed" in again["ops"]) == ([], False)
    assert again["ceilings"] == found["ceilings"]


@pytest.fixture
def few(monkeypatch):
    """Less of everything."""
    networks = dict(list(NETWORKS.items())[:1])
    rows = ops.rows

    def less(*given):
        return [row for row in rows(*given) if row[0].group in ("conv_forward", "relu")]

    sizes = steps.panels(Run(REHEARSAL, new_pool(REHEARSAL)))
    monkeypatch.setattr(steps, "NETWORKS", networks)
    monkeypatch.setattr(parts, "PROFILED", dict.fromkeys(networks, ("fp32",)))
    monkeypatch.setattr(ops, "rows", less)
    monkeypatch.setattr(steps, "panels", lambda run: {k: line[:2] for k, line in sizes.items()})
    return types.SimpleNamespace(networks=networks, rows=less(REHEARSAL))


@pytest.mark.slow
def test_a_whole_run_is_rehearsed(tmp_path, few, capsys):
    file, found = rehearsed(tmp_path, "--without-compile")
    assert found["correctness"]["tests"]["counts"]["passed"] > 3
    assert "failed" not in found["correctness"]["tests"]["counts"]
    assert len(found["ops"]["ops"]) == len(few.rows)
    for name, (_, precisions) in few.networks.items():
        for precision in precisions:
            variants = found["steps"]["steps"][name][f"training, {precision}"]
            assert {v.name for v in REHEARSAL.variants(precision)} >= variants.keys() > {CUDA.name}
    assert found["kernels"]["profiles"] != {}
    assert [len(line) for line in found["scaling"]["panels"].values()] == [2, 2]
    assert all(found[part]["skipped"] == [] for part in gpu.PARTS)
    assert all("failed" not in found[part] for part in gpu.PARTS)
    assert file.with_suffix(".png").read_bytes()[:4] == b"\x89PNG"
    assert file.with_suffix(".md").read_text(encoding="utf-8") in capsys.readouterr().out


@pytest.mark.slow
def test_the_first_minutes_are_rehearsed(tmp_path, few, monkeypatch):
    monkeypatch.setattr(first, "NETWORKS", list(few.networks))
    file, found = rehearsed(tmp_path, "first")
    assert file.name.startswith("first-rehearsal-")
    assert all("failed" not in found[part] for part in first.PARTS)
    (said,) = found["race"]["lines"]
    assert said == "predict: 0 of 128 images have other probabilities than alone"
    products = found["products"]["ops"]
    assert len(products) == len(few.rows)
    assert all(row["differences"][CUDA.name] < 0.1 for row in products)
    assert [row["ours"] for row in products] == [{}] * len(products)
    layers = {(row["op"], row["precision"]) for row in found["layers"]["ops"]}
    assert layers == {("convolution, forward", "bf16"), ("convolution, forward", "tf32")}
    assert list(found["steps"]["steps"]) == list(few.networks)


def test_without_a_gpu_one_line_and_no_results(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(gpu, "read_gpu", lambda at_most: Found(note="CuPy is not installed"))
    with pytest.raises(SystemExit, match="^error: no GPU to measure: CuPy is not installed$"):
        gpu.main(["--out", str(tmp_path)])
    assert list(tmp_path.iterdir()) == []
    for wrong, said in (
        (["nonsense"], "nonsense is not one of correctness"),
        (["first", "ops"], "first is not one of"),
        (["--minutes", "0"], "got 0 minutes, want more than 0"),
    ):
        with pytest.raises(SystemExit):
            gpu.main([*wrong, "--dry-run"])
        assert said in capsys.readouterr().err
