"""Names of GoogLeNet's weights: torchvision's googlenet. Keras has none.

torchvision's official weights came from a network that took images scaled to [-1, 1]. Its
``transform_input=True``, which it sets with these weights, turns an image normalised the usual way,
(x − mean) / deviation for x in [0, 1], into one normalised like that: for the channels red, green
and blue

    x · (0.229, 0.224, 0.225) / 0.5 + ((0.485, 0.456, 0.406) − 0.5) / 0.5

That is done to the images and is no part of the network here: give the network (x − 0.5) / 0.5 for
x in [0, 1]. The official file holds arrays for the auxiliary classifiers, too; torchvision says
that they are not trained.
"""

from __future__ import annotations

from tinynet.interop.names.weight_names import WeightNames, renamed

TORCHVISION = renamed(
    [
        (r"^base\.", ""),
        (r"^head\.classes$", "fc"),
        (r"^(aux\d)\.classes$", r"\1.fc2"),
    ]
)

NAMES: dict[str, tuple[WeightNames, ...]] = {
    "googlenet": (
        WeightNames(
            "torch",
            "torchvision googlenet",
            TORCHVISION,
            requires={
                "batch_norm": True,
                "five_by_five": False,
                "local_response_norm": False,
                "paper_pools": False,
            },
            epsilon=1e-3,
            ignored=(r".*num_batches_tracked", r"aux\d\..*"),  # for auxiliary=False
        ),
    )
}
