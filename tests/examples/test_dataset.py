"""Reading a folder in MURA's layout: what is found, and the line said about each fault."""

from __future__ import annotations

import re
import shutil
from pathlib import Path, PurePosixPath

import pytest

from examples.mura.counts import PUBLISHED, check_counts
from examples.mura.dataset import Dataset, Image, read_dataset, split_by_patient
from examples.mura.errors import UserError
from tests.examples.small_mura import STUDIES, make_mura, make_published

EXAMPLE = "MURA-v1.1/train/XR_HAND/patient00001/study1_positive"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_mura(tmp_path)


def append(file: Path, line: str) -> None:
    file.write_text(file.read_text() + line + "\n")


def drop_line(file: Path, text: str) -> None:
    lines = [line for line in file.read_text().splitlines() if text not in line]
    file.write_text("\n".join(lines) + "\n")


def says(root: Path, message: str, left_out: int, **options: bool) -> None:
    """Reading says ``message`` and how to go on; with --skip-bad it warns and leaves images out."""
    what, fix = message.rsplit(": ", 1)
    with pytest.raises(UserError) as caught:
        read_dataset(root, **options)
    assert str(caught.value) == f"{message}, or leave it out with --skip-bad"
    dataset = read_dataset(root, skip_bad=True, **options)
    assert dataset.warnings == [f"{what}: left out"]
    assert len(dataset.images) == 15 - left_out


def test_reads_every_image_with_its_label(root: Path) -> None:
    dataset = read_dataset(root)
    expected = {
        Image(split, part, patient, study, f"image{n}.png", int(study.endswith("positive")))
        for split, studies in STUDIES.items()
        for part, patient, study, count in studies
        for n in range(1, count + 1)
    }
    assert set(dataset.images) == expected
    assert len(dataset.images) == 15
    assert dataset.images == sorted(dataset.images)
    assert dataset.warnings == []
    assert not dataset.synthetic
    assert [len(dataset.split(split)) for split in ("train", "valid")] == [11, 4]
    assert all(dataset.file(image).is_file() for image in dataset.images)


def test_positive_is_abnormal_is_1(root: Path) -> None:
    labels = {(i.study.split("_")[1], i.label) for i in read_dataset(root).images}
    assert labels == {("negative", 0), ("positive", 1)}


def test_image_names_its_path_and_its_study() -> None:
    image = Image("train", "HAND", "patient00001", "study2_positive", "image1.png", 1)
    path = "MURA-v1.1/train/XR_HAND/patient00001/study2_positive/image1.png"
    assert image.path == PurePosixPath(path)
    assert image.study_key == ("HAND", "patient00001", "study2")


def test_first_row_of_the_headerless_csvs_is_read(root: Path) -> None:
    first = (root / "train_image_paths.csv").read_text().splitlines()[0]
    assert first in {str(image.path) for image in read_dataset(root).images}


@pytest.mark.parametrize("rename", ["MURA-v1.1", "mura copy"])
def test_takes_the_folder_or_its_parent(root: Path, rename: str) -> None:
    expected = read_dataset(root.parent).images
    moved = root.rename(root.parent / rename)
    assert read_dataset(moved).images == expected


def test_walks_a_folder_without_csvs(root: Path, tmp_path: Path) -> None:
    walked = read_dataset(make_mura(tmp_path / "plain", csvs=False))
    assert walked.images == read_dataset(root).images
    assert walked.warnings == [
        f"{walked.root} has no {split}_image_paths.csv and no {split}_labeled_studies.csv: "
        "read from its folders"
        for split in ("train", "valid")
    ]


def test_csv_saved_by_a_spreadsheet_reads_the_same(root: Path) -> None:
    expected = read_dataset(root).images
    for file in root.glob("*.csv"):
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    assert read_dataset(root).images == expected


