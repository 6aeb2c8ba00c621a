"""Load the weights of PyTorch's and Keras's files into a network of ours, all or none of them.

report = load_torch(resnet50(1000, (224, 224, 3), rng=rng), "resnet50-0676ba61.pth")
print(report)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from functools import partial
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
from tinynet.interop.keras_file import LEFT_OPEN, read_keras
from tinynet.interop.names import Library, WeightNames, names_of, rename_keys, renamed
from tinynet.interop.torch_file import read_torch
from tinynet.layer import Layer, Shape
from tinynet.layers import BatchNorm
from tinynet.models.architecture import Architecture
from tinynet.train.reading import FileError, WeightsError, finite

SHOWN = 3  # names in a line
MOST_PREFIXES = 1000  # that are tried
# what DataParallel, torch.compile, FSDP and activation checkpointing put into names
WRAPPERS = r"(?<![^.])(module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
COUNT_OF_AVERAGES = "n_averaged"  # in the state of PyTorch's AveragedModel


@dataclass(frozen=True)
class LoadReport:
    """What loading a file did, array by array; ``print`` shows it as a table.

    file         the file
    source       whose names and layouts it has, such as "torchvision resnet50"
    loaded       our name -> the file's name, of each array that was loaded
    reshaped     our name -> (shape in the file, shape here), where the layout differs
    skipped      our names under ``skip``, which kept their own values
    missing      names that the file lacks, all of them under ``skip``
    unexpected   names that only the file has, all of them under ``skip``
    ignored      names that mean nothing here, such as PyTorch's num_batches_tracked
    settings     setting -> (before, now), where the weights need another value
    """

    file: str
    source: str
    loaded: dict[str, str] = field(default_factory=dict)
    reshaped: dict[str, tuple[Shape, Shape]] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    settings: dict[str, tuple[Any, Any]] = field(default_factory=dict)

    def __str__(self) -> str:
        changes = {"loaded": [f"{theirs} → {ours}" for ours, theirs in self.loaded.items()]}
        for row in ("reshaped", "settings"):
            pairs = getattr(self, row).items()
            changes[row] = [f"{name} {old} → {new}" for name, (old, new) in pairs]
        lines = [f"{self.file}, weights of {self.source}"]
        for row in [row.name for row in fields(self)][2:]:
            names = changes.get(row, getattr(self, row))
            lines.append(f"{row:<11}{len(names):>6}   {listed(names)}".rstrip())
        return "\n".join(lines)


def load_torch(
    model: Layer,
    file: str | Path,
    *,
    skip: Sequence[str] = (),
    names: WeightNames | None = None,
    input_shape: Shape | None = None,
) -> LoadReport:
    """Load a PyTorch file, ``.pth``, ``.pt``, ``.ckpt`` or ``.safetensors``, into ``model``.

    Nothing in the file is executed.  Every array of the network has to be in the file and the other
    way round, in the right shape, or nothing is loaded.  Batch norm's ε becomes that of the
    library the weights are from, in the layers and in ``model.architecture``.  The prefixes of
    DataParallel, torch.compile and weight averaging, or another one before every name, are
    taken off.
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
    made = architecture_of(model)
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
    join = JOIN[names.library]
    made = architecture_of(model)
    shape = input_shape or (made.settings.get("input_shape") if made else None)
    try:
        if shape is None and names.library == "torch":  # a flatten's order depends on it
            raise WeightsError(
                "the network does not say which images it is for: give input_shape=(H, W, C)"
            )
        places = slots(model, names, tuple(shape or ()), skip)
        wanted = dict.fromkeys(slot.name for slot in places.values())
        if names.library == "torch":
            arrays = unwrapped(arrays, wanted)
        arrays = names.of_today(arrays)
        check_skip(skip, state, arrays, join)
        others = dict.fromkeys(name for name in arrays if name not in wanted)
        nothing = (*names.ignored, COUNT_OF_AVERAGES)
        ignored = {name: 0 for name in others if any(re.fullmatch(p, name) for p in nothing)}
        skipped_layers = [path for path in model.named_layers() if under(path, skip)]
        paths = [*skipped_layers, *skip, *(f"{path}.classes" for path in skip)]  # a replaced head
        left_out = [*skip, *known(partial(layer_name, names), paths)]
        unexpected = [n for n in others if n not in ignored and not under(n, left_out, join)]
        loaded = fitting(places, arrays, unexpected, state, names.source)
    except FileError as error:
        raise WeightsError(f"{file}: {error}") from error.__cause__
    model.load_state(state | loaded)
    shapes = {name: (arrays[places[name].name].shape, x.shape) for name, x in loaded.items()}
    skipped = [name for name in state if name not in places]
    norms = [
        (layer, names.epsilon)
        for path, layer in model.named_layers().items()
        if isinstance(layer, BatchNorm) and names.epsilon and not under(path, skip)
    ]
    return LoadReport(
        str(file),
        names.source,
        loaded={name: places[name].name for name in loaded},
        reshaped={name: pair for name, pair in shapes.items() if pair[0] != pair[1]},
        skipped=tuple(skipped),
        missing=tuple(n for n in known(partial(array_name, names), skipped) if n not in arrays),
        unexpected=tuple(n for n in others if n not in ignored),
        ignored=tuple(ignored),
        settings=set_epsilon(model, norms, names.epsilon),
    )


