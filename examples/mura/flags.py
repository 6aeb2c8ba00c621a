"""What can be typed after ``python -m examples.mura``: a function per command adds its flags."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, BooleanOptionalAction
from pathlib import Path
from typing import Any, NoReturn

from examples.mura.computing import DEVICES
from examples.mura.dataset import PARTS
from examples.mura.settings import DEMO, TRANSFER, Settings, add_flags, some_text
from examples.mura.studies import RULES
from examples.mura.transfer import Plan
from tinynet.engine.precision import PRECISIONS

NOTICE = "Not for clinical use."
SYNTHETIC = Path("data/synthetic")
TRANSFER_RUN = Path("runs/transfer")
TRANSFER_SETTINGS = (
    *("side", "fit", "filters", "hidden", "batch_norm", "keep_prob", "fine_tune_rate", "epochs"),
    *("batch_size", "optimizer", "learning_rate", "weight_decay", "class_weights", "seed"),
)
PICTURES = (".png", ".pdf", ".svg", ".jpg")


def folder(text: str) -> Path:
    path = Path(text)
    if not text.strip() or (path.exists() and not path.is_dir()):
        raise ArgumentTypeError(f"{text!r} is not a folder")
    return path


def file(text: str) -> Path:
    path = Path(text)
    if not text.strip() or path.is_dir():
        raise ArgumentTypeError(f"{text!r} is a folder or empty, want the name of a file")
    return path


def table(text: str) -> Path:
    path = file(text)
    if path.suffix.lower() != ".csv" and (path.is_file() or not path.exists()):  # a device may be
        raise ArgumentTypeError(f"{text!r} has to end in .csv")
    return path


def picture(text: str) -> Path:
    path = file(text)
    if path.suffix.lower() not in PICTURES:
        raise ArgumentTypeError(f"{text!r} has to end in {', '.join(PICTURES)}")
    return path


def count(text: str, least: int = 1) -> int:
    value = int(text)
    if not least <= value < 2**63:
        raise ArgumentTypeError(f"{text} is out of range, want a whole number from {least}")
    return value


def seed(text: str) -> int:
    return count(text, 0)


FOLDER: dict[str, Any] = {"type": folder, "metavar": "DIR"}
PICTURE: dict[str, Any] = {"type": picture, "metavar": "FILE"}
NUMBER: dict[str, Any] = {"type": count, "metavar": "N"}
SWITCH: dict[str, Any] = {"action": "store_true"}
SHORT = ("prepare", "breakdown", "evaluate", "predict", "explain")  # flags fit into a usage line


class Parser(ArgumentParser):
    """argparse, with one line for a wrong flag."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} (python -m {self.prog} --help shows what there is)\n")


