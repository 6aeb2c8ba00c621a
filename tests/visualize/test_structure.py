"""What a picture is made of: boxes and strips, forks, folds, read off the tree of layers."""

import numpy as np
import pytest

from tests.visualize.networks import WithSide, conv, everything
from tinynet.layer import EVAL, Layer
from tinynet.layers import Conv2D, Dense, Dropout, MaxPool2D, ReLU, Residual, Sequential
from tinynet.models import densenet169, googlenet, mobilenet, resnet50, shufflenet_v2
from tinynet.visualize.structure import Block, Fork, Repeat, folded, read
from tinynet.visualize.words import describe, quantity


def small(builder, side=224, **settings):
    return builder(3, (side, side, 1), width=0.05, **settings, rng=np.random.default_rng(0))


def times(model, side=224):
    nodes = folded(read(model, (side, side, 1)))
    return [node.times for node in nodes if isinstance(node, Repeat)]


def test_strips_join_the_box_before_them():
    nodes = read(everything(), (10, 10, 2))
    assert [type(node).__name__ for node in nodes] == ["Block"] * 2 + ["Fork"] * 3 + ["Block"] * 3
    assert [row.text for row in nodes[0].rows] == ["conv 3×3, 4", "batch norm", "ReLU"]
    assert [row.text for row in nodes[-2].rows] == ["dense, 6", "ReLU", "dropout, keep 0.5"]
    block, stack, gate = nodes[2:5]
    assert (block.meet, stack.meet, gate.meet) == ("+", "concatenate", "×")
    assert [len(path) for path in block.paths] == [1, 0]
    assert [len(path) for path in stack.paths] == [0, 1, 1]
    assert stack.output_shape == (5, 5, 9)


def test_what_follows_a_block_in_the_same_container_belongs_to_it():
    block = Sequential(residual=Residual(conv(2, 2)), relu=ReLU())
    inner = read(Sequential(block, Sequential(bn_like=ReLU(), conv=conv(2, 3))), (4, 4, 2))
    assert isinstance(inner[0], Fork)
    assert inner[0].name == "0"
    assert [row.text for row in inner[0].after] == ["ReLU"]
    assert [row.text for row in inner[1].rows] == ["ReLU"]
    assert [row.text for row in inner[2].rows] == ["conv 3×3, 3"]


def test_repeated_blocks_are_folded():
    assert times(small(resnet50)) == [2, 3, 5, 2]
    assert times(small(densenet169)) == [6, 12, 32, 32]
    assert times(small(shufflenet_v2)) == [3, 7, 3]
    assert times(small(mobilenet)) == [5]


def test_channels_grow_in_densenet_alone():
    for builder, grows in ((densenet169, True), (resnet50, False)):
        nodes = folded(read(small(builder), (224, 224, 1)))
        assert {node.grows for node in nodes if isinstance(node, Repeat)} == {grows}


def test_a_fold_ends_where_its_last_part_ends():
    model = Sequential(*(part for _ in range(3) for part in (conv(4, 4), MaxPool2D(1))))
    (fold,) = folded(read(model, (8, 8, 4)))
    assert (fold.times, len(fold.parts), fold.last) == (3, 2, "4")
    assert fold.input_shape == fold.output_shape == (8, 8, 4)


def test_what_differs_is_not_folded():
    rng = np.random.default_rng(0)

    def chain(*layers):
        return folded(read(Sequential(*layers), (8, 8, 4)))

    assert len(chain(conv(4, 4), conv(4, 4))) == 2  # two boxes take no more room than a fold
    assert len(chain(conv(4, 4), conv(4, 4), conv(4, 4))) == 1
    assert len(chain(*(MaxPool2D(2) for _ in range(3)))) == 3  # of other sizes
    wide = Conv2D(4, 4, 5, padding="same", rng=rng)
    assert len(chain(conv(4, 4), wide, conv(4, 4), conv(4, 4))) == 4
    dense = [Dense(4, 4, rng=rng), Dense(4, 4, rng=rng), ReLU(), Dense(4, 4, rng=rng)]
    assert len(folded(read(Sequential(*dense), (4,)))) == 3


def test_side_branches_of_what_is_written_by_hand():
    nodes = read(WithSide(), (10, 10, 2))
    assert [node.name for node in nodes] == [
        "base.first", "side", "base.second", "head.pool", "head.classes"
    ]  # fmt: skip
    assert nodes[1].meet == "aside"
    model = small(googlenet)
    names = [node.name for node in read(model, (224, 224, 1))]
    assert names.index("aux1") == names.index("base.inception4a") + 1
    assert names.index("aux2") == names.index("base.inception4d") + 1
    assert names[-1] == "head.classes"


class Opaque(Layer):
    """Layers inside, of which ``walk`` says nothing."""

    def __init__(self):
        self.inner = conv(2, 2)

    def forward(self, x, mode=EVAL):
        return self.inner.forward(x, mode)

    def output_shape(self, input_shape):
        return input_shape


def test_a_layer_that_says_nothing_of_its_inside_is_one_box():
    (node,) = read(Opaque(), (4, 4, 2))
    assert isinstance(node, Block)
    assert node.rows[0].text == "Opaque()"


class Halved(WithSide):
    """Makes something of the last child's output by itself."""

    def output_shape(self, input_shape):
        return (super().output_shape(input_shape)[0] // 2,)


def test_what_ends_in_a_step_of_its_own_is_drawn_to_its_last_child():
    names = [node.name for node in read(WithSide(), (10, 10, 2))]
    assert [node.name for node in read(Halved(), (10, 10, 2))] == names


def test_a_subclass_with_a_forward_pass_of_its_own_is_not_taken_for_a_sequence():
    class Twice(Sequential):
        def forward(self, x, mode=EVAL):
            return super().forward(super().forward(x, mode)[0], mode)

    model = Twice(conv(2, 2))
    assert len(read(model, (4, 4, 2))) == 1
    class_text = describe(Dropout(0.25))[0]
    assert class_text == "dropout, keep 0.25"


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (conv(4, 8, stride=2), "conv 3×3, 8, / 2"),
        (conv(4, 8, (1, 7)), "conv 1×7, 8"),
        (conv(4, 4, groups=4), "depthwise 3×3, 4"),
        (conv(4, 8, groups=2, dilation=2), "conv 3×3, 8, 2 groups, dilation 2"),
        (MaxPool2D((3, 2), 2), "max-pool 3×2, / 2"),
    ],
)
def test_words(layer, words):
    assert describe(layer)[0] == words


def test_quantities():
    assert quantity(12_345) == "12,345"
    assert quantity(4_089_184_256) == "4.09 billion"
    assert quantity(320_000_000) == "320 million"
