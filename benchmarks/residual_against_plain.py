"""Residual against plain networks on real digits: ``python -m benchmarks.residual_against_plain``.

Report §3.3, Figure 7, from runs of our own. A shallow and a deep network are trained with and
without shortcuts, all else equal: the layers, the number of parameters, the order in which the
weights are drawn and the images come. Shortcuts have no parameters here.

It writes docs/figures/residual_against_plain.json, with every number and setting, draws two
pictures from it, and renews the tables in docs/residual.md. ``--draw`` does the last two alone.
Training error is that of the batches as they were trained on, as in the paper; test error is
measured after each epoch, with batch norm's moving statistics.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.page import ROOT, filled
from benchmarks.plots import figure
from benchmarks.tables import markdown
from tinynet.layer import Mode
from tinynet.losses import SoftmaxCrossEntropy
from tinynet.models import Classifier, small_resnet
from tinynet.optimizers import SGD
from tinynet.schedules import StepDecay
from tinynet.train import fit

RESULTS = ROOT / "docs" / "figures" / "residual_against_plain.json"
PAGE = ROOT / "docs" / "residual.md"

NETWORKS = {"plain": False, "residual": True}  # name -> shortcuts
DEPTHS = {20: "#D55E00", 56: "#0072B2"}  # layers of weights -> colour (Okabe & Ito 2008)
SETTINGS: dict[str, Any] = {
    "data": "load_digits of scikit-learn: 1,797 images of 8 × 8, a quarter of each class for test",
    "filters": [8, 16, 32],
    "batch_size": 64,
    "optimizer": "SGD",
    "momentum": 0.9,
    "weight_decay": 1e-4,
    "learning_rate": 0.1,  # divided by 10 after this many epochs, and after as many again:
    "divided_after": 30,
}


class Task(NamedTuple):
    network: str
    depth: int
    seed: int
    epochs: int
    learning_rate: float = SETTINGS["learning_rate"]
    divided_after: int = SETTINGS["divided_after"]


# Is it the learning rate, or the number of epochs, that keeps the deep plain network from learning?
CONTROLS = (
    Task("plain", 56, 0, epochs=40, learning_rate=0.01),
    Task("plain", 56, 0, epochs=120, divided_after=90),
)
ERRORS, SHOWN = ("train_error", "test_error"), ("training error, %", "test error, %")
Split = tuple[NDArray[np.float32], NDArray[np.int64]]


def digits() -> tuple[Split, Split]:
    """(x (N, 8, 8, 1) in [-1, 1], y (N,)) for training and for test, the same every time."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    x, y = load_digits(return_X_y=True)
    x = (x.reshape(-1, 8, 8, 1) / 8 - 1).astype(np.float32)
    split = train_test_split(x, y, test_size=0.25, stratify=y, random_state=0)
    x_train, x_test, y_train, y_test = split
    return (x_train, y_train), (x_test, y_test)


def network(name: str, depth: int, seed: int) -> Classifier:
    more = {"filters": SETTINGS["filters"], "rng": np.random.default_rng(seed)}
    return small_resnet(10, (8, 8, 1), depth, shortcuts=NETWORKS[name], **more)


def gradient_norms(model: Classifier, images: Split) -> list[float]:
    """|∂L/∂w| of each convolution of the main path, from the first to the last, for one batch."""
    x, y = images
    loss = SoftmaxCrossEntropy()
    model.zero_grad()
    z, cache = model.forward(x, Mode(train=True))
    _, loss_cache = loss.forward(z, y)
    model.backward(loss.backward(loss_cache), cache)
    convolutions = [n for n in model.parameters() if re.search(r"conv\d\.weight$", n)]
    return [float(np.linalg.norm(model.parameters()[name].grad)) for name in convolutions]


