"""Slopes show the gradients of every kind of block; of whole networks, other tests here."""

import numpy as np
import pytest

from tests.models.peers import TRAIN, build, images, stirred
from tinynet.gradient_check import check_gradients
from tinynet.layer import EVAL
from tinynet.models.inception import STEM, STEM_AS_DRAWN
from tinynet.models.parts import Parts

# a sample of each array's elements on every run; all of them, in both modes, in the slow ones
checks = pytest.mark.parametrize(
    ("mode", "elements"),
    [
        pytest.param(TRAIN, 8, id="sample"),
        pytest.param(TRAIN, None, id="train", marks=pytest.mark.slow),
        pytest.param(EVAL, None, id="eval", marks=pytest.mark.slow),
    ],
)
RESIDUAL = {"width": 1 / 64}
INCEPTION = {"width": 1 / 96, "repeats": (1, 1, 2)}
PAPER = {
    "batch_norm": False,
    "five_by_five": True,
    "local_response_norm": True,
    "paper_pools": True,
}
SMALL_GOOGLENET = {"width": 1 / 64, "keep_prob": 1.0, "auxiliary_keep_prob": 1.0}

# network, settings, side that it is built for, path of the block, (height, width) of its input
BLOCKS = [
    ("alexnet", {"width": 1 / 64, "hidden": 6}, 67, "head", (1, 1)),
    ("vgg19", {"width": 1 / 64, "hidden": 2}, 32, "base.block3", (4, 5)),
    ("vgg16", {"width": 1 / 64, "hidden": 2, "batch_norm": True}, 32, "base.block3", (4, 5)),
    ("vgg_like", {"filters": (2, 3), "hidden": 4}, 4, "", (4, 4)),
    ("vgg_like", {"filters": (2, 3), "hidden": 4, "batch_norm": True}, 4, "", (4, 4)),
    ("googlenet", SMALL_GOOGLENET, 17, "base.inception3b", (4, 3)),
    ("googlenet", SMALL_GOOGLENET, 17, "aux1", (5, 6)),
    ("googlenet", SMALL_GOOGLENET | PAPER, 79, "base.inception3b", (4, 3)),
    ("googlenet", SMALL_GOOGLENET | PAPER, 224, "aux1", (14, 14)),
    *[
        ("resnet50", RESIDUAL | settings, 17, f"base.{block}", (5, 4))
        for settings in ({}, {"stride_in": "1x1", "conv_bias": True}, {"reduction": 2})
        for block in ("layer1.0", "layer1.1", "layer2.0")  # W_s, the identity, a stride
    ],
    *[
        ("small_resnet", {"depth": 8, "filters": (2, 3, 4)} | settings, 5, "", (5, 4))
        for settings in ({}, {"shortcuts": False}, {"projection": True}, {"batch_norm": False})
    ],
    ("densenet121", {"width": 1 / 32}, 29, "base.denseblock1", (5, 3)),
    ("densenet121", {"width": 1 / 16}, 29, "base.transition1", (5, 3)),
    ("mobilenet", {"width": 1 / 8}, 31, "base.block1", (5, 4)),
    ("mobilenet", {"width": 1 / 16}, 31, "base.block2", (5, 4)),
    ("mobilenet", {"width": 1 / 16, "padding": "symmetric"}, 9, "base.block2", (5, 4)),
    ("shufflenet_v2", {"width": 1 / 29}, 9, "base.stage2.unit1", (5, 4)),
    ("shufflenet_v2", {"width": 1 / 29}, 9, "base.stage2.unit2", (5, 4)),
    ("inception_v4", INCEPTION, 75, "base.inception_a.0", (4, 3)),
    ("inception_v4", INCEPTION, 75, "base.reduction_a", (5, 6)),
    ("inception_v4", INCEPTION, 75, "base.inception_b.0", (4, 3)),
    ("inception_v4", INCEPTION, 75, "base.reduction_b", (5, 5)),
    ("inception_v4", INCEPTION, 75, "base.inception_c.0", (3, 4)),
    ("inception_resnet_v2", INCEPTION, 75, "base.mixed_5b", (4, 3)),
    ("inception_resnet_v2", INCEPTION, 75, "base.mixed_6a", (5, 6)),
    ("inception_resnet_v2", INCEPTION, 75, "base.mixed_7a", (6, 5)),
    ("inception_resnet_v2", INCEPTION, 75, "base.block35.0", (4, 3)),
    ("inception_resnet_v2", INCEPTION, 75, "base.block17.0", (4, 3)),
    ("inception_resnet_v2", INCEPTION, 75, "base.block8.0", (4, 3)),
    ("inception_resnet_v2", INCEPTION, 75, "base.block8.1", (4, 3)),  # without factor and ReLU
]


def block_of(name, settings, side, path):
    """(block, its channels): as the network has it, with random scales, shifts and biases."""
    model = stirred(build(name, 2, (side, side, 2), **settings), 0.1, 0.5)
    channels = {where: shape[-1] for where, _, shape in model.walk((side, side, 2))}
    first = next(where for where in channels if where.startswith(path))
    return (model.named_layers()[path] if path else model), channels[first]


@checks
@pytest.mark.parametrize(("name", "settings", "side", "path", "size"), BLOCKS)
def test_gradients_of_every_kind_of_block(name, settings, side, path, size, mode, elements):
    block, channels = block_of(name, settings, side, path)
    x = images((*size, channels), count=3)
    report = check_gradients(block, x, mode, elements=elements)
    assert report.undecidable == 0
    assert {check.name for check in report.arrays} == {"x", *block.parameters()}


@checks
@pytest.mark.parametrize(
    ("plan", "shape"),
    [
        (STEM[:4], (11, 12, 1)),
        (STEM[4], (5, 6, 3)),
        (STEM_AS_DRAWN[4], (5, 6, 3)),
        (STEM[5], (5, 4, 3)),
    ],
)
def test_gradients_of_the_inception_stem(plan, shape, mode, elements):
    parts = Parts(np.random.default_rng(0), 1 / 32, 1e-3)
    part = stirred(parts(plan, shape[-1]))
    assert check_gradients(part, images(shape, count=3), mode, elements=elements).undecidable == 0
