"""The command line: ``python -m examples.mura COMMAND``."""

from __future__ import annotations

import argparse
import errno
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from examples.mura import settings as S
from examples.mura.demo import DEMO, SYNTHETIC, synthetic_data
from examples.mura.errors import UserError
from examples.mura.settings import Settings
from examples.mura.studies import RULES
from tinynet.checkpoint import CheckpointError
from tinynet.losses import SoftmaxCrossEntropy
from tinynet.train import TrainingError

NOTICE = "Not for clinical use."


class Parser(argparse.ArgumentParser):
    """argparse, with one line for a wrong flag."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} (python -m {self.prog} --help shows what there is)\n")


def demo(a: argparse.Namespace) -> None:
    """Make synthetic radiographs, train, evaluate, write the report."""
    from examples.mura.run import evaluate_run, start_run, train_run

    began = time.monotonic()
    settings = S.from_flags(a, DEMO)
    data = synthetic_data(a.data_folder, a.data_seed, a.patients)
    folder = free_folder(a.run or Path("runs/demo"), named=a.run is not None)
    run, prepared = start_run(folder, settings, data, None, skip_bad=False, command=command_line())
    train_run(run, prepared)
    show(evaluate_run(run, prepared), folder)
    minutes, seconds = divmod(round(time.monotonic() - began), 60)
    print(f"done in {minutes} min {seconds} s")


def prepare(a: argparse.Namespace) -> None:
    """Decode and resize the images of a data folder, once, for training."""
    from examples.mura.counts import check_counts
    from examples.mura.dataset import read_dataset
    from examples.mura.run import prepare_images

    settings = S.from_flags(a, Settings())
    dataset = read_dataset(a.data, skip_bad=a.skip_bad)
    if not dataset.synthetic:
        report_counts(check_counts(dataset))
    prepared, _ = prepare_images(a.data, a.cache, settings, skip_bad=a.skip_bad)
    print(
        f"{len(prepared.labels):,} images, {settings.side} × {settings.side}, "
        f"are ready in {prepared.folder}"
    )


def breakdown(a: argparse.Namespace) -> None:
    """Count images, studies and patients: the report's Table 1 and §4.4."""
    from examples.mura.breakdown import breakdown_figure, breakdown_text
    from examples.mura.counts import check_counts
    from examples.mura.dataset import read_dataset

    dataset = read_dataset(a.data or synthetic_data(), check_files=False)
    print(breakdown_text(dataset))
    if not dataset.synthetic:
        report_counts(check_counts(dataset))
    breakdown_figure(dataset, a.picture)
    print(f"picture: {a.picture}")


def train(a: argparse.Namespace) -> None:
    """Train a network, then evaluate it."""
    from examples.mura.prepare import open_prepared
    from examples.mura.run import evaluate_run, open_run, start_run, train_run

    if a.resume:
        if a.run is None:
            raise UserError("--resume needs the run's folder: --run runs/NAME")
        run = open_run(a.run)
        if S.from_flags(a, run.settings) != run.settings:
            raise UserError(
                f"{a.run} keeps the settings it was started with: leave the settings away with "
                "--resume, or start a new run"
            )
        prepared = open_prepared(run.cache)
    else:
        settings = S.from_flags(a, Settings())
        data = a.data or synthetic_data()
        folder = a.run or free_folder(Path("runs") / f"{datetime.now():%Y-%m-%d-%H%M%S}")
        run, prepared = start_run(
            folder, settings, data, a.cache, skip_bad=a.skip_bad, command=command_line()
        )
    print(f"run folder: {run.folder}", file=sys.stderr)
    try:
        train_run(run, prepared, resume=a.resume)
    except KeyboardInterrupt:
        print(
            f"\nstopped; continue with: python -m examples.mura train --run {run.folder} --resume",
            file=sys.stderr,
        )
        raise
    show(evaluate_run(run, prepared, baselines=a.baselines), run.folder)


def evaluate(a: argparse.Namespace) -> None:
    """Evaluate a trained network on the validation split, by image, study and body part."""
    from examples.mura.prepare import open_prepared
    from examples.mura.run import evaluate_run, open_run, prepare_images

    run = open_run(a.run)
    if a.data is None:
        prepared = open_prepared(run.cache)
    else:
        prepared, _ = prepare_images(a.data, a.cache, run.settings, skip_bad=a.skip_bad)
    metrics = evaluate_run(run, prepared, rule=a.rule, threshold=a.threshold, baselines=a.baselines)
    show(metrics, run.folder)


def predict(a: argparse.Namespace) -> None:
    """Say how probable it is that each image, and each study, is abnormal."""
    from examples.mura.predict import as_table, predict_files, write_csv
    from examples.mura.run import load_model, open_run

    run = open_run(a.run)
    s = run.settings
    predictions = predict_files(
        load_model(run),
        SoftmaxCrossEntropy(),
        a.files,
        side=s.side,
        fit=s.fit,
        rule=a.rule or s.rule,
        threshold=a.threshold,
        separate=a.separate,
        synthetic=run.synthetic,
    )
    print(as_table(predictions))
    if a.csv:
        write_csv(predictions, a.csv)
        print(f"written to {a.csv}")


