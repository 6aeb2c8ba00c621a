"""The example's first script: it learns, its kappa is that of its studies, its one argument."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from examples.mura import train_vgg
from examples.mura.phantom import generate
from tests.examples.small_mura import draw_spots

REPOSITORY = Path(__file__).parents[2]
SLOW = pytest.mark.slow


def kappas(printed):
    """name -> (studies, kappa), from the lines that are printed."""
    rows = [line.split() for line in printed.splitlines() if " kappa " in line]
    return {row[0]: (int(row[1]), float(row[4])) for row in rows}


@pytest.mark.parametrize(("epochs", "least"), [(1, -1), pytest.param(80, 0.7, marks=SLOW)])
def test_it_learns_to_find_a_bright_spot(epochs, least, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    kappa = train_vgg.main(draw_spots(tmp_path), side=20, epochs=epochs)
    out = capsys.readouterr().out
    found = kappas(out)
    assert {name: n for name, (n, _) in found.items()} == {
        "Elbow": 8, "Finger": 8, "Hand": 8, "All": 24,
    }  # fmt: skip
    assert found["All"][1] == pytest.approx(kappa, abs=5e-4)
    assert kappa >= least
    assert "real radiographs" in out
    assert "Not for clinical use." in out


def test_a_studys_probability_is_the_mean_over_its_views(mura, monkeypatch, capsys):
    """Of the two studies one is normal, with a view surely called abnormal, but not its mean."""
    p = np.array([0.9, 0.0, 0.3, 0.9])  # an elbow's two views, a hand's two views
    monkeypatch.setattr(train_vgg, "fit", lambda *args, **kwargs: [])
    monkeypatch.setattr(train_vgg, "predict", lambda *args: np.stack([1 - p, p], axis=1))
    assert train_vgg.main(mura, side=16) == 1
    assert kappas(capsys.readouterr().out) == {"Elbow": (1, 0), "Hand": (1, 0), "All": (2, 1)}


def test_a_missing_folder_is_one_line(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "examples.mura.train_vgg", "nowhere"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("error: no such folder: nowhere")
    assert len(done.stderr.splitlines()) == 1


@SLOW
def test_on_synthetic_radiographs_it_beats_chance(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    fewer = {"train_patients": 400, "valid_patients": 100, "side": 96, "progress": False}
    monkeypatch.setattr(train_vgg, "generate", partial(generate, **fewer))
    kappa = train_vgg.main(side=48, epochs=6)
    assert "synthetic radiographs" in capsys.readouterr().out
    assert 0.1 < kappa < 0.9
