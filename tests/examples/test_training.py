"""Training in one part or two, from given weights, on images or on features: the run's folder."""

import json
import re
import signal
from dataclasses import replace
from inspect import signature

import numpy as np
import pytest

from examples.mura import training
from examples.mura.model import build_model
from examples.mura.run import open_run
from examples.mura.settings import Settings, check
from tests.examples.small_mura import SMALL
from tinynet.interop import save_weights
from tinynet.interop.convert import slots
from tinynet.interop.names import names_of
from tinynet.models import resnet50, vgg_like
from tinynet.models.architecture import ARCHITECTURES
from tinynet.train.checkpoint import load_arrays, save_arrays
from tinynet.train.transfer import frozen_parts

FROZEN = ["--freeze", "base", "--cache-features", "--unfreeze-after", "2", "--fine-tune-rate", 1e-3]
TINY = ["--model", "resnet50", "--network", "width=0.0625", "--side", "32"]
NARROW = ["--network", "width=0.0625"]
pytestmark = pytest.mark.usefixtures("no_figures")


@pytest.fixture
def train(mura, cli):
    """Train on the small folder; returns standard error."""

    def run(folder, *flags, data=True):
        where = ["--data", mura] if data else []
        cli("train", "--no-baselines", "--batch-size", "4", "--run", folder, *where, *flags)
        return cli.err

    return run


def weights(run, name="last"):
    arrays, _ = load_arrays(run / f"{name}.safetensors")
    return {k.removeprefix("model/"): x for k, x in arrays.items() if k.startswith("model/")}


def torch_file(file):
    """A file as of torchvision's resnet50, with few filters and random numbers."""
    rng = np.random.default_rng(0)
    model = resnet50(1000, (32, 32, 3), width=0.0625, rng=rng)
    arrays = {
        slot.name: rng.normal(slot.name.endswith("var"), 0.1, slot.there).astype(np.float32)
        for slot in slots(model, names_of("resnet50", "torch"), (32, 32, 3)).values()
    }
    save_arrays(file, arrays)
    return arrays


def own_file(file, **settings):
    rng = np.random.default_rng(3)
    model = vgg_like(5, (16, 16, 1), (4, 8), 8, keep_prob=0.5, rng=rng, **settings)
    save_weights(model, file)
    return model


def test_head_first_on_features_and_then_all_of_it_is_one_run(tmp_path, train):
    err = train("a", "--epochs", "4", *SMALL, *FROZEN)
    run = tmp_path / "a"
    rows = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    rates = [row["learning_rate"] for row in rows]
    assert rates[0] == 3e-3  # each part has its own cosine
    assert rates[2] == 1e-3
    assert rates[1] < rates[0]
    assert rates[3] < rates[2]
    assert "the base keeps its random weights" in err
    assert len(re.findall(r"features of \d+ examples: computed", err)) == 2
    settings = json.loads((run / "config.json").read_text())["settings"]
    assert settings["cache_features"] is True
    assert (run / "report.html").exists()


@pytest.mark.parametrize("frozen", ["base", "statistics"])
def test_what_is_frozen_stays_as_it_is(frozen, tmp_path, train):
    train("a", "--epochs", "1", *SMALL, "--freeze", frozen)
    start = training.new_network(open_run(tmp_path / "a").settings).state()
    end = weights(tmp_path / "a")
    assert start.keys() == end.keys()
    for name, x in start.items():
        stays = name.startswith("base.") if frozen == "base" else "running" in name
        assert np.array_equal(x, end[name]) == stays, name


@pytest.mark.parametrize("stop_after", [1, 3])
def test_a_run_of_two_parts_goes_on_where_it_stopped(
    stop_after, mura, tmp_path, cli, train, monkeypatch
):
    flags = ["--epochs", "4", *SMALL, *FROZEN, "--unfreeze-from", "base.7"]
    train("whole", *flags)
    fit = training.fit

    def stopped(*args, epochs, **kwargs):
        rows = fit(*args, epochs=min(epochs, stop_after), **kwargs)
        if epochs > stop_after:
            raise KeyboardInterrupt
        return rows

    with monkeypatch.context() as patch:
        patch.setattr(training, "fit", stopped)
        status, _ = cli.run("train", "--no-baselines", "--data", mura, "--run", "cut", *flags)
    assert status == 130
    assert "--resume" in cli.err
    train("cut", "--resume", data=False)
    for name in ("last", "best"):
        whole, cut = weights(tmp_path / "whole", name), weights(tmp_path / "cut", name)
        for key, x in whole.items():
            np.testing.assert_array_equal(x, cut[key], err_msg=f"{name} {key}")


def test_the_base_of_another_run(mura, tmp_path, cli, train):
    train("first", "--epochs", "1", *SMALL)
    flags = ["--hidden", "5", "--weights", "first", "--freeze", "base"]
    train("second", "--epochs", "1", *SMALL, *flags)
    first, second = weights(tmp_path / "first", "best"), weights(tmp_path / "second", "best")
    for name, x in first.items():
        same = x.shape == second[name].shape and np.array_equal(x, second[name])
        assert same == name.startswith("base."), name
    config = json.loads((tmp_path / "second/config.json").read_text())
    assert len(config["weights_sha256"]) == 64

    message = cli.error("train", *SMALL, "--weights", "first", "--no-batch-norm")
    assert "batch_norm True, not False" in message
    assert "give --model vgg_like" in cli.error("train", *TINY, "--weights", "first")
    message = cli.error("train", *SMALL, "--weights", "first/best.safetensors")
    assert "give the run's folder, first" in message