def test_only_the_parts_asked_for(root: Path) -> None:
    shutil.rmtree(root / "train" / "XR_HAND")
    dataset = read_dataset(root, parts=("ELBOW",))
    assert {image.part for image in dataset.images} == {"ELBOW"}
    assert len(dataset.images) == 7


@pytest.mark.parametrize("csvs", [True, False])
def test_dot_files_are_skipped(tmp_path: Path, csvs: bool) -> None:
    root = make_mura(tmp_path, csvs=csvs)
    expected = read_dataset(root)
    study = root / "train/XR_ELBOW/patient00001/study1_negative"
    (study / "._image2.png").write_bytes(b"\x00\x05\x16\x07 not a PNG")
    (root / "train/.thumbnails").mkdir()
    (root / "train/.thumbnails/image1.png").write_bytes(b"")
    if csvs:
        append(root / "train_image_paths.csv", f"{EXAMPLE}/._image2.png")
    assert read_dataset(root) == expected


def test_row_without_its_file(root: Path) -> None:
    (root / "train/XR_ELBOW/patient00001/study1_negative/image2.png").unlink()
    says(
        root,
        f"{root}/train_image_paths.csv: 1 of 11 images not found, "
        "MURA-v1.1/train/XR_ELBOW/patient00001/study1_negative/image2.png: copy the folder again",
        left_out=1,
    )


def test_half_copied_folder(root: Path) -> None:
    shutil.rmtree(root / "train" / "XR_HAND")
    says(
        root,
        f"{root}/train_image_paths.csv: 6 of 11 images not found, "
        "MURA-v1.1/train/XR_HAND/patient00002/study1_negative/image1.png (and 5 more): "
        "copy the folder again",
        left_out=6,
    )


def test_without_checking_files_the_csvs_are_enough(root: Path) -> None:
    expected = read_dataset(root).images
    shutil.rmtree(root / "train")
    shutil.rmtree(root / "valid")
    assert read_dataset(root, check_files=False).images == expected


def test_file_without_its_row(root: Path) -> None:
    drop_line(root / "train_image_paths.csv", "patient00001/study1_negative/image2.png")
    says(
        root,
        f"{root}/train_image_paths.csv: no row for "
        "MURA-v1.1/train/XR_ELBOW/patient00001/study1_negative/image2.png: add it",
        left_out=1,
    )


def test_study_without_a_row_in_the_studies_csv(root: Path) -> None:
    drop_line(root / "valid_labeled_studies.csv", "patient11186")
    says(
        root,
        f"{root}/valid_labeled_studies.csv: no row for "
        "MURA-v1.1/valid/XR_HAND/patient11186/study1_positive, in valid_image_paths.csv: add it",
        left_out=2,
    )


def test_study_without_an_image(root: Path) -> None:
    append(
        root / "train_labeled_studies.csv", "MURA-v1.1/train/XR_HAND/patient9/study1_negative/,0"
    )
    says(
        root,
        f"{root}/train_labeled_studies.csv: MURA-v1.1/train/XR_HAND/patient9/study1_negative "
        "has no image in train_image_paths.csv: copy both from the archive again",
        left_out=0,
    )


def test_label_that_contradicts_its_folder(root: Path) -> None:
    file = root / "train_labeled_studies.csv"
    file.write_text(file.read_text().replace("study1_positive/,1", "study1_positive/,0", 1))
    says(
        root,
        f"{file}, line 2: label 0 contradicts the folder "
        "MURA-v1.1/train/XR_ELBOW/patient00002/study1_positive/: "
        "correct the label or rename the folder",
        left_out=2,
    )


def test_study_that_is_normal_and_abnormal(tmp_path: Path) -> None:
    root = make_mura(tmp_path, csvs=False)
    patient = root / "valid/XR_HAND/patient11186"
    shutil.copytree(patient / "study1_positive", patient / "study1_negative")
    with pytest.raises(UserError) as caught:
        read_dataset(root)
    assert str(caught.value) == (
        f"{patient} holds study1_negative and study1_positive: delete one, "
        "or leave it out with --skip-bad"
    )
    assert len(read_dataset(root, skip_bad=True).images) == 13


