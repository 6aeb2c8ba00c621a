"""--device and --precision: what is refused, in one line, and where things are computed."""

import json
from dataclasses import replace

import numpy as np
import pytest

from examples.mura import commands
from examples.mura import computing as module
from examples.mura.computing import Computing, computing
from examples.mura.errors import UserError
from tests.engine.gpu.fake_cupy import fake_cupy
from tests.examples.small_mura import SMALL, draw_spots
from tinynet.doctor import Advice, Device, Gpu
from tinynet.train.checkpoint import load_arrays

__all__ = ["fake_cupy"]

H1 = Gpu(
    cupy="14.2.0",
    driver="13.0",
    devices=(Device("Example H1", 80 * 10**9, 70 * 10**9, (9, 0)),),
    compiles=True,
    precisions=("fp32", "tf32", "bf16"),
)
T4 = replace(H1, devices=(Device("Example T4", 10**9, 10**9, (7, 5)),), precisions=("fp32",))
NO_CUPY = Gpu(note="no CuPy: with an NVIDIA GPU, pip install cupy-cuda13x or cupy-cuda12x")
OLD_DRIVER = "CuPy 14.2.0 finds no device: cupy-cuda13x needs a driver for CUDA 13"
OR_CPU = ", or compute with --device cpu"
TRAIN = ["--epochs", "2", "--no-baselines", *SMALL]


@pytest.fixture
def gpu(fake_cupy, monkeypatch):
    """A machine with a GPU, on the stand-in for CuPy."""
    monkeypatch.setattr(module, "read_gpu", lambda at_most: H1)


# ---- what is refused


def lacking(what, step, **facts):
    """A machine that lacks something, and what doctor says of it."""
    return replace(H1, faults=(Advice(what, step),), **facts)


@pytest.mark.parametrize(
    ("device", "precision", "gpu", "said"),
    [
        ("cpu", "tf32", H1, "--precision tf32 needs a GPU's tensor cores: add --device gpu, "
         "or leave --precision out"),
        ("gpu", "fp32", NO_CUPY, f"--device gpu: {NO_CUPY.note}{OR_CPU}"),
        ("gpu", "fp32", lacking("an old driver", "pip install cupy-cuda12x", devices=(),
                                note=OLD_DRIVER),
         f"--device gpu: {OLD_DRIVER}: pip install cupy-cuda12x{OR_CPU}"),
        ("gpu", "fp32", lacking("NVRTC is missing", "pip install nvrtc", compiles=False),
         f"--device gpu: NVRTC is missing: pip install nvrtc{OR_CPU}"),
        ("gpu", "bf16", T4, "--precision bf16: Example T4 has no such tensor cores (compute "
         "capability 7.5, want 8.0 or more): give --precision fp32"),
        ("gpu", "bf16", lacking("ml_dtypes is missing", "pip install ml-dtypes",
                                precisions=("fp32", "tf32")),
         "--precision bf16: ml_dtypes is missing: pip install ml-dtypes"),
    ],
)  # fmt: skip
def test_what_the_machine_lacks_is_one_line(device, precision, gpu, said):
    with pytest.raises(UserError) as caught:
        computing(device, precision, lambda: gpu)
    assert str(caught.value) == said


def test_what_the_machine_has_is_taken():
    assert computing("gpu", "fp32", lambda: T4) == Computing("gpu", "fp32", "Example T4")
    no_bf16 = lacking("ml_dtypes is missing", "pip install it", precisions=("fp32", "tf32"))
    assert computing("gpu", "tf32", lambda: no_bf16).precision == "tf32"


@pytest.mark.parametrize("command", ["demo", "train", "transfer", "evaluate", "predict", "explain"])
def test_every_command_refuses_a_gpu_that_is_not_there(command, tmp_path, monkeypatch, cli):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "read_gpu", lambda at_most: NO_CUPY)
    run = ["--run", "r", "x.png"]
    more = {"evaluate": run[:2], "predict": run, "explain": run}.get(command, [])
    assert "pip install cupy-cuda13x" in cli.error(command, *more, "--device", "gpu")
    assert list(tmp_path.iterdir()) == [], "nothing was written"


