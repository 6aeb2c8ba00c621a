"""The command line, as a user meets it: what it makes, and what it says about bad input."""

import errno
import io
import json
import os
import re
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from examples.mura.__main__ import main
from examples.mura.decode import SUFFIXES
from examples.mura.flags import COMMANDS
from examples.mura.run import load_model, open_run
from tests.examples.small_mura import SMALL
from tinynet.backend import default_kernels
from tinynet.layers import BatchNorm
from tinynet.train.checkpoint import CheckpointError

REPOSITORY = Path(__file__).parents[2]
FIGURES = {"curves_loss", "confusion_image", "confusion_study", "roc", "examples", "explained"}
TRAIN = ["--epochs", "2", *SMALL, "--no-baselines"]


def read_text(file):
    return Path(file).read_text(encoding="utf-8")


def read_json(file):
    return json.loads(read_text(file))


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_train_leaves_a_whole_run_folder(mura, tmp_path, cli):
    out = cli("train", "--data", mura, "--run", "run", "--epochs", "2", *SMALL)
    run = tmp_path / "run"
    assert str(run / "report.html") in out
    assert "Not for clinical use" in out
    config = read_json(run / "config.json")
    assert config["settings"]["side"] == 16
    assert config["synthetic"] is False
    assert config["not_for_clinical_use"] is True
    rows = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2]
    metrics = read_json(run / "metrics.json")
    assert {"kappa", "kappa_interval", "auc", "accuracy"} <= set(metrics["study"])
    assert set(metrics["parts"]) == {"ELBOW", "HAND"}
    assert set(metrics["baselines"]) == {"majority", "logistic_regression"}
    assert {figure.stem for figure in (run / "figures").glob("*.png")} >= FIGURES
    report = (run / "report.html").read_text()
    assert "not for clinical use" in report.lower()
    assert "what speaks for abnormal" in report
    assert (run / "best.safetensors").exists()
    predictions = (run / "predictions.csv").read_text().splitlines()
    assert len(predictions) == 1 + metrics["image"]["n"] == 5


@pytest.mark.usefixtures("no_figures")
def test_evaluate_and_predict_use_the_trained_network(mura, tmp_path, cli):
    cli("train", "--data", mura, "--run", "run", *TRAIN)
    first = read_json(tmp_path / "run/metrics.json")
    before = contents(tmp_path / "run")
    for again in ("", "-2"):
        cli("evaluate", "--run", "run", "--rule", "max", "--threshold", "0.25")
        second = read_json(tmp_path / f"run/evaluations/max-0.25{again}/metrics.json")
        assert (second["rule"], second["threshold"]) == ("max", 0.25)
        assert second["image"]["auc"] == first["image"]["auc"]
        assert second["baselines"] == {}  # as in training
    out = cli("evaluate", "--run", "run", "--out", "there", "--baselines")
    assert str(tmp_path / "there/report.html") in out
    assert set(read_json(tmp_path / "there/metrics.json")["baselines"]) > {"majority"}
    message = cli.error("evaluate", "--run", "run", "--out", "there")
    assert "there is not empty: name another folder with --out" in message
    after = contents(tmp_path / "run")
    assert {name: after[name] for name in before} == before, "nothing is replaced"
    study = "valid/XR_HAND/patient11186/study1_positive"
    out = cli("predict", "--run", "run", mura / study, "--csv", "p.csv")
    assert "not for clinical use" in out.lower()
    written = (tmp_path / "p.csv").read_text()
    lines = (tmp_path / "run/predictions.csv").read_text().splitlines()
    evaluated = {line.split(",")[0]: line.split(",")[2] for line in lines}
    for name in ("image1.png", "image2.png"):
        assert re.search(rf"{name},{evaluated[f'MURA-v1.1/{study}/{name}']},", written)


