"""The transfer experiment: its methods, its plan, a run that goes on, its table and its plot."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from examples.mura import transfer as module
from examples.mura.dataset import read_dataset
from examples.mura.errors import UserError
from examples.mura.prepare import prepare
from examples.mura.settings import TRANSFER
from examples.mura.transfer import METHODS, Plan, Trial, check_plan, run_transfer, trained_base
from examples.mura.transfer_plot import as_table, plot, summary
from tests.examples.test_commands import says, the_error
from tinynet.train.transfer import frozen_parts

PLAN = Plan(("ELBOW", "FINGER"), ("HAND",), (6, 12), repeats=2, passes=24, least_epochs=2)
S = replace(TRANSFER, side=16, filters=(4, 8), hidden=8, batch_size=6, epochs=2)


def draw_mura(folder: Path) -> Path:
    """Three body parts; what is abnormal has a bright spot, in every part the same."""
    rng = np.random.default_rng(0)
    patient = 0
    for split, patients in (("train", 10), ("valid", 4)):
        for part in ("ELBOW", "FINGER", "HAND"):
            for label in ("negative", "positive"):
                for _ in range(patients):
                    patient += 1
                    place = folder / f"MURA-v1.1/{split}/XR_{part}/patient{patient:05d}"
                    place = place / f"study1_{label}"
                    place.mkdir(parents=True)
                    pixels = rng.integers(0, 120, (20, 20)).astype(np.uint8)
                    if label == "positive":
                        y, x = rng.integers(3, 14, 2)
                        pixels[y : y + 4, x : x + 4] = 255
                    Image.fromarray(pixels).save(place / "image1.png")
    return folder / "MURA-v1.1"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("transfer")
    data = read_dataset(draw_mura(folder))
    return prepare(data, folder / "cache", side=16, progress=False, workers=1)


@pytest.fixture(scope="module")
def done(prepared, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return folder, run_transfer(folder, PLAN, S, prepared)


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
    epochs = []
    train = module.train

    def counted(model, s, data, labels, n, how):
        epochs.append(n)
        return train(model, s, data, labels, n, how)

    monkeypatch.setattr(module, "train", counted)
    again = run_transfer(tmp_path, PLAN, S, prepared)
    assert len(epochs) == len(METHODS)  # one training set was left

    def figures(points):
        return [{k: v for k, v in p.items() if k != "seconds"} for p in points]

    assert figures(again["points"]) == figures(results["points"])


def test_a_run_of_another_plan_is_not_continued(done, prepared):
    folder, _ = done
    for plan, settings in (
        (replace(PLAN, sizes=(6,)), S),
        (PLAN, replace(S, hidden=9)),
    ):
        with pytest.raises(UserError, match=r"transfer\.json was made with other .* --run"):
            run_transfer(folder, plan, settings, prepared)


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
        check_plan(plan, prepared)


def test_what_each_method_trains(done, prepared, tmp_path):
    base = trained_base(done[0], PLAN, S, prepared)
    start = {name: x.copy() for name, x in base.state().items()}
    trial = Trial(tmp_path, PLAN, S, prepared, base, 12)

    def base_is_carried(model):
        return all(np.array_equal(x, start[f"base.{n}"]) for n, x in model.base.state().items())

    carried = trial.with_base(base)
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


def test_a_larger_training_set_holds_the_smaller_one(done, prepared, tmp_path):
    base = trained_base(done[0], PLAN, S, prepared)
    small, large = (Trial(tmp_path, PLAN, S, prepared, base, n).rows for n in (6, 12))
    other = Trial(tmp_path, PLAN, replace(S, seed=1), prepared, base, 6).rows
    assert set(small) < set(large)
    assert set(other) != set(small)
    images = [prepared.images[row] for row in large]
    assert {(i.split, i.part) for i in images} == {("train", "HAND")}


def test_every_method_has_its_passes():
    plan = Plan()
    assert [plan.epochs(n) for n in (50, 200, 1000)] == [120, 30, 12]
    assert [plan.more_epochs(n) for n in (50, 200, 1000)] == [60, 15, 6]


def test_the_table_has_mean_lowest_and_highest(done):
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


def test_the_plot(done, tmp_path):
    _, results = done
    with Image.open(plot(results, tmp_path / "new" / "plot.png")) as picture:
        assert picture.format == "PNG"
        assert picture.width > picture.height > 300
        assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 5


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data = draw_mura(tmp_path)
    flags = ["transfer", "--data", data, "--base-parts", "elbow,finger", "--target-parts", "hand"]
    flags += ["--side", "16", "--filters", "4", "8", "--hidden", "8", "--epochs", "1"]
    flags += ["--repeats", "1", "--passes", "8", "--figure", "figures/transfer.png"]
    status, err, out = says(capsys, [*flags, "--sizes", "6"])
    assert status == 0, err
    assert "Not for clinical use" in out
    assert "carried base, frozen; linear probe trained" in out
    for file in ("figures/transfer.png", "runs/transfer/transfer.json"):
        assert (tmp_path / file).exists()
    assert "want 600" in the_error(capsys, [*flags, "--sizes", "600", "--run", "other"])
    assert not (tmp_path / "other").exists()
    assert "--run" in the_error(capsys, [*flags, "--sizes", "7"])


def test_what_the_page_links_to_is_there():
    page = Path(__file__).parents[2] / "docs" / "transfer.md"
    links = re.findall(r"\]\(([\w./]+)\)", page.read_text(encoding="utf-8"))
    assert "figures/transfer.png" in links
    assert [link for link in links if not (page.parent / link).exists()] == []
