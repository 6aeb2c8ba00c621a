"""Names and arrays of a Keras file: ``.weights.h5``, ``.keras``, and the old ``.h5``.

``.weights.h5`` and ``.keras``   as Keras 3.15 writes them: a layer's group is called after its
    class and its place among the layers of that class, layers/conv2d_1, whatever its name; its
    variables are vars/0, vars/1, … in the order of the layer.  The layer's name is an attribute of
    vars; before Keras wrote that, only the config.json of a ``.keras`` has it.
old ``.h5``                      model_weights, or the file itself, lists layer_names; a layer's
    group lists weight_names, "conv1/kernel:0".  Files from Keras 1 have names like
    "block1_conv1_W_1:0", in the order of the layer.

A ``.keras`` is a zip of config.json, which could rebuild the network, and model.weights.h5.  Only
the names of layers and the switches of batch norms are taken from the first, so nothing in it runs,
not even a Lambda layer.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tinynet.interop.h5_file import Tree, read_h5
from tinynet.train.reading import (
    LONGEST_NAME,
    Budget,
    FileError,
    WeightsError,
    beginning,
    check_suffix,
    naming,
    refuse_unless,
)

SUFFIXES = (".weights.h5", ".keras", ".h5", ".hdf5")
OPTIMIZERS = ("optimizer", "optimizer_weights")
NOT_LAYERS = {"optimizer", "seed_generator", "metrics", "_compile_metrics"}
VARIABLES = {"kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance"}
VARIABLES |= {"depthwise_kernel", "pointwise_kernel", "embeddings", "mean", "variance", "count"}
LEFT_OPEN = "beta_or_gamma"  # the first of batch norm's three vectors in a file without a config
AUTOMATIC = ("conv2d", "batch_normalization", "depthwise_conv2d", "separable_conv2d", "dense")
DEEPEST = 8  # networks in networks
CONFIG, WEIGHTS = "config.json", "model.weights.h5"  # in a .keras

Layers = dict[str, dict[str, np.ndarray]]  # layer -> variable -> array


def read_keras(file: str | Path) -> dict[str, np.ndarray]:
    """ "layer/variable" -> array of a Keras file of weights, or of a whole model.

    Layers that Keras named are counted again from conv2d, conv2d_1, … in the file's order.
    Raises WeightsError, naming the file, if it cannot be read.  Needs h5py.
    """
    path = Path(file)
    with naming(path, WeightsError):
        start = beginning(path)
        check_suffix(path, SUFFIXES, "; a PyTorch file is read by load_torch")
        budget = Budget(path.stat().st_size)
        if path.suffix.lower() != ".keras":
            return arrays_by_layer(read_h5(path, budget, OPTIMIZERS), {})
        if not start.startswith(b"PK"):
            raise FileError("is not a zip, as a .keras is: download or save it again")
        with zipfile.ZipFile(path) as archive:
            members = {info.filename: info for info in archive.infolist()}
            for name in (CONFIG, WEIGHTS):
                if name not in members:
                    raise FileError(f"has no {name} inside: save it from Keras 3 again")
            config = budget.json(budget.member(archive, members[CONFIG]), f"its {CONFIG}")
            settings = layer_settings(config)
            data = budget.member(archive, members[WEIGHTS])
        return arrays_by_layer(read_h5(data, budget, OPTIMIZERS), settings)


def arrays_by_layer(tree: Tree, settings: dict[str, dict[str, Any]]) -> dict[str, np.ndarray]:
    """ "layer/variable" -> array.

    settings   of each layer of a ``.keras``, by its group
    Raises FileError if the file does not say which layer an array belongs to.
    """
    root = "model_weights" if "model_weights" in tree.texts else ""
    old = "layer_names" in tree.texts[root]
    layers = old_layers(tree, root) if old else layers_of(tree, settings)
    names = counted_again(layers)
    return {
        f"{names[layer]}/{variable}": x
        for layer, variables in layers.items()
        for variable, x in variables.items()
    }


def layers_of(tree: Tree, settings: dict[str, dict[str, Any]]) -> Layers:
    """The layers of a file of Keras 3."""
    groups: dict[str, dict[int, np.ndarray]] = {}
    for path, x in tree.arrays.items():
        group, _, position = path.rpartition("/")
        if NOT_LAYERS & set(group.split("/")):
            continue
        if group.split("/")[-1] != "vars" or not position.isdecimal():
            raise FileError(f"{path} is not where Keras puts a layer's arrays")
        groups.setdefault(group, {})[int(position)] = x
    layers: Layers = {}
    for group, numbered in groups.items():
        place = group.removesuffix("vars").rstrip("/")
        about = settings.get(place, {})
        name = (tree.texts[group].get("name") or [str(about.get("name", ""))])[0]
        if not name:
            raise FileError(
                f"does not say which layer {place or 'the first array'} is: an older Keras wrote "
                "it; load it there and save it as .keras, which does"
            )
        known = about if about.get("name") == name else {}
        put(layers, name, variables_of([numbered[i] for i in sorted(numbered)], known))
    return layers


def old_layers(tree: Tree, root: str) -> Layers:
    """The layers of an old ``.h5``."""
    layers: Layers = {}
    for listed in tree.texts[root]["layer_names"]:
        group = f"{root}/{listed}".strip("/")
        paths = tree.texts.get(group, {}).get("weight_names", [])
        for path in paths:
            if f"{group}/{path}" not in tree.arrays:
                raise FileError(f"lists {path} in {group}, but does not have it: copy it again")
        parents = dict.fromkeys(path.rpartition("/")[0] for path in paths)
        for parent in parents:  # more than one: the layer is itself a network
            inner = [path for path in paths if path.rpartition("/")[0] == parent]
            name = listed if len(parents) == 1 else parent.rpartition("/")[2]
            variables = [path.rpartition("/")[2].partition(":")[0] for path in inner]
            arrays = [tree.arrays[f"{group}/{path}"] for path in inner]
            named = dict(zip(variables, arrays, strict=True))
            known = VARIABLES.issuperset(variables) and len(named) == len(arrays)
            found = named if known else variables_of(arrays, {})
            if "pointwise_kernel" not in found and "depthwise_kernel" in found:
                found["kernel"] = found.pop("depthwise_kernel")
            put(layers, name.replace("/", "_"), found)
    return layers


def put(layers: Layers, name: str, new: dict[str, np.ndarray]) -> None:
    """Add a layer.  Raises FileError if there is one of that name."""
    if name in layers:
        raise FileError(f"has two layers named {name}: name them apart and save it again")
    layers[name] = new


def variables_of(arrays: Sequence[np.ndarray], settings: dict[str, Any]) -> dict[str, np.ndarray]:
    """Names of a layer's variables, from their order, their shapes and the layer's settings.

    Batch norm without β and without γ both have three vectors: without settings it stays open
    which of them the first is.
    """
    dimensions = [x.ndim for x in arrays]
    names: list[str] = []
    if dimensions and dimensions[0] >= 2:
        names = ["kernel", "bias"]
        if len(dimensions) > 1 and dimensions[1] >= 2:
            names = ["depthwise_kernel", "pointwise_kernel", "bias"]
    elif set(dimensions) == {1}:
        first = {4: ["gamma", "beta"], 3: [LEFT_OPEN]}.get(len(arrays), [""])
        if {"scale", "center"} <= settings.keys():
            first = ["gamma"] * bool(settings["scale"]) + ["beta"] * bool(settings["center"])
        names = [*first, "moving_mean", "moving_variance"] if len(first) + 2 == len(arrays) else []
    if len(arrays) > len(names):
        names = [str(i) for i in range(len(arrays))]
    return dict(zip(names, arrays, strict=False))


def counted_again(layers: Iterable[str]) -> dict[str, str]:
    """Layer -> its name; those that Keras made up (conv2d_7) are counted again from 0.

    They count from where the program that wrote them stood.
    """
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


def layer_settings(config: Any, prefix: str = "", depth: int = 0) -> dict[str, dict[str, Any]]:
    """Group in the file -> settings of its layer, from a config.json."""
    inside = config.get("config") if isinstance(config, dict) else None
    layers = inside.get("layers") if isinstance(inside, dict) else None
    if not isinstance(layers, list) or depth > DEEPEST:
        return {}
    found: dict[str, dict[str, Any]] = {}
    seen: dict[str, int] = {}
    for layer in layers:
        if not isinstance(layer, dict) or not isinstance(layer.get("config"), dict):
            raise FileError(f"its {CONFIG} is not Keras's")
        kind = snake_case(str(layer.get("class_name")))
        refuse_unless(len(kind) <= LONGEST_NAME, f"its {CONFIG} has a class with an endless name")
        number = seen[kind] = seen.get(kind, -1) + 1
        group = f"{prefix}layers/{kind}_{number}" if number else f"{prefix}layers/{kind}"
        found[group] = layer["config"]
        found |= layer_settings(layer, f"{group}/", depth + 1)
    return found


def snake_case(name: str) -> str:
    """A class's name as Keras writes it in a file: BatchNormalization -> batch_normalization."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=.)(?=[A-Z][a-z])", "_", name).lower()
