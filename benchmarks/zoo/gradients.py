"""Every element of every gradient of each whole network: ``python -m benchmarks.zoo.gradients``.

Each architecture at its full depth, with few channels (``reduced``), in training: batch norm with
the batch's statistics, dropout with the masks of one generator, GoogLeNet with its auxiliary
classifiers. The gradient checker compares each element of each parameter's gradient, of the
images' and of those that the layers hand to each other with a slope. Names on the command line
choose networks; the others keep their last figures.
Writes ``results/gradients-DATE.json`` and renews docs/models.md.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from datetime import date
from typing import Any

import numpy as np
from tinynet.doctor.machine import processor_name

from benchmarks.zoo.entries import ENTRIES
from benchmarks.zoo.page import RESULTS, newest, write_page
from benchmarks.zoo.reduced import COLOURS, REDUCED, Reduced, as_containers
from tinynet.gradient_check import ArrayCheck, GradientError, GradientReport, check_gradients
from tinynet.layer import Layer, Mode
from tinynet.models.googlenet import GoogLeNet

MASKS, UPSTREAM = 1, 3  # seeds of the dropout masks and of the gradient from above


def checked(model: Layer, x: np.ndarray) -> GradientReport:
    """The check of a whole network in training; every element.

    Raises GradientError if one is wrong.
    """
    mode = Mode(train=True, rng=np.random.default_rng(MASKS))
    if isinstance(model, GoogLeNet):
        return _with_own_backward(model, x, mode)
    return check_gradients(model, x, mode, rng=np.random.default_rng(UPSTREAM))


def _with_own_backward(model: GoogLeNet, x: np.ndarray, mode: Mode) -> GradientReport:
    """The layers as containers are checked, and the network's own gradients by the same slopes."""
    nest = as_containers(model)
    report = check_gradients(nest, x, mode, rng=np.random.default_rng(UPSTREAM))

    nested = {id(p): name for name, p in nest.parameters().items()}
    own_name = {nested[id(p)]: name for name, p in model.parameters().items()} | {"x": "x"}
    own: Any = copy.deepcopy(model).to(dtype="float64")
    y, cache = own.forward(x, Mode(train=True, rng=np.random.default_rng(MASKS)))
    z, rng = y[0], np.random.default_rng(UPSTREAM)
    *d_auxiliary, dz = np.split(rng.standard_normal((len(x), z.shape[1] * len(y))), len(y), axis=1)
    got = {"x": own.backward((dz, *d_auxiliary), cache)}
    got |= {name: p.grad for name, p in own.parameters().items()}
    report.arrays = [found.of(got[own_name[found.name]]) for found in report.arrays]
    wrong = [own_name[found.name] for found in report.arrays if found.wrong.any()]
    if wrong:
        report.faults.append(
            f"the gradients of {', '.join(wrong)} are not those of the layers in containers: does "
            "GoogLeNet.backward add up what comes back where a classifier branches off?"
        )
        raise GradientError(report)
    return report


def figures(name: str, reduced: Reduced) -> dict[str, Any]:
    """What is recorded of one network; ``wrong`` and the errors also where the check failed."""
    model, x = reduced.build(name), reduced.images()
    start = time.process_time()
    try:
        report, fault = checked(model, x), None
    except GradientError as error:
        report, fault = error.report, str(error)
    seconds = time.process_time() - start
    every = [*report.arrays, *report.between]
    found: dict[str, Any] = {
        "settings": dict(reduced.settings),
        "side": reduced.side,
        "colours": COLOURS,
        "batch": reduced.batch,
        "layers": sum(not layer.children() for layer in model.named_layers().values()),
        "parameters": sum(p.value.size for p in model.parameters().values()),
        "compared": {
            "parameters": sum(_count(c.decided) for c in report.arrays if c.name != "x"),
            "images": sum(_count(c.decided) for c in report.arrays if c.name == "x"),
            "between": sum(_count(c.decided) for c in report.between),
        },
        "left_out": sum(_count(~c.checked) for c in every),
        "undecidable": report.undecidable,
        "slope_0": sum(_count(c.decided & (c.wanted == 0)) for c in every),
        "by_complex_step": sum(_count(c.decided & c.exact) for c in every),
        "wrong": sum(_count(c.wrong) for c in every),
        "worst": max(map(worst, every), default=0.0),
        "seconds": round(seconds, 1),
    }
    return found | ({} if fault is None else {"fault": fault})


def _count(where: np.ndarray) -> int:
    return int(where.sum())


def worst(found: ArrayCheck) -> float:
    """The largest error as a part of its tolerance, among the decided elements."""
    if not found.decided.any():
        return 0.0
    error, tolerance = found.error[found.worst], found.tolerance[found.worst]
    return float(error / tolerance) if error else 0.0


def main() -> int:
    """Check what was asked for, write the figures and the page; 1 if a gradient is wrong."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.zoo.gradients", description=__doc__.split("\n")[0]
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(REDUCED))
    names = parser.parse_args().names or list(ENTRIES)
    if unknown := [name for name in names if name not in REDUCED]:
        parser.error(f"{unknown[0]} is none of {', '.join(REDUCED)}")

    file = RESULTS / f"gradients-{date.today()}.json"
    failed = False
    for name in names:
        found = figures(name, REDUCED[name])
        compared = sum(found["compared"].values())
        print(
            f"{name}: {compared:,} elements compared, {found['wrong']} wrong, "
            f"{found['undecidable']} undecidable, {found['seconds']} s",
            flush=True,
        )
        if "fault" in found:
            failed = True
            print(found["fault"])
        # read anew: another process may have written of other networks meanwhile
        networks = newest("gradients").get("networks", {}) | {name: found}
        ordered = {name: networks[name] for name in ENTRIES if name in networks}
        text = json.dumps({"processor": processor_name(), "networks": ordered}, indent=1)
        file.write_text(text + "\n", encoding="utf-8")
    print(f"written to {file}")
    print(write_page())
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