# ---- where it is computed


def config_of(run):
    return json.loads((run / "config.json").read_text())


@pytest.mark.slow
def test_a_run_trained_on_a_gpu_is_evaluated_on_the_processor(mura, gpu, tmp_path, cli):
    """And the reverse; its checkpoint holds the names and types of one trained on the other."""
    cli("train", "--data", mura, "--run", "cpu", *TRAIN)
    gpu_flags = ["--device", "gpu", "--precision", "bf16"]
    cli("train", "--data", mura, "--run", "gpu", *TRAIN, *gpu_flags)
    config = config_of(tmp_path / "gpu")
    assert [config[k] for k in ("device", "gpu", "precision")] == ["gpu", "Example H1", "bf16"]
    here, there = (load_arrays(tmp_path / run / "best.safetensors")[0] for run in ("cpu", "gpu"))
    assert {k: x.dtype for k, x in here.items()} == {k: x.dtype for k, x in there.items()}
    assert "Example H1, bf16" in (tmp_path / "gpu/report.html").read_text()
    cli("evaluate", "--run", "gpu", "--no-baselines")
    metrics = json.loads((tmp_path / "gpu/evaluations/mean-0.5/metrics.json").read_text())
    assert metrics["computed_on"] == "cpu, fp32"
    study = mura / "valid/XR_HAND/patient11186/study1_positive"
    for name, *more in (["predict"], ["explain", "--out", "pictures"]):
        cli(name, "--run", "cpu", study, *more, "--device", "gpu")
        assert "computing on Example H1, fp32" in cli.err
    assert len(list((tmp_path / "pictures").rglob("*.png"))) == 2


@pytest.mark.usefixtures("no_figures")
def test_an_epoch_on_each(mura, gpu, tmp_path, cli):
    """An unfinished run's second half on the other: all that a checkpoint holds moves with it."""
    flags = ["--epochs", "1", "--schedule", "constant"]
    cli("train", "--data", mura, "--run", "r", *TRAIN, *flags)
    values = config_of(tmp_path / "r")
    assert (values["device"], values["precision"], "gpu" in values) == ("cpu", "fp32", False)
    assert not {"device", "precision"} & set(values["settings"])
    values["settings"]["epochs"] = 2
    (tmp_path / "r/config.json").write_text(json.dumps(values))
    resume = ["train", "--run", "r", "--resume", "--no-baselines", "--device", "gpu"]
    cli(*resume)
    cli(*resume)  # done; the same place is noted once
    rows = (tmp_path / "r/history.jsonl").read_text().splitlines()
    assert [json.loads(row)["epoch"] for row in rows] == [1, 2]
    assert config_of(tmp_path / "r")["resumed"] == {"after epoch 1": "Example H1, fp32"}


def test_transfer_on_a_gpu(gpu, tmp_path, monkeypatch, cli):
    """Every method trains where it should: a NumPy array in between would raise."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("examples.mura.transfer_plot.plot", lambda results, path: path)
    flags = ["--base-parts", "elbow,finger", "--target-parts", "hand", "--sizes", "8"]
    flags += ["--repeats", "1", "--passes", "8", "--side", "16", "--filters", "4", "8"]
    flags += ["--hidden", "8", "--epochs", "1", "--device", "gpu", "--precision", "tf32"]
    cli("transfer", "--data", draw_spots(tmp_path), *flags)
    results = json.loads((tmp_path / "runs/transfer/transfer.json").read_text())
    assert {point["computed_on"] for point in results["points"]} == {"Example H1, tf32"}
    assert all(np.isfinite(point["auc"]) for point in results["points"])


def test_what_to_type_after_an_interruption(mura, gpu, monkeypatch, cli):
    def stopped(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "train_run", stopped)
    status, _ = cli.run("train", "--data", mura, "--run", "run", *SMALL, "--device", "gpu")
    assert status == 130
    assert "--run run --resume --device gpu --precision fp32" in cli.err
