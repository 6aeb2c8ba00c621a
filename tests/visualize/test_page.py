"""The picture of a network: everything is on it, nothing overlaps, and it is always the same."""

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

import tinynet
from tests.oracles import package
from tests.visualize.networks import WithSide, conv, dense, everything
from tinynet.layers import Residual, Sequential
from tinynet.models import (
    densenet169,
    googlenet,
    inception_v4,
    mobilenet,
    resnet50,
    resnet152,
    shufflenet_v2,
    small_resnet,
    vgg_like,
)
from tinynet.visualize.page import balanced, svg
from tinynet.visualize.svg import text_width

SVG = "{http://www.w3.org/2000/svg}"


def built(builder):
    if builder is everything or builder is WithSide:
        return builder(), (10, 10, 2)
    settings = {"width": 0.1}
    if builder is vgg_like:
        settings = {"filters": (4, 4, 8, 8), "hidden": 8}
    if builder is small_resnet:
        settings = {}
    side = 299 if builder is inception_v4 else 224
    model = builder(1000, (side, side, 3), **settings, rng=np.random.default_rng(0))
    return model, (side, side, 3)


NETWORKS = [
    everything, WithSide, vgg_like, small_resnet, resnet50, googlenet, inception_v4, densenet169,
    shufflenet_v2, mobilenet,
]  # fmt: skip


def parsed(text):
    root = ElementTree.fromstring(text)
    return root, float(root.get("width")), float(root.get("height"))


def boxes_of_texts(root):
    """(left, right, top, bottom, text) of each text, as wide as it can be."""
    for node in root.iter(f"{SVG}text"):
        x, y, letters = (float(node.get(key)) for key in ("x", "y", "font-size"))
        width = text_width(node.text, letters)
        left = {"start": x, "middle": x - width / 2}[node.get("text-anchor")]
        yield left, left + width, y - 0.76 * letters, y + 0.2 * letters, node.text


@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize("builder", NETWORKS)
def test_no_text_is_cut_or_overlaps(builder, fold):
    model, shape = built(builder)
    root, width, height = parsed(svg(model, shape, fold=fold))
    texts = list(boxes_of_texts(root))
    for left, right, top, bottom, text in texts:
        assert left >= 0, text
        assert right <= width, text
        assert top >= 0, text
        assert bottom <= height, text
    for i, (left, right, top, bottom, text) in enumerate(texts):
        for left_2, right_2, top_2, bottom_2, other in texts[:i]:
            apart = right <= left_2 or right_2 <= left or bottom <= top_2 or bottom_2 <= top
            assert apart, (text, other)
    assert 0.4 < width / height < 3


@pytest.mark.parametrize("builder", [*NETWORKS, resnet152])
def test_unfolded_each_layer_has_one_box(builder):
    model, shape = built(builder)
    root, _, _ = parsed(svg(model, shape, fold=False))
    tips = [node.text for node in root.iter(f"{SVG}title")][1:]  # the first is the picture's
    names = [tip.split(": ")[0] for tip in tips]
    assert sorted(names) == sorted(name for name, _, _ in model.walk(shape))


@pytest.mark.parametrize("builder", NETWORKS)
def test_texts_fit_their_boxes(builder):
    model, shape = built(builder)
    root, _, _ = parsed(svg(model, shape))
    elements = list(root)
    pairs = [
        (box, text)
        for box, text in zip(elements, elements[1:], strict=False)
        if box.tag == f"{SVG}rect" and text.tag == f"{SVG}text" and len(box)
    ]
    assert len(pairs) > 5
    for box, text in pairs:
        assert text_width(text.text, float(text.get("font-size"))) < float(box.get("width"))


def test_what_a_slide_says():
    model, shape = built(resnet50)
    texts = [text for *_, text in boxes_of_texts(parsed(svg(model))[0])]
    assert texts[0] == "resnet50"
    count = sum(p.value.size for p in model.parameters().values())
    assert texts[1].startswith(f"{count:,} parameters · ")
    assert f"{model.multiply_adds(shape) / 1e6:.3g} million multiply-adds" in texts[1]
    assert [text for text in texts if text.startswith("× ")] == ["× 2", "× 3", "× 5", "× 2"]
    for wanted in ("input 224 × 224 × 3", "112 × 112 × 6", "layer1.0", "output 1000"):
        assert wanted in texts
    kinds = ["convolution", "dense", "normalisation", "activation", "pooling"]
    assert texts[-len(kinds) - 1 : -1] == kinds


def test_circles_and_bars_where_paths_meet():
    root, _, _ = parsed(svg(everything(), (10, 10, 2)))
    texts = [text for *_, text in boxes_of_texts(root)]
    assert len(list(root.iter(f"{SVG}circle"))) == 2
    assert texts.count("concatenate") == 1
    assert "reshape, dropout" in texts


def test_the_same_model_gives_the_same_file(tmp_path):
    for name in ("a", "b"):
        tinynet.draw(built(small_resnet)[0], tmp_path / f"{name}.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert tinynet.draw(everything(), tmp_path / "c.svg", (10, 10, 2)) == tmp_path / "c.svg"


def test_names_that_xml_would_misread():
    text = svg(Sequential(conv(1, 2)), (4, 4, 1), title="a < b & c")
    assert next(boxes_of_texts(parsed(text)[0]))[-1] == "a < b & c"


def test_arrows_bear_the_shape_where_it_changes():
    model = Sequential(Residual(Sequential(conv(2, 4), conv(4, 4), conv(4, 2))))
    texts = [text for *_, text in boxes_of_texts(parsed(svg(model, (8, 8, 2)))[0])]
    assert [text for text in texts if re.fullmatch(r"\d+ × \d+ × \d+", text)] == [
        "8 × 8 × 4",  # between the first two, and no more before the third
        "8 × 8 × 2",
    ]


def test_columns_are_as_even_as_they_can_be():
    assert balanced([3, 3, 3, 3], 2) == [[0, 1], [2, 3]]
    assert balanced([1, 1, 8, 1, 1], 3) == [[0, 1], [2], [3, 4]]
    assert balanced([5], 3) == [[0]]
    heights = np.random.default_rng(0).random(30)
    for count in range(1, 12):
        columns = balanced(heights, count)
        assert [k for column in columns for k in column] == list(range(30))
        assert len(columns) <= count


def test_texts_are_no_wider_than_they_are_taken_for():
    font_of = package("PIL.ImageFont")
    manager = package("matplotlib.font_manager")
    font = font_of.truetype(manager.findfont("DejaVu Sans"), 1000)
    for letter in map(chr, [*range(32, 127), *map(ord, "×→…·–")]):
        assert 1000 * text_width(letter, 1) >= font.getlength(letter) - 6, letter


@pytest.mark.parametrize(
    ("model", "file", "shape", "message"),
    [
        (everything(), "net.png", (10, 10, 2), "draw writes SVG.*name it net.svg"),
        (everything(), "net.svg", None, "give input_shape="),
        (everything(), "net.svg", (1, 1, 2), "MaxPool2D"),
        (Sequential(), "net.svg", (4,), "nothing to draw"),
        (dense(3, 2), "net.svg", (4,), "want"),
    ],
)
def test_what_cannot_be_drawn_is_refused(tmp_path, model, file, shape, message):
    with pytest.raises(ValueError, match=message):
        tinynet.draw(model, tmp_path / file, shape)
    assert list(tmp_path.iterdir()) == []
