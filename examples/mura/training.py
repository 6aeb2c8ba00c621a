"""Training a run's network: its starting weights, what is frozen, the fit.  Report §2.5.6.

A network may start from another's weights: those of a run, or of a file of tinynet, PyTorch or
Keras. Nothing is downloaded: docs/weights.md says where the official files are. The head can be
trained first and more of the network afterwards; both parts are one run with one history, and the
second goes on from the first's checkpoint, which holds the whole network even where the first
trained the head on cached features.
"""

from __future__ import annotations

import hashlib
import sys
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Any, Literal

from examples.mura import records
from examples.mura.computing import CPU, Computing
from examples.mura.errors import UserError
from examples.mura.model import build_loss, build_model, build_optimizer, build_schedule
from examples.mura.prepare import Prepared
from examples.mura.radiographs import Radiographs
from examples.mura.report import too_few
from examples.mura.run import Run, load_model, open_run, training_rows
from examples.mura.settings import Settings, parsed
from tinynet.interop import WeightsError, load_keras, load_torch, load_weights
from tinynet.interop.names import NAMES, names_of
from tinynet.layer import Layer
from tinynet.models import Classifier
from tinynet.models.architecture import ARCHITECTURES, Architecture
from tinynet.schedules import History, Schedule
from tinynet.train import fit
from tinynet.train.checkpoint import load_arrays, load_checkpoint
from tinynet.train.features import cached_features
from tinynet.train.transfer import HeadOnly, frozen_table, unfreeze_from

Kind = Literal["run", "tinynet", "torch", "keras"]
SUFFIXES: dict[str, Kind] = {
    **dict.fromkeys((".h5", ".hdf5", ".keras"), "keras"),
    **dict.fromkeys((".pth", ".pt", ".bin", ".ckpt", ".tar"), "torch"),
}
# how each library's networks want photographs, if not as "torch"
PREPROCESSING = {
    "torch": dict.fromkeys(
        # torchvision turns ImageNet's form into this one inside googlenet
        ("googlenet", "inception_v4", "inception_resnet_v2", "mobilenet"),
        "tf",
    ),
    "keras": {
        **dict.fromkeys(("vgg16", "vgg19", "resnet50", "resnet101", "resnet152"), "caffe"),
        **dict.fromkeys(("inception_resnet_v2", "mobilenet"), "tf"),
    },
}
# settings that make no difference to the base and its weights
OF_THE_HEAD = {"num_classes", "input_shape", "hidden", "keep_prob", "auxiliary_keep_prob"}
OF_THE_HEAD |= {"auxiliary", "zero_last_gamma"}


