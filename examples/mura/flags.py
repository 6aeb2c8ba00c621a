"""What can be typed after ``python -m examples.mura``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NoReturn

from examples.mura.computing import DEVICES
from examples.mura.layout import PARTS
from examples.mura.settings import DEMO, TRANSFER, Settings, add_flags
from examples.mura.studies import RULES
from examples.mura.transfer import Plan
from tinynet.engine.precision import PRECISIONS

NOTICE = "Not for clinical use."
SYNTHETIC = Path("data/synthetic")

COMMANDS = {
    "demo": "Make synthetic radiographs, train, evaluate, write the report.",
    "prepare": "Decode and resize the images of a data folder, once, for training.",
    "breakdown": "Count images, studies and patients: the report's Table 1 and §4.4.",
    "train": "Train a network, then evaluate it.",
    "transfer": "Carry a base to body parts that it has not seen: does it help?",
    "evaluate": "Evaluate a trained network by image, study and body part.",
    "predict": "Say how probable it is that each image, and each study, is abnormal.",
    "explain": "Draw, over each image, where the network sees what speaks for abnormal.",
}


TRANSFER_RUN = Path("runs/transfer")
TRANSFER_SETTINGS = (
    *("side", "fit", "filters", "hidden", "batch_norm", "keep_prob", "fine_tune_rate", "epochs"),
    *("batch_size", "optimizer", "learning_rate", "weight_decay", "class_weights", "seed"),
)
SHORT = (
    "prepare",
    "breakdown",
    "evaluate",
    "predict",
    "explain",
)  # whose flags fit into a line of usage


class Parser(argparse.ArgumentParser):
    """argparse, with one line for a wrong flag."""

    def error(self, message: str) -> NoReturn:
        """End with status 2 and one line."""
        self.exit(2, f"error: {message} (python -m {self.prog} --help shows what there is)\n")


def build_parser() -> argparse.ArgumentParser:
    """All commands and their flags; ``arguments.command`` names the command."""
    parser = Parser(
        prog="examples.mura",
        description="Train a VGG-like network on the MURA radiographs, or on synthetic ones, "
        f"and evaluate it per study and body part. {NOTICE}",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    sub = {}
    for name, text in COMMANDS.items():
        sub[name] = commands.add_parser(
            name,
            help=text,
            description=f"{text} {NOTICE}",
            usage=None if name in SHORT else f"python -m examples.mura {name} [flags]",
            allow_abbrev=False,  # "--sid 64" is a slip of the pen, not --side
        )
        sub[name].add_argument("--debug", action="store_true", help="show where an error arose")

    demo_flags(sub["demo"])
    data_flags(sub["prepare"], required=True)
    cache_flags(sub["prepare"])
    add_flags(sub["prepare"], Settings(), only=("side", "fit"))
    data_flags(sub["breakdown"])
    breakdown_flags(sub["breakdown"])
    run_flag(sub["train"], required=False)
    sub["train"].add_argument("--resume", action="store_true", help="continue the run in --run")
    data_flags(sub["train"])
    cache_flags(sub["train"])
    baselines_flag(sub["train"])
    add_flags(sub["train"], Settings())
    transfer_flags(sub["transfer"])
    run_flag(sub["evaluate"])
    rule_flags(sub["evaluate"])
    data_flags(sub["evaluate"], default="the run's own by default")
    cache_flags(sub["evaluate"])
    baselines_flag(sub["evaluate"])
    run_flag(sub["predict"])
    rule_flags(sub["predict"])
    predict_flags(sub["predict"])
    run_flag(sub["explain"])
    explain_flags(sub["explain"])
    for name in ("demo", "train", "transfer", "evaluate", "predict"):
        computing_flags(sub[name])
    computing_flags(sub["explain"], PRECISIONS[:1])
    return parser


def computing_flags(sub: argparse.ArgumentParser, precisions: tuple[str, ...] = PRECISIONS) -> None:
    """Where the network is computed, and how exactly."""
    sub.add_argument(
        "--device",
        choices=DEVICES,
        default=DEVICES[0],
        help="where the network is computed; gpu: an NVIDIA GPU, by CuPy; a run may be trained on "
        f"one and go on, or be evaluated, on the other (default: {DEVICES[0]})",
    )
    how = "on a gpu: float32 (fp32), or by its tensor cores, rounded (tf32) or stored short (bf16)"
    sub.add_argument(
        "--precision",
        choices=precisions,
        default=PRECISIONS[0],
        help=f"{how} (default: {PRECISIONS[0]})"
        if len(precisions) > 1
        else "what is drawn are slopes, computed in float32 on either device",
    )


def demo_flags(sub: argparse.ArgumentParser) -> None:
    """Flags of ``demo`` alone, and every setting."""
    run_flag(sub, required=False)
    synthetic_flags(sub)
    add_flags(sub, DEMO)


def synthetic_flags(sub: argparse.ArgumentParser) -> None:
    """Which synthetic radiographs, and where they are kept."""
    sub.add_argument(
        "--data-folder",
        type=Path,
        default=SYNTHETIC,
        metavar="DIR",
        help=f"where the synthetic radiographs are kept ({SYNTHETIC})",
    )
    sub.add_argument("--data-seed", type=int, default=0, metavar="N", help="which set to make")
    sub.add_argument("--patients", type=int, metavar="N", help="training patients to make")


def transfer_flags(sub: argparse.ArgumentParser) -> None:
    """Flags of ``transfer`` alone, and the settings of its network and its training."""
    plan = Plan()
    sub.add_argument(
        "--run",
        type=Path,
        default=TRANSFER_RUN,
        metavar="DIR",
        help=f"its folder; one that was stopped goes on ({TRANSFER_RUN})",
    )
    data_flags(sub)
    cache_flags(sub)
    synthetic_flags(sub)
    for name, parts, text in (
        ("--base-parts", plan.base_parts, "body parts that the base learns on"),
        ("--target-parts", plan.target_parts, "body parts that it is carried to"),
    ):
        sub.add_argument(
            name,
            type=part_names,
            default=parts,
            metavar="A,B",
            help=f"{text} (default: {','.join(parts).lower()})",
        )
    sub.add_argument(
        "--sizes",
        type=int,
        nargs="+",
        default=plan.sizes,
        metavar="N",
        help="numbers of target images to train on (default: 50 200 1000)",
    )
    for name, default, text in (
        ("--repeats", plan.repeats, "how often, each time with other images and weights"),
        ("--passes", plan.passes, "images to train on in all, for each method and size"),
    ):
        sub.add_argument(
            name, type=int, default=default, metavar="N", help=f"{text} (default: {default})"
        )
    sub.add_argument(
        "--figure", type=Path, metavar="FILE", help="where to draw (default: in the run's folder)"
    )
    add_flags(sub, TRANSFER, only=TRANSFER_SETTINGS)


def data_flags(
    sub: argparse.ArgumentParser,
    required: bool = False,
    default: str = "synthetic radiographs by default",
) -> None:
    """Which folder, and what of it."""
    where = "MURA-v1.1, or the folder it lies in"
    sub.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        required=required,
        help=where if required else f"{where}; {default}",
    )
    sub.add_argument(
        "--parts",
        type=part_names,
        default=PARTS,
        metavar="A,B",
        help="only these body parts, such as hand,wrist",
    )
    sub.add_argument(
        "--skip-bad",
        action="store_true",
        help="leave out what is missing, damaged or contradictory, and say which",
    )


def part_names(text: str) -> tuple[str, ...]:
    """``hand,wrist`` as ("HAND", "WRIST"); for argparse."""
    parts = tuple(part.strip().upper() for part in text.split(","))
    for part in parts:
        if part not in PARTS:
            raise argparse.ArgumentTypeError(f"{part!r} is none of {', '.join(PARTS)}")
    return parts


def cache_flags(sub: argparse.ArgumentParser) -> None:
    """Where the prepared images go, and how they are made."""
    sub.add_argument("--cache", type=Path, metavar="DIR", help="where prepared images are kept")
    sub.add_argument(
        "--workers", type=int, metavar="N", help="processes that decode (default: one a core)"
    )


def breakdown_flags(sub: argparse.ArgumentParser) -> None:
    """Flags of ``breakdown`` alone."""
    sub.add_argument(
        "--csv-only", action="store_true", help="trust the CSVs, do not look for the images"
    )
    sub.add_argument(
        "--picture", type=Path, default=Path("breakdown.png"), metavar="FILE", help="where to draw"
    )


def run_flag(sub: argparse.ArgumentParser, required: bool = True) -> None:
    """The run's folder."""
    default = "" if required else " (default: a new one under runs)"
    sub.add_argument(
        "--run", type=Path, metavar="DIR", required=required, help=f"the run's folder{default}"
    )


