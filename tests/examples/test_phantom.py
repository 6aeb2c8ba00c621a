"""The synthetic radiographs: layout, determinism, proportions, and no give-away of the label."""

from __future__ import annotations

import csv
import importlib
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from examples.mura.dataset import read_dataset
from examples.mura.errors import UserError
from examples.mura.phantom import generate
from examples.mura.phantom.findings import PROPORTIONS, draw_findings
from examples.mura.phantom.generate import DONE, NOTICE, ROOT, TRUTH, Settings
from examples.mura.phantom.solids import Blob, Camera, Rod, Tube, profile, turn
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
FRONT = frame(0.0, 0.0, False)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate(
        tmp_path_factory.mktemp("phantom"), train_patients=TRAIN, valid_patients=VALID, side=SIDE,
        workers=1, progress=False,
    )  # fmt: skip


def rows(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def contents(root: Path) -> dict[str, bytes]:
    files = [path for path in root.rglob("*") if path.is_file()]
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def study(part: str, findings: tuple[str, ...], patient: int, views: int = 1) -> Study:
    return Study(part, 1, findings, views, (5, patient, 0, 1))


def first_view(part: str, findings: tuple[str, ...], patient: int, side: int = 64) -> np.ndarray:
    return take_study(study(part, findings, patient), patient_body(5, patient), side)[0].pixels


# ---- the folder


def test_layout_is_muras(made: Path) -> None:
    data = read_dataset(made)  # checks CSVs, folders, files and labels against each other
    assert data.synthetic
    assert data.warnings == []
    for split, count in (("train", TRAIN), ("valid", VALID)):
        assert len({image.patient for image in data.split(split)}) == count
    views: dict[tuple[str, str, str], list[str]] = {}
    for image in data.images:
        views.setdefault(image.study_key, []).append(image.name)
        assert len(image.patient) == len("patient00001")
    for names in views.values():
        assert 1 <= len(names) <= 4
        assert names == [f"image{i}.png" for i in range(1, len(names) + 1)]
    shapes = set()
    for image in data.images[:40]:
        with Image.open(data.file(image)) as picture:
            assert picture.mode == "L"
            assert max(picture.size) == SIDE
            shapes.add(picture.size)
    assert len(shapes) > 5


def test_truth_names_what_each_abnormal_picture_holds(made: Path) -> None:
    header, *truth = rows(made / TRUTH)
    assert header == ["path", "part", "label", "view", "findings", "visible"]
    listed = [r[0] for s in ("train", "valid") for r in rows(made / f"{s}_image_paths.csv")]
    assert {row[0] for row in truth} == set(listed)
    for path, _, label, _, findings, visible in truth:
        assert ("_positive/" in path) == (label == "1") == bool(findings)
        assert set(findings.split("+")) <= {*PROPORTIONS, ""}
        assert len(findings.split("+")) == len(visible.split("+"))


def test_the_notice_says_synthetic_and_the_settings(made: Path) -> None:
    text = (made / NOTICE).read_text(encoding="utf-8")
    assert "SYNTHETIC" in text
    assert "Not for clinical use" in text
    settings = json.loads(text.splitlines()[-1].removeprefix("Settings: "))
    assert settings["train_patients"] == TRAIN


# ---- the same pictures again


def test_two_processes_write_the_same_bytes_as_one_and_another_seed_others(tmp_path: Path) -> None:
    one, two, other = (
        contents(generate(tmp_path / str(k), **SMALL | {"workers": workers, "seed": seed}))  # type: ignore[arg-type]
        for k, (workers, seed) in enumerate([(1, 3), (2, 3), (1, 4)])
    )
    assert one == two
    assert not set(one.values()) & {x for name, x in other.items() if name.endswith(".png")}


def test_an_interrupted_run_is_finished_not_begun_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module("examples.mura.phantom.generate")
    wanted = contents(generate(tmp_path / "whole", **SMALL))  # type: ignore[arg-type]
    real, drawn = module.render_patient, []

    def stops_after_5(root: Path, settings: Settings, patient: tuple[str, int]) -> object:
        if len(drawn) == 5:
            raise KeyboardInterrupt
        drawn.append(patient)
        return real(root, settings, patient)

    monkeypatch.setattr(module, "render_patient", stops_after_5)
    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path / "cut", **SMALL)  # type: ignore[arg-type]
    done = tmp_path / "cut" / ROOT / DONE
    with done.open("a", encoding="utf-8") as file:
        file.write('[6, [{"path": "torn')  # a line that the interruption cut short
    assert len(done.read_text(encoding="utf-8").splitlines()) - 1 == 5

    drawn.clear()
    monkeypatch.setattr(module, "render_patient", lambda *a: (drawn.append(a[2]), real(*a))[1])
    root = generate(tmp_path / "cut", **SMALL)  # type: ignore[arg-type]
    assert [number for _, number in drawn] == [6, 7, 8, 9, 10]
    assert contents(root) == wanted