def show(metrics: dict[str, Any], folder: Path) -> None:
    """The result in a few lines, and where the report is."""
    kind = "synthetic radiographs" if metrics["synthetic"] else "radiographs"
    study = metrics["study"]
    low, high = study["kappa_interval"]
    print(f"\n{kind}, validation patients, {study['n']} studies")
    print(f"  study kappa          {study['kappa']:.3f}   (95% interval {low:.3f} to {high:.3f})")
    for name, baseline in metrics["baselines"].items():
        print(f"  {name.replace('_', ' '):20s} {baseline['study']['kappa']:.3f}")
    print(f"report: {(folder / 'report.html').resolve()}")
    print(f"{'Synthetic data. ' if metrics['synthetic'] else ''}{NOTICE}")


def report_counts(differences: list[str]) -> None:
    """Say how the data differ from the published MURA-v1.1."""
    if not differences:
        print("counts: equal to those published for MURA-v1.1")
    for difference in differences:
        print(f"counts: {difference}")


def free_folder(wanted: Path, named: bool = False) -> Path:
    """``wanted``, or ``wanted-2``, ... where that is taken; as it is if the user named it."""
    folder, number = wanted, 1
    while not named and folder.exists() and any(folder.iterdir()):
        number += 1
        folder = wanted.with_name(f"{wanted.name}-{number}")
    return folder


def command_line() -> str:
    """What was typed."""
    return " ".join(["python -m examples.mura", *sys.argv[1:]])


def build_parser() -> argparse.ArgumentParser:
    """All commands and their flags."""
    parser = Parser(
        prog="examples.mura",
        description="Train a VGG-like network on the MURA radiographs, or on synthetic ones, "
        f"and evaluate it per study and body part. {NOTICE}",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(function: Callable[[argparse.Namespace], None]) -> argparse.ArgumentParser:
        text = function.__doc__ or ""
        sub = commands.add_parser(function.__name__, help=text, description=f"{text} {NOTICE}")
        sub.set_defaults(function=function)
        sub.add_argument("--debug", action="store_true", help="show where an error arose")
        return sub

    def data(sub: argparse.ArgumentParser, required: bool = False) -> None:
        default = "" if required else "; synthetic radiographs by default"
        sub.add_argument(
            "--data",
            type=Path,
            metavar="DIR",
            required=required,
            help=f"MURA-v1.1, or the folder it lies in{default}",
        )
        sub.add_argument("--cache", type=Path, metavar="DIR", help="where prepared images are kept")
        sub.add_argument(
            "--skip-bad",
            action="store_true",
            help="leave out images that are missing or damaged, and say which",
        )

    def run(sub: argparse.ArgumentParser, required: bool = True) -> None:
        sub.add_argument(
            "--run", type=Path, metavar="DIR", required=required, help="the run's folder"
        )

    def rule(sub: argparse.ArgumentParser) -> None:
        sub.add_argument(
            "--rule", choices=tuple(RULES), help="how a study's views are combined"
        )
        sub.add_argument(
            "--threshold", type=float, default=0.5, metavar="P", help="abnormal above it (0.5)"
        )

    sub = command(demo)
    run(sub, required=False)
    sub.add_argument(
        "--data-folder",
        type=Path,
        default=SYNTHETIC,
        metavar="DIR",
        help=f"where the synthetic radiographs are kept ({SYNTHETIC})",
    )
    sub.add_argument("--data-seed", type=int, default=0, metavar="N", help="which set to make")
    sub.add_argument("--patients", type=int, metavar="N", help="training patients to make")
    S.add_flags(sub, DEMO)

    sub = command(prepare)
    data(sub, required=True)
    S.add_flags(sub, Settings())

    sub = command(breakdown)
    sub.add_argument("--data", type=Path, metavar="DIR", help="MURA-v1.1; synthetic by default")
    sub.add_argument(
        "--picture", type=Path, default=Path("breakdown.png"), metavar="FILE", help="where to draw"
    )

    sub = command(train)
    data(sub)
    run(sub, required=False)
    sub.add_argument("--resume", action="store_true", help="continue the run in --run")
    sub.add_argument(
        "--baselines",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="fit the baselines too",
    )
    S.add_flags(sub, Settings())

    sub = command(evaluate)
    run(sub)
    data(sub)
    rule(sub)
    sub.add_argument(
        "--baselines",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="fit the baselines too",
    )

    sub = command(predict)
    run(sub)
    rule(sub)
    sub.add_argument("files", nargs="+", metavar="FILE", help="images, or folders of them")
    sub.add_argument("--csv", type=Path, metavar="FILE", help="write the table here too")
    sub.add_argument("--separate", action="store_true", help="every file is a study of its own")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0, 1 for an error, 2 for a wrong flag, 130."""
    arguments = build_parser().parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # end as on Ctrl-C
    try:
        arguments.function(arguments)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except (UserError, CheckpointError, TrainingError, OSError) as error:
        if arguments.debug:
            traceback.print_exc()
        print(f"error: {in_one_line(error)}", file=sys.stderr)
        return 1
    return 0


def in_one_line(error: Exception) -> str:
    """What to show of an error; a full disk is named as such."""
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        if error.errno == errno.ENOSPC:
            return f"{place}the disk is full: free some space, or work in another folder"
        return f"{place}{error.strerror or error}"
    return " ".join(str(error).split())


if __name__ == "__main__":
    sys.exit(main())
