"""The command line, as a user meets it: what it makes, and what it says about bad input."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from examples.mura.__main__ import main
from examples.mura.flags import COMMANDS
from tests.examples.small_mura import make_mura
from tinynet.backend import default_kernels
from tinynet.train.checkpoint import load_arrays

REPOSITORY = Path(__file__).parents[2]
SMALL = ["--side", "16", "--filters", "4", "8", "--hidden", "8", "--batch-size", "4"]
FIGURES = {"curves_loss", "confusion_image", "confusion_study", "roc", "examples"}


@pytest.fixture
def mura(tmp_path, monkeypatch):
    """A folder in MURA's layout, with the working directory beside it."""
    monkeypatch.chdir(tmp_path)
    return make_mura(tmp_path)


def says(capsys, arguments):
    """(exit status, standard error, standard output) of a command."""
    try:
        status = main([str(a) for a in arguments])
    except SystemExit as ended:  # argparse's way
        status = ended.code
    out, err = capsys.readouterr()
    return status, err, out


def the_error(capsys, arguments):
    """The one line that a failing command ends with."""
    status, err, _ = says(capsys, arguments)
    assert status in (1, 2)
    assert "Traceback" not in err
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    return errors[0]


def trained(capsys, mura, run, *more):
    status, err, out = says(
        capsys, ["train", "--data", mura, "--run", run, "--epochs", "2", *SMALL, *more]
    )
    assert status == 0, err
    return out


def test_train_leaves_a_whole_run_folder(mura, tmp_path, capsys):
    out = trained(capsys, mura, "run")
    run = tmp_path / "run"
    assert str(run / "report.html") in out
    assert "Not for clinical use" in out
    config = json.loads((run / "config.json").read_text())
    assert config["settings"]["side"] == 16
    assert config["synthetic"] is False
    rows = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2]
    metrics = json.loads((run / "metrics.json").read_text())
    assert {"kappa", "kappa_interval", "auc", "accuracy"} <= set(metrics["study"])
    assert set(metrics["parts"]) == {"ELBOW", "HAND"}
    assert set(metrics["baselines"]) == {"majority", "logistic_regression"}
    assert {figure.stem for figure in (run / "figures").glob("*.png")} >= FIGURES
    assert "not for clinical use" in (run / "report.html").read_text().lower()
    assert (run / "best.safetensors").exists()
    predictions = (run / "predictions.csv").read_text().splitlines()
    assert len(predictions) == 1 + metrics["image"]["n"] == 5


def test_evaluate_and_predict_use_the_trained_network(mura, tmp_path, capsys):
    trained(capsys, mura, "run", "--no-baselines")
    first = json.loads((tmp_path / "run/metrics.json").read_text())
    status, _, _ = says(capsys, ["evaluate", "--run", "run", "--rule", "max", "--no-baselines"])
    second = json.loads((tmp_path / "run/metrics.json").read_text())
    assert status == 0
    assert second["rule"] == "max"
    assert second["image"]["auc"] == first["image"]["auc"]
    study = mura / "valid/XR_HAND/patient11186/study1_positive"
    status, _, out = says(capsys, ["predict", "--run", "run", study, "--csv", "p.csv"])
    assert status == 0
    assert "not for clinical use" in out.lower()
    written = (tmp_path / "p.csv").read_text()
    assert "image1.png" in written
    assert "image2.png" in written
    evaluated = dict(
        line.split(",")[::2] for line in (tmp_path / "run/predictions.csv").read_text().splitlines()
    )
    for name in ("image1.png", "image2.png"):
        p = next(
            v for k, v in evaluated.items() if k.endswith(f"patient11186/study1_positive/{name}")
        )
        assert p in written