def build_parser() -> Parser:
    """All commands and their flags; ``arguments.command`` names the command."""
    parser = Parser(
        prog="examples.mura",
        description="Train a VGG-like network on the MURA radiographs, or on synthetic ones, "
        f"and evaluate it per study and body part. {NOTICE}",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (text, add_command_flags) in COMMANDS.items():
        sub = commands.add_parser(
            name,
            help=text,
            description=f"{text} {NOTICE}",
            usage=None if name in SHORT else f"python -m examples.mura {name} [flags]",
            allow_abbrev=False,  # "--sid 64" is a slip of the pen, not --side
        )
        sub.add_argument("--debug", **SWITCH, help="show where an error arose")
        add_command_flags(sub)
    return parser


def demo(sub: ArgumentParser) -> None:
    run_flag(sub, required=False)
    synthetic_flags(sub)
    add_flags(sub, DEMO)
    computing_flags(sub)


def prepare(sub: ArgumentParser) -> None:
    data_flags(sub, required=True)
    cache_flags(sub)
    add_flags(sub, Settings(), only=("side", "fit"))


def breakdown(sub: ArgumentParser) -> None:
    data_flags(sub)
    sub.add_argument("--csv-only", **SWITCH, help="trust the CSVs, do not look for the images")
    sub.add_argument("--picture", **PICTURE, default=Path("breakdown.png"), help="where to draw")


def train(sub: ArgumentParser) -> None:
    run_flag(sub, required=False)
    text = "continue the run in --run with all its settings; --epochs may be more than it had, of"
    text += " which the learning rate then follows the --schedule"
    sub.add_argument("--resume", **SWITCH, help=text)
    data_flags(sub)
    cache_flags(sub)
    add_flags(sub, Settings())
    computing_flags(sub)


def transfer(sub: ArgumentParser) -> None:
    plan = Plan()
    text = f"the run's folder; a run that was stopped goes on ({TRANSFER_RUN})"
    sub.add_argument("--run", **FOLDER, default=TRANSFER_RUN, help=text)
    data_flags(sub)
    cache_flags(sub)
    synthetic_flags(sub)
    for name, parts, text in (
        ("--base-parts", plan.base_parts, "body parts that the base learns on"),
        ("--target-parts", plan.target_parts, "body parts that it is carried to"),
    ):
        shown = f"{text} (default: {','.join(parts).lower()})"
        sub.add_argument(name, type=part_names, metavar="A,B", default=parts, help=shown)
    text = "numbers of target images to train on (default: 50 200 1000)"
    sub.add_argument("--sizes", **NUMBER, nargs="+", default=plan.sizes, help=text)
    for name, default, text in (
        ("--repeats", plan.repeats, "repetitions, each with other images and weights"),
        ("--passes", plan.passes, "images to train on in all, for each method and size"),
    ):
        sub.add_argument(name, **NUMBER, default=default, help=f"{text} (default: {default})")
    sub.add_argument("--figure", **PICTURE, help="where to draw (default: in the run's folder)")
    add_flags(sub, TRANSFER, only=TRANSFER_SETTINGS)
    computing_flags(sub)


def evaluate(sub: ArgumentParser) -> None:
    several_runs_flags(sub)
    rule_flags(sub)
    text = "a new or empty folder for the results (default: one in the run's, under evaluations)"
    sub.add_argument("--out", **FOLDER, help=text)
    data_flags(sub, default="the run's own by default")
    cache_flags(sub)
    text = "fit the baselines too (default: as the run was trained)"
    sub.add_argument("--baselines", action=BooleanOptionalAction, help=text)
    computing_flags(sub)


def predict(sub: ArgumentParser) -> None:
    several_runs_flags(sub)
    rule_flags(sub)
    files_argument(sub)
    sub.add_argument("--csv", type=table, metavar="FILE", help="write the table here too")
    sub.add_argument("--separate", **SWITCH, help="treat every file as a separate study")
    computing_flags(sub)


def explain(sub: ArgumentParser) -> None:
    run_flag(sub)
    files_argument(sub)
    sub.add_argument("--out", **FOLDER, help="folder for the pictures (default: beside the image)")
    text = "what the heat speaks for (default: abnormal)"
    sub.add_argument("--label", choices=("abnormal", "normal"), default="abnormal", help=text)
    sub.add_argument("--layer", metavar="NAME", help="another layer of the network, such as base.7")
    text = "weigh all places by their mean slope (Grad-CAM), not each by its own (HiResCAM)"
    sub.add_argument("--average", **SWITCH, help=text)
    computing_flags(sub, PRECISIONS[:1])


COMMANDS = {
    "demo": ("Make synthetic radiographs, train, evaluate, write the report.", demo),
    "prepare": ("Decode and resize the images of a data folder, once, for training.", prepare),
    "breakdown": ("Count images, studies and patients: the report's Table 1 and §4.4.", breakdown),
    "train": ("Train a network, then evaluate it.", train),
    "transfer": ("Carry a base to body parts that it has not seen: does it help?", transfer),
    "evaluate": ("Evaluate a trained network by image, study and body part.", evaluate),
    "predict": ("Say how probable it is that each image, and each study, is abnormal.", predict),
    "explain": ("Draw, over each image, where the network sees what speaks for abnormal.", explain),
}


def run_flag(sub: ArgumentParser, required: bool = True) -> None:
    text = "the run's folder" + ("" if required else " (default: a new one under runs)")
    sub.add_argument("--run", **FOLDER, required=required, help=text)


def several_runs_flags(sub: ArgumentParser) -> None:
    text = "the run's folder; given again, another run's, whose probabilities are averaged with it"
    sub.add_argument("--run", **FOLDER, required=True, action="append", help=text)
    text = "test-time augmentation: average over each image and its mirror image"
    sub.add_argument("--tta", **SWITCH, help=text)


def data_flags(
    sub: ArgumentParser, required: bool = False, default: str = "synthetic radiographs by default"
) -> None:
    text = "MURA-v1.1, or its parent folder" + ("" if required else f"; {default}")
    sub.add_argument("--data", **FOLDER, required=required, help=text)
    text = "only these body parts, such as hand,wrist"
    sub.add_argument("--parts", type=part_names, metavar="A,B", default=PARTS, help=text)
    text = "leave out what is missing, damaged or contradictory, and say which"
    sub.add_argument("--skip-bad", **SWITCH, help=text)


def cache_flags(sub: ArgumentParser) -> None:
    sub.add_argument("--cache", **FOLDER, help="where prepared images are kept")
    sub.add_argument("--workers", **NUMBER, help="processes that decode (default: one per core)")


def synthetic_flags(sub: ArgumentParser) -> None:
    text = f"where the synthetic radiographs are kept ({SYNTHETIC})"
    sub.add_argument("--data-folder", **FOLDER, default=SYNTHETIC, help=text)
    sub.add_argument("--data-seed", type=seed, metavar="N", default=0, help="which set to make")
    sub.add_argument("--patients", **NUMBER, help="training patients to make")


def rule_flags(sub: ArgumentParser) -> None:
    text = "how a study's views are combined (default: the run's)"
    sub.add_argument("--rule", choices=tuple(RULES), help=text)
    text = "abnormal above it (0.5)"
    sub.add_argument("--threshold", type=probability, metavar="P", default=0.5, help=text)


def files_argument(sub: ArgumentParser) -> None:
    text = "images, or folders of them"
    sub.add_argument("files", nargs="+", type=some_text, metavar="FILE", help=text)


def computing_flags(sub: ArgumentParser, precisions: tuple[str, ...] = PRECISIONS) -> None:
    text = (
        "where the network is computed; gpu: an NVIDIA GPU, by CuPy; a run may be trained on one "
        f"and go on, or be evaluated, on the other (default: {DEVICES[0]})"
    )
    sub.add_argument("--device", choices=DEVICES, default=DEVICES[0], help=text)
    text = "on a gpu: float32 (fp32), or by its tensor cores, rounded (tf32) or stored short (bf16)"
    text += f" (default: {PRECISIONS[0]})"
    if len(precisions) == 1:
        text = "what is drawn are slopes, computed in float32 on either device"
    sub.add_argument("--precision", choices=precisions, default=PRECISIONS[0], help=text)


def part_names(text: str) -> tuple[str, ...]:
    parts = tuple(part.strip().upper() for part in text.split(","))
    for part in parts:
        if part not in PARTS:
            raise ArgumentTypeError(f"{part!r} is not one of {', '.join(PARTS)}")
    return parts


def probability(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise ArgumentTypeError(f"{text} is not a probability, want 0 to 1")
    return value
