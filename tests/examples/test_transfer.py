"""The transfer experiment: its methods, its plan, a run that goes on, its table and its plot."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from examples.mura.dataset import read_dataset
from examples.mura.errors import UserError
from examples.mura.prepare import prepare
from examples.mura.settings import TRANSFER
from examples.mura.transfer import METHODS, Experiment, Plan, Trial
from examples.mura.transfer_plot import as_table, plot, summary
from tests.examples.small_mura import draw_spots
from tinynet.train.transfer import frozen_parts

PLAN = Plan(("ELBOW", "FINGER"), ("HAND",), (6, 12), repeats=2, passes=24, least_epochs=2)
S = replace(TRANSFER, side=16, filters=(4, 8), hidden=8, batch_size=6, epochs=2)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("transfer")
    data = read_dataset(draw_spots(folder))
    return prepare(data, folder / "cache", side=16, progress=False, workers=1)


@pytest.fixture(scope="module")
def done(prepared, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return folder, Experiment(folder, PLAN, S, prepared).run()


def test_every_method_is_measured_at_every_size_in_every_repeat(done):
    folder, results = done
    keys = [(p["method"], p["size"], p["seed"]) for p in results["points"]]
    assert sorted(keys) == sorted((m, n, r) for m in METHODS for n in (6, 12) for r in (0, 1))
    assert all(0 <= p["auc"] <= 1 and -1 <= p["kappa"] <= 1 for p in results["points"])
    assert {p["images"] for p in results["points"]} == {8}
    assert results["base"]["images"] == 16
    assert results["as_it_is"]["images"] == 8
    assert json.loads((folder / "transfer.json").read_text()) == results
    assert results["synthetic"] is False
    repeats = [p["auc"] for p in results["points"] if p["method"] == "scratch"]
    assert len(set(repeats)) > 1  # other images and other weights


def test_a_run_that_was_stopped_goes_on(done, prepared, tmp_path, monkeypatch):
    """The base is not trained again, and what was left out comes out the same."""
    folder, results = done
    for file in folder.glob("*.*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    cut = results | {"points": results["points"][: 3 * len(METHODS)]}
    (tmp_path / "transfer.json").write_text(json.dumps(cut))
    trained, train = [], Experiment.train
    monkeypatch.setattr(Experiment, "train", lambda *a: (trained.append(a), train(*a)))
    again = Experiment(tmp_path, PLAN, S, prepared).run()
    assert len(trained) == len(METHODS)  # one training set was left

    def figures(points):
        return [{k: v for k, v in p.items() if k != "seconds"} for p in points]

    assert figures(again["points"]) == figures(results["points"])
    for plan, settings in ((replace(PLAN, sizes=(6,)), S), (PLAN, replace(S, hidden=9))):
        with pytest.raises(UserError, match=r"transfer\.json was made with other .* --run"):
            Experiment(tmp_path, plan, settings, prepared).run()
    for damage, said in (({"points": 3}, "points is 3, want a list"), ({"plan": None}, "plan is")):
        (tmp_path / "transfer.json").write_text(json.dumps(results | damage))
        with pytest.raises(UserError, match=rf"transfer\.json cannot be read \({said}"):
            Experiment(tmp_path, PLAN, S, prepared).run()


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        (replace(PLAN, target_parts=("HAND", "ELBOW")), "ELBOW is among the base parts and"),
        (replace(PLAN, sizes=(6, 21)), "HAND have 20 training images, want 21"),
        (replace(PLAN, sizes=(1,)), "want sizes from 2"),
        (replace(PLAN, repeats=0), "0 repeats"),
        (replace(PLAN, target_parts=("WRIST",)), "WRIST have no normal or no abnormal images"),
    ],
)
def test_a_plan_that_the_images_do_not_allow(plan, said, prepared):
    with pytest.raises(UserError, match=said):
        Experiment(Path(), plan, S, prepared).check()


def test_what_each_method_trains(done, prepared, tmp_path):
    experiment = Experiment(done[0], PLAN, S, prepared)
    base = experiment.trained_base()
    start = {name: x.copy() for name, x in base.state().items()}
    trial, small = (Trial(replace(experiment, folder=tmp_path), base, n, 0) for n in (12, 6))
    assert set(small.images.rows) < set(trial.images.rows)
    assert {(i.split, i.part) for i in trial.images.images} == {("train", "HAND")}

    def base_is_carried(model):
        return all(np.array_equal(x, start[f"base.{n}"]) for n, x in model.base.state().items())

    carried = trial.with_base()
    assert base_is_carried(carried)
    assert not np.array_equal(carried.state()["head.1.weight"], start["head.1.weight"])
    trial.head_trained(carried)
    assert base_is_carried(carried)
    assert frozen_parts(carried)[0].whole
    trial.fine_tuned(carried)
    assert not base_is_carried(carried)
    moved = carried.base.buffers()
    assert all(np.array_equal(x, start[f"base.{name}"]) for name, x in moved.items())
    probe = trial.head_trained(trial.probe())
    assert base_is_carried(probe)
    assert [p.shape for p in probe.head.parameters().values()] == [(4 * 4 * 8, 2), (2,)]
    assert all(np.array_equal(x, start[name]) for name, x in base.state().items())


def test_the_table_and_the_plot(done, tmp_path):
    _, results = done
    rows = summary(results)
    assert [(row["size"], row["method"]) for row in rows] == [
        (n, m) for n in (6, 12) for m in METHODS
    ]
    scratch = [p["auc"] for p in results["points"] if (p["method"], p["size"]) == ("scratch", 6)]
    assert rows[0]["auc"] == {
        "mean": round(sum(scratch) / 2, 4),
        "lowest": round(min(scratch), 4),
        "highest": round(max(scratch), 4),
    }
    text = as_table(results)
    assert len(text.splitlines()) == 2 + len(rows)
    assert f"{results['as_it_is']['auc']:.3f}" in text.splitlines()[1]
    assert f"({min(scratch):.3f} to {max(scratch):.3f})" in text
    with Image.open(plot(results, tmp_path / "new" / "plot.png")) as picture:
        assert picture.format == "PNG"
        assert picture.width > picture.height > 300
        assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 5


def test_the_command(tmp_path, monkeypatch, cli):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("examples.mura.transfer_plot.plot", lambda results, path: path)
    flags = ["transfer", "--data", draw_spots(tmp_path), "--figure", "figures/transfer.png"]
    flags += ["--base-parts", "elbow,finger", "--target-parts", "hand", "--side", "16"]
    flags += ["--filters", "4", "8", "--hidden", "8", "--epochs", "1", "--repeats", "1"]
    out = cli(*flags, "--passes", "8", "--sizes", "6")
    assert "Not for clinical use" in out
    assert "carried base, frozen; linear probe trained" in out
    assert "plot: figures/transfer.png" in out
    assert (tmp_path / "runs/transfer/transfer.json").exists()
    assert "want 600" in cli.error(*flags, "--sizes", "600", "--run", "other")
    assert not (tmp_path / "other").exists()
    assert "--run" in cli.error(*flags, "--sizes", "7")