def run(task: Task) -> dict[str, Any]:
    name, depth, seed, epochs, rate, divided_after = task
    (x, y), test = digits()
    start, batch, model = time.process_time(), SETTINGS["batch_size"], network(name, depth, seed)
    norms = gradient_norms(network(name, depth, seed), (x[:batch], y[:batch]))
    optimizer = SGD(rate, **{key: SETTINGS[key] for key in ("momentum", "weight_decay")})
    how: dict[str, Any] = {"epochs": epochs, "batch_size": batch, "seed": seed, "progress": False}
    schedule = StepDecay(rate, 0.1, divided_after)
    rows = fit(model, SoftmaxCrossEntropy(), optimizer, (x, y), test, schedule=schedule, **how)
    return {
        **{"network": name, "depth": depth, "seed": seed},
        **{"learning_rate": rate, "divided_after": divided_after},
        "parameters": sum(p.value.size for p in model.parameters().values()),
        "train_error": [round(1 - row["train_accuracy"], 5) for row in rows],
        "test_error": [round(1 - row["validation_accuracy"], 5) for row in rows],
        "train_loss": [round(row["train_loss"], 5) for row in rows],
        "gradient_norms_at_the_start": [float(f"{norm:.4g}") for norm in norms],
        "cpu_seconds": round(time.process_time() - start, 1),
    }


def train_all(epochs: int, seeds: int, jobs: int) -> dict[str, Any]:
    """Every network with every seed, the deep ones first, and the controls."""
    order = product(sorted(DEPTHS, reverse=True), range(seeds), NETWORKS)
    tasks = [*(Task(name, depth, seed, epochs) for depth, seed, name in order), *CONTROLS]
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # of the new processes
    start, runs = time.perf_counter(), []
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for task, result in zip(tasks, pool.map(run, tasks), strict=True):
            runs.append(result)
            train, test = (100 * result[part][-1] for part in ERRORS)
            print(task, f"training error {train:.2f} %, test error {test:.2f} %", flush=True)
    settings = SETTINGS | {"epochs": epochs, "seeds": list(range(seeds)), "processes": jobs}
    whole = {"settings": settings, "minutes": round((time.perf_counter() - start) / 60, 1)}
    split = len(runs) - len(CONTROLS)
    return {**whole, "runs": runs[:split], "controls": runs[split:]}


def one_run_a_line(results: dict[str, Any]) -> str:
    """The results as JSON, the long lists of numbers on one line for each run."""
    rest = {name: value for name, value in results.items() if name not in ("runs", "controls")}
    text = json.dumps(rest, indent=1, ensure_ascii=False).removesuffix("\n}")
    for name in ("runs", "controls"):
        text += f',\n "{name}": [\n' + ",\n".join(map(json.dumps, results[name])) + "\n]"
    return text + "\n}\n"


def of(results: dict[str, Any], name: str, depth: int) -> list[dict[str, Any]]:
    return [r for r in results["runs"] if (r["network"], r["depth"]) == (name, depth)]


def draw(results: dict[str, Any], folder: Path) -> None:
    with figure(folder / "residual_against_plain.png", 9, 4) as errors:
        draw_errors(results, errors)
    with figure(folder / "residual_gradients.png", 6, 3.6) as norms:
        axes = norms.subplots()
        for (name, dashes), depth in product(zip(NETWORKS, ("-", "--"), strict=True), DEPTHS):
            runs = [r["gradient_norms_at_the_start"] for r in of(results, name, depth)]
            how = {"color": DEPTHS[depth], "label": f"{name}, {depth}"}
            axes.plot(range(1, depth), np.mean(runs, axis=0), dashes, **how)
        axes.set(title="Gradients before the first update", yscale="log", ylabel="|∂L/∂w|")
        axes.set_xlabel("convolution, from the image to the head")
        axes.legend(fontsize=9)


