"""Which layer and variable each array of a Keras file is: "layer/variable".

Two kinds of file, as Keras 3.15 writes them (keras/src/saving/saving_lib.py and
keras/src/legacy/saving/legacy_h5_format.py):

``.weights.h5`` and ``.keras``   a layer's group is called after its class and its place among the
    layers of that class, layers/conv2d_1, whatever its name; its variables are vars/0, vars/1, … in
    the order of the layer.  The layer's name is an attribute of vars; before Keras wrote that, only
    the config.json of a ``.keras`` has it.
old ``.h5``                      model_weights, or the file itself, lists layer_names; a layer's
    group lists weight_names, "conv1/kernel:0".  Files from Keras 1 have names like
    "block1_conv1_W_1:0", in the order of the layer.

Names that Keras made up (conv2d_7) count from where the program that wrote them stood: they are
counted again here, from conv2d, conv2d_1, …
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from tinynet.interop.errors import WeightsError
from tinynet.interop.h5_file import Tree

VARIABLES = {"kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance"}
VARIABLES |= {"depthwise_kernel", "pointwise_kernel", "embeddings", "mean", "variance", "count"}
AUTOMATIC = ("conv2d", "batch_normalization", "depthwise_conv2d", "separable_conv2d", "dense")
NOT_LAYERS = {"optimizer", "seed_generator", "metrics", "_compile_metrics"}


def arrays_by_layer(tree: Tree, config: dict[str, Any] | None = None) -> dict[str, np.ndarray]:
    """ "layer/variable" -> array.

    config   config.json of a ``.keras``
    Raises WeightsError if the file does not say which layer an array belongs to.
    """
    root = "model_weights" if "model_weights" in tree.texts else ""
    old = "layer_names" in tree.texts[root]
    layers = old_layers(tree, root) if old else layers_of(tree, config)
    names = counted_again(layers)
    return {
        f"{names[layer]}/{variable}": x
        for layer, variables in layers.items()
        for variable, x in variables.items()
    }


def layers_of(tree: Tree, config: dict[str, Any] | None) -> dict[str, dict[str, np.ndarray]]:
    """Layer -> variable -> array of a file of Keras 3."""
    groups: dict[str, dict[str, np.ndarray]] = {}
    for path, x in tree.arrays.items():
        group, _, position = path.rpartition("/")
        if NOT_LAYERS & set(group.split("/")):
            continue
        if group.split("/")[-1] != "vars" or not position.isdecimal():
            raise WeightsError(f"{path} is not where Keras puts a layer's arrays")
        groups.setdefault(group, {})[position] = x
    names = names_in(config) if config else {}
    layers: dict[str, dict[str, np.ndarray]] = {}
    for group, numbered in groups.items():
        place = group.removesuffix("vars").rstrip("/")
        name = tree.texts[group].get("name", [names.get(place, "")])[0]
        if not name:
            raise WeightsError(
                f"does not say which layer {place or 'the first array'} is: an older Keras wrote "
                "it; load it there and save it as .keras, which does"
            )
        arrays = [numbered[position] for position in sorted(numbered, key=int)]
        put(layers, name, variables_of(arrays))
    return layers


def old_layers(tree: Tree, root: str) -> dict[str, dict[str, np.ndarray]]:
    """Layer -> variable -> array of an old ``.h5``."""
    layers: dict[str, dict[str, np.ndarray]] = {}
    for listed in tree.texts[root]["layer_names"]:
        group = f"{root}/{listed}".strip("/")
        paths = tree.texts.get(group, {}).get("weight_names", [])
        missing = [path for path in paths if f"{group}/{path}" not in tree.arrays]
        if missing:
            raise WeightsError(
                f"lists {missing[0]} in {group}, but does not have it: copy it again"
            )
        parents = dict.fromkeys(path.rpartition("/")[0] for path in paths)
        for parent in parents:  # more than one: the layer is a network of its own
            inner = [path for path in paths if path.rpartition("/")[0] == parent]
            name = listed if len(parents) == 1 else parent.rpartition("/")[2]
            name = name.replace("/", "_")
            variables = [path.rpartition("/")[2].partition(":")[0] for path in inner]
            arrays = [tree.arrays[f"{group}/{path}"] for path in inner]
            named = dict(zip(variables, arrays, strict=True))
            known = VARIABLES.issuperset(variables) and len(named) == len(arrays)
            put(layers, name, named if known else variables_of(arrays))
    for variables_here in layers.values():
        if "pointwise_kernel" not in variables_here and "depthwise_kernel" in variables_here:
            variables_here["kernel"] = variables_here.pop("depthwise_kernel")
    return layers


def put(layers: dict[str, dict[str, np.ndarray]], name: str, new: dict[str, np.ndarray]) -> None:
    """One more layer.  Raises WeightsError if there is one of that name."""
    if name in layers:
        raise WeightsError(f"has two layers named {name}: name them apart and save it again")
    layers[name] = new


def variables_of(arrays: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Names of a layer's variables, from their order and shapes.

    Three vectors are batch norm without its scale, as Inception's; without its shift, which no
    network here has, looks the same.
    """
    dimensions = [x.ndim for x in arrays]
    if dimensions and dimensions[0] >= 2:
        names = ["kernel", "bias"]
        if len(dimensions) > 1 and dimensions[1] >= 2:
            names = ["depthwise_kernel", "pointwise_kernel", "bias"]
    elif dimensions == [1, 1, 1, 1]:
        names = ["gamma", "beta", "moving_mean", "moving_variance"]
    elif dimensions == [1, 1, 1]:
        names = ["beta", "moving_mean", "moving_variance"]
    else:
        names = []
    if len(arrays) > len(names):
        names = [str(i) for i in range(len(arrays))]
    return dict(zip(names, arrays, strict=False))


def counted_again(layers: Iterable[str]) -> dict[str, str]:
    """Layer -> its name with those that Keras made up counted from 0, in their own order."""
    names = {layer: layer for layer in layers}
    for kind in AUTOMATIC:
        numbers = {}
        for layer in names:
            match = re.fullmatch(rf"{kind}(?:_(\d+))?", layer)
            if match:
                numbers[layer] = int(match[1] or 0)
        for i, layer in enumerate(sorted(numbers, key=numbers.__getitem__)):
            names[layer] = f"{kind}_{i}" if i else kind
    return names


def names_in(config: dict[str, Any]) -> dict[str, str]:
    """Group in the file -> layer's name, from the layers of a config.json in their order."""
    found: dict[str, str] = {}

    def visit(network: Any, prefix: str, depth: int) -> None:
        inside = network.get("config") if isinstance(network, dict) else None
        layers = inside.get("layers") if isinstance(inside, dict) else None
        if not isinstance(layers, list) or depth > 8:
            return
        seen: dict[str, int] = {}
        for layer in layers:
            if not isinstance(layer, dict) or not isinstance(layer.get("config"), dict):
                raise WeightsError("its config.json is not Keras's")
            kind = snake_case(str(layer.get("class_name")))
            number = seen[kind] = seen.get(kind, -1) + 1
            group = f"{prefix}layers/{kind}_{number}" if number else f"{prefix}layers/{kind}"
            found[group] = str(layer["config"].get("name", ""))
            visit(layer, group + "/", depth + 1)

    visit(config, "", 0)
    return found


def snake_case(name: str) -> str:
    """A class's name as Keras writes it in a file: BatchNormalization -> batch_normalization."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=.)(?=[A-Z][a-z])", "_", name).lower()