def test_patient_in_both_splits(tmp_path: Path) -> None:
    root = make_mura(tmp_path, csvs=False)
    shutil.copytree(root / "valid/XR_HAND/patient11186", root / "train/XR_HAND/patient11186")
    with pytest.raises(UserError) as caught:
        read_dataset(root)
    assert str(caught.value) == (
        f"{root}: patient11186 is in train and in valid: delete it in train, "
        "or leave it out with --skip-bad"
    )
    kept = read_dataset(root, skip_bad=True)
    assert {i.split for i in kept.images if i.patient == "patient11186"} == {"valid"}
    assert len(kept.images) == 15


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("path", "path"),
        ("MURA-v1.1/train/XR_KNEE/patient00001/study1_positive/image1.png", None),
        ("MURA-v1.1/train/XR_HAND/patient00001/study1/image1.png", None),
        ("MURA-v1.1/valid/XR_HAND/patient11186/study1_positive/image1.png", None),
        (f"{EXAMPLE}/../../../../secret.png", None),
        (f"{EXAMPLE}/image1.png,1", None),
    ],
)
def test_malformed_row_of_images(root: Path, line: str, shown: str | None) -> None:
    append(root / "train_image_paths.csv", line)
    says(
        root,
        f"{root}/train_image_paths.csv, line 12: '{shown or line}' is not like "
        f"{EXAMPLE}/image1.png: mend it",
        left_out=0,
    )


@pytest.mark.parametrize("line", ["study,label", f"{EXAMPLE}/,2", f"{EXAMPLE}/", "a,b,c"])
def test_malformed_row_of_studies(root: Path, line: str) -> None:
    append(root / "train_labeled_studies.csv", line)
    says(
        root,
        f"{root}/train_labeled_studies.csv, line 7: '{line}' is not like {EXAMPLE}/,1: mend it",
        left_out=0,
    )


def test_row_listed_twice(root: Path) -> None:
    file = root / "train_image_paths.csv"
    first = file.read_text().splitlines()[0]
    append(file, first)
    says(root, f"{file}, line 12: {first} is listed twice: delete the line", left_out=0)


def test_file_out_of_place_in_a_walked_folder(tmp_path: Path) -> None:
    root = make_mura(tmp_path, csvs=False)
    stray = root / "train/XR_HAND/image1.png"
    stray.write_bytes(b"")
    with pytest.raises(UserError) as caught:
        read_dataset(root)
    assert str(caught.value) == (
        f"{stray} is not like {EXAMPLE}/image1.png: move it, or leave it out with --skip-bad"
    )


def test_folder_that_is_missing_a_file_or_no_mura(tmp_path: Path) -> None:
    archive = tmp_path / "MURA-v1.1.zip"
    archive.write_bytes(b"PK")
    for folder, message in (
        (tmp_path / "no", f"no such folder: {tmp_path}/no: give the folder MURA-v1.1 with --data"),
        (archive, f"{archive} is a file: unpack it and give the folder MURA-v1.1"),
        (
            tmp_path,
            f"{tmp_path} holds neither MURA-v1.1 nor train and valid: "
            "give the folder MURA-v1.1 with --data",
        ),
    ):
        with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
            read_dataset(folder)


@pytest.mark.parametrize("csvs", [True, False])
def test_missing_split(tmp_path: Path, csvs: bool) -> None:
    root = make_mura(tmp_path, csvs=csvs)
    shutil.rmtree(root / "valid")
    message = f"{root} has no folder valid: copy it again from the MURA-v1.1 archive"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        read_dataset(root, skip_bad=True)
    assert len(read_dataset(root, splits=("train",)).images) == 11


