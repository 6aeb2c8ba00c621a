"""Names of weights in other libraries' files, one module per family of architectures."""

from __future__ import annotations

from importlib import import_module

from tinynet.interop.errors import WeightsError
from tinynet.interop.names.weight_names import Library, WeightNames, renamed

__all__ = ["FAMILIES", "Library", "WeightNames", "names_of", "renamed"]

# architecture -> the module here whose NAMES has it
FAMILIES = {
    "alexnet": "alexnet",
    "vgg16": "vgg",
    "vgg19": "vgg",
    "googlenet": "googlenet",
    "resnet50": "resnet",
    "resnet101": "resnet",
    "resnet152": "resnet",
    "se_resnet50": "se_resnet",
    "inception_v4": "inception_v4",
    "inception_resnet_v2": "inception_resnet_v2",
    "densenet121": "densenet",
    "densenet169": "densenet",
    "mobilenet": "mobilenet",
    "shufflenet_v2": "shufflenet_v2",
}


def names_of(architecture: str, library: Library) -> WeightNames:
    """Names of an architecture's weights in a library's files.

    Raises WeightsError if tinynet does not know them.
    """
    known: dict[str, WeightNames] = {}
    if architecture in FAMILIES:
        family = import_module(f"tinynet.interop.names.{FAMILIES[architecture]}")
        known = {names.library: names for names in family.NAMES[architecture]}
    if library not in known:
        others = f", only in {', '.join(known)}'s" if known else ""
        raise WeightsError(
            f"the weights of {architecture} are not known in {library}'s files{others}: "
            "give the names in the file yourself, as a WeightNames"
        )
    return known[library]