def draw_errors(results: dict[str, Any], drawn: Any) -> None:
    seeds, divided = (results["settings"][key] for key in ("seeds", "divided_after"))
    for axes, name in zip(drawn.subplots(1, 2, sharey=True), NETWORKS, strict=True):
        for (depth, colour), (part, width) in product(DEPTHS.items(), WIDTHS.items()):
            curves = 100 * np.array([r[f"{part}_error"] for r in of(results, name, depth)], float)
            epochs, label = np.arange(1, curves.shape[1] + 1), f"{depth} layers, {part}"
            axes.plot(epochs, curves.mean(axis=0), color=colour, lw=width, label=label)
            if part == "test":
                band = curves.min(axis=0), curves.max(axis=0)
                axes.fill_between(epochs, *band, color=colour, alpha=0.15, lw=0)
        axes.set(title=name, xlabel="epoch", ylim=(0, 100), xlim=(1, epochs[-1]))
        axes.axvline(divided, color="0.6", lw=0.8, ls=":")
    axes.legend(fontsize=9)  # on the right, and the same on the left
    drawn.axes[0].set_ylabel("error, %")
    drawn.suptitle("Plain and residual networks on real digits")
    said = (
        f"thin: training; bold: test; mean of {len(seeds)} seeds, band from the least to the most"
    )
    drawn.supxlabel(f"{said}; dotted: learning rate divided by 10", fontsize=9)


WIDTHS = {"train": 1.0, "test": 2.4}  # of lines


def errors_table(results: dict[str, Any]) -> str:
    rows = []
    for depth, name in product(DEPTHS, NETWORKS):
        runs = of(results, name, depth)
        row = [name, f"{depth}", f"{runs[0]['parameters']:,}"]
        for part in ERRORS:
            last = [100 * r[part][-1] for r in runs]
            row.append(f"**{mean(last):.2f}** ({', '.join(f'{e:.2f}' for e in last)})")
        rows.append(row)
    return markdown(["network", "layers", "parameters", *SHOWN], rows, 1)


def controls_table(results: dict[str, Any]) -> str:
    rows = []
    for r in results["controls"]:
        cells = (r["network"], r["depth"], r["learning_rate"], len(r["train_error"]))
        rows.append([*map(str, cells), *(f"{100 * r[part][-1]:.2f}" for part in ERRORS)])
    return markdown(["network", "layers", "learning rate", "epochs", *SHOWN], rows, 1)


def norms_table(results: dict[str, Any]) -> str:
    """Gradient of the first convolution over that of the last, before training; Markdown."""
    rows = []
    for depth, name in product(DEPTHS, NETWORKS):
        norms = [r["gradient_norms_at_the_start"] for r in of(results, name, depth)]
        first, last = mean(n[0] for n in norms), mean(n[-1] for n in norms)
        rows.append([name, f"{depth}", f"{first:.3g}", f"{last:.3g}", f"{first / last:.2g}"])
    return markdown(["network", "layers", "first", "last", "first / last"], rows, 1)


def cost(results: dict[str, Any]) -> str:
    runs = [*results["runs"], *results["controls"]]
    minutes = sum(r["cpu_seconds"] for r in runs) / 60
    return (
        f"The {len(runs)} runs took {minutes:.1f} minutes of processor time together; "
        f"{results['minutes']:.0f} minutes passed, in {results['settings']['processes']} processes."
    )


def renewed(page: str, results: dict[str, Any]) -> str:
    texts = {"errors": errors_table, "controls": controls_table, "norms": norms_table, "cost": cost}
    return filled(page, {name: text(results) for name, text in texts.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("--epochs", type=int, default=40)
    add("--seeds", type=int, default=2, metavar="N")
    add("--jobs", type=int, default=os.cpu_count(), help="processes at a time")
    add("--draw", action="store_true", help="from the numbers that are there")
    a = parser.parse_args()
    if not a.draw:
        text = one_run_a_line(train_all(a.epochs, a.seeds, a.jobs))
        RESULTS.write_text(text, encoding="utf-8")
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    draw(results, RESULTS.parent)
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8"), results), encoding="utf-8")
    print(errors_table(results))


if __name__ == "__main__":
    main()
