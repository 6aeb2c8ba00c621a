"""What other libraries' files call the weights of each architecture.

A map turns the dotted path of a layer of ours, ``base.layer1.0.residual.main.conv2``, into the
file's name of that layer, ``layer1.0.conv2``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from tinynet.models.vgg import VGG16, VGG19
from tinynet.train.reading import WeightsError

Library = Literal["torch", "keras"]
Rules = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class WeightNames:
    """Names and conventions of one architecture's weights in the files of one library.

    library   "torch" or "keras": whose layouts and variable names the files use
    source    package and function that make the same network, such as "torchvision resnet50"
    layer     dotted path of a layer of ours -> what the file calls that layer
    requires  settings that the network must have been built with: with others, the same weights
              would fit and compute something else
    epsilon   batch norm's ε in that library, which the weights were trained with; loading sets it.
              None: the architecture has no batch norm
    ignored   regular expressions of whole names in the file that mean nothing here
    older     (pattern, replacement) for whole array names that the library has changed since it
              published files, or that a file leaves open
    """

    library: Library
    source: str
    layer: Callable[[str], str]
    requires: dict[str, Any] = field(default_factory=dict)
    epsilon: float | None = None
    ignored: tuple[str, ...] = (r".*num_batches_tracked",)
    older: tuple[tuple[str, str], ...] = ()

    def of_today(self, arrays: dict[str, Any]) -> dict[str, Any]:
        """The same arrays, an ``older`` name replaced by today's unless that is in the file too."""
        return rename_keys(arrays, renamed(self.older))


def renamed(rules: Rules) -> Callable[[str], str]:
    r"""A function that applies every (pattern, replacement) in turn to a layer's path.

    A pattern is a regular expression that ``re.sub`` replaces everywhere in the path:
    ``renamed([(r"^base\.", ""), (r"^head\.fc$", "fc")])``.
    """
    compiled = [(re.compile(pattern), replacement) for pattern, replacement in rules]

    def rename(path: str) -> str:
        for pattern, replacement in compiled:
            path = pattern.sub(replacement, path)
        return path

    return rename


def rename_keys(arrays: dict[str, Any], rename: Callable[[str], str]) -> dict[str, Any]:
    """The same arrays by new names; those that would get the same name keep their own."""
    count = Counter(map(rename, arrays))
    return {rename(name) if count[rename(name)] == 1 else name: x for name, x in arrays.items()}


def names_of(architecture: str, library: Library) -> WeightNames:
    """Names of an architecture's weights in a library's files.

    Raises WeightsError if tinynet does not know them.
    """
    known = {names.library: names for names in NAMES.get(architecture, ())}
    if library not in known:
        others = f", only in {', '.join(known)}'s" if known else ""
        raise WeightsError(
            f"the weights of {architecture} are not known in {library}'s files{others}: "
            "give the names in the file yourself, as a WeightNames"
        )
    return known[library]


NAMES: dict[str, tuple[WeightNames, ...]] = {}  # of each architecture, one for each library


torch, keras = partial(WeightNames, "torch"), partial(WeightNames, "keras")
CLASSES = ((r"^(probs|fc1000)/", "predictions/"),)  # in files that were published for Keras 1 and 2

# AlexNet and VGG. torchvision numbers all layers of the base and of the head, with ReLUs, pools
# and dropouts: a convolution and its ReLU take two numbers, a pool takes one.

ALEXNET = {"base.conv1": "features.0", "base.conv2": "features.3", "base.conv3": "features.6"}
ALEXNET |= {"base.conv4": "features.8", "base.conv5": "features.10", "head.fc6": "classifier.1"}
ALEXNET |= {"head.fc7": "classifier.4", "head.classes": "classifier.6"}
VGG_HEAD = {"fc1": "classifier.0", "fc2": "classifier.3", "classes": "classifier.6"}
VGG_KERAS = (
    (r"^base\.(block\d)\.(conv\d)$", r"\1_\2"),
    (r"^head\.(fc\d)$", r"\1"),
    (r"^head\.classes$", "predictions"),
)


