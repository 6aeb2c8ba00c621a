"""Every setting of a training run; each is a flag of ``train`` and ``demo``.

python -m examples.mura train --side 128 --filters 32 64 128 256 --epochs 30
"""

from __future__ import annotations

import argparse
import ast
import inspect
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from typing import Any, get_args, get_origin, get_type_hints

from examples.mura.augment import AugmentSettings
from examples.mura.decode import FITS, Fit
from examples.mura.errors import UserError
from examples.mura.radiographs import FORMS, InputForm
from examples.mura.records import mismatch
from examples.mura.studies import RULES
from tinynet.models.architecture import ARCHITECTURES

OWN_FLAGS = ("filters", "hidden", "batch_norm", "keep_prob")  # vgg_like's settings with a flag
LARGEST_SIDE, MOST, MOST_WEIGHTS = 4096, 1_000_000, 10**9
EARLIER: dict[str, Any] = {"batchnorm_momentum": 0.99}  # before it was a setting
FREEZE = ("none", "statistics", "base")


def setting(
    default: Any, help: str, choices: tuple[str, ...] | None = None, *, metavar: str = "N"
) -> Any:
    return field(default=default, metadata={"help": help, "choices": choices, "metavar": metavar})


@dataclass(frozen=True)
class Settings:
    """The settings of a run, kept in its config.json."""

    # the images
    side: int = setting(64, "height and width of the network's input, pixels")
    fit: Fit = setting("stretch", "how an image is made square", FITS)

    # the network
    model: str = setting(
        "vgg_like", f"architecture: {', '.join(sorted(ARCHITECTURES))}", metavar="NAME"
    )
    network: tuple[str, ...] = setting(
        (),
        "other settings of the architecture's builder, such as width=0.5",
        metavar="NAME=VALUE",
    )
    batchnorm_momentum: float = setting(
        0.9, "share of the old value in batch norm's moving statistics; the report's is 0.99"
    )
    channels: int = setting(
        0, "1: grey; 3: the grey image three times; 0: 3 for weights of colour networks, else 1"
    )
    preprocessing: str = setting(
        "auto",
        "the form of grey levels that the weights expect; auto: by the weights",
        ("auto", *FORMS),
    )

    # vgg_like, the default architecture
    filters: tuple[int, ...] = setting((8, 16, 32, 64), "filters of each block's convolutions")
    hidden: int = setting(128, "neurons of the hidden dense layer")
    batch_norm: bool = setting(True, "batch normalisation before each ReLU of the base")
    keep_prob: float = setting(0.75, "dropout: probability of keeping a hidden neuron")

    # transfer learning
    weights: str = setting(
        "",
        "start from these: a run's folder, or a file of tinynet, PyTorch or Keras; the head is new",
        metavar="FILE",
    )
    freeze: str = setting(
        "none", "what of the base is frozen: its batch norm's statistics, or all of it", FREEZE
    )
    cache_features: bool = setting(
        False, "run the frozen base once, without augmentation, and train the head on its output"
    )
    unfreeze_after: int = setting(0, "start fine-tuning after this many of the epochs; 0: never")
    unfreeze_from: str = setting(
        "base", "fine-tune this layer and all after it, such as base.layer4", metavar="NAME"
    )
    fine_tune_rate: float = setting(1e-4, "first learning rate of the fine-tuning")

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
    patience: int = setting(0, "stop after this many epochs without a better one; 0: never")
    seed: int = setting(0, "seed of every random draw")

    # augmentation of the training images
    flip: bool = setting(True, "mirror half of them left to right")
    vertical_flip: bool = setting(False, "turn half of them upside down")
    rotation: float = setting(10.0, "turn by up to this many degrees, 0 to 30")
    crop: float = setting(0.9, "random-size crop: smallest share of the area kept; 1: none")
    shift: float = setting(0.05, "move by up to this share of the side")
    brightness: float = setting(0.1, "brighten or darken by up to this share of the full range")
    contrast: float = setting(0.1, "strengthen or weaken contrast by up to this share")

    # evaluation
    rule: str = setting("mean", "how a study's views are combined", tuple(RULES))
    baselines: bool = setting(True, "fit the baselines too")

    @property
    def form(self) -> InputForm:
        name = "centred" if self.preprocessing == "auto" else self.preprocessing
        return InputForm(name, self.channels or 1)

    @property
    def builder_settings(self) -> dict[str, Any]:
        """Keywords for the architecture's builder, except ``rng``.

        Raises UserError for a setting in ``network`` that cannot be read.
        """
        shape = (self.side, self.side, self.form.channels)
        own = {n: getattr(self, n) for n in OWN_FLAGS} if self.model == "vgg_like" else {}
        return {"num_classes": 2, "input_shape": shape} | own | parsed(self.network)

    @property
    def augmentation(self) -> AugmentSettings:
        return AugmentSettings(
            horizontal_flip=self.flip,
            vertical_flip=self.vertical_flip,
            rotation=self.rotation,
            crop=(self.crop, 1.0),
            shift=self.shift,
            brightness=self.brightness,
            contrast=self.contrast,
        )

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Settings:
        """Settings from config.json's values, checked.

        Raises UserError for an unknown setting, and for a value of another type or out of range.
        """
        schema = {f"{name}?": schema_of(kind) for name, kind in get_type_hints(cls).items()}
        if unknown := sorted(name for name in values if f"{name}?" not in schema):
            raise UserError(
                f"config.json has the setting {unknown[0]!r}, which this version does not know: "
                "use the version that made the run"
            )
        if wrong := mismatch(values, schema, "settings"):
            raise UserError(f"{wrong}: restore the file, or start a new run")
        fixed: dict[str, Any] = {}
        for name, value in (EARLIER | values).items():
            convert = {list: tuple, int: schema[f"{name}?"]}.get(type(value), type(value))
            fixed[name] = convert(value)  # JSON may write 1.0 as 1
        settings = cls(**fixed)
        check(settings)
        return settings


