"""The whole run, rehearsed on the processor: processes, minutes, files."""

import json
import time
from pathlib import Path

import pytest

from benchmarks.gpu import __main__ as command
from benchmarks.gpu import correctness, operations, steps
from benchmarks.gpu.clock import SHARES, Clock
from benchmarks.gpu.machine import ASKED, answers
from benchmarks.gpu.networks import NETWORKS, SCALED, radiographs
from benchmarks.gpu.processes import Worker, WorkerError, at_once, pool
from benchmarks.gpu.results import name_of, read
from benchmarks.gpu.settings import REHEARSAL
from benchmarks.gpu.variants import EAGER, HAVE_TORCH, OURS, Variant, chosen
from tests.oracles import torch_or_skip


@pytest.fixture
def ticking():
    """A clock whose time is a list of one number."""
    now = [0.0]
    return now, lambda *args: Clock(*args, now=lambda: now[0])


def test_minutes_are_dealt_out_and_what_is_left_goes_on(ticking):
    now, clock = ticking
    clock = clock(10, ["ops", "steps"])
    clock.begin("ops")
    assert clock.left() == pytest.approx(300)  # as large a share as steps
    now[0] = 100
    clock.begin("steps")
    assert clock.left() == pytest.approx(500)
    assert clock.has("a")
    assert not clock.has("b", 501)
    now[0] = 700
    assert not clock.has("c")
    assert clock.skipped == ["b", "c"]
    assert sum(SHARES.values()) == pytest.approx(1)


def test_the_whole_run_is_rehearsed(tmp_path, monkeypatch, capsys):
    torch_or_skip()
    few = list(NETWORKS)[:1]
    monkeypatch.setattr(steps, "NETWORKS", {name: NETWORKS[name] for name in few})
    monkeypatch.setattr(steps, "SCALED", {8: SCALED[8], 16: SCALED[16]})
    wanted = [row for row in operations.rows(True) if row[0] in ("convolution", "max-pool")]
    monkeypatch.setattr(operations, "rows", lambda small: wanted)
    command.main(["--dry-run", "--out", str(tmp_path)])
    (file,) = tmp_path.glob("rehearsal-*.json")
    found = json.loads(file.read_text())
    assert found["correctness"]["tests"]["counts"] == {"passed": 5}
    assert found["correctness"]["same_bits"] == dict.fromkeys(("fp32", "tf32", "bf16"), True)
    assert found["ceilings"]["copy_gb_s"] > 0
    assert len(found["ops"]["rows"]) == len(wanted)
    assert all(row["failed"] == {} for row in found["ops"]["rows"] if row["precision"] != "bf16")
    assert list(found["steps"]["networks"]) == few
    for name, entry in found["steps"]["networks"].items():
        assert set(entry["precisions"]) == set(NETWORKS[name][1])
        for precision, variants in entry["precisions"].items():
            assert set(variants) == {v.name for v in chosen(precision, False, False)}
            assert all(len(v["ms"]) == 2 for v in variants.values()), variants
    assert [p["batch"] for p in found["scaling"]["points"]["bf16"]] == [8, 16]
    assert all(found[part]["skipped"] == [] for part in SHARES)
    assert file.with_suffix(".png").read_bytes()[:4] == b"\x89PNG"
    page = file.with_suffix(".md").read_text()
    assert page in capsys.readouterr().out


def test_a_run_out_of_time_says_what_it_skipped(tmp_path):
    torch_or_skip()
    parts = ["ops", "steps", "scaling"]
    command.main([*parts, "--dry-run", "--out", str(tmp_path), "--minutes", "0.0001"])
    (file,) = tmp_path.glob("*.json")
    found = json.loads(file.read_text())
    assert len(found["ops"]["skipped"]) + len(found["ops"]["rows"]) == len(
        list(operations.rows(True))
    )
    assert len(found["steps"]["skipped"]) == sum(len(p) for _, p in NETWORKS.values())
    assert len(found["scaling"]["skipped"]) == 2 * len(SCALED)