def vgg_torch(convolutions: Sequence[int]) -> Callable[[str], str]:
    """Names in a network whose blocks have these numbers of convolutions."""
    layers = {f"head.{ours}": theirs for ours, theirs in VGG_HEAD.items()}
    number = 0
    for block, count in enumerate(convolutions, start=1):
        for conv in range(1, count + 1):
            layers[f"base.block{block}.conv{conv}"] = f"features.{number}"
            number += 2
        number += 1
    return layers.__getitem__


NAMES["alexnet"] = (torch("torchvision alexnet", ALEXNET.__getitem__, {"one_tower": True}),)
for name, counts in (("vgg16", VGG16), ("vgg19", VGG19)):
    NAMES[name] = (
        torch(f"torchvision {name}", vgg_torch(counts), {"batch_norm": False}),
        keras(f"keras.applications.{name.upper()}", renamed(VGG_KERAS), {"batch_norm": False}),
    )

# GoogLeNet, torchvision's: its weights come from a network that took images scaled to [-1, 1], so
# give the network (x − 0.5) / 0.5 for x in [0, 1]. torchvision's transform_input turns images
# normalised the usual way into these. Its file has the auxiliary classifiers, too.

NAMES["googlenet"] = (
    torch(
        "torchvision googlenet",
        renamed([(r"^base\.", ""), (r"^head\.classes$", "fc"), (r"^(aux\d)\.classes$", r"\1.fc2")]),
        {"batch_norm": True, "five_by_five": False}
        | {"local_response_norm": False, "paper_pools": False},
        1e-3,
        ignored=(r".*num_batches_tracked", r"aux\d\..*"),  # for auxiliary=False
    ),
)

# ResNet and SE-ResNet. Keras counts stages from 2, blocks from 1, and the shortcut's layers are 0.

RESNET = (
    (r"^base\.", ""),
    (r"\.residual\.main\.", "."),
    (r"\.residual\.skip\.conv$", ".downsample.0"),
    (r"\.residual\.skip\.bn$", ".downsample.1"),
    (r"^head\.classes$", "fc"),
)


def resnet_keras(path: str) -> str:
    """``base.layer1.0.residual.main.conv2`` -> ``conv2_block1_2_conv``."""
    block = re.fullmatch(r"base\.layer(\d)\.(\d+)\.residual\.(?:main|skip)\.(conv|bn)(\d?)", path)
    if block:
        stage, position, kind, number = block.groups()
        return f"conv{int(stage) + 1}_block{int(position) + 1}_{number or 0}_{kind}"
    return {"base.conv1": "conv1_conv", "base.bn1": "conv1_bn", "head.classes": "predictions"}[path]


TORCH_FORM = {"stride_in": "3x3", "conv_bias": False}
KERAS_FORM = {"stride_in": "1x1", "conv_bias": True}
for depth in (50, 101, 152):
    NAMES[f"resnet{depth}"] = (
        torch(f"torchvision resnet{depth}", renamed(RESNET), TORCH_FORM, 1e-5),
        keras(
            f"keras.applications.ResNet{depth}", resnet_keras, KERAS_FORM, 1.001e-5, older=CLASSES
        ),
    )
NAMES["se_resnet50"] = (
    torch(
        "timm seresnet50",
        renamed((*RESNET, (r"\.se\.path\.", ".se."))),
        TORCH_FORM | {"reduction": 16},
        1e-5,
    ),
)

# Inception-v4: timm numbers the blocks, and blocks C have names without dots inside.

INCEPTION_V4 = {"stem": 0, "inception_a": 6, "reduction_a": 10}  # stage -> its first block's number
INCEPTION_V4 |= {"inception_b": 11, "reduction_b": 18, "inception_c": 19}


