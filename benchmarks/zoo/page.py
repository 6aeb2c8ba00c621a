"""The figures as docs/models.md, from the newest results: ``python -m benchmarks.zoo.page``."""

from __future__ import annotations

from fractions import Fraction
from statistics import median
from typing import Any

from benchmarks import results
from benchmarks.tables import markdown
from benchmarks.zoo.entries import ENTRIES

RESULTS = results.KEPT
PAGE = results.ROOT / "docs" / "models.md"

INTRODUCTION = """\
# The networks of chapter 3

Written by `python -m benchmarks.zoo` and `python -m benchmarks.zoo.gradients` from their own runs;
do not edit.

Each network is one file in `tinynet/models/`, a table of its stages as in its paper, with forward
and backward passes of hand-written layers. What shows that they are right:

- the number of parameters is the published one;
- from the same random weights, and batch-norm statistics of random images, the probabilities
  (float32) are those of PyTorch's library (torchvision, or timm) and of Keras;
- every gradient of a training pass (float64, batch norm with the batch's statistics, a random
  gradient from above) is torch's autograd's, which nothing here uses;
- the gradient checker, which compares every element with a slope, finds no error in any block
  (`tests/models/`), nor in any whole network at its full depth and reduced width (below; each run
  of the tests checks a sample of the elements of whole networks);
- the exported ONNX file gives the same probabilities in onnxruntime.
"""


def mark(value: float | None) -> str:
    """A difference, to one digit."""
    return "–" if value is None else f"{value:.0e}"


def weights_table(models: dict[str, Any]) -> str:
    """Counts and differences."""
    rows = []
    compared = ("torch", "keras", "torch", "onnx"), ("probability", "probability", "gradient")
    pairs = list(zip(compared[0], (*compared[1], "probability"), strict=True))
    for name in ENTRIES:
        result = models.get(name, {})
        first, apart = f"`{name}`", [mark(result.get(peer, {}).get(key)) for peer, key in pairs]
        for count in result.get("counts", []):
            where = count["source"] + (", with moving statistics" if count["statistics"] else "")
            numbers = f"{count['ours']:,}", f"{count['published']:,} ({where})"
            rows.append([first, *numbers, *apart])
            first, apart = "", [""] * 4
    head = ["network", "parameters", "published", "torch", "Keras", "gradients", "ONNX"]
    return markdown(head, rows, 1)


def step_table(models: dict[str, Any]) -> str:
    """Time and memory of a training step."""
    rows = []
    for name in ENTRIES:
        if not (step := models.get(name, {}).get("step")):
            continue
        side = step["tinynet"]["side"]
        row = [f"`{name}`", f"{side} × {side}"]
        for library in ("tinynet", "torch"):
            if entry := step.get(library):
                row += [spread(entry["ms"]), f"{entry['peak_mb'] / 1024:.1f}"]
        if "torch" in step:
            row.append(f"{median(step['torch']['ms']) / median(step['tinynet']['ms']):.2f}")
        rows.append(row)
    head = ["network", "input", "tinynet s", "GB", "torch s", "GB", "torch / tinynet"]
    return markdown(head, rows, 1)


def spread(milliseconds: list[float]) -> str:
    """Median and range, in seconds."""
    low, middle, high = min(milliseconds), median(milliseconds), max(milliseconds)
    return f"{middle / 1e3:.2f} ({low / 1e3:.2f} to {high / 1e3:.2f})"


def gradients_table(networks: dict[str, Any]) -> str:
    """What the gradient checker compared in each whole network, and found."""
    rows = []
    for name in ENTRIES:
        if not (found := networks.get(name)):
            continue
        compared, sizes = found["compared"], (found["batch"], *[found["side"]] * 2)
        rows.append(
            [
                f"`{name}`",
                ", ".join(f"{key} {_short(value)}" for key, value in found["settings"].items()),
                " × ".join(map(str, (*sizes, found["colours"]))),
                f"{found['layers']}",
                *(f"{compared[of]:,}" for of in ("parameters", "images", "between")),
                f"{found['slope_0'] / sum(compared.values()):.0%}",
                *(f"{found['undecidable']}", f"{found['wrong']}"),
                *(mark(found["worst"]), f"{found['seconds']:.0f}"),
            ]
        )
    head = [
        *("network", "settings", "images", "layers", "parameters", "images", "between layers"),
        *("slope 0", "undecidable", "wrong", "worst error", "s"),
    ]
    return markdown(head, rows, 1)


def _short(value: Any) -> str:
    return str(Fraction(value).limit_denominator(1000)) if isinstance(value, float) else str(value)


def newest(kind: str) -> dict[str, Any]:
    """What the newest ``results/kind-DATE.json`` holds; nothing if there is none."""
    return results.newest(kind, RESULTS, "")


def write_page() -> str:
    """Write docs/models.md if the newest files have every network; returns what was done."""
    found, networks = newest("models"), newest("gradients").get("networks", {})
    models = found.get("models", {})
    missing = [n for n in ENTRIES if not models.get(n, {}).keys() >= {"counts", "onnx", "step"}]
    missing += [n for n in ENTRIES if n not in networks]
    if missing:
        return f"{PAGE.name} is left as it is: there are no figures yet of {', '.join(missing)}"
    PAGE.write_text(models_page(found, networks), encoding="utf-8")
    return f"written to {PAGE}"


def models_page(found: dict[str, Any], networks: dict[str, Any]) -> str:
    """docs/models.md, from ``models-DATE.json`` and the networks of ``gradients-DATE.json``."""
    models = found["models"]
    every_side = {models[n]["torch"]["gradient_side"] for n in ENTRIES if "torch" in models[n]}
    sides = ", ".join(map(str, sorted(every_side)))
    return "\n".join(
        [
            INTRODUCTION,
            "## Counts, and the largest differences",
            "",
            "Probabilities: largest absolute difference over 1,000 classes of 2 images. Gradients: "
            "for every parameter and the input, the largest difference over the largest element "
            "(over a millionth of the network's largest, where that is more: a bias before a batch "
            f"norm has gradient 0); the worst array's. Images of side {sides}. The weights and "
            "statistics are described in `benchmarks/zoo/parity.py`.",
            "",
            weights_table(models),
            "",
            "Keras counts batch norm's moving statistics as parameters, torch does not. Both "
            "are of one architecture, built with the settings in `benchmarks/zoo/entries.py`.",
            "",
            "## Every element of every gradient",
            "",
            "Each network as deep as it is, in training, with few channels: the gradient checker "
            "(`tinynet/gradient_check/`) compared every element of each parameter's gradient, of "
            "the images', and of the gradients that the layers hand to each other with a slope. "
            "Float64; batch norm with the batch's statistics, dropout with fixed masks, GoogLeNet "
            "with its auxiliary classifiers. `images` is N × height × width × colours.",
            "",
            gradients_table(networks),
            "",
            "Slope 0: elements of no influence, behind a closed ReLU, under another maximum, or a "
            "filter's that lie on the padding: a wrong factor would not show there. Undecidable: "
            "at a kink, where there is no slope. Worst error: the largest, as a part of what its "
            "element is allowed. Seconds are those of one processor core.",
            "",
            "## One training step",
            "",
            f"Batch 4, 1,000 classes, Adam, float32, {found['cores']} cores of "
            f"{found['processor']}; median (range) in seconds, the whole process's peak memory "
            "in GB. The libraries took turns, each turn a new process.",
            "",
            step_table(models),
            "",
        ]
    )


if __name__ == "__main__":
    print(write_page())