@pytest.mark.usefixtures("no_figures")
def test_several_runs_and_mirror_images_are_averaged(mura, tmp_path, cli):
    images = sorted((mura / "valid/XR_HAND").rglob("*.png"))

    def predicted(*flags):
        cli("predict", *flags, *images, "--csv", "p.csv")
        rows = (tmp_path / "p.csv").read_text().splitlines()[1:]
        return np.array([float(row.split(",")[1]) for row in rows])

    for seed in "01":
        cli("train", "--data", mura, "--run", f"run{seed}", *TRAIN, "--seed", seed)
    each = [predicted("--run", f"run{seed}") for seed in "01"]
    assert np.abs(each[0] - each[1]).max() > 1e-3
    both = ["--run", "run0", "--run", "run1"]
    np.testing.assert_allclose(predicted(*both), np.mean(each, axis=0), atol=2e-6)
    looks = [predicted("--run", "run0", "--tta")]
    for image in images:
        Image.open(image).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(image)
    mirrored = predicted("--run", "run0")
    np.testing.assert_allclose(looks[0], (each[0] + mirrored) / 2, atol=2e-6)
    cli("evaluate", *both, "--tta", "--out", "both", "--no-baselines")
    assert read_json(tmp_path / "both/metrics.json")["averaged"] == "run0, run1"
    cli("train", "--data", mura, "--run", "large", *TRAIN, "--side", "20", "--epochs", "1")
    message = cli.error("predict", "--run", "run0", "--run", "large", *images)
    assert "large was trained with side 20, run0 with 16" in message


@pytest.mark.usefixtures("no_figures")
def test_demo_says_synthetic_everywhere(tmp_path, monkeypatch, cli):
    monkeypatch.chdir(tmp_path)
    demo = ["demo", "--patients", "24", "--epochs", "1", *SMALL]
    out = cli(*demo)
    assert "synthetic" in out.lower()
    assert "done in" in out
    run = tmp_path / "runs/demo"
    for file in ("config.json", "metrics.json"):
        assert read_json(run / file)["synthetic"] is True
    assert "synthetic" in (run / "predictions.csv").read_text()
    assert "synthetic" in (run / "report.html").read_text().lower()
    assert str(tmp_path / "runs/demo-2/report.html") in cli(*demo), "the first run is kept"


def test_breakdown_counts_without_opening_an_image(mura, tmp_path, cli):
    for file in mura.rglob("*.png"):
        file.write_bytes(b"")
    out = cli("breakdown", "--data", mura)
    assert re.search(r"Training\D+11\D+6\D+4", out), "images, studies, patients"
    assert (tmp_path / "breakdown.png").stat().st_size > 0


# ---- what is said of bad data


@pytest.mark.parametrize("truncated", [False, True])
def test_a_bad_image_and_how_to_go_on(truncated, mura, cli):
    name = "patient00003/study1_positive/image2.png"
    file = mura / "train/XR_HAND" / name
    if truncated:
        file.write_bytes(file.read_bytes()[:60])
    else:
        file.unlink()
    study = mura / "train/XR_ELBOW/patient00001/study1_negative"  # with a colour image: no trouble
    Image.new("RGB", (30, 40), (200, 30, 90)).save(study / "image3.png")
    flags = ["--data", mura, "--side", "16"]
    for command in ("train", "prepare"):
        message = cli.error(command, *flags)
        assert name in message
        assert "--skip-bad" in message
    assert "14 images" in cli("prepare", *flags, "--skip-bad")
    assert name in cli.err


# ---- what is said of a run