def inception_v4_timm(path: str) -> str:
    """``base.inception_c.2.branch1.1.a.conv`` -> ``features.21.branch1_1a.conv``."""
    if path == "head.classes":
        return "last_linear"
    _, stage, inner = path.split(".", 2)
    block = "0"
    if not stage.startswith("reduction"):
        block, inner = inner.split(".", 1)
    if stage == "inception_c":
        inner = re.sub(r"^(branch[12])\.(\d)(?:\.([ab]))?\.", r"\1_\2\3.", inner)
    return f"features.{INCEPTION_V4[stage] + int(block)}.{inner}"


REQUIRES = {"repeats": (4, 7, 3), "as_drawn": False}
NAMES["inception_v4"] = (torch("timm inception_v4", inception_v4_timm, REQUIRES, 1e-3),)

# Inception-ResNet-v2. Keras gives most of these layers automatic names, numbered in the order in
# which they were made: conv2d, conv2d_1, … and batch_normalization, …, 203 of each. Where the
# numbers start depends on the session that wrote the file, so the reader counts them again from
# the smallest (keras_file.counted_again). The convolutions behind the branches (block35_1_conv)
# and the last one (conv_7b) have names, and are not counted. Keras's batch norms have no γ here,
# which a .weights.h5 does not say.

# stage     blocks      a block's convolutions
STAGES = (
    ("mixed_5b", None, "branch0 branch1.0 branch1.1 branch2.0 branch2.1 branch2.2 branch3.1"),
    ("block35", 10, "branch0 branch1.0 branch1.1 branch2.0 branch2.1 branch2.2"),
    ("mixed_6a", None, "branch0 branch1.0 branch1.1 branch1.2"),
    ("block17", 20, "branch0 branch1.0 branch1.1 branch1.2"),
    ("mixed_7a", None, "branch0.0 branch0.1 branch1.0 branch1.1 branch2.0 branch2.1 branch2.2"),
    ("block8", 10, "branch0 branch1.0 branch1.1 branch1.2"),
)
COUNTED = [
    *("conv2d_1a", "conv2d_2a", "conv2d_2b", "conv2d_3b", "conv2d_4a"),
    *(
        f"{stage}.{convolution}" if blocks is None else f"{stage}.{block}.{convolution}"
        for stage, blocks, convolutions in STAGES
        for block in range(blocks or 1)
        for convolution in convolutions.split()
    ),
]
SHORT = ((r"^base\.", ""), (r"\.residual\.main(\.branches)?\.", "."))
shortened = renamed(SHORT)


def inception_resnet_keras(path: str) -> str:
    """``base.block35.0.residual.main.branches.branch0.conv`` -> ``conv2d_12``."""
    if path == "head.classes":
        return "predictions"
    convolution, kind = shortened(path).rsplit(".", 1)
    if kind == "conv2d":  # the 1×1 behind the branches
        stage, block = convolution.split(".")
        return f"{stage}_{int(block) + 1}_conv"
    if convolution == "conv2d_7b":
        return {"conv": "conv_7b", "bn": "conv_7b_bn"}[kind]
    name = {"conv": "conv2d", "bn": "batch_normalization"}[kind]
    number = COUNTED.index(convolution)
    return f"{name}_{number}" if number else name


INCEPTION_RESNET = (
    *SHORT,
    (r"^block35\.", "repeat."),
    (r"^block17\.", "repeat_1."),
    (r"^block8\.9\.", "block8."),  # the one without ReLU stands by itself
    (r"^block8\.(\d)\.", r"repeat_2.\1."),
    (r"^head\.classes$", "classif"),
)
REQUIRES = {"repeats": (10, 20, 10), "as_drawn": False}
SCALE = {"batch_norm_scale": True}
NAMES["inception_resnet_v2"] = (
    torch("timm inception_resnet_v2", renamed(INCEPTION_RESNET), REQUIRES | SCALE, 1e-3),
    keras(
        "keras.applications.InceptionResNetV2",
        inception_resnet_keras,
        REQUIRES | {"batch_norm_scale": False},
        1e-3,
        older=((r"/beta_or_gamma$", "/beta"),),
    ),
)