def test_a_part_that_dies_leaves_the_others(tmp_path, monkeypatch):
    def dies(settings, workers, clock, keep):
        keep({"rows": ["so far"]})
        assert read(next(tmp_path.glob("*.json")))["ops"]["rows"] == ["so far"]
        raise WorkerError("its process ended")

    monkeypatch.setitem(command.PARTS, "ops", dies)
    command.main(["ceilings", "ops", "--dry-run", "--out", str(tmp_path)])
    found = read(next(tmp_path.glob("*.json")))
    assert found["ops"]["failed"] == "its process ended"
    assert found["ceilings"]["copy_gb_s"] > 0
    # a part that is run again on the same day takes the place of what it was; the others stay
    monkeypatch.setitem(command.PARTS, "ops", lambda *_: {"rows": []})
    command.main(["ops", "--dry-run", "--out", str(tmp_path)])
    again = read(next(tmp_path.glob("*.json")))
    assert again["ops"]["rows"] == []
    assert "failed" not in again["ops"]
    assert again["ceilings"] == found["ceilings"]


def test_without_a_gpu_one_line_and_no_results(tmp_path, capsys):
    from tinynet.doctor import read_gpu

    if read_gpu().devices:
        pytest.skip("there is a GPU here")
    with pytest.raises(SystemExit, match="error: no GPU to measure: ") as caught:
        command.main(["--out", str(tmp_path)])
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(SystemExit):
        command.main(["nonsense", "--dry-run"])
    with pytest.raises(SystemExit):
        command.main(["--minutes", "0"])
    assert "nonsense is none of correctness" in capsys.readouterr().err


def test_a_worker_that_hangs_or_dies_starts_again():
    worker = Worker(OURS, "cpu")
    with pytest.raises(WorkerError, match="no answer in 0 s"):
        worker.ask(limit=0.01, facts=True)
    assert worker.process is None
    assert worker.ask(facts=True)["device"] == "cpu"
    worker.process.kill()
    with pytest.raises(WorkerError, match="its process ended"):
        worker.ask(facts=True)
    with pytest.raises(WorkerError, match='ask for "make" first'):
        worker.ask(losses=1)
    assert worker.process is not None
    worker.close_if_spoiled("CUDARuntimeError: an illegal memory access was encountered")
    assert worker.process is None
    worker.close()


def test_jobs_at_once_and_their_errors():
    began = time.monotonic()

    def fails():
        raise WorkerError("no")

    first, second, third = at_once([lambda: time.sleep(0.2) or 1, lambda: time.sleep(0.2), fails])
    assert (first, second, str(third)) == (1, None, "no")
    assert time.monotonic() - began < 0.39


def test_who_computes_something_else_is_not_timed():
    found = {"a": {}, EAGER.name: {}, "b": {}}
    losses = {"a": [1.0, 1.0], EAGER.name: [1.0, 0.99], "b": [1.2, 0.99]}
    steps.compare(losses, "bf16", found)
    assert "failed" not in found["a"]
    assert found[EAGER.name] == {"difference": 0}
    assert f"differ from those of {EAGER.name} by 2.0e-01" in found["b"]["failed"]
    steps.compare({"a": [float("nan")], "b": [1.0]}, "fp32", found)
    steps.compare({}, "fp32", {})
    assert "failed" in found["b"]


