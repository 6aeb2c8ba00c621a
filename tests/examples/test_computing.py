"""--device and --precision: what is refused, in one line, and where things are computed."""

import json
from dataclasses import replace

import numpy as np
import pytest

from examples.mura import computing as module
from examples.mura.__main__ import main
from examples.mura.computing import Computing, computing
from examples.mura.errors import UserError
from tests.engine.gpu.fake_cupy import fake_cupy
from tests.examples.small_mura import make_mura
from tests.examples.test_commands import SMALL, says, the_error, trained
from tests.examples.test_transfer import draw_mura
from tinynet.doctor.gpu import Device, Gpu
from tinynet.doctor.gpu_packages import Fault
from tinynet.train.checkpoint import load_arrays

__all__ = ["fake_cupy"]

H1 = Gpu(
    cupy="14.2.0",
    package="cupy-cuda13x",
    driver="13.0",
    devices=(Device("Example H1", 80 * 10**9, 70 * 10**9, (9, 0)),),
    compiles=True,
    precisions=("fp32", "tf32", "bf16"),
)
NO_CUPY = Gpu(note="no CuPy: with an NVIDIA GPU, pip install cupy-cuda13x or cupy-cuda12x")


@pytest.fixture
def mura(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return make_mura(tmp_path)


@pytest.fixture
def gpu(fake_cupy, monkeypatch):
    """A machine with a GPU, on the stand-in for CuPy."""
    monkeypatch.setattr(module, "read_gpu", lambda at_most: H1)


def refused(device, precision, gpu):
    with pytest.raises(UserError) as caught:
        computing(device, precision, lambda: gpu)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- what is refused


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_tensor_cores_are_a_gpus(precision):
    assert refused("cpu", precision, H1) == (
        f"--precision {precision} needs a GPU's tensor cores: add --device gpu, "
        "or leave --precision out"
    )


def test_without_cupy_the_packages_are_named():
    assert refused("gpu", "fp32", NO_CUPY) == (
        "--device gpu: no CuPy: with an NVIDIA GPU, pip install cupy-cuda13x or cupy-cuda12x, "
        "or compute with --device cpu"
    )


def test_without_a_device_it_is_what_doctor_says():
    note = "CuPy 14.2.0 finds no device: cupy-cuda13x needs a driver for CUDA 13"
    fault = Fault("cupy-cuda13x needs a driver for CUDA 13", "pip install cupy-cuda12x")
    said = refused("gpu", "fp32", Gpu("14.2.0", note=note, faults=(fault,)))
    assert said == f"--device gpu: {note}: pip install cupy-cuda12x, or compute with --device cpu"


def test_a_compiler_that_is_missing_is_named():
    fault = Fault("NVIDIA's compiler (NVRTC) is missing", "pip install nvidia-cuda-nvrtc")
    said = refused("gpu", "fp32", replace(H1, compiles=False, faults=(fault,)))
    assert "NVRTC) is missing: pip install nvidia-cuda-nvrtc" in said


def test_a_gpu_without_tensor_cores_of_that_kind():
    old = replace(H1, devices=(Device("Example T4", 10**9, 10**9, (7, 5)),), precisions=("fp32",))
    assert refused("gpu", "bf16", old) == (
        "--precision bf16: Example T4 has no such tensor cores (compute capability 7.5, want 8.0 "
        "or more): give --precision fp32"
    )
    assert computing("gpu", "fp32", lambda: old) == Computing("gpu", "fp32", "Example T4")


def test_bf16_without_ml_dtypes():
    fault = Fault("ml_dtypes is missing, without which there is no bf16", "pip install ml-dtypes")
    no_bf16 = replace(H1, precisions=("fp32", "tf32"), faults=(fault,))
    assert "pip install ml-dtypes" in refused("gpu", "bf16", no_bf16)
    assert computing("gpu", "tf32", lambda: no_bf16).precision == "tf32"


@pytest.mark.parametrize("command", ["demo", "train", "transfer", "evaluate", "predict", "explain"])
def test_every_command_refuses_a_gpu_that_is_not_there(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "read_gpu", lambda at_most: NO_CUPY)
    more = {"evaluate": ["--run", "r"], "predict": ["--run", "r", "x.png"]}
    more["explain"] = more["predict"]
    line = the_error(capsys, [command, *more.get(command, []), "--device", "gpu"])
    assert "pip install cupy-cuda13x" in line
    assert list(tmp_path.iterdir()) == [], "nothing was written"


def test_precisions_are_checked_by_the_parser(capsys):
    assert "fp16" in the_error(capsys, ["demo", "--precision", "fp16"])
    explain = ["explain", "--run", "r", "x.png", "--device", "gpu", "--precision", "bf16"]
    assert "invalid choice: 'bf16'" in the_error(capsys, explain)


def test_memory_that_runs_out_is_one_line(monkeypatch, capsys):
    from examples.mura import commands

    def full(arguments):
        raise MemoryError("Out of memory allocating 512 bytes")

    monkeypatch.setattr(commands, "breakdown", full)
    assert "smaller --batch-size" in the_error(capsys, ["breakdown"])


# ---- where it is computed


def test_a_run_says_where_it_was_computed(mura, tmp_path, capsys):
    trained(capsys, mura, "run", "--no-baselines")
    config = json.loads((tmp_path / "run/config.json").read_text())
    assert (config["device"], config["precision"]) == ("cpu", "fp32")
    assert "gpu" not in config
    assert not {"device", "precision"} & set(config["settings"])
    assert json.loads((tmp_path / "run/metrics.json").read_text())["computed_on"] == "cpu, fp32"


def test_a_run_trained_on_a_gpu_goes_on_on_the_processor(mura, gpu, tmp_path, capsys):
    """And the reverse; its checkpoints hold the same names and types, whichever it was."""
    trained(capsys, mura, "cpu", "--no-baselines")
    trained(capsys, mura, "gpu", "--no-baselines", "--device", "gpu", "--precision", "bf16")
    config = json.loads((tmp_path / "gpu/config.json").read_text())
    assert config["device"] == "gpu"
    assert config["gpu"] == "Example H1"
    assert config["precision"] == "bf16"
    here, there = (load_arrays(tmp_path / run / "best.safetensors")[0] for run in ("cpu", "gpu"))
    assert {k: x.dtype for k, x in here.items()} == {k: x.dtype for k, x in there.items()}
    page = (tmp_path / "gpu/report.html").read_text()
    assert "Example H1" in page
    assert "Example H1, bf16" in page

    study = mura / "valid/XR_HAND/patient11186/study1_positive"
    assert says(capsys, ["predict", "--run", "gpu", study])[0] == 0
    status, err, _ = says(capsys, ["evaluate", "--run", "gpu", "--no-baselines"])
    assert status == 0, err
    metrics = json.loads((tmp_path / "gpu/metrics.json").read_text())
    assert metrics["computed_on"] == "cpu, fp32"
    for command in (["predict"], ["explain", "--out", "pictures"]):
        name, *more = command
        status, err, _ = says(capsys, [name, "--run", "cpu", study, *more, "--device", "gpu"])
        assert status == 0, err
        assert "computing on Example H1, fp32" in err
    assert len(list((tmp_path / "pictures").rglob("*.png"))) == 2

    for run, device in (("gpu", "cpu"), ("cpu", "gpu")):
        before = (tmp_path / run / "config.json").read_text()
        resume = ["train", "--run", run, "--resume", "--no-baselines", "--device", device]
        assert says(capsys, resume)[0] == 0
        config = json.loads((tmp_path / run / "config.json").read_text())
        wanted = {"gpu": "Example H1, fp32", "cpu": "cpu, fp32"}[device]
        assert config.pop("resumed") == {"after epoch 2": wanted}
        assert config == json.loads(before), "all else is as it was"
        again = (tmp_path / run / "config.json").read_text()
        assert says(capsys, resume)[0] == 0
        assert (tmp_path / run / "config.json").read_text() == again, "the same place, said once"


def test_an_epoch_on_each(mura, gpu, tmp_path, capsys):
    """An unfinished run's second half on the other: all that a checkpoint holds moves with it."""
    trained(capsys, mura, "whole", "--no-baselines")
    trained(capsys, mura, "other", "--no-baselines", "--epochs", "1", "--schedule", "constant")
    config = tmp_path / "other/config.json"
    values = json.loads(config.read_text())
    values["settings"]["epochs"] = 2
    config.write_text(json.dumps(values))
    status, err, _ = says(
        capsys, ["train", "--run", "other", "--resume", "--no-baselines", "--device", "gpu"]
    )
    assert status == 0, err
    rows = (tmp_path / "other/history.jsonl").read_text().splitlines()
    assert [json.loads(row)["epoch"] for row in rows] == [1, 2]
    assert json.loads(config.read_text())["resumed"] == {"after epoch 1": "Example H1, fp32"}


def test_transfer_on_a_gpu(gpu, tmp_path, monkeypatch, capsys):
    """Every method trains where it should: a NumPy array in between would raise."""
    monkeypatch.chdir(tmp_path)
    small = ["--side", "16", "--filters", "4", "8", "--hidden", "8", "--epochs", "1"]
    parts = ["--base-parts", "elbow,finger", "--target-parts", "hand"]
    status, err, _ = says(
        capsys,
        ["transfer", "--data", draw_mura(tmp_path), *parts, "--sizes", "8", "--repeats", "1",
         "--passes", "8", *small, "--device", "gpu", "--precision", "tf32"],
    )  # fmt: skip
    assert status == 0, err
    results = json.loads((tmp_path / "runs/transfer/transfer.json").read_text())
    assert {point["computed_on"] for point in results["points"]} == {"Example H1, tf32"}
    assert all(np.isfinite(point["auc"]) for point in results["points"])


def test_what_to_type_after_an_interruption(mura, gpu, monkeypatch, capsys):
    from examples.mura import commands

    def stopped(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "train_run", stopped)
    arguments = ["train", "--data", str(mura), "--run", "run", *SMALL, "--device", "gpu"]
    assert main(arguments) == 130
    assert "--run run --resume --device gpu --precision fp32" in capsys.readouterr().err
