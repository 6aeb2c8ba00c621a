"""Every element of every gradient of each whole network: ``python -m benchmarks.zoo.gradients``.

Each architecture at its full depth, with few channels and a small image (REDUCED), in training:
batch norm with the batch's statistics, dropout with the masks of one generator, GoogLeNet with its
auxiliary classifiers. The gradient checker compares each element of each parameter's gradient, of
the images' and of those that the layers hand to each other with a slope. Names on the command line
choose networks; the others keep their last figures.
Writes ``results/gradients-DATE.json`` and renews docs/models.md.
"""

from __future__ import annotations

import argparse
import copy
import time
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np

from benchmarks.page import write
from benchmarks.zoo.entries import ENTRIES
from benchmarks.zoo.page import RESULTS, newest, write_page
from tinynet.doctor import machine_facts
from tinynet.gradient_check import ArrayCheck, GradientError, GradientReport, check_gradients
from tinynet.layer import Layer, Mode
from tinynet.layers import Concat, Sequential
from tinynet.models.architecture import Architecture
from tinynet.models.googlenet import BRANCHES, GoogLeNet

COLOURS, CLASSES = 2, 3
# Above 0, so that few ReLUs are closed on all examples: batch norm makes the last bit of a channel
# that is constant a hundred times as large, and after a few such no step is small enough.
DRAWN = {"gamma": (0.7, 1.3), "beta": (0.5, 1.5), "bias": (0.1, 0.5)}


@dataclass(frozen=True)
class Reduced:
    """One architecture's settings, the side of its square images, and how many there are."""

    side: int
    batch: int
    settings: dict[str, Any]

    def build(self, name: str) -> Layer:
        shape = {"num_classes": CLASSES, "input_shape": (self.side, self.side, COLOURS)}
        model: Layer = Architecture(name, shape | self.settings).build()
        rng = np.random.default_rng(2)
        for path, p in model.parameters().items():
            if p.value.ndim == 1:
                p.value[...] = rng.uniform(*DRAWN[path.rpartition(".")[2]], p.shape)
        return model

    def images(self) -> np.ndarray:
        return np.random.default_rng(1).normal(size=(self.batch, self.side, self.side, COLOURS))


# Widths leave at least 2 channels wherever the architecture has more than one, so that mixed-up
# channels show. A side is the smallest that the architecture takes, or one at which most of its
# windows lie inside the image; a batch of 4 where batch norm normalises over single cells.
REDUCED = {
    "alexnet": Reduced(67, 2, {"width": 1 / 48, "hidden": 8}),
    "vgg16": Reduced(32, 2, {"width": 3 / 128, "hidden": 8}),
    "vgg19": Reduced(32, 2, {"width": 3 / 128, "hidden": 8}),
    "googlenet": Reduced(17, 4, {"width": 3 / 64}),
    "resnet50": Reduced(17, 4, {"width": 3 / 128}),
    "resnet101": Reduced(17, 4, {"width": 3 / 128}),
    "resnet152": Reduced(17, 4, {"width": 3 / 128}),
    "se_resnet50": Reduced(17, 4, {"width": 3 / 128}),
    "inception_v4": Reduced(75, 3, {"width": 3 / 64}),
    "inception_resnet_v2": Reduced(75, 3, {"width": 3 / 64}),
    "densenet169": Reduced(29, 3, {"width": 3 / 64}),
    "mobilenet": Reduced(31, 3, {"width": 1 / 16}),
    "shufflenet_v2": Reduced(17, 4, {"width": 1 / 29}),
}


def as_containers(model: GoogLeNet) -> Sequential:
    """The same layers as a nest of containers, which the gradient checker takes apart.

    Its output is (z_1, z_2, z) side by side. The layers run, and draw, in the network's own order.
    """
    stages, places = model.base.children(), list(model.base.children())
    cuts = [0, *(places.index(place) + 1 for place in BRANCHES), len(places)]

    def part(start: int, stop: int) -> Sequential:
        return Sequential(**{place: stages[place] for place in places[start:stop]})

    rest = Sequential(base=part(*cuts[-2:]), head=model.head)
    for k, branch in reversed(list(enumerate(BRANCHES.values()))):
        out = Concat(auxiliary=model.children()[branch], main=rest)
        rest = Sequential(base=part(cuts[k], cuts[k + 1]), out=out)
    return rest


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
        report, fault = checked(model, x), {}
    except GradientError as error:
        report, fault = error.report, {"fault": str(error)}
    seconds = time.process_time() - start
    every = [*report.arrays, *report.between]

    def compared(arrays: list[ArrayCheck]) -> int:
        return sum(int(c.decided.sum()) for c in arrays)

    return {
        "settings": dict(reduced.settings),
        **{"side": reduced.side, "colours": COLOURS, "batch": reduced.batch},
        "layers": sum(not layer.children() for layer in model.named_layers().values()),
        "parameters": sum(p.value.size for p in model.parameters().values()),
        "compared": {
            "parameters": compared([c for c in report.arrays if c.name != "x"]),
            "images": compared([c for c in report.arrays if c.name == "x"]),
            "between": compared(report.between),
        },
        "left_out": sum(int((~c.checked).sum()) for c in every),
        "undecidable": report.undecidable,
        "slope_0": sum(int((c.decided & (c.wanted == 0)).sum()) for c in every),
        "by_complex_step": sum(int((c.decided & c.exact).sum()) for c in every),
        "wrong": sum(int(c.wrong.sum()) for c in every),
        "worst": max(map(worst, every), default=0.0),
        "seconds": round(seconds, 1),
        **fault,
    }


def worst(found: ArrayCheck) -> float:
    """The largest error as a part of its tolerance, among the decided elements."""
    if not found.decided.any():
        return 0.0
    error, tolerance = found.error[found.worst], found.tolerance[found.worst]
    return float(error / tolerance) if error else 0.0


def main() -> int:
    text, _, _ = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(prog="benchmarks.zoo.gradients", description=text)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(REDUCED))
    names = parser.parse_args().names or list(ENTRIES)
    if unknown := [name for name in names if name not in REDUCED]:
        parser.error(f"{unknown[0]} is not one of {', '.join(REDUCED)}")

    file, failed = RESULTS / f"gradients-{date.today()}.json", False
    for name in names:
        found = figures(name, REDUCED[name])
        compared, seconds = sum(found["compared"].values()), found["seconds"]
        said = f"{name}: {compared:,} elements compared, {found['wrong']} wrong"
        print(f"{said}, {found['undecidable']} undecidable, {seconds} s", flush=True)
        if "fault" in found:
            failed = True
            print(found["fault"])
        # read anew: another process may have written of other networks meanwhile
        networks = newest("gradients").get("networks", {}) | {name: found}
        ordered = {name: networks[name] for name in ENTRIES if name in networks}
        write(file, {"processor": machine_facts()["processor"], "networks": ordered})
    print(f"written to {file}")
    print(write_page())
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
