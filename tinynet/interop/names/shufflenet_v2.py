"""Names of ShuffleNet v2's weights."""

from __future__ import annotations

from tinynet.interop.names.weight_names import WeightNames, renamed

# torchvision numbers the layers of a branch, ReLUs too; the one beside F starts at its depthwise
BRANCH1 = {"conv2": 0, "bn2": 1, "conv3": 2, "bn3": 3}
BRANCH2 = {"conv1": 0, "bn1": 1, "conv2": 3, "bn2": 4, "conv3": 5, "bn3": 6}

torchvision = WeightNames(
    library="torch",
    source="torchvision shufflenet_v2_x1_0",
    layer=renamed(
        [
            (r"^base\.", ""),
            *((rf"\.unit{i}\.join\.", f".{i - 1}.") for i in range(1, 9)),
            *((rf"\.branch1\.{ours}$", f".branch1.{i}") for ours, i in BRANCH1.items()),
            *((rf"\.branch2\.{ours}$", f".branch2.{i}") for ours, i in BRANCH2.items()),
            (r"^(conv[15])\.conv$", r"\1.0"),
            (r"^(conv[15])\.bn$", r"\1.1"),
            (r"^head\.classes$", "fc"),
        ]
    ),
    epsilon=1e-5,
)

NAMES = {"shufflenet_v2": (torchvision,)}
