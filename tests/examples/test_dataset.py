"""Reading a folder in MURA's layout: what is found, and the line printed about each fault."""

import os
import re
import shutil

import pytest

from examples.mura.breakdown import check_counts
from examples.mura.dataset import Dataset, Image, read_dataset, split_by_patient
from examples.mura.decode import SUFFIXES
from examples.mura.errors import UserError
from tests.examples.small_mura import STUDIES, make_mura

EXAMPLE = "MURA-v1.1/train/XR_HAND/patient00001/study1_positive"
ELBOW = "MURA-v1.1/train/XR_ELBOW/patient00001/study1_negative"
STRAY = "MURA-v1.1/train/XR_HAND/patient9/study1_negative"
OR_SKIP = ", or leave it out with --skip-bad"


@pytest.fixture
def root(tmp_path):
    return make_mura(tmp_path)


def append(file, line):
    file.write_text(file.read_text() + line + "\n")


def drop_line(file, text):
    lines = [line for line in file.read_text().splitlines() if text not in line]
    file.write_text("\n".join(lines) + "\n")


def test_reads_every_image_with_its_label(root):
    dataset = read_dataset(root)
    assert dataset.images == sorted(
        Image(split, part, patient, study, f"image{n}.png", int(study.endswith("positive")))
        for split, studies in STUDIES.items()
        for part, patient, study, count in studies
        for n in range(1, count + 1)
    )
    assert dataset.warnings == []
    assert not dataset.synthetic
    assert [len(dataset.split(split)) for split in ("train", "valid")] == [11, 4]
    assert all(dataset.file(image).is_file() for image in dataset.images)
    elbows = [image for image in dataset.images if image.part == "ELBOW"]
    (root / "SYNTHETIC.txt").write_text("made by a program")
    dataset = read_dataset(root, parts=("ELBOW",))
    assert dataset.images == elbows
    assert dataset.synthetic
    assert check_counts(dataset) == []


def test_the_parent_folder_a_copy_and_a_spreadsheets_csv_read_the_same(root):
    expected = read_dataset(root).images
    assert read_dataset(root.parent).images == expected
    for file in root.glob("*.csv"):  # byte-order mark, and line ends of Windows
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    assert read_dataset(root.rename(root.parent / "mura copy")).images == expected


