"""Names and arrays of a Keras file: ``.weights.h5``, ``.keras``, and the old ``.h5``.

A ``.keras`` is a zip of config.json, which could rebuild the network, and model.weights.h5.
Only the names of the layers are taken from the first, so that nothing in it runs, Lambda layers
neither.
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from tinynet.interop.errors import WeightsError
from tinynet.interop.files import beginning, suffix_of
from tinynet.interop.h5_file import LARGEST_GROWTH, Tree, read_h5
from tinynet.interop.keras_names import arrays_by_layer
from tinynet.interop.torch_file import DAMAGED

SUFFIXES = (".weights.h5", ".keras", ".h5", ".hdf5")
OPTIMIZERS = ("optimizer", "optimizer_weights")


def read_keras(file: str | Path) -> dict[str, np.ndarray]:
    """ "layer/variable" -> array of a Keras file of weights, or of a whole model.

    Layers that Keras named are counted again from conv2d, conv2d_1, … in the file's order.
    Raises WeightsError, naming the file, if it cannot be read.  Needs h5py.
    """
    path = Path(file)
    try:
        start = beginning(path)
        suffix = suffix_of(path, SUFFIXES, "; a PyTorch file is read by load_torch")
        if suffix == ".keras":
            if not start.startswith(b"PK"):
                raise WeightsError("is no zip, as a .keras is: download or save it again")
            return arrays_by_layer(*read_archive(path))
        return arrays_by_layer(read_h5(path, OPTIMIZERS))
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error.__cause__


def read_archive(path: Path) -> tuple[Tree, dict[str, Any]]:
    """The arrays of a ``.keras``, and its config."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename: info for info in archive.infolist()}
            for name in ("config.json", "model.weights.h5"):
                if name not in members:
                    raise WeightsError(f"has no {name} inside: save it from Keras 3 again")
                if members[name].file_size > LARGEST_GROWTH * path.stat().st_size:
                    raise WeightsError(f"{name} inside would grow without end: refused")
            config_text, data = archive.read("config.json"), archive.read("model.weights.h5")
    except DAMAGED as error:
        raise WeightsError(f"is cut short or damaged ({error}): copy it again") from error
    try:
        config = json.loads(config_text)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"its config.json cannot be read ({error}): save it again") from error
    return read_h5(io.BytesIO(data), OPTIMIZERS), config