def kind_of(weights: str) -> Kind:
    """The kind of weights that a path leads to.

    Raises UserError if there is nothing there, or its name is not that of any kind.
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
    """The settings completed by what ``weights`` ask for: channels, preprocessing, the builder's.

    What was given is left as it is. Raises UserError as ``kind_of`` does, and if the library has
    no such network, or a file's settings are damaged.
    """
    if not s.weights:
        return s
    kind = kind_of(s.weights)
    if kind == "run":
        other = open_run(Path(s.weights)).settings
        return with_form(s, other.form.channels, other.form.name)
    if kind == "tinynet":
        text = load_arrays(s.weights)[1].get("settings", "{}")
        try:
            settings = records.parsed(text, {"input_shape?": [int, int, int], str: object})
        except ValueError as error:
            raise UserError(f"--weights {s.weights}: {error}: use another file") from error
        return with_form(s, settings.get("input_shape", (0, 0, 1))[2], "centred")
    try:
        names = names_of(s.model, kind)
    except WeightsError as error:
        known = [n for n, made in NAMES.items() if kind in {names.library for names in made}]
        raise UserError(
            f"--weights {s.weights}: {kind} has no network like {s.model}: give a run's folder or "
            f"a file of tinynet, or --model {', '.join(sorted(known))}"
        ) from error
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


def new_network(s: Settings) -> Classifier:
    """The network to train, with its starting weights, frozen as the settings say.

    Raises UserError for settings that do not go with this network, before anything is written.
    """
    model = starting_model(s)
    try:
        unfreeze_from(model, s.unfreeze_from)  # nothing is frozen yet: is there such a layer?
        if s.cache_features:
            HeadOnly(model)
    except ValueError as error:
        raise UserError(f"--model {s.model}: {error}") from error
    freeze(model, s)
    return model


def starting_model(s: Settings) -> Classifier:
    """The network with the weights to start from, and a new head; says what was loaded.

    Raises UserError or WeightsError, one line, if they are of another network.
    """
    model = build_model(s)
    if not s.weights:
        return model
    kind = kind_of(s.weights)
    new = tuple(name for name in model.children() if name != "base")  # the head, GoogLeNet's aux
    if kind in ("torch", "keras"):
        load = load_torch if kind == "torch" else load_keras
        print(load(model, s.weights, skip=new), file=sys.stderr)
    elif kind == "tinynet":
        load_weights(s.weights, model, skip=new)
    else:
        other = load_model(open_run(Path(s.weights)))
        refuse_other(s, model.architecture, other.architecture)
        model.base.load_state(other.base.state())
    return model


def refuse_other(s: Settings, own: Architecture | None, other: Architecture | None) -> None:
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
    path = Path(weights)
    with open(path / "best.safetensors" if path.is_dir() else path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def freeze(model: Classifier, s: Settings) -> None:
    if s.freeze == "base":
        model.base.freeze()
    elif s.freeze == "statistics":
        model.base.freeze(parameters=False, dropout=False)


def train_run(run: Run, prepared: Prepared, model: Classifier | None, how: Computing = CPU) -> None:
    """Train a network, keeping last and best checkpoints and the history in the run's folder.

    model   the run's ``new_network``; None: go on from the run's last checkpoint, or begin if the
            run was stopped before its first
    how     where it is computed; the network is moved there
    """
    s = run.settings
    last = run.folder / "last.safetensors"
    resume = model is None and last.exists()
    if resume:
        model = build_model(s)
        load_checkpoint(last, model)
        freeze(model, s)
    elif model is None:
        model = new_network(s)
    network = how.placed(model)
    train, held_out = training_rows(prepared, s)
    if few := too_few(len(held_out)):
        print(f"warning: {few[0].lower()}{few[1:]}", file=sys.stderr)
    images: tuple[Any, ...] = (
        Radiographs(prepared, train, s.augmentation, s.form),
        Radiographs(prepared, held_out, None, s.form),
    )

    def fit_part(
        part: Layer, data: tuple[Any, ...], epochs: int, schedule: Schedule, resume: bool
    ) -> None:
        if s.freeze != "none":
            print(frozen_table(network), file=sys.stderr)
        fit(
            part,
            build_loss(s, prepared.labels[train]),
            build_optimizer(s),
            *data,
            epochs=epochs,
            batch_size=s.batch_size,
            seed=s.seed,
            schedule=schedule,
            metrics=("accuracy", "kappa"),
            monitor="validation_loss",
            patience=s.patience or None,
            folder=run.folder,
            resume=resume,
            precision=how.precision,
        )

    first = s.unfreeze_after or s.epochs
    if not (resume and s.unfreeze_after and len(run.history) >= first):
        part: Layer = network
        data = images
        if s.cache_features:
            folder = run.folder / "features"
            part = HeadOnly(network)
            data = tuple(cached_features(network.base, some, folder) for some in images)
        fit_part(part, data, first, build_schedule(s, s.learning_rate, first), resume)
    if s.unfreeze_after:
        unfreeze_from(network, s.unfreeze_from)
        decay = build_schedule(s, s.fine_tune_rate, s.epochs - first)

        def later(epoch: int, history: History = ()) -> float:
            return decay(epoch - first, history[first:])

        fit_part(network, images, s.epochs, later, resume=True)
