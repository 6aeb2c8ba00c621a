"""Table 1 and the tables of §4.4: on the published counts, and on a small folder."""

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image as Pillow

from examples.mura.breakdown import breakdown_figure, breakdown_text, table_1, table_of_parts
from examples.mura.dataset import PUBLISHED, read_dataset
from tests.examples.small_mura import make_mura


def test_table_1_is_the_reports(published):
    assert table_1(published) == [
        ["", "Images", "Studies", "Patients"],
        ["Training", "36,808", "13,457", "11,184"],
        ["Validation", "3,197", "1,199", "783"],
        ["Total", "40,005", "14,656", "11,967"],
    ]


@pytest.mark.parametrize("split", ["train", "valid"])
def test_table_of_parts_is_the_published_one(published, split):
    header, *rows = table_of_parts(published.split(split))
    assert [header[i] for i in (3, 4, 7, 8)] == ["normal", "abnormal"] * 2
    found = [[row[i] for i in (0, 3, 4, 7, 8)] for row in rows]
    assert found[:-1] == [
        [part.capitalize(), *(f"{n:,}" for n in (*counts.studies, *counts.images))]
        for part, counts in PUBLISHED[split].items()
    ]
    assert (
        found[-1]
        == {
            "train": ["All", "8,280", "5,177", "21,935", "14,873"],
            "valid": ["All", "661", "538", "1,667", "1,530"],
        }[split]
    )


def test_the_text_says_what_the_tables_do_not(published):
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


def test_a_small_folder_by_hand(tmp_path):
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
    elbows = [image for image in dataset.split("train") if image.part == "ELBOW"]
    assert [row[0] for row in table_of_parts(elbows)] == ["", "Elbow"]  # no "All" to repeat it
    table = breakdown_text(dataset).split("\n\n")[2].splitlines()[1:]
    assert len({len(line) for line in table}) == 1  # columns line up


def drawn_text(dataset, file, monkeypatch):
    """Every piece of text in the figure."""
    figures = []
    draw = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda f, *a, **k: (figures.append(f), draw(f, *a, **k)))
    breakdown_figure(dataset, file)
    return [text.get_text() for text in figures[0].findobj(Text)]


def test_the_figure_shows_the_published_counts(published, tmp_path, monkeypatch):
    file = tmp_path / "figures" / "breakdown.png"
    texts = drawn_text(published, file, monkeypatch)
    shown = {"2,134", "1,326", "140", "Not for clinical use.", "Elbow\n4,931 images"}
    assert shown <= set(texts)
    assert any("Training    36,808   13,457    11,184" in text for text in texts)
    with Pillow.open(file) as picture:
        assert picture.size == (1650, 1140)


def test_synthetic_data_of_one_split(tmp_path, monkeypatch):
    root = make_mura(tmp_path)
    (root / "SYNTHETIC.txt").write_text("made by a program")
    dataset = read_dataset(root, splits=("valid",))
    text = breakdown_text(dataset)
    assert text.startswith("Data breakdown: synthetic radiographs\n")
    assert "Training" not in text
    texts = drawn_text(dataset, tmp_path / "breakdown.png", monkeypatch)
    assert "Data breakdown: synthetic radiographs" in texts
    assert "Not for clinical use. Synthetic data." in texts