def test_a_finished_set_is_left_alone(made: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*")}
    sizes = {"train_patients": TRAIN, "valid_patients": VALID, "progress": False}
    assert generate(made.parent, side=SIDE, **sizes) == made  # type: ignore[arg-type]
    with pytest.raises(UserError, match="other settings"):
        generate(made.parent, side=SIDE + 1, **sizes)  # type: ignore[arg-type]
    assert {path: path.stat().st_mtime_ns for path in made.rglob("*")} == before


# ---- what is refused


def test_refuses_a_real_data_set_and_a_disk_that_refuses(tmp_path: Path) -> None:
    real = tmp_path / ROOT / "train" / "XR_HAND" / "patient00001" / "study1_negative" / "image1.png"
    real.parent.mkdir(parents=True)
    real.write_bytes(b"a patient's")
    with pytest.raises(UserError, match="choose another folder"):
        generate(tmp_path, **SMALL)  # type: ignore[arg-type]
    assert real.read_bytes() == b"a patient's"
    assert not (tmp_path / ROOT / NOTICE).exists()
    with pytest.raises(UserError, match="cannot write synthetic radiographs"):
        generate(real, **SMALL)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [
        {"train_patients": 0},
        {"valid_patients": 0},
        {"train_patients": 100_000},
        {"side": 8},
        {"seed": -1},
        {"workers": 0},
    ],
)
def test_refuses_numbers_out_of_range(tmp_path: Path, wrong: dict[str, int]) -> None:
    with pytest.raises(UserError, match=f"got .*{next(iter(wrong.values()))}|99999"):
        generate(tmp_path, **SMALL | wrong)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


# ---- who has what: bounds are 4 standard deviations of the binomial


@pytest.fixture(scope="module")
def many() -> dict[str, list[Study]]:
    return {
        split: [s for patient in range(1, 2501) for s in draw_studies(0, patient, split)]
        for split in ("train", "valid")
    }


def near(count: int, n: int, p: float) -> bool:
    return abs(count - n * p) < 4 * np.sqrt(n * p * (1 - p))


def test_findings_parts_and_labels_come_in_muras_proportions(many: dict[str, list[Study]]) -> None:
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


def test_views_patients_and_studies_as_in_mura(many: dict[str, list[Study]]) -> None:
    studies = many["train"]
    assert {s.views for s in studies} == {1, 2, 3, 4}
    assert 2.5 < np.mean([s.views for s in studies]) < 2.9
    assert 1.15 < len(studies) / 2500 < 1.3
    for split in many:
        keys = [(s.seed[1], s.part, s.number) for s in many[split]]
        assert len(set(keys)) == len(keys)
        parts: dict[int, set[str]] = {}
        for s in many[split]:
            parts.setdefault(s.seed[1], set()).add(s.part)
        shared = np.mean([len(p) > 1 for p in parts.values()])
        assert abs(shared - {"train": 0.13, "valid": 0.32}[split]) < 0.04


