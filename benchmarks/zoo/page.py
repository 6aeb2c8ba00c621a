"""The figures as docs/models.md, from the newest results: ``python -m benchmarks.zoo.page``."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.zoo.entries import ENTRIES

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "models.md"

INTRODUCTION = """\
# The networks of chapter 3

Written by `python -m benchmarks.zoo` and `python -m benchmarks.zoo.gradients` from their own runs;
do not edit.

Each file in `tinynet/models/` has the networks of one heading or paper, as tables of their stages;
the forward and backward passes are those of the hand-written layers. The evidence that they are
right:

- the number of parameters is the published one;
- from the same random weights, and batch-norm statistics of random images, the probabilities
  (float32) are those of PyTorch's library (torchvision, or timm) and of Keras;
- every gradient of a training pass (float64, batch norm with the batch's statistics, a random
  upstream gradient) equals that of torch's autograd, which tinynet does not use;
- the gradient checker, which compares every element with a slope, finds no error in any block
  (`tests/models/`), nor in any whole network at its full depth and reduced width (below; the tests
  check a sample of their elements);
- the exported ONNX file gives the same probabilities in onnxruntime.
"""


def mark(value: float | None) -> str:
    """A difference, to one digit."""
    return "–" if value is None else f"{value:.0e}"


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """A table; the first column is text, the others are numbers."""
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def weights_table(models: dict[str, Any]) -> str:
    """Counts and differences."""
    rows = []
    for name in ENTRIES:
        result = models.get(name, {})
        for i, count in enumerate(result.get("counts", [])):
            first = i == 0
            where = count["source"] + (", with moving statistics" if count["statistics"] else "")
            apart = [
                mark(result.get(peer, {}).get(key))
                for peer, key in (
                    ("torch", "probability"),
                    ("keras", "probability"),
                    ("torch", "gradient"),
                    ("onnx", "probability"),
                )
            ]
            rows.append(
                [
                    f"`{name}`" if first else "",
                    f"{count['ours']:,}",
                    f"{count['published']:,} ({where})",
                    *(apart if first else [""] * 4),
                ]
            )
    head = ["network", "parameters", "published", "torch", "Keras", "gradients", "ONNX"]
    return markdown(head, rows)


def step_table(models: dict[str, Any]) -> str:
    """Time and memory of a training step."""
    rows = []
    for name in ENTRIES:
        step = models.get(name, {}).get("step")
        if not step:
            continue
        ours, theirs = step["tinynet"], step.get("torch")
        side = ours["side"]
        row = [f"`{name}`", f"{side} × {side}", spread(ours["ms"]), f"{ours['peak_mb'] / 1024:.1f}"]
        if theirs:
            ratio = median(theirs["ms"]) / median(ours["ms"])
            row += [spread(theirs["ms"]), f"{theirs['peak_mb'] / 1024:.1f}", f"{ratio:.2f}"]
        rows.append(row)
    head = ["network", "input", "tinynet s", "GB", "torch s", "GB", "torch / tinynet"]
    return markdown(head, rows)


def spread(milliseconds: list[float]) -> str:
    """Median and range, in seconds."""
    low, middle, high = min(milliseconds), median(milliseconds), max(milliseconds)
    return f"{middle / 1e3:.2f} ({low / 1e3:.2f} to {high / 1e3:.2f})"


def gradients_table(networks: dict[str, Any]) -> str:
    """What the gradient checker compared in each whole network, and found."""
    rows = []
    for name in ENTRIES:
        found = networks.get(name)
        if not found:
            continue
        compared = found["compared"]
        rows.append(
            [
                f"`{name}`",
                ", ".join(f"{key} {_short(value)}" for key, value in found["settings"].items()),
                f"{found['batch']} × {found['side']} × {found['side']} × {found['colours']}",
                f"{found['layers']}",
                f"{compared['parameters']:,}",
                f"{compared['images']:,}",
                f"{compared['between']:,}",
                f"{found['slope_0'] / sum(compared.values()):.0%}",
                f"{found['undecidable']}",
                f"{found['wrong']}",
                mark(found["worst"]),
                f"{found['seconds']:.0f}",
            ]
        )
    head = [
        *("network", "settings", "images", "layers", "parameters", "images", "between layers"),
        *("slope 0", "undecidable", "wrong", "worst error", "s"),
    ]
    return markdown(head, rows)


def _short(value: Any) -> str:
    return str(Fraction(value).limit_denominator(1000)) if isinstance(value, float) else str(value)


def newest(kind: str) -> dict[str, Any]:
    """What the newest ``results/kind-DATE.json`` holds; nothing if there is none."""
    files = sorted(RESULTS.glob(f"{kind}-*.json"))
    found: dict[str, Any] = json.loads(files[-1].read_text(encoding="utf-8")) if files else {}
    return found


def write_page() -> str:
    """Write docs/models.md if the newest files have every network; returns what was done."""
    results, networks = newest("models"), newest("gradients").get("networks", {})
    models = results.get("models", {})
    missing = [n for n in ENTRIES if not models.get(n, {}).keys() >= {"counts", "onnx", "step"}]
    missing += [n for n in ENTRIES if n not in networks]
    if missing:
        return f"{PAGE.name} is left as it is: there are no figures yet of {', '.join(missing)}"
    PAGE.write_text(models_page(results, networks), encoding="utf-8")
    return f"written to {PAGE}"


def models_page(results: dict[str, Any], networks: dict[str, Any]) -> str:
    """docs/models.md, from ``models-DATE.json`` and the networks of ``gradients-DATE.json``."""
    models = results["models"]
    every_side = {models[n]["torch"]["gradient_side"] for n in ENTRIES if "torch" in models[n]}
    sides = ", ".join(map(str, sorted(every_side)))
    return "\n".join(
        [
            INTRODUCTION,
            "## Counts, and the largest differences",
            "",
            "Probabilities: the largest absolute difference over 1,000 classes of 2 images. "
            "Gradients: the largest difference in an array, relative to its largest element (or to "
            "a millionth of the network's largest, if that is more, since a bias before a batch "
            "norm has gradient 0), for the worst of all parameters and the input. Images of side "
            f"{sides}. The weights and statistics are described in `benchmarks/zoo/parity.py`.",
            "",
            weights_table(models),
            "",
            "Keras counts batch norm's moving statistics as parameters, torch does not. Where a "
            "network has two counts, `benchmarks/zoo/entries.py` has the settings of each.",
            "",
            "## Every element of every gradient",
            "",
            "Each network in training, at its full depth but with few channels: the gradient "
            "checker (`tinynet/gradient_check/`) compared every element of each parameter's "
            "gradient, of the images' and of those that the layers hand to each other with a "
            "slope. Float64; batch norm with the batch's statistics, dropout with fixed masks, "
            "GoogLeNet with its auxiliary classifiers. `images` is N × height × width × colours.",
            "",
            gradients_table(networks),
            "",
            "Slope 0: elements without influence, behind a closed ReLU or below another maximum, "
            "or a filter's that only meet padding; a wrong factor would not show there. "
            "Undecidable: at a kink, where there is no slope. Worst error: the largest, as a part "
            "of its element's tolerance. Seconds are those of one processor core.",
            "",
            "## One training step",
            "",
            f"Batch 4, 1,000 classes, Adam, float32, {results['cores']} cores of "
            f"{results['processor']}; median (range) in seconds, peak memory of the whole "
            "process in GB. The libraries took turns, each turn in a new process.",
            "",
            step_table(models),
            "",
        ]
    )


if __name__ == "__main__":
    print(write_page())
