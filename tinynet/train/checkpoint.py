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
from tinynet.train.files import CheckpointError, write_whole

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

    Raises CheckpointError, naming the file, if it is missing, cut short or not safetensors.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            names, metadata = file.keys(), file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in names}
    except FileNotFoundError:
        raise CheckpointError(f"{path}: there is no such file: check the path") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error}): check the path") from error
    except SafetensorError as error:
        cut = "not fully covered" in str(error) or "incomplete" in str(error).lower()
        what = "is cut short" if cut else "is not a safetensors file"
        raise CheckpointError(
            f"{path}: {what} ({error}): use another checkpoint, or copy this one again"
        ) from error
    except TypeError as error:
        raise _no_type(path, error) from error
    for x in arrays.values():
        if x.dtype.isbuiltin != 1:  # a package that was imported gave NumPy the type
            raise _no_type(path, x.dtype)
    return arrays, metadata


def _no_type(path: str | Path, which: object) -> CheckpointError:
    return CheckpointError(
        f"{path}: holds numbers that NumPy has no type for ({which}): convert it to float32"
    )


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
    arrays, metadata = load_arrays(path)
    if metadata.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: is not a tinynet checkpoint of format {FORMAT} (it says "
            f"{metadata.get('format', 'nothing')!r}): use one that this version wrote, "
            "or another version of tinynet"
        )
    wanted = type(optimizer).__name__
    found = metadata.get("optimizer")
    if optimizer is not None and found != wanted:
        raise CheckpointError(
            f"{path}: holds the state of {'no optimiser' if found is None else found}, "
            f"want {wanted}: continue with the optimiser it was trained with"
        )
    position = _position(path, arrays, metadata)
    for name, value in (expect or {}).items():
        if position.get(name) != value:
            raise CheckpointError(
                f"{path}: was written with {name} {position.get(name)}, this run has {value}: "
                "continue with the same, or start a new run in another folder"
            )
    before = {name: x.copy() for name, x in model.state().items()}
    try:
        model.load_state(_under("model/", arrays))
        if optimizer is not None:
            optimizer.load_state(_under("optimizer/", arrays))
    except ValueError as error:
        model.load_state(before)
        raise CheckpointError(f"{path}: {error}") from error
    return position


def _position(
    path: str | Path, arrays: dict[str, Array], metadata: dict[str, str]
) -> dict[str, Any]:
    try:
        plain = json.loads(metadata.get("position", "{}"))
    except ValueError as error:
        raise CheckpointError(
            f"{path}: its position is not JSON ({error}): use another checkpoint"
        ) from error
    return dict(plain) | _under("position/", arrays)


def _under(prefix: str, arrays: dict[str, Array]) -> dict[str, Array]:
    return {name.removeprefix(prefix): x for name, x in arrays.items() if name.startswith(prefix)}