# ---- the pictures


@pytest.mark.parametrize("part", sorted(BUILD))
def test_every_view_and_every_finding_of_every_part(part: str) -> None:
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


def test_a_finding_changes_the_picture_and_a_normal_study_has_none() -> None:
    body = patient_body(5, 3)
    normal = take_study(study("WRIST", (), 3), body, 96)[0]
    broken = take_study(study("WRIST", ("fracture", "hardware"), 3), body, 96)[0]
    assert normal.findings == ()
    assert broken.findings == ("fracture", "hardware")
    changed = np.abs(normal.pixels.astype(int) - broken.pixels.astype(int)) > 40
    assert 0.005 < changed.mean() < 0.5


def test_findings_show_in_most_views_but_not_in_all() -> None:
    seen = []
    for patient in range(40):
        broken = study("ELBOW", ("fracture",), patient, views=3)
        seen += [any(view.visible) for view in take_study(broken, patient_body(5, patient), 48)]
    assert 0.66 < np.mean(seen) < 0.99


def test_nothing_global_gives_the_label_away() -> None:
    """Pictures of the same patients with and without a finding: mean, contrast, size, border."""
    labels: list[int] = []
    statistics: dict[str, list[float]] = {"mean": [], "deviation": [], "height": [], "border": []}
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


def test_letters_casts_and_exposure_are_drawn_alike_for_both_labels() -> None:
    """The same study, normal and abnormal: outside what the finding touched, the same pixels."""
    same = []
    for patient in range(12):
        a, b = (first_view("FINGER", f, patient).astype(int) for f in ((), ("other",)))
        same.append(np.mean(np.abs(a - b) < 12))
    assert np.median(same) > 0.85


# ---- the geometry


def test_chord_through_the_middle_of_a_tube_is_its_diameter() -> None:
    shape = profile(((0.0, 1.0, 1.0, 1.0, 1.0), (1.0, 1.0, 1.0, 1.0, 1.0)), caps=(0.01, 0.01))
    tube = Tube(np.array([0.0, -5, 0]), np.array([0.0, 5, 0]), np.array([0.0, 0, 1]), shape, 1.5)
    seen = tube.thickness(Camera((101, 101), FRONT, np.zeros(3), 8.0))
    assert seen is not None
    _, outer, inner, _ = seen
    assert outer.max() == pytest.approx(3.0, rel=0.01)
    wall = (outer - inner)[outer.shape[0] // 2]
    assert wall.argmax() != wall.size // 2  # a hollow bone is brightest at its rims
    assert 2 * wall[wall.size // 2] < wall.max() * 1.5


def test_thickness_of_a_sphere_sums_to_its_volume_from_any_side() -> None:
    blob = Blob(np.zeros(3), (2.0, 2.0, 2.0))
    for angle in (0.0, 40.0, 90.0):
        seen = blob.thickness(Camera((120, 120), frame(angle, 10.0, True), np.zeros(3), 20.0))
        assert seen is not None
        assert seen[1].sum() / 20.0**2 == pytest.approx(4 / 3 * np.pi * 8, rel=0.02)
    outside = Camera((50, 50), FRONT, np.array([100.0, 0, 0]), 10.0)
    assert blob.thickness(outside) is None


def test_a_wire_thinner_than_a_pixel_keeps_its_shadow() -> None:
    rod = Rod(np.array([0.0, -4, 0]), np.array([0.0, 4, 0]), 0.05)
    for scale in (4.0, 80.0):
        seen = rod.thickness(Camera((int(10 * scale), int(2 * scale)), FRONT, np.zeros(3), scale))
        assert seen is not None
        assert seen[1].sum() / scale**2 == pytest.approx(np.pi * 0.05**2 * 8, rel=0.1)


def test_turn_is_a_rotation() -> None:
    rotation = turn([1.0, 2.0, 3.0], 37.0)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(rotation @ [1, 2, 3], [1, 2, 3], atol=1e-12)