def architecture_of(model: Layer) -> Architecture | None:
    return getattr(model, "architecture", None)


def unwrapped(arrays: dict[str, np.ndarray], wanted: Collection[str]) -> dict[str, np.ndarray]:
    """The arrays by the names that the network gives them, without those of what was around it.

    What a wrapper puts into a name is taken out; then one prefix before all that is wanted, such
    as the ``model.`` of the object that trained the network.  A wanted name stays as it is.
    Raises WeightsError if several networks in the file would fit.
    """
    bare = renamed([(WRAPPERS, "")])
    arrays = rename_keys(arrays, lambda name: name if name in wanted else bare(name))
    if not wanted or any(name in arrays for name in wanted):
        return arrays
    end = f".{next(iter(wanted))}"
    prefixes = [name.removesuffix(end) + "." for name in arrays if name.endswith(end)]
    prefixes = prefixes[:MOST_PREFIXES]
    fits = {prefix: sum(prefix + name in arrays for name in wanted) for prefix in prefixes}
    most = max(fits.values(), default=0)
    best = [prefix for prefix in fits if fits[prefix] == most]
    if len(best) > 1 and fits[best[0]] == len(wanted):
        raise WeightsError(
            f"holds several such networks ({listed(best)}): save the one that is wanted"
        )
    return rename_keys(arrays, lambda name: name.removeprefix(best[0])) if best else arrays


def known(name_of: Callable[[str], str], ours: Sequence[str]) -> list[str]:
    """What the file calls these layers or arrays, those left out that it has no name for."""
    found = []
    for name in ours:
        with suppress(WeightsError):
            found.append(name_of(name))
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
                f"skip names {path!r}, which is not a layer with weights here nor in the file: "
                f"want a path such as {list(tops)[-1]!r}"
            )


def fitting(
    places: dict[str, Slot],
    arrays: dict[str, np.ndarray],
    unexpected: Sequence[str],
    state: dict[str, Array],
    source: str,
) -> dict[str, np.ndarray]:
    """The arrays that go into a network, by our names, in its layouts and types.

    unexpected   names that the file should not have
    source       whose weights would fit
    Raises WeightsError if one is missing, unexpected, of another shape, or not finite.
    """
    missing, misfits, found = [], [], {}
    for name, slot in places.items():
        if slot.name not in arrays:
            missing.append(slot.name)
            continue
        x = fitted(slot, arrays[slot.name])
        if x is None:
            misfits.append(f"{slot.name} is {arrays[slot.name].shape}, want {slot.there}")
        else:
            found[name] = x
    kinds = {"missing": missing, "unexpected": unexpected, "of another shape": misfits}
    faults = [f"{len(which)} {what} ({listed(which)})" for what, which in kinds.items() if which]
    if faults:
        if any(name.endswith(LEFT_OPEN) for name in unexpected):
            advice = (
                f"it does not say whether {LEFT_OPEN} is γ or β: save the network as .keras, which "
                f'does, or, if it is β, give names with older=(("{LEFT_OPEN}$", "beta"),)'
            )
        elif 2 * len(missing) > len(places):
            advice = f"it is of another architecture, want weights of {source}"
        else:
            advice = (
                "build the network with the settings of the weights, or name the layers that keep "
                'their own in skip, such as skip=("head.classes",)'
            )
        raise WeightsError(f"of {len(places)} arrays, {'; '.join(faults)}: {advice}")
    return {name: finite(x, places[name].name, state[name]) for name, x in found.items()}


def set_epsilon(
    model: Layer, norms: Sequence[tuple[BatchNorm, float]], setting: float | None
) -> dict[str, tuple[Any, Any]]:
    """Give batch norms the ε their weights were trained with; what that changed.

    setting   the architecture's ε from now on; None: what it was
    """
    changed = [(norm.epsilon, epsilon) for norm, epsilon in norms if norm.epsilon != epsilon]
    for norm, epsilon in norms:
        norm.epsilon = epsilon
    made = architecture_of(model)
    if made is not None and setting is not None and "epsilon" in made.settings:
        settings = made.settings | {"epsilon": setting}
        model.architecture = replace(made, settings=settings)  # type: ignore[attr-defined]
    return {"epsilon": changed[0]} if changed else {}


def listed(names: Sequence[str], most: int = SHOWN) -> str:
    """The first names, and that there are more."""
    return ", ".join(names[:most]) + (", …" if names[most:] else "")
