"""The figures as docs/models.md."""

from __future__ import annotations

from statistics import median
from typing import Any

from benchmarks.zoo.entries import ENTRIES

INTRODUCTION = """\
# The networks of chapter 3

Written by `python -m benchmarks.zoo` from its own run; do not edit.

Each network is one file in `tinynet/models/`, a table of its stages as in its paper, with forward
and backward passes of hand-written layers. What shows that they are right:

- the number of parameters is the published one;
- from the same random weights, and batch-norm statistics of random images, the probabilities
  (float32) are those of PyTorch's library (torchvision, or timm) and of Keras;
- every gradient of a training pass (float64, batch norm with the batch's statistics, a random
  gradient from above) is torch's autograd's, which nothing here uses;
- the gradient checker finds no error in any block, every element of which it checks, nor in a
  sample of elements of the whole network at reduced width (`tests/models/`);
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


def models_page(results: dict[str, Any]) -> str:
    """docs/models.md."""
    models = results["models"]
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
            "## One training step",
            "",
            f"Batch 4, 1,000 classes, Adam, float32, {results['cores']} cores of "
            f"{results['processor']}; median (range) in seconds, the whole process's peak memory "
            "in GB. The libraries took turns, each turn a new process.",
            "",
            step_table(models),
            "",
        ]
    )
