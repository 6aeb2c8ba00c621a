"""Every setting of a training run, in one place; each is a flag of ``train`` and ``demo``.

python -m examples.mura train --side 128 --filters 32 64 128 256 --epochs 30
"""

from __future__ import annotations

import argparse
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from typing import Any, get_args, get_origin, get_type_hints

from examples.mura.augment import AugmentSettings
from examples.mura.decode import FITS, Fit
from examples.mura.errors import UserError
from examples.mura.studies import RULES


def setting(default: Any, help: str, choices: tuple[str, ...] | None = None) -> Any:
    """A field with the line that ``--help`` shows for it."""
    return field(default=default, metadata={"help": help, "choices": choices})


@dataclass(frozen=True)
class Settings:
    """What a run is made with; kept in its config.json."""

    # the images
    side: int = setting(64, "height and width of the network's input, pixels")
    fit: Fit = setting("stretch", "how an image is made square", FITS)

    # the network, tinynet.models.vgg_like
    filters: tuple[int, ...] = setting((8, 16, 32, 64), "filters of each block's convolutions")
    hidden: int = setting(128, "neurons of the hidden dense layer")
    batch_norm: bool = setting(True, "batch normalisation before each ReLU of the base")
    keep_prob: float = setting(0.75, "dropout: probability of keeping a hidden neuron")

    # training
    epochs: int = setting(10, "passes through the training images")
    batch_size: int = setting(32, "images per weight update")
    optimizer: str = setting("adam", "weight-update rule", ("adam", "rmsprop", "sgd"))
    learning_rate: float = setting(3e-3, "first learning rate")
    schedule: str = setting(
        "cosine", "how the learning rate decays", ("constant", "cosine", "plateau")
    )
    weight_decay: float = setting(0.0, "decoupled weight decay (Adam), L2 gradient (SGD)")
    class_weights: bool = setting(True, "weigh both classes alike in the loss")
    held_out: float = setting(0.05, "share of the training patients kept to choose the best epoch")
    patience: int = setting(0, "stop after so many epochs without a better one; 0: never")
    seed: int = setting(0, "everything drawn follows from it")

    # augmentation of the training images
    flip: bool = setting(True, "mirror half of them left to right")
    vertical_flip: bool = setting(False, "turn half of them upside down")
    rotation: float = setting(10.0, "turn by up to so many degrees, 0 to 30")
    crop: float = setting(0.9, "random-size crop: smallest share of the area kept; 1: none")
    shift: float = setting(0.05, "move by up to this share of the side")
    brightness: float = setting(0.1, "brighten or darken by up to this share of the full range")
    contrast: float = setting(0.1, "strengthen or weaken contrast by up to this share")

    # evaluation
    rule: str = setting("mean", "how a study's views are combined", tuple(RULES))

    @property
    def augmentation(self) -> AugmentSettings:
        """The augmentation part, as ``augment`` wants it."""
        return AugmentSettings(
            horizontal_flip=self.flip,
            vertical_flip=self.vertical_flip,
            rotation=self.rotation,
            crop=(self.crop, 1.0),
            shift=self.shift,
            brightness=self.brightness,
            contrast=self.contrast,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values for config.json."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Settings:
        """The reverse of ``to_json``; raises UserError for a setting it does not know."""
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise UserError(
                f"config.json has the setting {unknown[0]!r}, which this version does not know: "
                "use the version that made the run"
            )
        fixed: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
        }
        return cls(**fixed)


DEMO = Settings()


def add_flags(
    parser: argparse.ArgumentParser, defaults: Settings, only: tuple[str, ...] | None = None
) -> None:
    """One flag per setting. A flag that is not given leaves no trace in the parsed arguments."""
    types = get_type_hints(Settings)
    group = parser.add_argument_group("settings")
    for f in fields(Settings):
        if only is None or f.name in only:
            add_flag(group, f, types[f.name], getattr(defaults, f.name))


def add_flag(group: Any, f: Field[Any], kind: Any, default: Any) -> None:
    """``--side 64``, ``--filters 16 32 64``, ``--batch-norm`` and ``--no-batch-norm``."""
    flag = "--" + f.name.replace("_", "-")
    shown = " ".join(map(str, default)) if isinstance(default, tuple) else default
    help = f"{f.metadata['help']} (default: {shown})"
    common = {"dest": f.name, "default": argparse.SUPPRESS, "help": help}
    if kind is bool:
        group.add_argument(flag, action=argparse.BooleanOptionalAction, **common)
    elif get_origin(kind) is tuple:
        group.add_argument(flag, type=get_args(kind)[0], nargs="+", metavar="N", **common)
    else:
        choices = f.metadata["choices"]
        group.add_argument(
            flag,
            type=str if choices else kind,
            choices=choices,
            metavar=None if choices else "N",
            **common,
        )


def from_flags(arguments: argparse.Namespace, defaults: Settings) -> Settings:
    """``defaults`` with what was given on the command line.

    Raises UserError for a value out of its range.
    """
    given = {f.name: getattr(arguments, f.name, MISSING) for f in fields(Settings)}
    values = {name: value for name, value in given.items() if value is not MISSING}
    settings = Settings.from_json(defaults.to_json() | values)
    check(settings)
    return settings


def check(s: Settings) -> None:
    """Raise UserError, naming the flag, for a value out of its range."""
    smallest = 2 ** len(s.filters)
    wanted = [
        ("side", s.side >= smallest, f"at least {smallest}, since each of --filters halves it"),
        ("filters", min(s.filters) >= 1, "whole numbers from 1"),
        ("hidden", s.hidden >= 1, "at least 1"),
        ("keep_prob", 0 < s.keep_prob <= 1, "more than 0 and at most 1"),
        ("epochs", s.epochs >= 1, "at least 1"),
        ("batch_size", s.batch_size >= 1, "at least 1"),
        ("learning_rate", 0 < s.learning_rate < float("inf"), "more than 0"),
        ("weight_decay", s.weight_decay >= 0, "0 or more"),
        ("held_out", 0 < s.held_out < 1, "more than 0 and less than 1"),
        ("patience", s.patience >= 0, "0 or more"),
        ("rotation", 0 <= s.rotation <= 30, "0 to 30 degrees"),
        ("crop", 0 < s.crop <= 1, "more than 0 and at most 1"),
        ("shift", 0 <= s.shift <= 1, "0 to 1"),
        ("brightness", 0 <= s.brightness <= 1, "0 to 1"),
        ("contrast", 0 <= s.contrast <= 1, "0 to 1"),
    ]
    for name, fine, want in wanted:
        if not fine:
            flag = "--" + name.replace("_", "-")
            raise UserError(f"{flag} is {getattr(s, name)}, want {want}")
