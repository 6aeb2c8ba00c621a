"""Weights of PyTorch's and Keras's files into a network of ours.

report = load_torch(resnet50(1000, (224, 224, 3), rng=rng), "resnet50-0676ba61.pth")
print(report)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tinynet.backend import Array
from tinynet.interop.convert import (
    JOIN,
    Slot,
    array_name,
    fitted,
    layer_name,
    settings_mismatch,
    slots,
    under,
)
from tinynet.interop.errors import WeightsError
from tinynet.interop.keras_file import read_keras
from tinynet.interop.names import Library, WeightNames, names_of
from tinynet.interop.report import LoadReport, listed
from tinynet.interop.torch_file import read_torch
from tinynet.layer import Layer, Shape
from tinynet.layers import BatchNorm
from tinynet.models.architecture import Architecture


def load_torch(
    model: Layer,
    file: str | Path,
    *,
    skip: Sequence[str] = (),
    names: WeightNames | None = None,
    input_shape: Shape | None = None,
) -> LoadReport:
    """Load a PyTorch file, ``.pth``, ``.pt``, ``.bin`` or ``.safetensors``, into ``model``.

    Nothing in the file is executed.  Every array of the network has to be in the file and the other
    way round, in the right shape, or nothing is loaded.  Batch norm's ε becomes that of the
    library the weights are from, in the layers and in ``model.architecture``.
    model         a network of ``tinynet.models``; any other with ``names`` and ``input_shape``
    skip          paths of layers that keep their own weights, such as a new head's
                  ("head.classes",); or of layers in the file that are not wanted here
    names         how the file calls the layers, where it is not the architecture's own
    input_shape   (H, W, C) of one image, where the network has no architecture that says so
    Raises WeightsError, with the network as it was, if the file cannot be read, is of another
    architecture or other settings, or has a number that is not finite.
    """
    chosen = chosen_names(model, "torch", names)
    return fill(model, file, read_torch(file), chosen, skip, input_shape)


def load_keras(
    model: Layer,
    file: str | Path,
    *,
    skip: Sequence[str] = (),
    names: WeightNames | None = None,
    input_shape: Shape | None = None,
) -> LoadReport:
    """Load a Keras file, ``.weights.h5``, ``.keras`` or an old ``.h5``, into ``model``.

    As ``load_torch``.  Needs h5py: ``python -m pip install "tinynet-dl[weights]"``.
    """
    chosen = chosen_names(model, "keras", names)
    return fill(model, file, read_keras(file), chosen, skip, input_shape)


def chosen_names(model: Layer, library: Library, names: WeightNames | None) -> WeightNames:
    """``names``, or those of the network's architecture in files of the library.

    Raises WeightsError if there are none, or the network was built with other settings.
    """
    made: Architecture | None = getattr(model, "architecture", None)
    if names is None:
        if made is None:
            raise WeightsError(
                "the network has no architecture, so that it is not known how a file calls its "
                "layers: build it with tinynet.models, or give names=WeightNames(...)"
            )
        names = names_of(made.name, library)
    if names.library != library:
        raise WeightsError(
            f"the names are of {names.library}'s files: load them with load_{names.library}"
        )
    wrong = settings_mismatch(made.settings, names) if made else None
    if made and wrong:
        raise WeightsError(
            f"weights of {names.source} would compute something else in this {made.name}: {wrong}"
        )
    return names


def fill(
    model: Layer,
    file: str | Path,
    arrays: dict[str, np.ndarray],
    names: WeightNames,
    skip: Sequence[str],
    input_shape: Shape | None,
) -> LoadReport:
    """Check every array against the network, then load all of them.

    Raises WeightsError, with the network as it was, if they do not fit.
    """
    skip = (skip,) if isinstance(skip, str) else tuple(skip)
    state = model.state()
    try:
        places = slots(model, names, shape_of_input(model, names, input_shape), skip)
        join = JOIN[names.library]
        wanted = {slot.name for slot in places.values()}
        arrays = names.of_today(arrays)
        left_out = names_under(model, names, skip)
        check_skip(skip, state, arrays, join)
        found, misfits = {}, []
        for name, slot in places.items():
            if slot.name in arrays:
                x = fitted(slot, arrays[slot.name])
                if x is None:
                    misfits.append(f"{slot.name} is {arrays[slot.name].shape}, want {slot.there}")
                else:
                    found[name] = x
        missing = [slot.name for slot in places.values() if slot.name not in arrays]
        others = [name for name in arrays if name not in wanted]
        ignored = [name for name in others if any(re.fullmatch(p, name) for p in names.ignored)]
        unexpected = [n for n in others if n not in ignored and not under(n, left_out, join)]
        check_fit(places, missing, unexpected, misfits, names)
        loaded = {name: finite(x, places[name], state[name]) for name, x in found.items()}
    except WeightsError as error:
        raise WeightsError(f"{file}: {error}") from error.__cause__
    model.load_state(state | loaded)
    skipped = [name for name in state if name not in places]
    return LoadReport(
        str(file),
        names.source,
        loaded={name: places[name].name for name in loaded},
        reshaped={
            name: (arrays[places[name].name].shape, x.shape)
            for name, x in loaded.items()
            if arrays[places[name].name].shape != x.shape
        },
        skipped=tuple(skipped),
        missing=tuple(n for n in named_there(skipped, names) if n not in arrays),
        unexpected=tuple(n for n in others if n not in ignored),
        ignored=tuple(ignored),
        settings=set_epsilon(model, names.epsilon, skip),
    )


def shape_of_input(model: Layer, names: WeightNames, input_shape: Shape | None) -> Shape:
    """The shape of an image, for the order of a dense layer's columns after a flatten."""
    made: Architecture | None = getattr(model, "architecture", None)
    shape = input_shape or (made.settings.get("input_shape") if made else None)
    if shape is None and names.library == "torch":
        raise WeightsError(
            "the network does not say which images it is for: give input_shape=(H, W, C)"
        )
    return tuple(shape or ())