# DenseNet: our block 1 is Keras's stage 2, the transition behind it pool2. The files that
# torchvision publishes have norm.1 for norm1.

DENSENET = (
    (r"^base\.", "features."),
    (r"(denselayer\d+)\.new\.", r"\1."),
    (r"^head\.classes$", "classifier"),
)
DENSENET_KERAS = (
    (r"^base\.", ""),
    *((rf"^denseblock{i}\.denselayer(\d+)\.new\.", rf"conv{i + 1}_block\1_") for i in range(1, 5)),
    *((rf"^transition{i}\.", f"pool{i + 1}_") for i in range(1, 5)),
    *((r"^conv0$", "conv1_conv"), (r"^norm0$", "conv1_bn"), (r"^norm5$", "bn")),
    (r"^head\.classes$", "predictions"),
    *((r"_norm1$", "_0_bn"), (r"_conv1$", "_1_conv"), (r"_norm2$", "_1_bn")),
    *((r"_conv2$", "_2_conv"), (r"_norm$", "_bn")),
)
NORM_1 = (r"(\.denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.")
for depth in (121, 169):
    NAMES[f"densenet{depth}"] = (
        torch(f"torchvision densenet{depth}", renamed(DENSENET), epsilon=1e-5, older=(NORM_1,)),
        keras(
            f"keras.applications.DenseNet{depth}",
            renamed(DENSENET_KERAS),
            {},
            1.001e-5,
            older=CLASSES,
        ),
    )

# MobileNet: timm has its blocks in stages, one for each number of filters.

MOBILENET_KERAS = (
    (r"^base\.block(\d+)\.(conv_dw|conv_pw)$", r"\2_\1"),
    (r"^base\.block(\d+)\.bn1$", r"conv_dw_\1_bn"),
    (r"^base\.block(\d+)\.bn2$", r"conv_pw_\1_bn"),
    *((r"^base\.conv1$", "conv1"), (r"^base\.bn1$", "conv1_bn")),
    (r"^head\.classes$", "conv_preds"),
)
BLOCKS = [f"blocks.{stage}.{i}" for stage, n in enumerate((1, 2, 2, 6, 2)) for i in range(n)]
MOBILENET = (
    *((rf"^base\.block{number}\.", f"{theirs}.") for number, theirs in enumerate(BLOCKS, 1)),
    *((r"^base\.conv1$", "conv_stem"), (r"^base\.bn1$", "bn1")),
    (r"^head\.classes$", "classifier"),
)
NAMES["mobilenet"] = (
    torch("timm mobilenetv1_100", renamed(MOBILENET), {"padding": "symmetric"}, 1e-5),
    keras("keras.applications.MobileNet", renamed(MOBILENET_KERAS), {"padding": "keras"}, 1e-3),
)

# ShuffleNet v2: torchvision numbers a branch's layers, ReLUs too; branch 1 starts at its depthwise.

BRANCH1 = {"conv2": 0, "bn2": 1, "conv3": 2, "bn3": 3}
BRANCH2 = {"conv1": 0, "bn1": 1, "conv2": 3, "bn2": 4, "conv3": 5, "bn3": 6}
SHUFFLENET = (
    (r"^base\.", ""),
    *((rf"\.unit{i}\.join\.", f".{i - 1}.") for i in range(1, 9)),
    *((rf"\.branch1\.{ours}$", f".branch1.{i}") for ours, i in BRANCH1.items()),
    *((rf"\.branch2\.{ours}$", f".branch2.{i}") for ours, i in BRANCH2.items()),
    *((r"^(conv[15])\.conv$", r"\1.0"), (r"^(conv[15])\.bn$", r"\1.1")),
    (r"^head\.classes$", "fc"),
)
NAMES["shufflenet_v2"] = (
    torch("torchvision shufflenet_v2_x1_0", renamed(SHUFFLENET), epsilon=1e-5),
)