def test_csv_that_is_not_text(root: Path) -> None:
    (root / "train_image_paths.csv").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(UserError, match=r"train_image_paths.csv is not a CSV file \(.*\): copy it"):
        read_dataset(root)


def test_empty_csv(root: Path) -> None:
    (root / "train_image_paths.csv").write_text("")
    with pytest.raises(UserError, match="train_image_paths.csv lists no image of ELBOW, "):
        read_dataset(root)


def test_synthetic_data_says_so(root: Path) -> None:
    (root / "SYNTHETIC.txt").write_text("made by a program")
    dataset = read_dataset(root)
    assert dataset.synthetic
    assert check_counts(dataset) == []


def test_published_counts_are_recognised(tmp_path: Path) -> None:
    dataset = read_dataset(make_published(tmp_path), check_files=False)
    assert dataset.warnings == []
    assert check_counts(dataset) == []


def test_every_difference_from_the_published_counts_is_a_line(tmp_path: Path) -> None:
    full = read_dataset(make_published(tmp_path), check_files=False)
    elbow = next(
        image
        for image in full.images
        if (image.part, image.split, image.name) == ("ELBOW", "train", "image2.png")
    )
    fewer = Dataset(full.root, [image for image in full.images if image != elbow])
    assert check_counts(fewer) == ["XR_ELBOW train: 4,930 images, published 4,931"]

    flipped = Dataset(
        full.root,
        [
            Image(i.split, i.part, i.patient, i.study.replace("negative", "positive"), i.name, 1)
            if (i.part, i.split) == ("HAND", "valid")
            else i
            for i in full.images
        ],
    )
    assert check_counts(flipped) == [
        "XR_HAND valid: 0 normal studies, published 101; 0 normal images, published 271"
    ]

    parts = Dataset(full.root, [i for i in full.images if i.part in ("ELBOW", "HAND")])
    assert check_counts(parts) == [
        "not in this data: XR_FINGER, XR_FOREARM, XR_HUMERUS, XR_SHOULDER, XR_WRIST"
    ]
    train = Dataset(full.root, full.split("train"))
    assert check_counts(train) == ["not in this data: valid"]

    gone = next(i.patient for i in full.images if i.split == "valid" and i.part == "WRIST")
    lines = check_counts(Dataset(full.root, [i for i in full.images if i.patient != gone]))
    assert "valid: 782 patients, published 783" in lines


def test_published_table_adds_up_to_the_published_totals() -> None:
    totals = {
        split: tuple(
            tuple(sum(getattr(c, what)[label] for c in parts.values()) for label in (0, 1))
            for what in ("studies", "images")
        )
        for split, parts in PUBLISHED.items()
    }
    assert totals == {
        "train": ((8280, 5177), (21935, 14873)),
        "valid": ((661, 538), (1667, 1530)),
    }


@pytest.mark.parametrize(("fraction", "held_patients"), [(0.1, 78), (0.5, 392), (0.0001, 1)])
def test_split_keeps_each_patient_on_one_side(
    tmp_path: Path, fraction: float, held_patients: int
) -> None:
    data = read_dataset(make_published(tmp_path), check_files=False, splits=("valid",))
    train, held = split_by_patient(data.images, fraction, seed=3)
    assert not {i.patient for i in train} & {i.patient for i in held}
    assert sorted(train + held) == data.images
    assert len({i.patient for i in held}) == held_patients
    assert split_by_patient(data.images, fraction, seed=3) == (train, held)
    assert split_by_patient(data.images, fraction, seed=4) != (train, held)


def test_split_refuses_what_it_cannot_do(root: Path) -> None:
    images = read_dataset(root).images
    with pytest.raises(UserError, match="fraction to hold out is 1.5, want more than 0 and less"):
        split_by_patient(images, 1.5, seed=0)
    with pytest.raises(UserError, match="1 patient cannot be split in two"):
        split_by_patient(images[:1], 0.5, seed=0)