@pytest.mark.parametrize(
    "changed",
    [
        lambda text: text.replace("\n", ",\n"),
        lambda text: text.replace("\n", " , \n\n"),
        lambda text: text.replace("/", "\\"),
        lambda text: text.replace("MURA-v1.1", "./MURA-v1.1/"),
        lambda text: text.replace("\n", "\r"),
        lambda text: "".join(f'"{line}"\n' for line in text.replace(",", '","').split()),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_csvs_as_programs_write_them(root, changed, encoding):
    expected = read_dataset(root).images
    for file in root.glob("*.csv"):
        header = "path,label\n" if "studies" in file.name else "path\n"
        file.write_text(changed(header + file.read_text()), encoding=encoding, newline="")
    found = read_dataset(root)
    assert found.images == expected
    assert [re.sub(r".*line 1: '|,?'.*", "", line) for line in found.warnings] == [
        *("path", "path,label") * 2
    ]


def test_names_that_are_not_utf_8(tmp_path):
    root = make_mura(tmp_path)
    file = root.parent / ELBOW / "image1.png"
    name = os.fsdecode(b"image\xff.png")
    file.rename(file.with_name(name))
    rows = (root / IMAGES).read_bytes()
    (root / IMAGES).write_bytes(rows.replace(b"image1.png", b"image\xff.png", 1))
    assert name in {image.name for image in read_dataset(root).images}


def test_walks_a_folder_without_csvs(root, tmp_path):
    walked = read_dataset(make_mura(tmp_path / "plain", csvs=False))
    assert walked.images == read_dataset(root).images
    assert walked.warnings == [
        f"{walked.root} has no {split}_image_paths.csv and no {split}_labeled_studies.csv: "
        "read from its folders"
        for split in ("train", "valid")
    ]


@pytest.mark.parametrize("csvs", [True, False])
def test_what_is_passed_over_is_named(tmp_path, csvs):
    root = make_mura(tmp_path, csvs=csvs)
    expected = read_dataset(root)
    study = root.parent / ELBOW
    for name in ("._image2.png", "image1.explained.png", "scan.dcm", "a.txt", "b.txt", "c.txt"):
        (study / name).write_bytes(b"no PNG")
    (root / "train/.thumbnails").mkdir()
    (root / "train/.thumbnails/image1.png").write_bytes(b"")
    if csvs:
        append(root / "train_image_paths.csv", f"{EXAMPLE}/._image2.png")
    found = read_dataset(root)
    assert found.images == expected.images
    assert found.warnings[len(expected.warnings) :] == [
        f"passed over 2 names that begin with a dot: {root}/train/.thumbnails, "
        f"{study}/._image2.png",
        f"passed over 4 files that are not {', '.join(SUFFIXES)}: {study}/a.txt, {study}/b.txt, "
        f"{study}/c.txt, ...",
        f"passed over 1 pictures that explain made: {study}/image1.explained.png",
    ]


def test_every_kind_of_picture_is_found(root):
    png = root.parent / ELBOW / "image1.png"
    rows = (root / IMAGES).read_text()
    for suffix in (".tif", ".TIFF", ".bmp", ".jp2", ".webp", ".gif", ".pgm"):
        there = png.rename(png.with_suffix(suffix))
        (root / IMAGES).write_text(rows.replace(f"{ELBOW}/image1.png", f"{ELBOW}/{there.name}"))
        listed = read_dataset(root).images
        (root / IMAGES).rename(root / "aside")
        assert read_dataset(root).images == listed
        assert f"image1{suffix}" in {image.name for image in listed}
        (root / "aside").rename(root / IMAGES)
        there.rename(png)


@pytest.mark.parametrize("csvs", [True, False])
@pytest.mark.parametrize(
    "which",
    [
        "train",
        "train/XR_HAND",
        "train/XR_HAND/patient00003/study1_positive",
        f"{ELBOW[10:]}/image1.png",
    ],
)
def test_links_are_followed(tmp_path, csvs, which):
    root = make_mura(tmp_path, csvs=csvs)
    expected = read_dataset(root)
    away = tmp_path / "other disk"
    (root / which).rename(away)
    (root / which).symlink_to(away)
    assert read_dataset(root) == expected


def test_what_links_lead_to_twice_is_read_once(tmp_path):
    root = make_mura(tmp_path, csvs=False)
    expected = read_dataset(root)
    hand = root / "train/XR_HAND"
    (hand / "loop").symlink_to(hand)
    (hand / "up").symlink_to(tmp_path)
    (hand / "patient00001").symlink_to(hand / "patient00003")
    study = hand / "patient00003/study1_positive"
    (study / "image0.png").symlink_to("image1.png")
    (study / "image9.png").symlink_to("nowhere.png")
    found = read_dataset(root)
    assert len(found.images) == len(expected.images)
    assert found.warnings[2:] == [
        f"passed over 3 links to what is there already: {study}/image1.png -> {study}/image0.png, "
        f"{hand}/loop -> {hand}, {hand}/patient00001 -> {hand}/patient00003",
        f"passed over 1 links to what is not there: {study}/image9.png",
        f"passed over 1 links to a folder that this one is in: {hand}/up",
    ]


def test_listed_images_behind_links_are_all_read(root):
    expected = read_dataset(root).images
    png = root.parent / ELBOW / "image2.png"
    png.unlink()
    png.symlink_to("image1.png")  # as a store that keeps equal files once does
    assert read_dataset(root) == Dataset(root, expected)


def test_a_folder_that_cannot_be_read(root, monkeypatch):
    hidden = str(root / "train/XR_HAND")
    scandir = os.scandir

    def denied(path):
        if str(path) == hidden:
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    message = f"{hidden} cannot be read (Permission denied)"
    with pytest.raises(UserError, match=f"^{re.escape(message)}: mend its permissions{OR_SKIP}$"):
        read_dataset(root)
    assert f"{message}: left out" in read_dataset(root, skip_bad=True).warnings


def test_without_checking_files_the_csvs_are_enough(root):
    expected = read_dataset(root).images
    shutil.rmtree(root / "train")
    shutil.rmtree(root / "valid")
    assert read_dataset(root, check_files=False).images == expected


def copy(source, target):
    return lambda root: shutil.copytree(root / source, root / target)


IMAGES, LABELS = "train_image_paths.csv", "train_labeled_studies.csv"
HAND = "XR_HAND/patient11186"
FAULTS = {  # what is done to the folder, whether it has CSVs, what is said, the fix, images lost
    "row without its file": (
        lambda root: (root.parent / ELBOW / "image2.png").unlink(), True,
        f"{{root}}/{IMAGES}: 1 of 11 images not found, {ELBOW}/image2.png",
        "copy the folder again", 1,
    ),
    "half-copied folder": (
        lambda root: shutil.rmtree(root / "train/XR_HAND"), True,
        f"{{root}}/{IMAGES}: 6 of 11 images not found, MURA-v1.1/train/XR_HAND/patient00002/"
        "study1_negative/image1.png (and 5 more)",
        "copy the folder again", 6,
    ),
    "file without its row": (
        lambda root: drop_line(root / IMAGES, "patient00001/study1_negative/image2.png"), True,
        f"{{root}}/{IMAGES}: no row for {ELBOW}/image2.png", "add it", 1,
    ),
    "study without its row": (
        lambda root: drop_line(root / "valid_labeled_studies.csv", "patient11186"), True,
        f"{{root}}/valid_labeled_studies.csv: no row for MURA-v1.1/valid/{HAND}/study1_positive, "
        "in valid_image_paths.csv", "add it", 2,
    ),
    "study without an image": (
        lambda root: append(root / LABELS, f"{STRAY}/,0"), True,
        f"{{root}}/{LABELS}: {STRAY} has no image in {IMAGES}",
        "copy both from the archive again", 0,
    ),
    "label that contradicts its folder": (
        lambda root: (root / LABELS).write_text(
            (root / LABELS).read_text().replace("study1_positive/,1", "study1_positive/,0", 1)
        ), True,
        f"{{root}}/{LABELS}, line 2: label 0 contradicts the folder "
        "MURA-v1.1/train/XR_ELBOW/patient00002/study1_positive",
        "correct the label or rename the folder", 2,
    ),
    "row listed twice": (
        lambda root: append(root / IMAGES, f"{ELBOW}/image1.png"), True,
        f"{{root}}/{IMAGES}, line 12: {ELBOW}/image1.png is listed twice", "delete the line", 0,
    ),
    "study that is normal and abnormal": (
        copy(f"valid/{HAND}/study1_positive", f"valid/{HAND}/study1_negative"), False,
        f"{{root}}/valid/{HAND} holds study1_negative and study1_positive", "delete one", 2,
    ),
    "patient in both splits": (
        copy(f"valid/{HAND}", f"train/{HAND}"), False,
        "{root}: patient11186 is in train and in valid", "delete it in train", 0,
    ),
    "file out of place": (
        lambda root: (root / "train/XR_HAND/image1.png").write_bytes(b""), False,
        f"{{root}}/train/XR_HAND/image1.png is not like {EXAMPLE}/image1.png", "move it", 0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_one_line_or_left_out(name, tmp_path):
    spoil, csvs, message, fix, lost = FAULTS[name]
    root = make_mura(tmp_path, csvs=csvs)
    spoil(root)
    message = message.format(root=root)
    with pytest.raises(UserError) as caught:
        read_dataset(root)
    assert str(caught.value) == f"{message}: {fix}{OR_SKIP}"
    dataset = read_dataset(root, skip_bad=True)
    warnings = [line for line in dataset.warnings if "read from its folders" not in line]
    assert warnings == [f"{message}: left out"]
    assert len(dataset.images) == 15 - lost


@pytest.mark.parametrize(
    ("file", "line", "form"),
    [
        (IMAGES, "path", "image1.png"),
        (IMAGES, "MURA-v1.1/train/XR_KNEE/patient00001/study1_positive/image1.png", "image1.png"),
        (IMAGES, "MURA-v1.1/train/XR_HAND/patient00001/study1/image1.png", "image1.png"),
        (IMAGES, f"MURA-v1.1/valid/{HAND}/study1_positive/image1.png", "image1.png"),
        (IMAGES, f"{EXAMPLE}/../../../../secret.png", "image1.png"),
        (IMAGES, f"{EXAMPLE}/image1.png,1", "image1.png"),
        *((LABELS, line, ",1") for line in ("study,label", f"{EXAMPLE}/,2", f"{EXAMPLE}/", "a,b")),
    ],
)
def test_malformed_row(root, file, line, form):
    append(root / file, line)
    number = len((root / file).read_text().splitlines())
    what = f"{root}/{file}, line {number}: '{line}' is not like {EXAMPLE}/{form}"
    with pytest.raises(UserError, match=f"^{re.escape(what)}: mend it{OR_SKIP}$"):
        read_dataset(root)
    dataset = read_dataset(root, skip_bad=True)
    assert dataset.warnings == [f"{what}: left out"]
    assert len(dataset.images) == 15


def test_a_folder_that_is_missing_a_file_or_not_mura(tmp_path):
    archive = tmp_path / "MURA-v1.1.zip"
    archive.write_bytes(b"PK")
    for folder, message in (
        (tmp_path / "no", f"no such folder: {tmp_path}/no: give the folder MURA-v1.1 with --data"),
        (archive, f"{archive} is a file: unpack it and give the folder MURA-v1.1"),
        (tmp_path, f"{tmp_path} holds neither MURA-v1.1 nor train and valid: "
         "give the folder MURA-v1.1 with --data"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
            read_dataset(folder)


@pytest.mark.parametrize("csvs", [True, False])
def test_missing_split(tmp_path, csvs):
    root = make_mura(tmp_path, csvs=csvs)
    shutil.rmtree(root / "valid")
    message = f"{root} has no folder valid: copy it from MURA-v1.1, or move some patients there"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        read_dataset(root, skip_bad=True)
    assert len(read_dataset(root, splits=("train",)).images) == 11
    alone = read_dataset(root, required=("train",))
    assert len(alone.images) == 11
    assert f"{root} has no folder valid" in alone.warnings
    with pytest.raises(UserError, match="holds no image of WRIST|lists no image of WRIST"):
        read_dataset(root, required=("train",), parts=("WRIST",), skip_bad=True)


def test_a_csv_that_is_empty_or_not_text(root):
    for content in (b"", b"\n\n", b"path\n"):
        (root / IMAGES).write_bytes(content)
        with pytest.raises(
            UserError, match=r"image_paths.csv lists no image, want a line for each"
        ):
            read_dataset(root)
    (root / IMAGES).write_bytes(b"\x00" * 200_000)
    with pytest.raises(UserError, match=r"train_image_paths.csv is not a CSV file \(.*\): mend it"):
        read_dataset(root)


def test_every_difference_from_the_published_counts_is_a_line(published):
    assert check_counts(published) == []

    def counts(images):
        return check_counts(Dataset(published.root, images))

    images = published.images
    elbows = [i for i in images if i.part == "ELBOW" and i.split == "train"]
    lost = next(i for i in elbows if i.name == "image2.png")
    assert counts([i for i in images if i != lost]) == [
        "XR_ELBOW train: 4,930 images, published 4,931"
    ]
    flipped = [
        Image(i.split, i.part, i.patient, i.study.replace("negative", "positive"), i.name, 1)
        if (i.part, i.split) == ("HAND", "valid")
        else i
        for i in images
    ]
    assert counts(flipped) == [
        "XR_HAND valid: 0 normal studies, published 101; 0 normal images, published 271"
    ]
    assert counts([i for i in images if i.part in ("ELBOW", "HAND")]) == [
        "not in this data: XR_FINGER, XR_FOREARM, XR_HUMERUS, XR_SHOULDER, XR_WRIST"
    ]
    assert counts(published.split("train")) == ["not in this data: valid"]
    gone = next(i.patient for i in images if i.split == "valid" and i.part == "WRIST")
    kept = [i for i in images if i.patient != gone]
    assert "valid: 782 patients, published 783" in counts(kept)


@pytest.mark.parametrize(("fraction", "held_patients"), [(0.1, 78), (0.5, 392), (0.0001, 1)])
def test_split_keeps_each_patient_on_one_side(published, fraction, held_patients):
    images = published.split("valid")
    train, held = split_by_patient(images, fraction, seed=3)
    assert not {i.patient for i in train} & {i.patient for i in held}
    assert sorted(train + held) == images
    assert len({i.patient for i in held}) == held_patients
    assert split_by_patient(images, fraction, seed=3) == (train, held)
    assert split_by_patient(images, fraction, seed=4) != (train, held)


def test_split_refuses_what_it_cannot_do(root):
    images = read_dataset(root).images
    with pytest.raises(UserError, match="fraction to hold out is 1.5, want more than 0 and less"):
        split_by_patient(images, 1.5, seed=0)
    with pytest.raises(UserError, match="1 patient cannot be split in two"):
        split_by_patient(images[:1], 0.5, seed=0)