def test_weights_of_torch_make_a_network_of_three_channels(mura, tmp_path, cli, train):
    arrays = torch_file(tmp_path / "w.safetensors")
    flags = ["--weights", "w.safetensors", "--freeze", "base", "--epochs", "1"]
    assert "torchvision resnet50" in train("r", *TINY, *flags)
    settings = json.loads((tmp_path / "r/config.json").read_text())["settings"]
    assert (settings["channels"], settings["preprocessing"]) == (3, "torch")
    assert "epsilon=1e-05" in settings["network"]
    end = weights(tmp_path / "r", "best")
    ours = arrays["conv1.weight"].transpose(2, 3, 1, 0)
    assert any(x.shape == ours.shape and np.array_equal(x, ours) for x in end.values())
    (tmp_path / "w.safetensors").unlink()  # evaluating needs the run alone
    cli("evaluate", "--run", "r", "--no-baselines")
    image = "patient11186/study1_positive/image1.png"
    out = cli("predict", "--run", "r", mura / "valid/XR_HAND" / image)
    rows = (tmp_path / "r/predictions.csv").read_text().splitlines()
    probability = next(row.split(",")[2] for row in rows if image in row)
    assert f"{float(probability):.3f}" in out


def test_weights_of_tinynet(mura, tmp_path, train):
    model = own_file(tmp_path / "own.safetensors", batch_norm=True)
    train("r", *SMALL, "--weights", "own.safetensors", "--freeze", "base", "--epochs", "1")
    end = weights(tmp_path / "r")
    assert all(np.array_equal(end[f"base.{n}"], x) for n, x in model.base.state().items())


def test_a_run_that_was_stopped_before_its_first_checkpoint(
    mura, tmp_path, train, cli, monkeypatch
):
    """It begins with the weights that it was started with, or not at all."""
    model = own_file(tmp_path / "own.safetensors", batch_norm=True)
    kept = (tmp_path / "own.safetensors").read_bytes()
    flags = ["--weights", "own.safetensors", "--freeze", "base", "--epochs", "1", *SMALL]
    with monkeypatch.context() as patch:
        patch.setattr(training, "fit", lambda *_, **__: signal.raise_signal(signal.SIGINT))
        assert cli.run("train", "--data", mura, "--run", "r", *flags)[0] == 130
    resume = ["train", "--run", "r", "--resume"]
    save_arrays("own.safetensors", {"other": np.zeros(3)})
    assert "own.safetensors has changed" in cli.error(*resume)
    (tmp_path / "own.safetensors").write_bytes(kept)
    cli(*resume)
    end = weights(tmp_path / "r")
    assert all(np.array_equal(end[f"base.{n}"], x) for n, x in model.base.state().items())


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_can_be_built_from_flags(name):
    """Greyscale and colour, two classes."""
    small = ("width=0.03125",) if "width" in signature(ARCHITECTURES[name]).parameters else ()
    s = replace(Settings(), model=name, network=small, side=96, filters=(4, 8), hidden=4)
    check(s)
    for channels in (1, 3):
        model = build_model(replace(s, channels=channels))
        assert model.architecture.settings["input_shape"] == (96, 96, channels)
        assert model.output_shape((96, 96, channels)) == (2,)
    model.base.freeze()
    assert frozen_parts(model)[0].whole


BASE = ["--freeze", "base"]
ERRORS = [  # flags, what their error says
    (["--model", "resnet5"], "--model is 'resnet5', want one of alexnet"),
    (["--model", "resnet50", "--filters", "3"], "--filters is a flag of vgg_like"),
    (["--model", "resnet50", "--network", "widht=2"], "want a setting of resnet50: stride_in"),
    (["--model", "resnet50", "--network", "width"], "want NAME=VALUE"),
    (["--model", "resnet50", "--network", "width=wide"], "--model resnet50 cannot be built"),
    (["--network", "input_shape=3"], "follows from the flags"),
    (["--model", "inception_v4", *NARROW, "--side", "60"], "smallest square that works is 75 × 75"),
    (["--unfreeze-after", "2"], "0 without --freeze base"),
    ([*BASE, "--unfreeze-after", "10"], "less than the 10 --epochs"),
    ([*BASE, "--unfreeze-after", "2", "--patience", "1"], "--patience"),
    (["--cache-features"], "only with --freeze base"),
    ([*BASE, "--unfreeze-from", "base.90"], "no layer 'base.90'"),
    ([*BASE, "--model", "googlenet", *NARROW, "--cache-features"], "auxiliary=False"),
    (["--preprocessing", "caffe"], "want it with --channels 3"),
    (["--weights", "nowhere.pth"], "nowhere.pth: there is no such file"),
    (["--weights", "w.zip"], "ends in '.zip'"),
    (["--weights", "x.pth.tar"], "x.pth.tar: torch has no network like vgg_like: give a run's"),
    ([*SMALL, "--weights", "w.safetensors"], "vgg_like"),
    (["--model", "resnet101", *NARROW, "--weights", "w.safetensors"], "missing"),
    ([*SMALL, "--weights", "o.safetensors"], "batch_norm=False"),
    ([*TINY, "--weights", "o.safetensors"], "weights of vgg_like"),
]


def test_what_does_not_go_together_is_one_line_and_writes_nothing(tmp_path, monkeypatch, cli):
    monkeypatch.chdir(tmp_path)
    torch_file(tmp_path / "w.safetensors")
    own_file(tmp_path / "o.safetensors", batch_norm=False)
    for name in ("w.zip", "x.pth.tar"):
        (tmp_path / name).write_bytes(b"PK")
    before = sorted(path.name for path in tmp_path.iterdir())
    for flags, said in ERRORS:
        assert said in cli.error("train", *flags), flags
    assert sorted(path.name for path in tmp_path.iterdir()) == before
