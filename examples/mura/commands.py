"""The commands: a function for each of ``flags.COMMANDS``."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from examples.mura import transfer_plot
from examples.mura.breakdown import breakdown_figure, breakdown_text, check_counts
from examples.mura.computing import CPU, Computing, computing
from examples.mura.dataset import PARTS, Dataset, read_dataset, some
from examples.mura.errors import UserError
from examples.mura.explain import explain_files
from examples.mura.flags import NOTICE, SYNTHETIC
from examples.mura.output import shown, warn
from examples.mura.phantom import TRAIN_PATIENTS, VALID_PATIENTS, generate
from examples.mura.predict import Notes, as_table, predict_files, refuse_to_overwrite, write_csv
from examples.mura.prepare import Prepared, open_prepared
from examples.mura.printed import counted, duration, plain
from examples.mura.records import read_config
from examples.mura.run import (
    CONFIG,
    Run,
    claimed,
    evaluate_run,
    evaluation_folder,
    in_use,
    load_model,
    load_models,
    note_resumed,
    open_run,
    prepare_images,
    start_run,
    taken,
)
from examples.mura.settings import DEMO, TRANSFER, Settings, check, from_flags
from examples.mura.training import new_network, sha256, train_run, with_weights
from examples.mura.transfer import Experiment, Plan
from tinynet.models import Classifier
from tinynet.train.files import CheckpointError, holds_something


def demo(a: argparse.Namespace) -> None:
    began = time.monotonic()
    how = device(a)
    settings, model = network(from_flags(a, DEMO))
    data = synthetic_data(a.data_folder, a.data_seed, a.patients)
    with started(a, Path("runs/demo"), settings, data, how) as (run, prepared):
        train_and_evaluate(run, prepared, model, how)
    print(f"done in {duration(time.monotonic() - began)}")


def prepare(a: argparse.Namespace) -> None:
    # of any network: its --filters may be fewer
    settings = from_flags(a, replace(Settings(), filters=(1,)))
    prepared, dataset = prepare_images(a.data, settings, required=(), **reading(a))
    report_counts(dataset)
    print(
        f"{len(prepared.labels):,} images, {settings.side} × {settings.side}, "
        f"are ready in {shown(prepared.folder)}"
    )


def breakdown(a: argparse.Namespace) -> None:
    dataset = read_dataset(
        a.data or synthetic_data(),
        check_files=not a.csv_only,
        skip_bad=a.skip_bad,
        required=(),
        parts=a.parts,
    )
    warn(dataset.warnings)
    print(breakdown_text(dataset))
    report_counts(dataset)
    breakdown_figure(dataset, a.picture)
    print(f"picture: {shown(a.picture)}")


def train(a: argparse.Namespace) -> None:
    how = device(a)
    with resumed_run(a, how) if a.resume else new_run(a, how) as (run, prepared, model):
        print(f"run folder: {shown(run.folder)}", file=sys.stderr)
        train_and_evaluate(run, prepared, model, how)


def transfer(a: argparse.Namespace) -> None:
    began = time.monotonic()
    how = device(a)
    settings = from_flags(a, TRANSFER)
    plan = Plan(a.base_parts, a.target_parts, tuple(a.sizes), a.repeats, a.passes)
    data = a.data or synthetic_data(a.data_folder, a.data_seed, a.patients)
    prepared, _ = prepare_images(data, settings, **reading(a))
    results = Experiment(a.run, plan, settings, prepared, how).run()
    print(f"\n{transfer_plot.as_table(results)}")
    print(f"figures: {shown(a.run / 'transfer.json')}")
    print(f"plot: {shown(transfer_plot.plot(results, a.figure or a.run / 'transfer.png'))}")
    print(notice(prepared.synthetic))
    print(f"done in {duration(time.monotonic() - began)}")


def evaluate(a: argparse.Namespace) -> None:
    how, runs = device(a), [open_run(folder) for folder in a.run]
    run, *others = runs
    if a.out is not None and holds_something(a.out):
        raise UserError(f"{a.out} is not empty: name another folder with --out")
    if a.data is None:
        if a.cache or a.workers or a.skip_bad:
            raise UserError("--cache, --workers and --skip-bad are for other images: add --data")
        prepared = open_prepared(run.cache, side=run.settings.side, fit=run.settings.fit)
        root = run.data
    else:
        prepared, dataset = prepare_images(a.data, run.settings, required=("valid",), **reading(a))
        root = dataset.root
    out = a.out or evaluation_folder(run, a.rule or run.settings.rule, a.threshold)
    try:
        metrics = evaluate_run(
            run,
            prepared,
            how,
            rule=a.rule,
            threshold=a.threshold,
            baselines=a.baselines,
            out=out,
            root=root,
            parts=a.parts,
            others=others,
            mirror=a.tta,
            command=typed(),
        )
    except BaseException:
        with suppress(OSError):
            out.rmdir()  # it is still empty
        raise
    show(metrics, out)


def predict(a: argparse.Namespace) -> None:
    if a.csv:
        refuse_to_overwrite(a.csv)
    how, runs = device(a), [open_run(folder) for folder in a.run]
    predictions = predict_files(
        load_models(runs, how),
        a.files,
        runs[0].settings,
        rule=a.rule,
        threshold=a.threshold,
        separate=a.separate,
        mirror=a.tta,
        synthetic=any(run.synthetic for run in runs),
        precision=how.precision,
    )
    try:
        if a.csv:
            write_csv(predictions, a.csv)
    finally:  # whatever becomes of the one, the other is not lost
        print(as_table(predictions))
    if a.csv:
        print(f"written to {shown(a.csv)}")
    say_what_is_wrong(predictions.notes)


def explain(a: argparse.Namespace) -> None:
    how, run = device(a), open_run(a.run)
    notes = Notes()
    explained = explain_files(
        how.placed(load_model(run)),
        a.files,
        run.settings,
        out=a.out,
        label=a.label,
        layer=a.layer,
        average=a.average,
        synthetic=run.synthetic,
        notes=notes,
    )
    for one in explained:
        print(f"{plain(one.probability)}  {shown(one.picture)}")
    print(notice(run.synthetic))
    say_what_is_wrong(notes)


def say_what_is_wrong(notes: Notes) -> None:
    """Print what was noticed of the files; raise UserError if any could not be used."""
    warn(notes.warnings)
    warn([f"{line}: left out" for line in notes.bad])
    if notes.bad:
        raise UserError(
            f"left out: {some(notes.bad)}: replace it by a good copy, or do not name it"
        )


def device(a: argparse.Namespace) -> Computing:
    """Where and how to compute; printed unless it is the CPU."""
    how = computing(a.device, a.precision)
    if how != CPU:
        print(f"computing on {how}", file=sys.stderr)
    return how


@contextmanager
def new_run(a: argparse.Namespace, how: Computing) -> Iterator[tuple[Run, Prepared, Classifier]]:
    """A run with the settings of the flags, and its network as it is to be trained."""
    settings, model = network(from_flags(a, Settings()))
    data = a.data or synthetic_data()
    folder = Path("runs") / f"{datetime.now():%Y-%m-%d-%H%M%S}"
    with started(a, folder, settings, data, how) as (run, prepared):
        yield run, prepared, model


@contextmanager
def started(
    a: argparse.Namespace, folder: Path, settings: Settings, data: Path, how: Computing
) -> Iterator[tuple[Run, Prepared]]:
    """A run in the folder that was asked for; by default in ``folder``, or the next one free.

    Its folder is locked to the end of the block.
    """
    if a.run is not None and holds_something(a.run):
        raise taken(a.run)  # before any work is done
    facts = how.facts
    if settings.weights:
        facts |= {"weights_sha256": sha256(settings.weights)}
    prepared, dataset = prepare_images(data, settings, **reading(a))
    with claimed(a.run or folder, numbered=a.run is None) as place:
        yield start_run(place, settings, dataset.root, prepared, typed(), facts), prepared


def network(given: Settings) -> tuple[Settings, Classifier]:
    """The settings completed by what their weights ask for, and the network.

    Settings that do not go together are refused here, before any work is done.
    """
    settings = with_weights(given)
    check(settings)
    if settings.freeze == "base" and not settings.weights:
        print(
            "warning: --freeze base without --weights: the base keeps its random weights",
            file=sys.stderr,
        )
    return settings, new_network(settings)


@contextmanager
def resumed_run(a: argparse.Namespace, how: Computing) -> Iterator[tuple[Run, Prepared, None]]:
    """The run in ``--run``, with the settings and images that it was started with.

    Only ``--epochs`` may be larger than before. Raises UserError for any other flag that says
    something else than the run did.
    """
    if a.run is None:
        raise UserError("--resume needs the run's folder: --run runs/NAME")
    run = open_run(a.run)
    prepared = open_prepared(run.cache, side=run.settings.side, fit=run.settings.fit)
    wanted = from_flags(a, run.settings)
    parts = tuple(part for part in PARTS if any(i.part == part for i in prepared.images))
    given = {  # flag -> what was given, what the run has
        "data": (a.data and a.data.resolve() not in (run.data, run.data.parent), run.data),
        "cache": (a.cache and a.cache.resolve() != run.cache, run.cache),
        "parts": (set(a.parts) not in ({*PARTS}, {*parts}), ",".join(parts).lower()),
        **{
            f.name: (getattr(wanted, f.name) != value, value)
            for f in fields(Settings)
            if f.name != "epochs"
            for value in [getattr(run.settings, f.name)]
        },
        # the run's has what its weights ask for, too
        "network": (set(wanted.network) - set(run.settings.network), run.settings.network),
        "epochs": (wanted.epochs < run.settings.epochs, f"{run.settings.epochs}, or give more"),
    }  # fmt: skip
    for name, (differs, kept) in given.items():
        if differs:
            flag = "--" + name.replace("_", "-")
            raise UserError(
                f"{a.run} keeps the settings it was started with: leave out {flag}, which is "
                f"{kept if kept != '' else 'none'}, or start a new run"
            )
    weights, kept = run.settings.weights, read_config(run.folder).get("weights_sha256")
    if weights and not (run.folder / "last.safetensors").exists() and sha256(weights) != kept:
        raise UserError(
            f"--weights {weights} has changed since the run was started: restore it, or start a "
            "new run"
        )
    run = replace(run, settings=replace(run.settings, epochs=wanted.epochs))
    with in_use(run.folder):
        note_resumed(run, how, typed())
        yield run, prepared, None


def train_and_evaluate(
    run: Run, prepared: Prepared, model: Classifier | None, how: Computing
) -> None:
    """Do both; what stops them on the way says how to go on."""
    again = f"python -m examples.mura train --run {run.folder} --resume{how.flags}"
    try:
        train_run(run, prepared, model, how)
        show(evaluate_run(run, prepared, how), run.folder)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"stopped; continue with: {again}") from None
    except (CheckpointError, OSError) as error:
        if not (run.folder / CONFIG).exists():  # it has gone
            raise
        reason = str(error)
        if isinstance(error, OSError):
            place = f"{error.filename}: " if error.filename else ""
            reason = f"{place}{error.strerror or error}: mend that"
        raise UserError(f"{reason}; then continue with: {again}") from error


def synthetic_data(folder: Path = SYNTHETIC, seed: int = 0, patients: int | None = None) -> Path:
    """The folder of the synthetic set, made on first use.

    patients   in the training split; the validation split has about 15 for every 100
    """
    train = TRAIN_PATIENTS if patients is None else patients
    valid = max(2, round(train * VALID_PATIENTS / TRAIN_PATIENTS))
    return generate(folder, train_patients=train, valid_patients=valid, seed=seed)


def reading(a: argparse.Namespace) -> dict[str, Any]:
    """How the data are to be read, of what the command has flags for."""
    return {k: v for k, v in vars(a).items() if k in ("cache", "skip_bad", "parts", "workers")}


def typed() -> str:
    """The command line."""
    return shlex.join(["python", "-m", "examples.mura", *sys.argv[1:]])


def report_counts(dataset: Dataset) -> None:
    if dataset.synthetic:
        return
    for line in check_counts(dataset) or ["equal to those published for MURA-v1.1"]:
        print(f"counts: {line}")


def show(metrics: dict[str, Any], folder: Path) -> None:
    kind = "synthetic radiographs" if metrics["synthetic"] else "radiographs"
    study = metrics["study"]
    interval = study["kappa_interval"]  # None if there is only one patient
    said = ""
    if interval:
        said = f"   (95% interval {plain(interval[0])} to {plain(interval[1])})"
    print(f"\n{kind}, validation patients, {counted(study['n'], 'study', 'studies')}")
    print(f"  {'study kappa':20s} {plain(study['kappa'])}{said}")
    for name, baseline in metrics["baselines"].items():
        print(f"  {name.replace('_', ' '):20s} {plain(baseline['study']['kappa'])}")
    print(f"report: {shown((folder / 'report.html').resolve())}")
    print(notice(metrics["synthetic"]))


def notice(synthetic: bool) -> str:
    return f"{'Synthetic data. ' if synthetic else ''}{NOTICE}"