def test_a_variant_that_fails_is_left_out_of_the_rest():
    class Dying(Worker):
        def ask(self, limit=60, **request):
            if "time" in request:
                self.close(kill=True)
                raise WorkerError("broken: its process ended")
            return super().ask(limit, **request)

    broken, clock = Variant("broken", "tinynet"), Clock(5, ["steps"])
    clock.begin("steps")
    with pool("cpu") as workers:
        workers.workers["broken"] = Dying(broken, "cpu")
        network = radiographs(128, 2).small()
        found = steps.measure(network, "fp32", [OURS, broken], REHEARSAL, workers, clock)
    variants = found["variants"]
    assert variants["broken"]["failed"] == "broken: its process ended"
    assert "ms" not in variants["broken"]
    assert len(variants[OURS.name]["ms"]) == 2
    assert "broken FAILED" in steps.said(variants)
    assert found["facts"]["multiply_adds"] > 0


def test_peers_are_those_that_may_be_fastest():
    if not HAVE_TORCH:
        assert chosen("bf16", True, True) == [OURS]
        return
    names = {v.name for v in chosen("bf16", compiled=True, more=False)}
    assert names == {"tinynet", "torch channels_last", "torch CUDA graph", "torch.compile"}
    assert "torch contiguous" in {v.name for v in chosen("fp32", False, False)}
    assert len(chosen("tf32", True, True)) == 7


def test_what_pytest_says():
    text = "..F.s\nFAILED tests/a.py::test_x - no\n1 failed, 3 passed, 2 errors in 0.1s\n"
    assert correctness.outcome(text) == {
        "counts": {"failed": 1, "passed": 3, "error": 2},
        "failures": ["FAILED tests/a.py::test_x - no"],
        "tail": [],
    }
    cut = correctness.outcome("....F..s  [ 40%]\n...")
    assert cut["counts"] == {"passed": 9, "failed": 1, "skipped": 1}
    assert correctness.outcome("no module named pytest")["tail"] == ["no module named pytest"]


def test_tests_that_take_too_long_are_cut_short(tmp_path):
    slow = tmp_path / "test_slow.py"
    slow.write_text("import time\ndef test_slow():\n    time.sleep(60)\n")
    found = correctness.run_tests([str(slow), "-c", "/dev/null"], limit=3)
    assert (found["exit"], found["cut_short"]) == (None, True)


def test_files_with_tests_for_a_gpu_are_found():
    names = {Path(f).name for f in correctness.files_with_marks(Path("tests").absolute())}
    assert {"test_three_ways.py", "test_conv.py"} <= names
    assert "test_run.py" not in names
    assert "test_metrics.py" not in names


def test_file_names_and_nvidia_smi():
    machine = {"gpu": "NVIDIA H100 80GB HBM3", "device": "gpu"}
    assert name_of(machine).startswith("nvidia-h100-80gb-hbm3-20")
    assert name_of(machine | {"device": "cpu"}).startswith("rehearsal-nvidia")
    line = ", ".join(f"value {n}" for n in range(len(ASKED)))
    assert answers(line)["driver_version"] == "value 1"
    assert answers("no devices were found") == {}


def test_results_that_are_not_whole_are_none(tmp_path):
    (tmp_path / "x.json").write_text('{"date": ')
    assert read(tmp_path / "x.json") == {}
    assert read(tmp_path / "y.json") == {}


def test_a_spoiled_process_is_ended_after_its_row(monkeypatch):
    asked = []

    class Spoiled(Worker):
        def ask(self, limit=60, **request):
            asked.append(request)
            why = "CUDARuntimeError: cudaErrorIllegalAddress: an illegal memory access"
            return {**request, "ms": {}, "errors": {}, "failed": {"ours": why}}

        def close(self, kill=False):
            asked.append("closed")

    monkeypatch.setattr(operations, "compile_ahead", lambda *_: [])
    clock = Clock(5, ["ops"])
    clock.begin("ops")
    with pool("cpu") as workers:
        workers.workers[operations.OPS.name] = Spoiled(operations.OPS, "cpu")
        found = operations.measure(REHEARSAL, workers, clock, lambda part: None)
    assert len(found["rows"]) == len(list(operations.rows(True)))
    assert asked[1] == "closed"
    assert asked.count("closed") == len(found["rows"]) + 1  # and once at the end