@pytest.mark.usefixtures("no_figures")
def test_a_run_that_is_there_already_is_kept(mura, tmp_path, cli):
    cli("train", "--data", mura, "--run", "run", *TRAIN)
    before = (tmp_path / "run/last.safetensors").read_bytes()
    assert "--resume" in cli.error("train", "--data", mura, "--run", "run", *SMALL)
    cli("prepare", "--data", mura, "--side", "16", "--cache", "cache")
    for flags in (
        *(["--hidden", "9"], ["--epochs", "1"], ["--baselines"], ["--data", "nowhere"]),
        *(["--parts", "wrist"], ["--cache", "cache"], ["--batchnorm-momentum", "0.99"]),
    ):
        message = cli.error("train", "--run", "run", "--resume", *flags)
        assert f"keeps the settings it was started with: leave out {flags[0]}" in (
            message.replace("--no-", "--")
        )
    assert (tmp_path / "run/last.safetensors").read_bytes() == before
    message = cli.error("evaluate", "--run", "run", "--parts", "wrist")
    assert "no validation images of WRIST" in message
    assert "add --data" in cli.error("evaluate", "--run", "run", "--cache", "cache")
    config = tmp_path / "run/config.json"
    values = read_json(config)
    for damage, said in (
        ({"settings": values["settings"] | {"side": "16"}}, 'settings.side is "16", want a whole'),
        ({"settings": values["settings"] | {"rule": "least"}}, "--rule is least, want one of mean"),
        ({"settings": values["settings"] | {"keep_prob": 2}}, "--keep-prob is 2"),
        ({"data": 3}, "data is 3, want text"),
        ({"synthetic": None}, "synthetic is null, want true or false"),
        ({"resumed": [1]}, "resumed is [1], want names and values"),
    ):
        config.write_text(json.dumps(values | damage))
        for command in (["evaluate"], ["train", "--resume"], ["predict", "x.png"]):
            message = cli.error(*command, "--run", "run")
            assert "config.json" in message
            assert said in message
    values["settings"]["hidden"] = 5
    config.write_text(json.dumps(values))
    message = cli.error("evaluate", "--run", "run")  # a checkpoint of another model
    assert "best.safetensors" in message
    assert "head" in message


@pytest.mark.usefixtures("no_figures")
def test_a_finished_run_goes_on_for_more_epochs_with_its_settings(mura, tmp_path, cli):
    cli("train", "--data", mura, "--run", "run", *TRAIN, "--batchnorm-momentum", "0.5")
    assert "too few" in cli.err or "so few" in cli.err  # held-out images
    cli("train", "--data", mura, "--run", "run", "--resume", "--epochs", "3")
    config = read_json(tmp_path / "run/config.json")
    assert config["settings"]["epochs"] == 3
    assert config["settings"]["batchnorm_momentum"] == 0.5
    rows = (tmp_path / "run/history.jsonl").read_text().splitlines()
    assert [json.loads(row)["epoch"] for row in rows] == [1, 2, 3]
    assert read_json(tmp_path / "run/metrics.json")["baselines"] == {}
    assert len(config["command"].splitlines()) == 2
    norms = [x for x in load_model(open_run(tmp_path / "run")).named_layers().values()
             if isinstance(x, BatchNorm)]  # fmt: skip
    assert {norm.momentum for norm in norms} == {0.5}


def test_a_loss_that_is_not_finite(mura, cli):
    flags = ["--learning-rate", "1e38", "--optimizer", "sgd", "--no-batch-norm", "--epochs", "3"]
    message = cli.error("train", "--data", mura, *flags, "--schedule", "constant", *SMALL)
    assert "loss" in message
    assert "learning rate" in message.replace("learning_rate", "learning rate")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left", "run/config.json"), "run/config.json: the disk is"),
        (MemoryError("Out of memory allocating 512 bytes"), "with a smaller --batch-size"),
    ],
)
def test_what_runs_out_is_one_line(error, said, mura, monkeypatch, cli):
    def fail(path, data):
        raise error

    monkeypatch.setattr("examples.mura.run.write_whole", fail)
    assert said in cli.error("train", "--data", mura, "--run", "run", *SMALL)


