"""The synthetic radiographs: layout, determinism, proportions, and no give-away of the label."""

import csv
import importlib
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from examples.mura.dataset import read_dataset
from examples.mura.errors import UserError
from examples.mura.phantom import generate
from examples.mura.phantom.findings import PROPORTIONS, draw_findings
from examples.mura.phantom.generate import DONE, NOTICE, ROOT, TRUTH
from examples.mura.phantom.solids import Blob, Camera, Rod, Tube, profile
from examples.mura.phantom.studies import (
    BUILD,
    STUDIES,
    VIEWS,
    Study,
    draw_studies,
    frame,
    patient_body,
    take_study,
)
from tinynet.metrics import auc

TRAIN, VALID, SIDE = 26, 9, 64
SMALL = {"train_patients": 8, "valid_patients": 2, "side": 48, "workers": 1, "progress": False}
FEW = SMALL | {"train_patients": 3, "valid_patients": 1}
FRONT = frame(0.0, 0.0, False)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return generate(
        tmp_path_factory.mktemp("phantom"), train_patients=TRAIN, valid_patients=VALID, side=SIDE,
        workers=1, progress=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    return generate(tmp_path_factory.mktemp("few"), **FEW)


def rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def contents(root):
    files = [path for path in root.rglob("*") if path.is_file()]
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def study(part, findings, patient, views=1):
    return Study(part, 1, findings, views, (5, patient, 0, 1))


def first_view(part, findings, patient, side=64):
    return take_study(study(part, findings, patient), patient_body(5, patient), side)[0].pixels


# ---- the folder


def test_layout_is_muras(made):
    data = read_dataset(made)  # checks CSVs, folders, files and labels against each other
    assert data.synthetic
    assert data.warnings == []
    for split, count in (("train", TRAIN), ("valid", VALID)):
        assert len({image.patient for image in data.split(split)}) == count
    views = {}
    for image in data.images:
        views.setdefault(image.study_key, []).append(image.name)
        assert len(image.patient) == len("patient00001")
    for names in views.values():
        assert 1 <= len(names) <= 4
        assert names == [f"image{i}.png" for i in range(1, len(names) + 1)]
    text = (made / NOTICE).read_text(encoding="utf-8")
    assert "SYNTHETIC" in text
    assert "Not for clinical use" in text
    assert json.loads(text.splitlines()[-1].removeprefix("Settings: "))["train_patients"] == TRAIN
    shapes = set()
    for image in data.images[:40]:
        with Image.open(data.file(image)) as picture:
            assert picture.mode == "L"
            assert max(picture.size) == SIDE
            shapes.add(picture.size)
    assert len(shapes) > 5


def test_truth_names_what_each_abnormal_picture_holds(made):
    header, *truth = rows(made / TRUTH)
    assert header == ["path", "part", "label", "view", "findings", "visible"]
    listed = [r[0] for s in ("train", "valid") for r in rows(made / f"{s}_image_paths.csv")]
    assert {row[0] for row in truth} == set(listed)
    for path, _, label, _, findings, visible in truth:
        assert ("_positive/" in path) == (label == "1") == bool(findings)
        assert set(findings.split("+")) <= {*PROPORTIONS, ""}
        assert len(findings.split("+")) == len(visible.split("+"))


# ---- the same pictures again


def test_two_processes_write_the_same_bytes_as_one_and_another_seed_others(tmp_path):
    one, two, other = (
        contents(generate(tmp_path / str(k), **SMALL | {"workers": workers, "seed": seed}))
        for k, (workers, seed) in enumerate([(1, 3), (2, 3), (1, 4)])
    )
    assert one == two
    assert not set(one.values()) & {x for name, x in other.items() if name.endswith(".png")}


def test_an_interrupted_run_is_finished_not_begun_again(tmp_path, monkeypatch):
    module = importlib.import_module("examples.mura.phantom.generate")
    wanted = contents(generate(tmp_path / "whole", **SMALL))
    real, drawn = module.render_patient, []

    def stops_after_5(root, settings, patient):
        if len(drawn) == 5:
            raise KeyboardInterrupt
        drawn.append(patient)
        return real(root, settings, patient)

    monkeypatch.setattr(module, "render_patient", stops_after_5)
    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path / "cut", **SMALL)
    done = tmp_path / "cut" / ROOT / DONE
    with done.open("a", encoding="utf-8") as file:
        file.write('[6, [{"path": "torn')  # a line that the interruption cut short
    assert len(done.read_text(encoding="utf-8").splitlines()) - 1 == 5

    drawn.clear()
    monkeypatch.setattr(module, "render_patient", lambda *a: (drawn.append(a[2]), real(*a))[1])
    root = generate(tmp_path / "cut", **SMALL)
    assert [number for _, number in drawn] == [6, 7, 8, 9, 10]
    assert contents(root) == wanted


