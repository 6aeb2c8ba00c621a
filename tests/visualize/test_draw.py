"""The picture of a network: what it is made of, that nothing on it overlaps, and its file."""

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

import tinynet
from tests.oracles import package
from tests.visualize import networks
from tests.visualize.networks import conv, dense, everything
from tinynet import models
from tinynet.ensemble import Ensemble
from tinynet.layer import EVAL, Layer
from tinynet.layers import BatchNorm, Dropout, MaxPool2D, ReLU, Residual, Sequential
from tinynet.visualize.draw import _Page
from tinynet.visualize.structure import REPEAT, folded, read

SVG = "{http://www.w3.org/2000/svg}"


def built(name):
    """(network, its input shape)."""
    if name in ("everything", "WithSide"):
        return getattr(networks, name)(), (10, 10, 2)
    settings = {"vgg_like": {"filters": (4, 4, 8, 8), "hidden": 8}, "small_resnet": {}}
    shape = (299, 299, 3) if name == "inception_v4" else (224, 224, 3)
    rng = np.random.default_rng(0)
    return getattr(models, name)(10, shape, **settings.get(name, {"width": 0.05}), rng=rng), shape


def nodes_of(name):
    return read(*built(name))


def labels(node):
    return [placed.layer.label() for placed in node.layers]


def texts_of(file):
    return [node.text for node in ElementTree.parse(file).iter(f"{SVG}text")]


# --- what it is made of ---------------------------------------------------------------------------


def test_strips_join_the_box_before_them():
    nodes = nodes_of("everything")
    assert [node.meet for node in nodes] == ["", "", "sum", "concat", "gate", "", "", ""]
    assert labels(nodes[0]) == ["3×3 conv, 4", "batch norm", "ReLU"]
    assert labels(nodes[-2]) == ["dense, 6", "ReLU", "dropout, keep 0.5"]
    assert [len(path) for path in nodes[2].paths] == [1, 0]
    assert [len(path) for path in nodes[3].paths] == [0, 1, 1]
    assert nodes[3].output_shape == (5, 5, 9)


def test_what_follows_a_block_in_the_same_container_belongs_to_it():
    block = Sequential(residual=Residual(conv(2, 2)), relu=ReLU())
    nodes = read(Sequential(block, Sequential(like_bn=ReLU(), conv=conv(2, 3))), (4, 4, 2))
    assert (nodes[0].meet, nodes[0].name) == ("sum", "0")
    assert [labels(node) for node in nodes] == [["ReLU"], ["ReLU"], ["3×3 conv, 3"]]


@pytest.mark.parametrize(
    ("name", "times", "grow"),
    [
        ("resnet50", [2, 3, 5, 2], False),
        ("densenet169", [6, 12, 32, 32], True),
        ("shufflenet_v2", [3, 7, 3], False),
        ("mobilenet", [5], False),
    ],
)
def test_repeated_blocks_are_folded(name, times, grow):
    repeats = [node for node in folded(nodes_of(name)) if node.meet == REPEAT]
    assert [node.times for node in repeats] == times
    assert {node.input_shape != node.output_shape for node in repeats} == {grow}


def test_a_fold_ends_where_its_last_part_ends():
    model = Sequential(*(part for _ in range(3) for part in (conv(4, 4), MaxPool2D(1))))
    (fold,) = folded(read(model, (8, 8, 4)))
    assert (fold.times, len(fold.paths[0]), fold.last) == (3, 2, "4")
    assert fold.input_shape == fold.output_shape == (8, 8, 4)


def test_what_differs_is_not_folded():
    def count(*layers):
        return len(folded(read(Sequential(*layers), (8, 8, 4))))

    assert count(conv(4, 4), conv(4, 4)) == 2  # two boxes take no more room than a fold
    assert count(conv(4, 4), conv(4, 4), conv(4, 4)) == 1
    assert count(MaxPool2D(2), MaxPool2D(2), MaxPool2D(2)) == 3  # of other sizes
    assert count(conv(4, 4), conv(4, 4, 5), conv(4, 4), conv(4, 4)) == 4


class Opaque(Layer):
    """Layers inside, of which ``walk`` says nothing."""

    def __init__(self):
        self.inner = conv(2, 2)

    def output_shape(self, input_shape):
        return input_shape


class Twice(Sequential):
    def forward(self, x, mode=EVAL):
        return super().forward(super().forward(x, mode)[0], mode)


def test_networks_written_by_hand():
    nodes = nodes_of("WithSide")
    assert [node.name for node in nodes] == [
        "base.first", "side", "base.second", "head.pool", "head.classes"
    ]  # fmt: skip
    assert nodes[1].meet == "aside"
    names = [node.name for node in nodes_of("googlenet")]
    assert names.index("aux1") == names.index("base.inception4a") + 1
    assert names.index("aux2") == names.index("base.inception4d") + 1
    assert names[-1] == "head.classes"
    (node,) = read(Opaque(), (4, 4, 2))
    assert labels(node) == ["opaque"]
    assert len(read(Twice(conv(2, 2)), (4, 4, 2))) == 1
    (node,) = read(Ensemble([dense(3, 2), dense(3, 2)]), (3,))
    assert (node.meet, len(node.paths)) == ("mean", 2)
    (node,) = read(Residual(Sequential()), (3,))
    assert labels(node) == ["residual"]