def schema_of(kind: Any) -> Any:
    """The schema of a setting's type: tuples are lists in JSON; text for a choice of words."""
    if get_origin(kind) is tuple:
        return [get_args(kind)[0]]
    return kind if isinstance(kind, type) else str


DEMO = Settings()
# the base is trained until it is good at its own parts; fine-tuning, at a tenth of the rate
TRANSFER = replace(DEMO, epochs=25, fine_tune_rate=3e-4)
SECTIONS = {  # first setting -> heading in --help
    "side": "images",
    "model": "network",
    "filters": "network, vgg_like",
    "weights": "transfer learning",
    "epochs": "training",
    "flip": "augmentation",
    "rule": "evaluation",
}


def parsed(texts: tuple[str, ...]) -> dict[str, Any]:
    """``("width=0.5", "stride_in=1x1")`` as {"width": 0.5, "stride_in": "1x1"}.

    Raises UserError for one without a name and a value.
    """
    values: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name.isidentifier() and equals and value):
            raise UserError(f"--network has {text!r}, want NAME=VALUE, such as width=0.5")
        try:
            values[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            values[name] = value  # a word, such as 1x1
    return values


def add_flags(
    parser: argparse.ArgumentParser, defaults: Settings, only: tuple[str, ...] | None = None
) -> None:
    """Add one flag per setting. A flag that is not given is absent from the parsed arguments."""
    types = get_type_hints(Settings)
    section, groups = "settings", dict[str, Any]()
    for f in fields(Settings):
        section = SECTIONS.get(f.name, section)
        if only is None or f.name in only:
            if section not in groups:
                groups[section] = parser.add_argument_group(section)
            add_flag(groups[section], f, types[f.name], getattr(defaults, f.name))


def add_flag(group: Any, f: Field[Any], kind: Any, default: Any) -> None:
    """``--side 64``, ``--filters 16 32 64``, ``--batch-norm`` and ``--no-batch-norm``."""
    flag = "--" + f.name.replace("_", "-")
    shown = " ".join(map(str, default)) if isinstance(default, tuple) else default
    shown = "none" if shown == "" else shown
    help = f"{f.metadata['help']} (default: {shown})"
    metavar = f.metadata["metavar"]
    common = {"dest": f.name, "default": argparse.SUPPRESS, "help": help}
    if kind is bool:
        group.add_argument(flag, action=argparse.BooleanOptionalAction, **common)
    elif get_origin(kind) is tuple:
        group.add_argument(flag, type=get_args(kind)[0], nargs="+", metavar=metavar, **common)
    else:
        choices = f.metadata["choices"]
        group.add_argument(
            flag,
            type=str if choices else some_text if kind is str else kind,
            choices=choices,
            metavar=None if choices else metavar,
            **common,
        )


def some_text(text: str) -> str:
    if not text.strip():  # of a shell's variable that is not set
        raise argparse.ArgumentTypeError("it is empty: give a value, or leave the flag out")
    return text


def from_flags(arguments: argparse.Namespace, defaults: Settings) -> Settings:
    """``defaults`` with what was given on the command line.

    Raises UserError for a value out of its range.
    """
    given = {f.name: getattr(arguments, f.name, MISSING) for f in fields(Settings)}
    values = {name: value for name, value in given.items() if value is not MISSING}
    lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
    settings = replace(defaults, **values | lists)
    check(settings)
    if others := [name for name in OWN_FLAGS if name in values and settings.model != "vgg_like"]:
        flag = "--" + others[0].replace("_", "-")
        raise UserError(
            f"{flag} is a flag of vgg_like: with --model {settings.model} give --network "
            f"{others[0]}=VALUE, if it has such a setting"
        )
    return settings


def check(s: Settings) -> None:
    """Raise UserError, naming the flag, for a value out of its range."""
    check_network(s)
    blocks = len(s.filters) if s.model == "vgg_like" else 0
    frozen, inf = s.freeze == "base", float("inf")
    limits = [  # flag, smallest, largest
        ("hidden", 1, MOST),
        ("batch_size", 1, MOST),
        ("epochs", 1, MOST),
        ("patience", 0, MOST),
        ("seed", 0, 2**63 - 1),
        ("rotation", 0, 30),
        *((name, 0, 1) for name in ("shift", "brightness", "contrast")),
    ]
    wanted = [
        *((f.name, getattr(s, f.name) in f.metadata["choices"],
           f"one of {', '.join(f.metadata['choices'])}")
          for f in fields(s) if f.metadata["choices"]),
        ("side", 2**blocks <= s.side <= LARGEST_SIDE,
         f"{2**blocks} to {LARGEST_SIDE}" + (", since each of --filters halves it" * bool(blocks))),
        *((name, low <= getattr(s, name) <= high, f"{low} to {high}")
          for name, low, high in limits),
        ("hidden", dense_weights(s) <= MOST_WEIGHTS,
         f"a smaller one, or a smaller --side: its {dense_weights(s):,} weights fill the memory"),
        ("keep_prob", 0 < s.keep_prob <= 1, "more than 0 and at most 1"),
        ("batchnorm_momentum", 0 <= s.batchnorm_momentum < 1, "0 or more and less than 1"),
        ("learning_rate", 0 < s.learning_rate < inf, "more than 0"),
        ("weight_decay", 0 <= s.weight_decay < inf, "0 or more, and finite"),
        ("held_out", 0 < s.held_out < 1, "more than 0 and less than 1"),
        ("patience", not (s.patience and s.unfreeze_after),
         "0 with --unfreeze-after: the fine-tuning would be judged by the epochs before it"),
        ("unfreeze_after", 0 <= s.unfreeze_after < s.epochs,
         f"0, or less than the {s.epochs} --epochs, which count the fine-tuning too"),
        ("unfreeze_after", frozen or not s.unfreeze_after,
         "0 without --freeze base: nothing is frozen that could be unfrozen"),
        ("fine_tune_rate", 0 < s.fine_tune_rate < inf, "more than 0"),
        ("cache_features", frozen or not s.cache_features,
         "it only with --freeze base: a base's output changes while it is trained"),
        ("crop", 0 < s.crop <= 1, "more than 0 and at most 1"),
    ]  # fmt: skip
    for name, fine, want in wanted:
        if not fine:
            flag = "--" + name.replace("_", "-")
            raise UserError(f"{flag} is {getattr(s, name)}, want {want}")


def dense_weights(s: Settings) -> int:
    """Weights of vgg_like's hidden dense layer, by far the most; 0 for other networks."""
    if s.model != "vgg_like":
        return 0
    return (s.side // 2 ** len(s.filters)) ** 2 * s.filters[-1] * s.hidden


def check_network(s: Settings) -> None:
    """Raise UserError for an unknown architecture, or a setting that it does not have."""
    if s.model not in ARCHITECTURES:
        raise UserError(f"--model is {s.model!r}, want one of {', '.join(sorted(ARCHITECTURES))}")
    if not (1 <= len(s.filters) <= 12 and all(1 <= n <= MOST for n in s.filters)):
        raise UserError(f"--filters is {s.filters}, want up to 12 whole numbers from 1 to {MOST}")
    has = inspect.signature(ARCHITECTURES[s.model]).parameters
    for name in parsed(s.network):
        if name in ("num_classes", "input_shape", "rng") or (
            s.model == "vgg_like" and name in OWN_FLAGS
        ):
            raise UserError(f"--network has {name}, which follows from the flags: leave it out")
        if name not in has:
            known = [n for n in has if n not in ("num_classes", "input_shape", "rng", *OWN_FLAGS)]
            raise UserError(
                f"--network has {name}, want a setting of {s.model}: {', '.join(known) or 'none'}"
            )
    _ = s.form  # raises for channels and preprocessing that do not go together
