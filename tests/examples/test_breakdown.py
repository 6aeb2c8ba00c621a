"""Table 1 and the tables of §4.4: on the published counts, and on a small folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image as Pillow

from examples.mura.breakdown import breakdown_figure, breakdown_text, table_1, table_of_parts
from examples.mura.dataset import Dataset, read_dataset
from tests.examples.small_mura import make_mura, make_published


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return read_dataset(make_published(tmp_path_factory.mktemp("published")), check_files=False)


def test_table_1_is_the_reports(published: Dataset) -> None:
    assert table_1(published) == [
        ["", "Images", "Studies", "Patients"],
        ["Training", "36,808", "13,457", "11,184"],
        ["Validation", "3,197", "1,199", "783"],
        ["Total", "40,005", "14,656", "11,967"],
    ]


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        (
            "train",
            """
            Elbow    1,094  660    2,925  2,006
            Finger   1,280  655    3,138  1,968
            Forearm  590    287    1,164  661
            Hand     1,497  521    4,059  1,484
            Humerus  321    271    673    599
            Shoulder 1,364  1,457  4,211  4,168
            Wrist    2,134  1,326  5,765  3,987
            All      8,280  5,177  21,935 14,873
            """,
        ),
        (
            "valid",
            """
            Elbow    92     66     235    230
            Finger   92     83     214    247
            Forearm  69     64     150    151
            Hand     101    66     271    189
            Humerus  68     67     148    140
            Shoulder 99     95     285    278
            Wrist    140    97     364    295
            All      661    538    1,667  1,530
            """,
        ),
    ],
)
def test_table_of_parts_is_the_published_one(published: Dataset, split: str, expected: str) -> None:
    header, *rows = table_of_parts(published.split(split))
    assert [header[i] for i in (3, 4, 7, 8)] == ["normal", "abnormal"] * 2
    found = [[row[i] for i in (0, 3, 4, 7, 8)] for row in rows]
    assert found == [line.split() for line in expected.strip().splitlines()]


def test_text_says_what_the_tables_do_not(published: Dataset) -> None:
    text = breakdown_text(published)
    assert "Training: 1,467 of 11,184 patients have studies of several body parts" in text
    assert (
        "Validation: 248 of 783 patients have studies of several body parts; always guessing the "
        "commoner label is right for 52.1% of images, 55.1% of studies." in text
    )
    assert "Patients in both training and validation: 0." in text
    assert text.startswith("Data breakdown: MURA-v1.1\n")
    assert text.endswith("Not for clinical use.\n")
    assert "synthetic" not in text


def test_small_folder_by_hand(tmp_path: Path) -> None:
    dataset = read_dataset(make_mura(tmp_path))
    assert table_1(dataset)[1:] == [
        ["Training", "11", "6", "4"],
        ["Validation", "4", "2", "2"],
        ["Total", "15", "8", "6"],
    ]
    assert table_of_parts(dataset.split("train"))[1:] == [
        ["Elbow", "2", "2", "1", "1", "50.0%", "5", "3", "2", "40.0%", "2.5", "3"],
        ["Hand", "3", "4", "3", "1", "25.0%", "6", "4", "2", "33.3%", "1.5", "2"],
        ["All", "4", "6", "4", "2", "33.3%", "11", "7", "4", "36.4%", "1.8", "3"],
    ]


def test_columns_line_up(tmp_path: Path) -> None:
    text = breakdown_text(read_dataset(make_mura(tmp_path)))
    table = text.split("\n\n")[2].splitlines()[1:]
    assert len({len(line) for line in table}) == 1


def test_no_image_is_opened(tmp_path: Path) -> None:
    root = make_mura(tmp_path)
    for file in root.rglob("*.png"):
        file.write_bytes(b"")
    dataset = read_dataset(root)
    assert "11        6         4" in breakdown_text(dataset)
    breakdown_figure(dataset, tmp_path / "breakdown.png")


def test_one_split_alone(tmp_path: Path) -> None:
    dataset = read_dataset(make_mura(tmp_path), splits=("valid",))
    assert "Training" not in breakdown_text(dataset)
    breakdown_figure(dataset, tmp_path / "breakdown.png")
    assert (tmp_path / "breakdown.png").exists()


def drawn_text(dataset: Dataset, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every piece of text in the figure."""
    figures = []
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    draw = Figure.savefig

    def keep(figure: Figure, *arguments: object, **options: object) -> None:
        figures.append(figure)
        draw(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    breakdown_figure(dataset, folder / "figures" / "breakdown.png")
    return [text.get_text() for text in figures[0].findobj(Text)]


def test_figure_shows_the_published_counts(
    published: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = drawn_text(published, tmp_path, monkeypatch)
    for shown in (
        "36,808",
        "13,457",
        "11,184",
        "783",
        "2,134",
        "1,326",
        "140",
        "Not for clinical use.",
    ):
        assert shown in texts
    assert "Elbow\n4,931 images" in texts
    with Pillow.open(tmp_path / "figures" / "breakdown.png") as picture:
        assert picture.size == (1650, 1140)


def test_synthetic_data_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_mura(tmp_path)
    (root / "SYNTHETIC.txt").write_text("made by a program")
    dataset = read_dataset(root)
    assert breakdown_text(dataset).startswith("Data breakdown: synthetic radiographs\n")
    texts = drawn_text(dataset, tmp_path, monkeypatch)
    assert "Data breakdown: synthetic radiographs" in texts
    assert "Not for clinical use. Synthetic data." in texts
