"""A network that starts from another's weights: those of a run, of a file of tinynet's, of
PyTorch's or of Keras's.  Report §2.5.6.

Nothing is downloaded: docs/weights.md says where the official files are.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Any, Literal

from examples.mura.errors import UserError
from examples.mura.model import build_model
from examples.mura.run import load_model, open_run
from examples.mura.settings import Settings, parsed
from tinynet.interop import load_keras, load_torch, load_weights
from tinynet.interop.names import names_of
from tinynet.models import Classifier
from tinynet.models.architecture import ARCHITECTURES, Architecture
from tinynet.train.checkpoint import load_arrays

Kind = Literal["run", "tinynet", "torch", "keras"]
SUFFIXES: dict[str, Kind] = {
    ".h5": "keras",
    ".keras": "keras",
    ".pth": "torch",
    ".pt": "torch",
    ".bin": "torch",
}

# what photographs look like to each library's networks, where it is not "torch"
PREPROCESSING = {
    "torch": {
        "googlenet": "tf",  # torchvision turns ImageNet's form into this one inside the network
        "inception_v4": "tf",
        "inception_resnet_v2": "tf",
        "mobilenet": "tf",
    },
    "keras": {
        "vgg16": "caffe",
        "vgg19": "caffe",
        "resnet50": "caffe",
        "resnet101": "caffe",
        "resnet152": "caffe",
        "inception_resnet_v2": "tf",
        "mobilenet": "tf",
    },
}
# settings that make no difference to the base and its weights
OF_THE_HEAD = {"num_classes", "input_shape", "hidden", "keep_prob", "auxiliary_keep_prob"}
OF_THE_HEAD |= {"auxiliary", "zero_last_gamma"}


def kind_of(weights: str) -> Kind:
    """Whose weights a path leads to.

    Raises UserError if there is nothing there, or it is none of the kinds by its name.
    """
    path = Path(weights)
    if path.is_dir():
        return "run"
    if not path.exists():
        raise UserError(f"--weights {path}: there is no such file: check the path")
    if path.suffix == ".safetensors":
        texts = load_arrays(path)[1]
        if "format" in texts and "tinynet" in texts:
            raise UserError(
                f"--weights {path} is a checkpoint: give the run's folder, {path.parent}"
            )
        return "tinynet" if "tinynet" in texts else "torch"
    if path.suffix not in SUFFIXES:
        raise UserError(
            f"--weights {path}: the name ends in {path.suffix or 'no suffix'!r}, want "
            f"{', '.join([*SUFFIXES, '.safetensors'])}, or a run's folder"
        )
    return SUFFIXES[path.suffix]


def with_weights(s: Settings) -> Settings:
    """The settings with all that ``weights`` ask for: channels, preprocessing, the builder's.

    What was given is left as it is. Raises UserError if ``kind_of`` does, WeightsError if the
    architecture's weights are not known in the library's files.
    """
    if not s.weights:
        return s
    kind = kind_of(s.weights)
    if kind == "run":
        other = open_run(Path(s.weights)).settings
        return with_form(s, other.form.channels, other.form.name)
    if kind == "tinynet":
        settings = json.loads(load_arrays(s.weights)[1].get("settings", "{}"))
        return with_form(s, settings.get("input_shape", (0, 0, 1))[2], "centred")
    names = names_of(s.model, kind)
    wanted = dict(names.requires)
    if names.epsilon is not None and "epsilon" in signature(ARCHITECTURES[s.model]).parameters:
        wanted["epsilon"] = names.epsilon
    given = parsed(s.network)
    more = tuple(f"{name}={value!r}" for name, value in wanted.items() if name not in given)
    s = replace(s, network=(*s.network, *more))
    return with_form(s, 3, PREPROCESSING[kind].get(s.model, "torch"))


def with_form(s: Settings, channels: int, form: str) -> Settings:
    """The settings with these channels and this preprocessing, where none were given."""
    channels = s.channels or channels
    if s.preprocessing != "auto":
        form = s.preprocessing
    elif channels == 1:
        form = "centred"
    return replace(s, channels=channels, preprocessing=form)


def starting_model(s: Settings) -> Classifier:
    """The network with the weights to start from, and a new head; says what was loaded.

    Raises UserError or WeightsError, one line, if they are of another network.
    """
    model = build_model(s)
    if not s.weights:
        return model
    kind = kind_of(s.weights)
    new = tuple(name for name in model.children() if name != "base")  # the head, GoogLeNet's aux
    if kind == "torch":
        print(load_torch(model, s.weights, skip=new), file=sys.stderr)
    elif kind == "keras":
        print(load_keras(model, s.weights, skip=new), file=sys.stderr)
    elif kind == "tinynet":
        load_weights(s.weights, model, skip=new)
    else:
        other = load_model(open_run(Path(s.weights)))
        refuse_other(s, model.architecture, other.architecture)
        model.base.load_state(other.base.state())
    return model


def refuse_other(s: Settings, own: Architecture | None, other: Architecture | None) -> None:
    """Raise UserError unless both have the same base."""
    assert own is not None  # a builder made both
    assert other is not None
    if own.name != other.name:
        raise UserError(
            f"--weights {s.weights} are of {other.name}, the network is {own.name}: "
            f"give --model {other.name}, or other weights"
        )
    theirs, ours = of_the_base(other), of_the_base(own)
    differing = [f"{k} {theirs[k]}, not {ours[k]}" for k in theirs if theirs[k] != ours[k]]
    if differing:
        raise UserError(
            f"--weights {s.weights} are of a {own.name} with {'; '.join(differing)}: give the "
            "settings that they were made with"
        )


def of_the_base(made: Architecture) -> dict[str, Any]:
    """The settings that a base and its weights depend on."""
    values = {k: v for k, v in made.settings.items() if k not in OF_THE_HEAD}
    return values | {"channels": made.settings["input_shape"][2]}


def sha256(weights: str) -> str:
    """Of the file, or of a run's best checkpoint: which weights a run started from."""
    path = Path(weights)
    with open(path / "best.safetensors" if path.is_dir() else path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
