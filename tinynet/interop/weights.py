"""A network's weights on disk, with what is needed to build it again.

The file is safetensors: every parameter and buffer by its dotted name, in our layouts, and in the
metadata the architecture's name and settings as JSON. ``safetensors.numpy.load_file`` reads it too.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from tinynet._version import __version__
from tinynet.interop.convert import Slot, under
from tinynet.interop.load import architecture_of, check_skip, fitting, set_epsilon
from tinynet.layer import Layer
from tinynet.layers import BatchNorm
from tinynet.models.architecture import Architecture, plain
from tinynet.train.checkpoint import CheckpointError, save_arrays
from tinynet.train.reading import (
    Budget,
    FileError,
    WeightsError,
    beginning,
    check_suffix,
    naming,
    read_safetensors,
    single,
)

SUFFIXES = (".safetensors",)
FREE = ("num_classes", "input_shape", "epsilon", "keep_prob")  # shapes tell, or loading sets it


def save_weights(model: Layer, file: str | Path) -> None:
    """Write every parameter and buffer of ``model`` to a ``.safetensors`` file, atomically.

    The metadata says which architecture it is, with which settings, and each batch norm's ε.
    A network without an architecture is saved too; ``load_weights`` then needs the network.
    Raises WeightsError if the file's name has another suffix or it cannot be written.
    """
    path = Path(file)
    try:
        check_suffix(path, SUFFIXES)
        layers = model.named_layers().items()
        norms = {path: layer.epsilon for path, layer in layers if isinstance(layer, BatchNorm)}
        texts = {"tinynet": __version__, "epsilon": json.dumps(norms, default=float)}
        made = architecture_of(model)
        if made is not None:
            texts["architecture"] = made.name
            texts["settings"] = json.dumps(made.settings)
        save_arrays(path, model.state(), texts)
    except CheckpointError as error:
        raise WeightsError(str(error)) from error
    except FileError as error:
        raise WeightsError(f"{path}: {error}") from None
    except (TypeError, ValueError) as error:
        raise WeightsError(
            f"{path}: the settings of the network cannot be written as JSON ({error}): build it "
            "with numbers, texts and tuples"
        ) from error


def load_weights(
    file: str | Path, model: Layer | None = None, *, skip: Sequence[str] = ()
) -> Layer:
    """The network of a file of ``save_weights``, or ``model`` with the file's weights.

    model   None: the network is built from the file's architecture and settings
    skip    paths of layers of ``model`` that keep their own weights, such as a new head's
            ("head.classes",)
    Raises WeightsError, with ``model`` as it was, if the file cannot be read, is of another
    architecture or other settings, does not fit, or has a number that is not finite.
    """
    path = Path(file)
    skip = (skip,) if isinstance(skip, str) else tuple(skip)
    with naming(path, WeightsError):
        beginning(path)
        check_suffix(path, SUFFIXES, "; load_torch and load_keras read other libraries' files")
        arrays, texts = read_safetensors(path)
        arrays = {name: single(x) for name, x in arrays.items()}
        budget = Budget(path.stat().st_size)
        made = architecture_in(texts, arrays, budget)
        if model is None:
            model = built(made, arrays)
        else:
            check_same(architecture_of(model), made)
        state = model.state()
        check_skip(skip, state, arrays, ".")
        wanted = {name: x for name, x in state.items() if not under(name, skip)}
        places = {name: Slot(name, x.shape, lambda array: array) for name, x in wanted.items()}
        unexpected = [name for name in arrays if name not in wanted and not under(name, skip)]
        loaded = fitting(places, arrays, unexpected, state, made.name if made else "this network")
        norms = norms_in(parsed(texts, "epsilon", budget), model, skip)
    model.load_state(state | loaded)
    set_epsilon(model, norms, made.settings.get("epsilon") if made else None)
    return model


def architecture_in(
    texts: dict[str, str], arrays: dict[str, np.ndarray], budget: Budget
) -> Architecture | None:
    """The architecture that the file says it is of.

    Raises WeightsError if the file is not one of ``save_weights``.
    """
    if "tinynet" not in texts or "epsilon" not in texts:
        checkpoint = any(name.startswith("model/") for name in arrays)
        reader = "tinynet.train.checkpoint.load_checkpoint" if checkpoint else "load_torch"
        raise FileError(f"was not written by save_weights: try {reader}")
    if "architecture" not in texts:
        return None
    settings = parsed(texts, "settings", budget)
    return Architecture(texts["architecture"], {key: plain(x) for key, x in settings.items()})


def parsed(texts: dict[str, str], key: str, budget: Budget) -> dict[str, Any]:
    """A dict that the metadata has as JSON."""
    value = budget.json(texts.get(key, "{}"), f"its {key}")
    if not isinstance(value, dict):
        raise FileError(f"its {key} are a {type(value).__name__}, want names and values")
    return value


class _Counted(np.random.Generator):
    """Starting weights of 0, which a file's replace: no more of them than the file has."""

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        super().__init__(np.random.PCG64(0))
        self.arrays, self.numbers = len(arrays), sum(x.size for x in arrays.values())

    def zeros(self, size: Any) -> np.ndarray:
        self.arrays -= 1
        self.numbers -= prod(np.atleast_1d(size).tolist())
        if self.arrays < 0 or self.numbers < 0:
            raise FileError("its settings are of a larger network than its arrays: it is damaged")
        return np.zeros(size)

    def uniform(self, low: Any = 0.0, high: Any = 1.0, size: Any = None) -> Any:
        return self.zeros(size)

    def standard_normal(self, size: Any = None, *_: Any, **__: Any) -> Any:
        return self.zeros(size)


def built(made: Architecture | None, arrays: dict[str, np.ndarray]) -> Layer:
    """The network that the file describes, in the type of its arrays."""
    if made is None:
        raise FileError(
            "does not say which architecture it is of: build the network, and give it as model="
        )
    try:
        model: Layer = made.build(_Counted(arrays))
    except (ValueError, TypeError, KeyError, OverflowError, MemoryError) as error:
        raise FileError(f"{made.name} cannot be built from it ({error})") from error
    wide = any(x.dtype == "float64" for x in arrays.values())
    return model.to(dtype="float64") if wide else model


def check_same(own: Architecture | None, made: Architecture | None) -> None:
    """Raise WeightsError if two networks compute something else with the same weights."""
    if own is None or made is None:
        return
    if own.name != made.name:
        raise FileError(f"holds weights of {made.name}, the network is {own.name}")
    keys = [key for key in made.settings | own.settings if key not in FREE]
    pairs = {key: (made.settings.get(key), own.settings.get(key)) for key in keys}
    other = ", ".join(
        f"{key}={theirs!r}" for key, (theirs, ours) in pairs.items() if theirs != ours
    )
    if other:
        raise FileError(f"holds weights of another {made.name}: build it with {other}")


def norms_in(
    epsilons: dict[str, Any], model: Layer, skip: Sequence[str]
) -> list[tuple[BatchNorm, float]]:
    """Each batch norm of ``model`` that the file has an ε for, with it."""
    found = []
    layers = model.named_layers()
    for path, epsilon in epsilons.items():
        layer = layers.get(path)
        if isinstance(layer, BatchNorm) and not under(path, skip):
            if not isinstance(epsilon, float) or not 0 < epsilon < np.inf:
                raise FileError(f"says that the ε of {path} is {epsilon}: it is damaged")
            found.append((layer, epsilon))
    return found