class LeakyReLU(Layer):
    pass


@pytest.mark.parametrize(
    ("layer", "label"),
    [
        (conv(4, 8, stride=2), "3×3 conv, 8, /2"),
        (conv(4, 8, (1, 7)), "1×7 conv, 8"),
        (conv(4, 4, groups=4), "3×3 depthwise, 4"),
        (conv(4, 8, groups=2, dilation=2), "3×3 conv, 8, 2 groups, dilation 2×2"),
        (MaxPool2D((3, 2), (2, 1)), "3×2 max-pool, /2×1"),
        (Dropout(0.25), "dropout, keep 0.25"),
        (BatchNorm(4), "batch norm"),
        (LeakyReLU(), "leaky ReLU"),
    ],
)
def test_labels(layer, label):
    assert layer.label() == label


# --- how it is laid out ---------------------------------------------------------------------------

NAMES = [
    "everything", "WithSide", "vgg_like", "small_resnet", "resnet50", "googlenet", "inception_v4",
    "densenet169", "shufflenet_v2", "mobilenet",
]  # fmt: skip


def extents(artists):
    """Lower left and upper right corners, each (n, 2)."""
    boxes = [artist.get_window_extent() for artist in artists]
    return np.array([box.min for box in boxes]), np.array([box.max for box in boxes])


@pytest.mark.parametrize(
    ("name", "fold"),
    [(name, True) for name in NAMES]
    + [pytest.param(name, False, marks=pytest.mark.slow) for name in NAMES[4:]],
)
def test_nothing_is_cut_or_overlaps(tmp_path, monkeypatch, name, fold):
    package("matplotlib")
    pages = []
    monkeypatch.setattr(_Page, "content", lambda page, form: pages.append(page) or b"")
    model, shape = built(name)
    tinynet.draw(model, tmp_path / "net.png", shape, fold=fold)
    figure, axes = pages[0].figure, pages[0].axes
    figure.draw_without_rendering()
    texts = [*axes.texts, *axes.get_legend().get_texts()]
    low, high = extents([text for text in texts if text.get_text()])
    assert low.min() >= 0
    assert (high <= figure.bbox.size).all()
    apart = (high[:, None] <= low + 0.5).any(axis=-1)
    overlap = ~(apart | apart.T | np.eye(len(low), dtype=bool))
    assert not overlap.any()
    boxes = [patch for patch in axes.patches if hasattr(patch, "get_boxstyle")]
    start, stop = extents(boxes)
    inside = (low[:, None] >= start) & (high[:, None] <= stop)
    outside = (high[:, None] <= start) | (low[:, None] >= stop)
    assert (inside.all(axis=-1) | outside.any(axis=-1)).all()
    drawn = sum(bool(box.get_gid()) for box in boxes)
    there = len(list(model.walk(shape)))
    assert 5 < drawn <= there if fold else drawn == there
    assert 0.4 < figure.bbox.width / figure.bbox.height < 3


def test_what_a_slide_says(tmp_path):
    package("matplotlib")
    model, shape = built("resnet50")
    file = tinynet.draw(model, tmp_path / "net.svg", title="a < b & $c$")
    texts = texts_of(file)
    count = sum(p.value.size for p in model.parameters().values())
    work = f"{model.multiply_adds(shape) / 1e6:.3g} million multiply-adds for one input"
    assert {"a < b & $c$", f"{count:,} parameters · {work}"} <= set(texts)
    assert [text for text in texts if text.startswith("× ")] == ["× 2", "× 3", "× 5", "× 2"]
    assert {"input 224 × 224 × 3", "layer1.0", "layer3.1 … 5", "output 10"} <= set(texts)
    kinds = {"convolution", "dense", "normalisation", "activation", "pooling"}
    assert kinds <= set(texts)
    assert "dropout" not in texts
    tips = [node.text for node in ElementTree.parse(file).iter(f"{SVG}title")]
    assert tips[-1] == "head.classes: Dense(104, 10), 1,050 parameters, 1,040 multiply-adds"


def test_arrows_bear_the_shape_where_it_changes(tmp_path):
    package("matplotlib")
    model = Sequential(Residual(Sequential(conv(2, 4), conv(4, 4), conv(4, 2))))
    texts = texts_of(tinynet.draw(model, tmp_path / "net.svg", (8, 8, 2)))
    # between the first two, and not again before the third
    assert [text for text in texts if text.startswith("8 × 8")] == ["8 × 8 × 4", "8 × 8 × 2"]


@pytest.mark.slow
def test_the_same_model_gives_the_same_file_in_each_format(tmp_path):
    package("matplotlib")
    for kind, start in (("svg", b"<?xml"), ("pdf", b"%PDF"), ("png", b"\x89PNG")):
        files = [tmp_path / f"{name}.{kind}" for name in "ab"]
        assert [tinynet.draw(everything(), file, (10, 10, 2)) for file in files] == files
        assert files[0].read_bytes() == files[1].read_bytes()
        assert files[0].read_bytes().startswith(start)


@pytest.mark.parametrize(
    ("model", "file", "shape", "message"),
    [
        (everything(), "net.txt", (10, 10, 2), "draw writes .svg, .pdf or .png.*name it net.svg"),
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
