"""Inception-ResNet-v2's weights as timm and Keras name them.

Keras gives most of these layers automatic names, numbered in the order in which they were made:
``conv2d``, ``conv2d_1``, … and ``batch_normalization``, ``batch_normalization_1``, …, 203 of each.
Where the numbers start is no part of the network: Keras 2 starts at 1, TensorFlow's Keras and
Keras 3 start without a number, and a session that made other layers before goes on counting. So
the map here is one of order: the numbers are those of a fresh session of Keras 3, and a file's are
to be counted from its smallest. The order of layers in a file is no guide, since Keras writes them
by their depth in the network. The layers behind the branches (``block35_1_conv``) and the last
convolution (``conv_7b``) have names of their own and are not counted.
"""

from __future__ import annotations

from tinynet.interop.names.weight_names import WeightNames, renamed

REPEATS = (10, 20, 10)

# The convolutions with automatic names, in the order in which Keras makes them.
STEM = ("conv2d_1a", "conv2d_2a", "conv2d_2b", "conv2d_3b", "conv2d_4a")
# stage     blocks      a block's convolutions
STAGES = (
    ("mixed_5b", None, "branch0 branch1.0 branch1.1 branch2.0 branch2.1 branch2.2 branch3.1"),
    ("block35", REPEATS[0], "branch0 branch1.0 branch1.1 branch2.0 branch2.1 branch2.2"),
    ("mixed_6a", None, "branch0 branch1.0 branch1.1 branch1.2"),
    ("block17", REPEATS[1], "branch0 branch1.0 branch1.1 branch1.2"),
    ("mixed_7a", None, "branch0.0 branch0.1 branch1.0 branch1.1 branch2.0 branch2.1 branch2.2"),
    ("block8", REPEATS[2], "branch0 branch1.0 branch1.1 branch1.2"),
)
AUTOMATIC = [
    *STEM,
    *(
        f"{stage}.{convolution}" if blocks is None else f"{stage}.{block}.{convolution}"
        for stage, blocks, convolutions in STAGES
        for block in range(blocks or 1)
        for convolution in convolutions.split()
    ),
]
NUMBER = {convolution: number for number, convolution in enumerate(AUTOMATIC)}
KERAS = {"conv": "conv2d", "bn": "batch_normalization"}

short = renamed([(r"^base\.", ""), (r"\.residual\.main(\.branches)?\.", ".")])

timm_rules = renamed(
    [
        (r"^block35\.", "repeat."),
        (r"^block17\.", "repeat_1."),
        (r"^block8\.9\.", "block8."),  # the one without ReLU stands by itself
        (r"^block8\.(\d)\.", r"repeat_2.\1."),
        (r"^head\.classes$", "classif"),
    ]
)


def timm_layer(path: str) -> str:
    """``base.block35.3.residual.main.branches.branch0.conv`` -> ``repeat.3.branch0.conv``."""
    return timm_rules(short(path))


def keras_layer(path: str) -> str:
    """``base.block35.0.residual.main.branches.branch0.conv`` -> ``conv2d_12``."""
    if path == "head.classes":
        return "predictions"
    convolution, kind = short(path).rsplit(".", 1)
    if kind == "conv2d":  # the 1×1 behind the branches
        stage, block = convolution.split(".")
        return f"{stage}_{int(block) + 1}_conv"
    if convolution == "conv2d_7b":
        return {"conv": "conv_7b", "bn": "conv_7b_bn"}[kind]
    number = NUMBER[convolution]
    return f"{KERAS[kind]}_{number}" if number else KERAS[kind]


NAMES: dict[str, tuple[WeightNames, ...]] = {
    "inception_resnet_v2": (
        WeightNames(
            "keras",
            "keras.applications.InceptionResNetV2",
            keras_layer,
            requires={"repeats": REPEATS, "batch_norm_scale": False, "as_drawn": False},
            epsilon=1e-3,
        ),
        WeightNames(
            "torch",
            "timm inception_resnet_v2",
            timm_layer,
            requires={"repeats": REPEATS, "batch_norm_scale": True, "as_drawn": False},
            epsilon=1e-3,
        ),
    )
}