def rule_flags(sub: argparse.ArgumentParser) -> None:
    """How views make a study."""
    sub.add_argument(
        "--rule", choices=tuple(RULES), help="how a study's views are combined (default: the run's)"
    )
    sub.add_argument(
        "--threshold", type=probability, default=0.5, metavar="P", help="abnormal above it (0.5)"
    )


def probability(text: str) -> float:
    """A number from 0 to 1; for argparse."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is no probability, want 0 to 1")
    return value


def baselines_flag(sub: argparse.ArgumentParser) -> None:
    """Whether to fit the baselines."""
    sub.add_argument(
        "--baselines",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="fit the baselines too (default: yes)",
    )


def predict_flags(sub: argparse.ArgumentParser) -> None:
    """Flags of ``predict`` alone."""
    sub.add_argument("files", nargs="+", metavar="FILE", help="images, or folders of them")
    sub.add_argument("--csv", type=Path, metavar="FILE", help="write the table here too")
    sub.add_argument("--separate", action="store_true", help="every file is a study of its own")


def explain_flags(sub: argparse.ArgumentParser) -> None:
    """Flags of ``explain`` alone."""
    sub.add_argument("files", nargs="+", metavar="FILE", help="images, or folders of them")
    sub.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder for the pictures (default: beside the image)",
    )
    sub.add_argument(
        "--label",
        choices=("abnormal", "normal"),
        default="abnormal",
        help="what the heat speaks for (default: abnormal)",
    )
    sub.add_argument("--layer", metavar="NAME", help="another layer of the network, such as base.7")
    sub.add_argument(
        "--average",
        action="store_true",
        help="weigh all places by their mean slope (Grad-CAM), not each by its own (HiResCAM)",
    )