def cut(file):
    file.write_bytes(file.read_bytes()[:-40])


def empty(file):
    file.write_bytes(b"")


def zeros(file):
    file.write_bytes(bytes(file.stat().st_size))


@pytest.mark.parametrize("damage", [cut, empty, zeros, Path.unlink])
def test_what_a_power_cut_has_damaged_is_made_again(damage, few, tmp_path):
    root = shutil.copytree(few, tmp_path / ROOT)
    for picture in sorted(root.rglob("*.png"))[::3]:
        damage(picture)
    for name in (TRUTH, "train_image_paths.csv", "valid_labeled_studies.csv"):
        damage(root / name)
    if damage is not Path.unlink:
        damage(root / NOTICE)
    (root / DONE).write_text('[1, [{"path": "torn')
    assert contents(generate(tmp_path, **FEW)) == contents(few)


def test_only_damaged_patients_are_drawn_again(few, tmp_path, monkeypatch):
    module = importlib.import_module("examples.mura.phantom.generate")
    real, drawn = module.render_patient, []
    monkeypatch.setattr(module, "render_patient", lambda *a: (drawn.append(a[2]), real(*a))[1])
    root = shutil.copytree(few, tmp_path / ROOT)
    edited = root / "train_labeled_studies.csv"
    edited.write_text(edited.read_text().replace(",1", ",0"))  # somebody's experiment
    labels = edited.read_text()
    generate(tmp_path, **FEW)
    assert drawn == []
    cut(next((root / "train").rglob("patient00002/*/image1.png")))
    generate(tmp_path, **FEW)
    assert drawn == [("train", 2)]
    assert edited.read_text() == labels


def test_a_finished_set_is_left_alone(made):
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*")}
    sizes = {"train_patients": TRAIN, "valid_patients": VALID, "progress": False}
    assert generate(made.parent, side=SIDE, **sizes) == made
    with pytest.raises(UserError, match="other settings"):
        generate(made.parent, side=SIDE + 1, **sizes)
    assert {path: path.stat().st_mtime_ns for path in made.rglob("*")} == before


# ---- what is refused


def test_refuses_a_real_data_set_and_a_disk_that_refuses(tmp_path):
    real = tmp_path / ROOT / "train" / "XR_HAND" / "patient00001" / "study1_negative" / "image1.png"
    real.parent.mkdir(parents=True)
    real.write_bytes(b"a patient's")
    with pytest.raises(UserError, match="choose another folder"):
        generate(tmp_path, **SMALL)
    assert real.read_bytes() == b"a patient's"
    assert not (tmp_path / ROOT / NOTICE).exists()
    with pytest.raises(UserError, match="cannot write synthetic radiographs"):
        generate(real, **SMALL)


@pytest.mark.parametrize(
    ("name", "value"),
    [("train_patients", 0), ("valid_patients", 0), ("train_patients", 100_000), ("side", 8),
     ("seed", -1), ("workers", 0)],
)  # fmt: skip
def test_refuses_numbers_out_of_range(tmp_path, name, value):
    with pytest.raises(UserError, match=f"got .*{value}|99999"):
        generate(tmp_path, **SMALL | {name: value})
    assert not list(tmp_path.iterdir())


# ---- who has what: bounds are 4 standard deviations of the binomial


@pytest.fixture(scope="module")
def many():
    return {
        split: [s for patient in range(1, 2501) for s in draw_studies(0, patient, split)]
        for split in ("train", "valid")
    }


def near(count, n, p):
    return abs(count - n * p) < 4 * np.sqrt(n * p * (1 - p))


def test_findings_parts_and_labels_come_in_muras_proportions(many):
    abnormal = [s for studies in many.values() for s in studies if s.abnormal]
    for kind, share in PROPORTIONS.items():
        count = sum(kind in s.findings for s in abnormal)
        assert near(count, len(abnormal), share), kind
    assert any(len(s.findings) > 1 for s in abnormal)
    for split, studies in many.items():
        for part, (normal, positive) in STUDIES[split].items():
            mine = [s for s in studies if s.part == part]
            assert near(sum(s.abnormal for s in mine), len(mine), positive / (normal + positive))
        counts = Counter(s.part for s in studies)
        wanted = sorted(STUDIES[split], key=lambda part: -sum(STUDIES[split][part]))
        assert {part for part, _ in counts.most_common(2)} == set(wanted[:2])


