"""The synthetic radiographs: layout, determinism, proportions, and no give-away of the label."""

from __future__ import annotations

import csv
import hashlib
import importlib
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from examples.mura.errors import UserError
from examples.mura.phantom import generate
from examples.mura.phantom.findings import PROPORTIONS, draw_findings
from examples.mura.phantom.generate import DONE, NOTICE, ROOT, TRUTH, Settings
from examples.mura.phantom.geometry import Camera, turn
from examples.mura.phantom.metal import Rod
from examples.mura.phantom.solids import Blob, Tube, profile
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

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed: pip install pillow")

TRAIN, VALID, SIDE = 26, 9, 64
FRONT = frame(0.0, 0.0, False)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom")
    return generate(
        folder, train_patients=TRAIN, valid_patients=VALID, side=SIDE, workers=1, progress=False
    )


def rows(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def digests(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def study(part: str, findings: tuple[str, ...], patient: int, views: int = 1) -> Study:
    return Study(part, 1, findings, views, (5, patient, 0, 1))


# ---- the folder


def test_layout_is_muras(made: Path) -> None:
    assert made.name == ROOT
    for split in ("train", "valid"):
        images = rows(made / f"{split}_image_paths.csv")
        studies = rows(made / f"{split}_labeled_studies.csv")
        on_disk = {
            path.relative_to(made.parent).as_posix() for path in (made / split).rglob("*.png")
        }
        assert {row[0] for row in images} == on_disk
        assert all(len(row) == 1 for row in images)
        assert {row[0] for row in studies} == {path.rsplit("/", 1)[0] + "/" for path in on_disk}
        for path, label in studies:
            root, folder, part, patient, name, end = path.split("/")
            assert (root, folder, end) == (ROOT, split, "")
            assert part.removeprefix("XR_") in STUDIES[split]
            assert len(patient) == len("patient00001")
            assert patient.startswith("patient")
            number, sign = name.removeprefix("study").split("_")
            assert int(number) >= 1
            assert {"positive": "1", "negative": "0"}[sign] == label


def test_images_are_numbered_from_1_and_there_are_1_to_4_views(made: Path) -> None:
    views: dict[str, list[str]] = {}
    for split in ("train", "valid"):
        for (path,) in rows(made / f"{split}_image_paths.csv"):
            folder, name = path.rsplit("/", 1)
            views.setdefault(folder, []).append(name)
    for names in views.values():
        assert 1 <= len(names) <= 4
        assert names == [f"image{i}.png" for i in range(1, len(names) + 1)]


def test_images_are_8_bit_grey_with_the_long_side_asked_for(made: Path) -> None:
    shapes = set()
    for path in list(made.rglob("*.png"))[:40]:
        with Image.open(path) as image:
            assert image.mode == "L"
            assert max(image.size) == SIDE
            shapes.add(image.size)
    assert len(shapes) > 5


def test_no_patient_in_both_splits(made: Path) -> None:
    patients = {
        split: {path.name for path in (made / split).glob("XR_*/*")} for split in ("train", "valid")
    }
    assert len(patients["train"]) == TRAIN
    assert len(patients["valid"]) == VALID
    assert not patients["train"] & patients["valid"]


def test_truth_names_what_each_abnormal_picture_holds(made: Path) -> None:
    header, *truth = rows(made / TRUTH)
    assert header == ["path", "part", "label", "view", "findings", "visible"]
    listed = [r[0] for s in ("train", "valid") for r in rows(made / f"{s}_image_paths.csv")]
    assert {row[0] for row in truth} == set(listed)
    for path, _, label, _, findings, visible in truth:
        assert ("_positive/" in path) == (label == "1") == bool(findings)
        assert set(findings.split("+")) <= {*PROPORTIONS, ""}
        assert len(findings.split("+")) == len(visible.split("+"))


def test_says_synthetic(made: Path) -> None:
    text = (made / NOTICE).read_text(encoding="utf-8")
    assert "SYNTHETIC" in text
    assert "Not for clinical use" in text


# ---- the same pictures again


def test_two_processes_write_the_same_bytes_as_one(tmp_path: Path) -> None:
    one, two = (
        generate(
            tmp_path / str(workers), train_patients=5, valid_patients=3, side=48, seed=3,
            workers=workers, progress=False,
        )
        for workers in (1, 2)
    )  # fmt: skip
    assert digests(one) == digests(two)


def test_another_seed_draws_other_patients() -> None:
    first, second = (take_study(draw_studies(s, 1, "train")[0], patient_body(s, 1), 48)[0].pixels
                     for s in (0, 1))  # fmt: skip
    assert first.shape != second.shape or not np.array_equal(first, second)


def test_an_interrupted_run_is_finished_not_begun_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module("examples.mura.phantom.generate")
    wanted = generate(
        tmp_path / "whole", train_patients=8, valid_patients=2, side=48, workers=1, progress=False
    )
    real, drawn = module.render_patient, []

    def stops_after_5(root: Path, settings: Settings, patient: tuple[str, int]) -> object:
        if len(drawn) == 5:
            raise KeyboardInterrupt
        drawn.append(patient)
        return real(root, settings, patient)

    def call() -> Path:
        return generate(
            tmp_path / "cut", train_patients=8, valid_patients=2, side=48, workers=1, progress=False
        )

    monkeypatch.setattr(module, "render_patient", stops_after_5)
    with pytest.raises(KeyboardInterrupt):
        call()
    root = tmp_path / "cut" / ROOT
    with (root / DONE).open("a", encoding="utf-8") as file:
        file.write('[6, [{"path": "torn')  # a line that the interruption cut short
    kept = len((root / DONE).read_text(encoding="utf-8").split("\n")) - 1
    assert kept == 4  # one task of four patients

    drawn.clear()
    monkeypatch.setattr(module, "render_patient", lambda *a: (drawn.append(a[2]), real(*a))[1])
    call()
    assert [number for _, number in drawn] == [5, 6, 7, 8, 9, 10]
    assert digests(root) == digests(wanted)


def test_a_finished_set_is_left_alone(made: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*")}
    again = generate(
        made.parent, train_patients=TRAIN, valid_patients=VALID, side=SIDE, progress=False
    )
    assert again == made
    assert {path: path.stat().st_mtime_ns for path in made.rglob("*")} == before


# ---- what is refused


def test_refuses_a_real_data_set(tmp_path: Path) -> None:
    real = tmp_path / ROOT / "train" / "XR_HAND" / "patient00001" / "study1_negative" / "image1.png"
    real.parent.mkdir(parents=True)
    real.write_bytes(b"a patient's")
    with pytest.raises(UserError, match="choose another folder"):
        generate(tmp_path, train_patients=1, valid_patients=1, progress=False)
    assert real.read_bytes() == b"a patient's"
    assert not (tmp_path / ROOT / NOTICE).exists()


def test_refuses_a_set_with_other_settings(made: Path) -> None:
    with pytest.raises(UserError, match="other settings"):
        generate(made.parent, train_patients=TRAIN + 1, valid_patients=VALID, progress=False)


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
    settings = {"train_patients": 1, "valid_patients": 1, "progress": False, **wrong}
    with pytest.raises(UserError):
        generate(tmp_path, **settings)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_a_disk_that_refuses_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UserError, match="cannot write synthetic radiographs"):
        generate(tmp_path / "file", train_patients=1, valid_patients=1, progress=False)


# ---- who has what: bounds are 4 standard deviations of the binomial


@pytest.fixture(scope="module")
def many() -> dict[str, list[Study]]:
    return {
        split: [s for patient in range(1, 2501) for s in draw_studies(0, patient, split)]
        for split in ("train", "valid")
    }


def near(count: int, n: int, p: float) -> bool:
    return abs(count - n * p) < 4 * np.sqrt(n * p * (1 - p))


def test_findings_come_in_the_reports_proportions(many: dict[str, list[Study]]) -> None:
    abnormal = [s for studies in many.values() for s in studies if s.abnormal]
    for kind, share in PROPORTIONS.items():
        count = sum(kind in s.findings for s in abnormal)
        assert near(count, len(abnormal), share), kind
    assert any(len(s.findings) > 1 for s in abnormal)


def test_parts_and_labels_come_in_muras_proportions(many: dict[str, list[Study]]) -> None:
    for split, studies in many.items():
        for part, (normal, abnormal) in STUDIES[split].items():
            mine = [s for s in studies if s.part == part]
            assert near(sum(s.abnormal for s in mine), len(mine), abnormal / (normal + abnormal))
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
def test_every_view_of_every_part_shows_a_body_and_differs(part: str) -> None:
    views = take_study(study(part, (), 1, views=len(VIEWS[part])), patient_body(5, 1), 64)
    assert len({view.pixels.tobytes() for view in views}) == len(views)
    for view in views:
        assert view.pixels.dtype == np.uint8
        assert view.pixels.std() > 15


@pytest.mark.parametrize("kind", sorted(PROPORTIONS))
@pytest.mark.parametrize("part", sorted(BUILD))
def test_every_finding_can_be_drawn_in_every_part(part: str, kind: str) -> None:
    body = patient_body(5, 2)
    rng = np.random.default_rng(1)
    for _ in range(12):
        scene = BUILD[part](body, "frontal", np.random.default_rng(0))
        found = draw_findings([kind], part, scene.finger, rng)
        assert found
        assert {finding.kind for finding in found} == {kind}
        for finding in found:
            assert np.isfinite(finding.apply(scene).at).all()


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
        views = take_study(
            study("ELBOW", ("fracture",), patient, views=3), patient_body(5, patient), 48
        )
        seen += [any(view.visible) for view in views]
    assert 0.66 < np.mean(seen) < 0.99


def test_nothing_global_gives_the_label_away() -> None:
    """Pictures of the same patients with and without a finding: mean, contrast, size, border."""
    labels: list[int] = []
    statistics: dict[str, list[float]] = {"mean": [], "deviation": [], "height": [], "border": []}
    kinds = sorted(PROPORTIONS)
    for patient in range(160):
        part = sorted(BUILD)[patient % 7]
        label = patient // 7 % 2
        found = (kinds[patient // 14 % 4],) if label else ()
        pixels = take_study(study(part, found, patient), patient_body(5, patient), 64)[0].pixels
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
        pair = [
            take_study(study("FINGER", found, patient), patient_body(5, patient), 64)[0].pixels
            for found in ((), ("other",))
        ]
        assert pair[0].shape == pair[1].shape
        same.append(np.mean(np.abs(pair[0].astype(int) - pair[1].astype(int)) < 12))
    assert np.median(same) > 0.85


# ---- the geometry


def test_chord_through_the_middle_of_a_tube_is_its_diameter() -> None:
    shape = profile(((0.0, 1.0, 1.0, 1.0, 1.0), (1.0, 1.0, 1.0, 1.0, 1.0)), caps=(0.01, 0.01))
    tube = Tube(np.array([0.0, -5, 0]), np.array([0.0, 5, 0]), np.array([0.0, 0, 1]), shape, 1.5)
    camera = Camera((101, 101), FRONT, np.zeros(3), 8.0)
    seen = tube.thickness(camera)
    assert seen is not None
    window, outer, inner, _ = seen
    assert outer.max() == pytest.approx(3.0, rel=0.01)
    wall = (outer - inner)[outer.shape[0] // 2]
    assert wall.argmax() != wall.size // 2  # a hollow bone is brightest at its rims
    assert 2 * wall[wall.size // 2] < wall.max() * 1.5


def test_thickness_of_a_sphere_sums_to_its_volume_from_any_side() -> None:
    blob = Blob(np.zeros(3), (2.0, 2.0, 2.0))
    for angle in (0.0, 40.0, 90.0):
        camera = Camera((120, 120), frame(angle, 10.0, True), np.zeros(3), 20.0)
        seen = blob.thickness(camera)
        assert seen is not None
        assert seen[1].sum() / 20.0**2 == pytest.approx(4 / 3 * np.pi * 8, rel=0.02)


def test_a_wire_thinner_than_a_pixel_keeps_its_shadow() -> None:
    rod = Rod(np.array([0.0, -4, 0]), np.array([0.0, 4, 0]), 0.05)
    for scale in (4.0, 80.0):
        camera = Camera((int(10 * scale), int(2 * scale)), FRONT, np.zeros(3), scale)
        seen = rod.thickness(camera)
        assert seen is not None
        assert seen[1].sum() / scale**2 == pytest.approx(np.pi * 0.05**2 * 8, rel=0.1)


def test_what_lies_outside_the_image_has_no_shadow() -> None:
    camera = Camera((50, 50), FRONT, np.array([100.0, 0, 0]), 10.0)
    assert Blob(np.zeros(3), (1.0, 1.0, 1.0)).thickness(camera) is None


def test_turn_is_a_rotation() -> None:
    rotation = turn([1.0, 2.0, 3.0], 37.0)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(rotation @ [1, 2, 3], [1, 2, 3], atol=1e-12)


def test_settings_survive_the_notice(made: Path) -> None:
    line = (made / NOTICE).read_text(encoding="utf-8").splitlines()[-1]
    assert json.loads(line.removeprefix("Settings: "))["train_patients"] == TRAIN