def names_under(model: Layer, names: WeightNames, skip: Sequence[str]) -> list[str]:
    """What the file calls the layers under ``skip``, as far as that is known."""
    paths = [path for path, layer in model.named_layers().items() if under(path, skip)]
    found = dict.fromkeys(skip)
    for path in [*paths, *skip, *(f"{path}.classes" for path in skip)]:  # a head was replaced
        try:
            found[layer_name(names, path)] = None
        except WeightsError:
            continue
    return list(found)


def named_there(ours: Sequence[str], names: WeightNames) -> list[str]:
    """What the file calls these arrays of ours, as far as that is known."""
    found = []
    for name in ours:
        path, _, variable = name.rpartition(".")
        try:
            found.append(array_name(names, path, variable))
        except WeightsError:
            continue
    return found


def check_skip(
    skip: Sequence[str], state: dict[str, Array], arrays: dict[str, np.ndarray], join: str
) -> None:
    """Raise WeightsError for a path in ``skip`` that is nowhere."""
    for path in skip:
        here = any(under(name, (path,)) for name in state)
        if not here and not any(under(name, (path,), join) for name in arrays):
            tops = dict.fromkeys(".".join(name.split(".")[:2]) for name in state)
            raise WeightsError(
                f"skip names {path!r}, which is no layer with weights here nor in the file: want "
                f"a path such as {list(tops)[-1]!r}"
            )


def check_fit(
    places: dict[str, Slot],
    missing: list[str],
    unexpected: list[str],
    misfits: list[str],
    names: WeightNames,
) -> None:
    """Raise WeightsError if any array is missing, unexpected or of another shape."""
    faults = [
        f"{len(found)} {what} ({listed(found)})"
        for what, found in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of another shape", misfits),
        )
        if found
    ]
    if not faults:
        return
    if 2 * len(missing) > len(places):
        advice = f"it is of another architecture, want weights of {names.source}"
    else:
        advice = (
            "build the network with the settings of the weights, or name the layers that keep "
            'their own in skip, such as skip=("head.classes",)'
        )
    raise WeightsError(f"of {len(places)} arrays, {'; '.join(faults)}: {advice}")


def finite(x: np.ndarray, slot: Slot, own: Array) -> np.ndarray:
    """An array in the network's own type.  Raises WeightsError if a number is not finite."""
    if x.dtype.kind != "f":
        raise WeightsError(f"{slot.name} holds {x.dtype}, want floats: save the weights as float32")
    with np.errstate(over="ignore", invalid="ignore"):
        x = x.astype(own.dtype, copy=False)
    bad = int((~np.isfinite(x)).sum())
    if bad:
        raise WeightsError(
            f"{slot.name} has {bad} of {x.size} numbers that are NaN or infinite: these weights "
            "are broken, use others"
        )
    return x


def set_epsilon(
    model: Layer, epsilon: float | None, skip: Sequence[str]
) -> dict[str, tuple[Any, Any]]:
    """Give every batch norm the ε its weights were trained with; what that changed."""
    if epsilon is None:
        return {}
    norms = [
        layer
        for path, layer in model.named_layers().items()
        if isinstance(layer, BatchNorm) and not under(path, skip)
    ]
    before = [layer.epsilon for layer in norms if layer.epsilon != epsilon]
    for layer in norms:
        layer.epsilon = epsilon
    made: Architecture | None = getattr(model, "architecture", None)
    if made is not None and "epsilon" in made.settings:
        settings = made.settings | {"epsilon": epsilon}
        model.architecture = replace(made, settings=settings)  # type: ignore[attr-defined]
    return {"epsilon": (before[0], epsilon)} if before else {}