# ---- what is said of flags


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["train", "--sides", "3"], "--sides"),
        (["train", "--sid", "64"], "--sid"),
        (["train", "--side", "big"], "--side"),
        (["train", "--side", "3"], "--side is 3"),
        (["train", "--keep-prob", "0"], "--keep-prob is 0"),
        (["train", "--rotation", "90"], "--rotation is 90"),
        (["train", "--parts", "knee"], "'KNEE' is not one of ELBOW"),
        (["demo", "--precision", "fp16"], "fp16"),
        (["explain", "--run", "r", "x.png", "--precision", "bf16"], "invalid choice: 'bf16'"),
        (["train", "--resume"], "--run"),
        (["train", "--workers", "0"], "--workers"),
        (["train", "--workers", "-1"], "--workers"),
        (["train", "--weight-decay", "inf"], "--weight-decay is inf"),
        (["train", "--side", "100000000"], "--side is 100000000, want 16 to 4096"),
        (["train", "--hidden", "100000000000"], "--hidden is 100000000000"),
        (["train", "--seed", "-1"], "--seed is -1"),
        (["train", "--filters", "0"], "--filters is (0,)"),
        (["train", "--batchnorm-momentum", "1"], "--batchnorm-momentum is 1"),
        (["breakdown", "--picture", "."], "--picture: '.' is a folder or empty"),
        (["breakdown", "--picture", ""], "--picture"),
        (["breakdown", "--picture", "b.txt"], "'b.txt' has to end in .png"),
        (["demo", "--data-seed", "-1"], "--data-seed"),
        (["evaluate", "--run", __file__], "is not a folder"),
        (["evaluate", "--run", "nowhere"], "nowhere"),
        (["predict", "--run", "nowhere", "x.png"], "nowhere"),
        (["predict", "--run", "r", "x.png", "--threshold", "2"], "2 is not a probability"),
        (["teach"], "teach"),
        ([], "COMMAND"),
    ],
)
def test_a_wrong_flag_is_one_line(arguments, wanted, tmp_path, monkeypatch, cli):
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGTERM)
    assert wanted in cli.error(*arguments)
    assert list(tmp_path.iterdir()) == [], "nothing was written"
    assert signal.getsignal(signal.SIGTERM) == before


def test_an_environment_that_names_no_kernels_is_one_line(monkeypatch, cli):
    default_kernels.cache_clear()
    monkeypatch.setenv("TINYNET_KERNELS", "quick")
    try:
        message = cli.error("breakdown", "--data", "nowhere")
    finally:
        default_kernels.cache_clear()
    assert "TINYNET_KERNELS is 'quick': unset it, or export one of reference" in message


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize(
    ("name", "status", "place"),
    [("SIGINT", 130, "new_network"), ("SIGTERM", 143, "fit"), ("SIGHUP", 129, "fit")],
)
def test_a_signal_is_one_line_and_the_run_goes_on(place, name, status, mura, monkeypatch, cli):
    """Before the first checkpoint, too."""
    if not hasattr(signal, name):
        pytest.skip(f"this system has no {name}")
    train = ["train", "--data", mura, "--run", "run", *TRAIN]
    module = "training" if place == "fit" else "commands"
    with monkeypatch.context() as patch:
        number = getattr(signal, name)
        patch.setattr(
            f"examples.mura.{module}.{place}", lambda *_, **__: signal.raise_signal(number)
        )
        assert cli.run(*train)[0] == status
    advice = "stopped; continue with: python -m examples.mura train --run run --resume"
    assert cli.err.splitlines()[-1] == (advice if place == "fit" else "interrupted")
    if place == "fit":
        assert "continue that run with --resume" in cli.error(*train)
        train = ["train", "--run", "run", "--resume"]
    assert "report: " in cli(*train)


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("removed", [False, True])
def test_a_run_that_cannot_be_written_says_how_to_go_on(removed, mura, tmp_path, monkeypatch, cli):
    def fail(*_, **__):
        if removed:
            shutil.rmtree(tmp_path / "run")
        raise CheckpointError("last.safetensors: cannot be written")

    train = ["train", "--data", mura, "--run", "run", *TRAIN]
    with monkeypatch.context() as patch:
        patch.setattr("examples.mura.training.fit", fail)
        message = cli.error(*train)
    advice = "; then continue with: python -m examples.mura train --run run --resume"
    assert message.endswith(advice) is not removed
    cli(*train if removed else ["train", "--run", "run", "--resume"])


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EPIPE])
def test_output_that_fails_loses_nothing(number, mura, tmp_path, monkeypatch, capsys):
    """A full disk is told; that a reader has gone is not."""

    class Failing(io.StringIO):
        def write(self, text):
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(sys, "stdout", Failing())
    status = main(["prepare", "--data", str(mura), "--cache", "cache", "--side", "16"])
    assert (tmp_path / "cache/manifest.json").exists()
    told = "error: standard output: the disk is full" in capsys.readouterr().err
    assert (status, told) == ((1, True) if number == errno.ENOSPC else (0, False))


