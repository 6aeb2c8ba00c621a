"""Names of DenseNet's weights."""

from __future__ import annotations

from tinynet.interop.names.weight_names import WeightNames, renamed


def torchvision(name: str) -> WeightNames:
    """torchvision's names: features.denseblock1.denselayer2.norm1, …, classifier.

    The files that it publishes have norm.1 for norm1, conv.2 for conv2.
    """
    return WeightNames(
        library="torch",
        source=f"torchvision {name}",
        layer=renamed(
            [
                (r"^base\.", "features."),
                (r"(denselayer\d+)\.new\.", r"\1."),
                (r"^head\.classes$", "classifier"),
            ]
        ),
        epsilon=1e-5,
        older=((r"(\.denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2."),),
    )


def keras(name: str) -> WeightNames:
    """Keras's names: our block 1 is its stage 2, conv2_block3_1_conv, the transition pool2."""
    stages = [
        rule
        for block in range(1, 5)
        for rule in (
            (rf"denseblock{block}\.denselayer(\d+)\.new\.", rf"conv{block + 1}_block\1_"),
            (rf"transition{block}\.", f"pool{block + 1}_"),
        )
    ]
    return WeightNames(
        library="keras",
        source=f"keras.applications {name.replace('densenet', 'DenseNet')}",
        layer=renamed(
            [
                (r"^base\.", ""),
                *stages,
                (r"^conv0$", "conv1_conv"),
                (r"^norm0$", "conv1_bn"),
                (r"^norm5$", "bn"),
                (r"^head\.classes$", "predictions"),
                # within a layer or a transition
                (r"_norm1$", "_0_bn"),
                (r"_conv1$", "_1_conv"),
                (r"_norm2$", "_1_bn"),
                (r"_conv2$", "_2_conv"),
                (r"_norm$", "_bn"),
            ]
        ),
        epsilon=1.001e-5,
        older=((r"^fc1000/", "predictions/"),),  # in the published files
    )


NAMES = {name: (torchvision(name), keras(name)) for name in ("densenet121", "densenet169")}