def test_an_unfinished_run_goes_on_and_ends_with_the_same_weights(mura, tmp_path, capsys):
    trained(capsys, mura, "whole", "--no-baselines")
    command = [sys.executable, "-m", "examples.mura", "train", "--data", str(mura), "--run", "cut"]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(
        [*command, "--epochs", "2", *SMALL, "--no-baselines"],
        env=environment, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        history = tmp_path / "cut/history.jsonl"
        deadline = time.monotonic() + 120
        while process.poll() is None and not history.exists() and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    # killed with an epoch done, or just too late: the weights must be the same in both cases
    status, err, _ = says(capsys, ["train", "--run", "cut", "--resume", "--no-baselines"])
    assert status == 0, err
    for name in ("last.safetensors", "best.safetensors"):
        whole, _ = load_arrays(tmp_path / "whole" / name)
        cut, _ = load_arrays(tmp_path / "cut" / name)
        assert set(whole) == set(cut)
        for key, array in whole.items():
            np.testing.assert_array_equal(array, cut[key], err_msg=key)


def test_demo_says_synthetic_everywhere(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    status, err, out = says(capsys, ["demo", "--patients", "24", "--epochs", "1", *SMALL])
    assert status == 0, err
    assert "synthetic" in out.lower()
    assert "done in" in out
    run = tmp_path / "runs/demo"
    for file in ("config.json", "metrics.json"):
        assert json.loads((run / file).read_text())["synthetic"] is True
    assert "synthetic" in (run / "predictions.csv").read_text()
    assert "synthetic" in (run / "report.html").read_text().lower()
    status, err, out = says(capsys, ["demo", "--patients", "24", "--epochs", "1", *SMALL])
    assert status == 0, err
    assert str(tmp_path / "runs/demo-2/report.html") in out, "the first run is kept"


def test_breakdown_counts_without_opening_an_image(mura, tmp_path, capsys):
    for file in mura.rglob("*.png"):
        file.write_bytes(b"")
    status, err, out = says(capsys, ["breakdown", "--data", mura])
    assert status == 0, err
    assert re.search(r"Training\D+11\D+6\D+4", out), "images, studies, patients"
    assert (tmp_path / "breakdown.png").stat().st_size > 0


# What each command says about each thing that can be wrong with the data.


def test_a_missing_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for command in ("train", "prepare", "breakdown"):
        message = the_error(capsys, [command, "--data", "nowhere"])
        assert "nowhere" in message


def test_a_half_copied_folder(mura, capsys):
    for file in (mura / "valid").rglob("*.png"):
        file.unlink()
    message = the_error(capsys, ["train", "--data", mura, *SMALL])
    assert "valid" in message


def test_a_row_without_its_file_and_how_to_go_on(mura, tmp_path, capsys):
    lost = mura / "train/XR_HAND/patient00004/study1_negative/image1.png"
    lost.unlink()
    for command in ("train", "prepare"):
        message = the_error(capsys, [command, "--data", mura, "--side", "16"])
        assert "patient00004/study1_negative/image1.png" in message
        assert "--skip-bad" in message
    status, err, out = says(capsys, ["prepare", "--data", mura, "--skip-bad", "--side", "16"])
    assert status == 0
    assert "patient00004" in err
    assert "14 images" in out


def test_a_truncated_image_and_how_to_go_on(mura, capsys):
    bad = mura / "train/XR_HAND/patient00003/study1_positive/image2.png"
    bad.write_bytes(bad.read_bytes()[:60])
    for command in ("train", "prepare"):
        message = the_error(capsys, [command, "--data", mura, "--side", "16"])
        assert "patient00003/study1_positive/image2.png" in message
        assert "--skip-bad" in message
    status, _, out = says(capsys, ["prepare", "--data", mura, "--skip-bad", "--side", "16"])
    assert status == 0
    assert "14 images" in out


def test_a_sidecar_and_a_colour_image_are_no_trouble(mura, capsys):
    study = mura / "train/XR_ELBOW/patient00001/study1_negative"
    (study / "._image2.png").write_bytes(b"\x00\x05\x16\x07")
    Image.new("RGB", (30, 40), (200, 30, 90)).save(study / "image3.png")
    status, err, out = says(capsys, ["prepare", "--data", mura, "--side", "16"])
    assert status == 0, err
    assert "15 images" in out


def test_a_label_that_contradicts_its_folder(mura, capsys):
    table = mura / "train_labeled_studies.csv"
    row = "patient00001/study1_negative/,"
    table.write_text(table.read_text().replace(f"{row}0", f"{row}1"))
    message = the_error(capsys, ["train", "--data", mura, *SMALL])
    assert "patient00001/study1_negative" in message


def test_a_run_that_is_there_already_is_kept(mura, tmp_path, capsys):
    trained(capsys, mura, "run", "--no-baselines")
    before = (tmp_path / "run/last.safetensors").read_bytes()
    message = the_error(capsys, ["train", "--data", mura, "--run", "run", *SMALL])
    assert "--resume" in message
    assert (tmp_path / "run/last.safetensors").read_bytes() == before


def test_a_checkpoint_of_another_model(mura, tmp_path, capsys):
    trained(capsys, mura, "run", "--no-baselines")
    config = tmp_path / "run/config.json"
    values = json.loads(config.read_text())
    values["settings"]["hidden"] = 5
    config.write_text(json.dumps(values))
    message = the_error(capsys, ["evaluate", "--run", "run"])
    assert "best.safetensors" in message
    assert "head" in message


def test_a_loss_that_is_not_finite(mura, tmp_path, capsys):
    message = the_error(
        capsys,
        ["train", "--data", mura, "--run", "run", "--learning-rate", "1e38", "--optimizer", "sgd",
         "--no-batch-norm", "--epochs", "3", "--schedule", "constant", *SMALL],
    )  # fmt: skip
    assert "loss" in message
    assert "learning rate" in message.replace("learning_rate", "learning rate")


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["train", "--sides", "3"], "--sides"),
        (["train", "--sid", "64"], "--sid"),
        (["train", "--side", "big"], "--side"),
        (["train", "--side", "3"], "--side is 3"),
        (["train", "--keep-prob", "0"], "--keep-prob is 0"),
        (["train", "--rotation", "90"], "--rotation is 90"),
        (["train", "--resume"], "--run"),
        (["evaluate", "--run", "nowhere"], "nowhere"),
        (["predict", "--run", "nowhere", "x.png"], "nowhere"),
        (["teach"], "teach"),
        ([], "COMMAND"),
    ],
)
def test_a_wrong_flag_is_one_line(arguments, wanted, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert wanted in the_error(capsys, arguments)
    assert list(tmp_path.iterdir()) == [], "nothing was written"


def test_an_environment_that_names_no_kernels_is_one_line(monkeypatch, capsys):
    default_kernels.cache_clear()
    monkeypatch.setenv("TINYNET_KERNELS", "quick")
    try:
        message = the_error(capsys, ["breakdown", "--data", "nowhere"])
    finally:
        default_kernels.cache_clear()
    assert "TINYNET_KERNELS is 'quick': unset it, or export one of reference" in message


def test_settings_of_a_resumed_run_cannot_change(mura, capsys):
    trained(capsys, mura, "run", "--no-baselines")
    message = the_error(capsys, ["train", "--run", "run", "--resume", "--hidden", "9"])
    assert "keeps the settings" in message


def test_a_full_disk(mura, monkeypatch, capsys):
    import errno

    from examples.mura import run as module

    def full(path, data):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(module, "write_whole", full)
    message = the_error(capsys, ["train", "--data", mura, "--run", "run", *SMALL])
    assert "full" in message
    assert "config.json" in message


def test_help_of_every_command(capsys):
    for command in COMMANDS:
        status, _, out = says(capsys, [command, "--help"])
        assert status == 0
        assert "Not for clinical use" in " ".join(out.split())


def test_a_command_leaves_signals_as_they_were(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGTERM)
    the_error(capsys, ["evaluate", "--run", "nowhere"])
    assert signal.getsignal(signal.SIGTERM) == before
