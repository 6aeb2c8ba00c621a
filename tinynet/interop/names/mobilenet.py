"""Names of MobileNet's weights."""

from __future__ import annotations

from tinynet.interop.names.weight_names import WeightNames, renamed

# timm has its blocks in stages, one for each number of filters
TIMM_STAGES = (1, 2, 2, 6, 2)
TIMM_BLOCKS = [
    f"blocks.{stage}.{place}" for stage, blocks in enumerate(TIMM_STAGES) for place in range(blocks)
]

keras = WeightNames(
    library="keras",
    source="keras.applications MobileNet",
    layer=renamed(
        [
            (r"^base\.block(\d+)\.(conv_dw|conv_pw)$", r"\2_\1"),
            (r"^base\.block(\d+)\.bn1$", r"conv_dw_\1_bn"),
            (r"^base\.block(\d+)\.bn2$", r"conv_pw_\1_bn"),
            (r"^base\.conv1$", "conv1"),
            (r"^base\.bn1$", "conv1_bn"),
            (r"^head\.classes$", "conv_preds"),
        ]
    ),
    requires={"padding": "keras"},
    epsilon=1e-3,
)

timm = WeightNames(
    library="torch",
    source="timm mobilenetv1_100",
    layer=renamed(
        [
            *(
                (rf"^base\.block{number}\.", f"{name}.")
                for number, name in enumerate(TIMM_BLOCKS, start=1)
            ),
            (r"^base\.conv1$", "conv_stem"),
            (r"^base\.bn1$", "bn1"),
            (r"^head\.classes$", "classifier"),
        ]
    ),
    requires={"padding": "symmetric"},
    epsilon=1e-5,
)

NAMES = {"mobilenet": (timm, keras)}