def test_help_of_every_command(cli):
    for command in COMMANDS:
        assert "Not for clinical use" in " ".join(cli(command, "--help").split())


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
def test_every_kind_of_file_from_prepare_to_explain(mura, tmp_path, cli):
    """What can be read is used, what cannot is named, whichever command meets it."""
    study = mura / "train/XR_HAND/patient00004/study1_negative"
    ramp = np.tile(np.linspace(0, 1, 40), (30, 1))
    for name, pixels in {
        "bits12.png": (4095 * ramp).astype(np.uint16), "float.tif": ramp.astype(np.float32),
        "signed.tif": (2000 * ramp - 1000).astype(np.int32), "black.bmp": np.uint8(0 * ramp),
        "turned.jpg": (255 * ramp).astype(np.uint8), "image2.gif": (255 * ramp).astype(np.uint8),
    }.items():  # fmt: skip
        Image.fromarray(pixels).save(study / name)
    (study / "linked.png").symlink_to(study.parents[1] / "patient00003/study1_positive/image1.png")
    (study / "notes.txt").write_text("not an image")
    (study / "scan.dcm").write_bytes(b"DICM")
    shutil.copytree(study, tmp_path / "clinic")
    for file in mura.glob("*.csv"):
        file.unlink()
    out = cli("prepare", "--data", mura, "--side", "16", "--cache", "cache")
    assert "21 images" in out
    for said in (
        f"passed over 2 files that are not {', '.join(SUFFIXES)}: {study}/notes.txt, ",
        f"links to what is there already: {study}/linked.png -> ",
        f"{study}/black.bmp is nearly constant",
    ):
        assert said in cli.err
    (study / "damaged.tif").write_bytes(b"II*\0")
    assert "damaged.tif is not an image" in cli.error("prepare", "--data", mura, "--side", "16")
    cli("train", "--data", mura, "--skip-bad", "--run", "run", *TRAIN[:-1])
    assert "damaged.tif is not an image" in cli.err
    shutil.rmtree(mura / "train")
    shutil.rmtree(tmp_path / "data")
    cli("evaluate", "--run", "run", "--data", mura)
    assert "no training images: no baselines" in cli.err
    assert "has no folder train" in cli.error("train", "--data", mura)

    (tmp_path / "clinic/damaged.png").write_bytes(b"")
    for command, more in (("predict", ["--csv", "out.csv"]), ("explain", ["--out", "seen"])):
        status, out = cli.run(command, "--run", "run", "clinic", *more)
        assert status == 1
        assert out.count("0.") >= 8
        assert "warning: clinic/damaged.png is empty (0 bytes): left out" in cli.err
        assert cli.err.splitlines()[-1].startswith("error: left out: clinic/damaged.png")
    assert len(read_text("out.csv").splitlines()) == 9
    assert len(list(Path("seen").iterdir())) == 8
    shutil.copy("clinic/image1.png", "mine.csv")
    for table in ("clinic/image1.png", "mine.csv"):
        before = Path(table).read_bytes()
        cli.error("predict", "--run", "run", "clinic/image1.png", "--csv", table)
        assert Path(table).read_bytes() == before


@pytest.mark.usefixtures("no_figures")
def test_names_that_the_terminal_cannot_print(mura, tmp_path, cli, monkeypatch):
    cli("train", "--data", mura, "--run", "run", *TRAIN)
    name = os.fsdecode(b"caf\xe9 \xc3\xa9.png")
    shutil.copy(mura / "valid/XR_HAND/patient11186/study1_positive/image1.png", name)
    for encoding, printed in (("ascii", b"\\xe9"), ("utf-8", b"\xc3\xa9"), ("latin-1", b"\xe9")):
        terminal = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(terminal, encoding, write_through=True))
        status = main(["predict", "--run", "run", name, "--separate", "--csv", "out.csv"])
        assert status == 0
        assert b"caf\\udce9 " + printed in terminal.getvalue()
        assert "caf\\udce9 é.png" in read_text("out.csv")
