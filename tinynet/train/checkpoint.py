"""Checkpoints: named arrays on disk, written whole or not at all.

The format is safetensors: a table of names, types and shapes, then the numbers. Reading one cannot
execute code, whoever wrote it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tinynet._version import __version__
from tinynet.backend import Array, to_device
from tinynet.layer import Layer
from tinynet.optimizers.base import Optimizer
from tinynet.train.files import write_whole
from tinynet.train.reading import (
    Budget,
    CheckpointError,
    FileError,
    finite,
    naming,
    read_safetensors,
    refuse_unless,
)

FORMAT = "1"


def save_arrays(
    path: str | Path, arrays: dict[str, Array], metadata: dict[str, str] | None = None
) -> None:
    """Write named arrays (NumPy's or CuPy's) and texts to ``path`` as safetensors, atomically.

    Raises CheckpointError if the file cannot be written; what was there before is then whole.
    """
    import safetensors.numpy  # imported where it is used: import tinynet needs NumPy alone

    # safetensors writes an array's memory as it lies, so it has to lie in C order
    flat = {name: np.asarray(to_device(x, "numpy"), order="C") for name, x in arrays.items()}
    write_whole(Path(path), safetensors.numpy.save(flat, metadata=metadata))


def load_arrays(path: str | Path) -> tuple[dict[str, Array], dict[str, str]]:
    """Read what ``save_arrays`` wrote, or any safetensors file: the named arrays and the texts.

    bfloat16 is read as float32.
    Raises CheckpointError, naming the file, if it is missing, damaged or not safetensors.
    """
    with naming(path, CheckpointError):
        return read_safetensors(Path(path))


def save_checkpoint(
    path: str | Path,
    model: Layer,
    optimizer: Optimizer | None = None,
    position: dict[str, Any] | None = None,
) -> None:
    """Write a model, an optimiser's state and a position in training to one file, atomically.

    position   names -> arrays, or what JSON can hold; it comes back as it is
    Raises CheckpointError if the file cannot be written; what was there before is then whole.
    """
    position = position or {}
    arrays = {f"model/{name}": x for name, x in model.state().items()}
    metadata = {"format": FORMAT, "tinynet": __version__}
    if optimizer is not None:
        arrays |= {f"optimizer/{name}": x for name, x in optimizer.state().items()}
        metadata["optimizer"] = type(optimizer).__name__
    plain = {}
    for name, value in position.items():
        if hasattr(value, "dtype"):
            arrays[f"position/{name}"] = value
        else:
            plain[name] = value
    save_arrays(path, arrays, metadata | {"position": json.dumps(plain)})


def load_checkpoint(
    path: str | Path,
    model: Layer,
    optimizer: Optimizer | None = None,
    *,
    expect: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Load what ``save_checkpoint`` wrote into a model and, if given, an optimiser.

    expect   names -> values that the saved position must hold, such as the seed
    Returns the position.  Raises CheckpointError, with model and optimiser as they were, if the
    file cannot be read, is of another format, or of another model, optimiser or ``expect``.
    """
    position, arrays = read_checkpoint(path, optimizer, expect or {})
    apply_checkpoint(path, arrays, model, optimizer)
    return position


def read_checkpoint(
    path: str | Path, optimizer: Optimizer | None, expect: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Array]]:
    """The position and all arrays of a checkpoint; nothing is changed yet.

    Raises CheckpointError as ``load_checkpoint``, but for the model's and the optimiser's numbers.
    """
    arrays, metadata = load_arrays(path)
    with naming(path, CheckpointError):
        if metadata.get("format") != FORMAT:
            raise FileError(
                f"is not a tinynet checkpoint of format {FORMAT} (it says "
                f"{metadata.get('format', 'nothing')!r}): use one that this version wrote, "
                "or another version of tinynet"
            )
        wanted = type(optimizer).__name__
        found = metadata.get("optimizer")
        if optimizer is not None and found != wanted:
            raise FileError(
                f"holds the state of {'no optimiser' if found is None else found}, "
                f"want {wanted}: continue with the optimiser it was trained with"
            )
        budget = Budget(Path(path).stat().st_size)
        position = budget.json(metadata.get("position", "{}"), "its position")
        refuse_unless(isinstance(position, dict), "its position is not names and values")
        for name, value in expect.items():
            if position.get(name) != value:
                raise FileError(
                    f"was written with {name} {position.get(name)}, this run has {value}: "
                    "continue with the same, or start a new run in another folder"
                )
    return position | _under("position/", arrays), arrays


def apply_checkpoint(
    path: str | Path, arrays: dict[str, Array], model: Layer, optimizer: Optimizer | None
) -> None:
    """Load a checkpoint's arrays into a model and an optimiser, or neither."""
    before = {name: x.copy() for name, x in model.state().items()}
    memory = _under("optimizer/", arrays)
    load_all(path, model, _under("model/", arrays))
    try:
        if optimizer is not None:
            _check_memory(memory, before)
            optimizer.load_state(memory)
    except (ValueError, FileError) as error:
        model.load_state(before)
        raise CheckpointError(f"{path}: {error}") from error


def load_all(path: str | Path, model: Layer, state: dict[str, Array]) -> None:
    """Load a file's weights into a model, if all of them are finite floats and fit."""
    own = model.state()
    try:
        model.load_state({n: finite(x, n, own[n]) if n in own else x for n, x in state.items()})
    except (ValueError, FileError) as error:
        raise CheckpointError(f"{path}: {error}") from error


def _check_memory(memory: dict[str, Array], own: dict[str, Array]) -> None:
    """Raise FileError unless these can be an optimiser's numbers for a model's weights."""
    for key, x in memory.items():
        like = own.get(key.partition(".")[2])
        if like is not None and x.shape not in ((), like.shape):
            raise FileError(f"the optimiser's {key} is {x.shape}, want {like.shape}")
        wrong = like is not None and like.dtype.kind == "f" and x.dtype.kind == "c"
        if wrong or (x.dtype.kind in "fc" and np.isnan(x).any()):
            raise FileError(f"the optimiser's {key} holds {x.dtype} or NaN: use another checkpoint")


def _under(prefix: str, arrays: dict[str, Array]) -> dict[str, Array]:
    return {name.removeprefix(prefix): x for name, x in arrays.items() if name.startswith(prefix)}