def test_views_patients_and_studies_as_in_mura(many):
    studies = many["train"]
    assert {s.views for s in studies} == {1, 2, 3, 4}
    assert 2.5 < np.mean([s.views for s in studies]) < 2.9
    assert 1.15 < len(studies) / 2500 < 1.3
    for split in many:
        keys = [(s.seed[1], s.part, s.number) for s in many[split]]
        assert len(set(keys)) == len(keys)
        parts = {}
        for s in many[split]:
            parts.setdefault(s.seed[1], set()).add(s.part)
        shared = np.mean([len(p) > 1 for p in parts.values()])
        assert abs(shared - {"train": 0.13, "valid": 0.32}[split]) < 0.04


# ---- the pictures


@pytest.mark.parametrize("part", sorted(BUILD))
def test_every_view_and_every_finding_of_every_part(part):
    views = take_study(study(part, (), 1, views=len(VIEWS[part])), patient_body(5, 1), 64)
    assert len({view.pixels.tobytes() for view in views}) == len(views)
    for view in views:
        assert view.pixels.dtype == np.uint8
        assert view.pixels.std() > 15
    body, rng = patient_body(5, 2), np.random.default_rng(1)
    for kind in 12 * sorted(PROPORTIONS):
        scene = BUILD[part](body, "frontal", np.random.default_rng(0))
        found = draw_findings([kind], part, scene.finger, rng)
        assert found
        for name, put in found:
            assert name == kind
            assert np.isfinite(put(scene).at).all()


def test_a_finding_changes_the_picture_and_a_normal_study_has_none():
    body = patient_body(5, 3)
    normal = take_study(study("WRIST", (), 3), body, 96)[0]
    broken = take_study(study("WRIST", ("fracture", "hardware"), 3), body, 96)[0]
    assert normal.findings == ()
    assert broken.findings == ("fracture", "hardware")
    changed = np.abs(normal.pixels.astype(int) - broken.pixels.astype(int)) > 40
    assert 0.005 < changed.mean() < 0.5


def test_nothing_global_gives_the_label_away():
    """Pictures of the same patients with and without a finding: mean, contrast, size, border."""
    labels = []
    statistics = {"mean": [], "deviation": [], "height": [], "border": []}
    kinds = sorted(PROPORTIONS)
    for patient in range(160):
        label = patient // 7 % 2
        found = (kinds[patient // 14 % 4],) if label else ()
        pixels = first_view(sorted(BUILD)[patient % 7], found, patient)
        labels.append(label)
        edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
        statistics["mean"].append(float(pixels.mean()))
        statistics["deviation"].append(float(pixels.std()))
        statistics["height"].append(float(pixels.shape[0] / pixels.shape[1]))
        statistics["border"].append(float(edge.mean()))
    for name, values in statistics.items():
        assert 0.38 < auc(np.array(labels), np.array(values)) < 0.62, name


# ---- the geometry


def test_chord_through_the_middle_of_a_tube_is_its_diameter():
    shape = profile(((0.0, 1.0, 1.0, 1.0, 1.0), (1.0, 1.0, 1.0, 1.0, 1.0)), caps=(0.01, 0.01))
    tube = Tube(np.array([0.0, -5, 0]), np.array([0.0, 5, 0]), np.array([0.0, 0, 1]), shape, 1.5)
    seen = tube.thickness(Camera((101, 101), FRONT, np.zeros(3), 8.0))
    assert seen is not None
    _, outer, inner, _ = seen
    assert outer.max() == pytest.approx(3.0, rel=0.01)
    wall = (outer - inner)[outer.shape[0] // 2]
    assert wall.argmax() != wall.size // 2  # a hollow bone is brightest at its rims
    assert 2 * wall[wall.size // 2] < wall.max() * 1.5


def test_thickness_of_a_sphere_sums_to_its_volume_from_any_side():
    blob = Blob(np.zeros(3), (2.0, 2.0, 2.0))
    for angle in (0.0, 40.0, 90.0):
        seen = blob.thickness(Camera((120, 120), frame(angle, 10.0, True), np.zeros(3), 20.0))
        assert seen is not None
        assert seen[1].sum() / 20.0**2 == pytest.approx(4 / 3 * np.pi * 8, rel=0.02)
    outside = Camera((50, 50), FRONT, np.array([100.0, 0, 0]), 10.0)
    assert blob.thickness(outside) is None


def test_a_wire_thinner_than_a_pixel_keeps_its_shadow():
    rod = Rod(np.array([0.0, -4, 0]), np.array([0.0, 4, 0]), 0.05)
    for scale in (4.0, 80.0):
        seen = rod.thickness(Camera((int(10 * scale), int(2 * scale)), FRONT, np.zeros(3), scale))
        assert seen is not None
        assert seen[1].sum() / scale**2 == pytest.approx(np.pi * 0.05**2 * 8, rel=0.1)
