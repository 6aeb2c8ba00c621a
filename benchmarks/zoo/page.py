"""The figures as docs/models.md, from the newest results: ``python -m benchmarks.zoo.page``."""

from __future__ import annotations

from fractions import Fraction
from statistics import median
from typing import Any

from benchmarks import page as results
from benchmarks.page import filled
from benchmarks.tables import markdown, spread
from benchmarks.zoo.entries import ENTRIES

RESULTS = results.KEPT
PAGE = results.ROOT / "docs" / "models.md"


def mark(value: float | None) -> str:
    return "–" if value is None else f"{value:.0e}"


def weights_table(models: dict[str, Any]) -> str:
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
    rows = []
    for name in ENTRIES:
        if not (step := models.get(name, {}).get("step")):
            continue
        side = step["tinynet"]["side"]
        row = [f"`{name}`", f"{side} × {side}"]
        for library in ("tinynet", "torch"):
            if entry := step.get(library):
                row += [spread([ms / 1e3 for ms in entry["ms"]]), f"{entry['peak_mb'] / 1024:.1f}"]
        if "torch" in step:
            row.append(f"{median(step['torch']['ms']) / median(step['tinynet']['ms']):.2f}")
        rows.append(row)
    head = ["network", "input", "tinynet s", "GB", "torch s", "GB", "torch / tinynet"]
    return markdown(head, rows, 1)


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
    return results.newest(kind, RESULTS, "")


def write_page() -> str:
    """Write docs/models.md if the newest files have every network; returns what was done."""
    found, networks = newest("models"), newest("gradients").get("networks", {})
    models = found.get("models", {})
    missing = [n for n in ENTRIES if not models.get(n, {}).keys() >= {"counts", "onnx", "step"}]
    missing += [n for n in ENTRIES if n not in networks]
    if missing:
        return f"{PAGE.name} is left as it is: there are no figures yet of {', '.join(missing)}"
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8"), found, networks), encoding="utf-8")
    return f"written to {PAGE}"


def renewed(page: str, found: dict[str, Any], networks: dict[str, Any]) -> str:
    models, on = found["models"], f"{found['cores']} cores of {found['processor']}."
    texts = {"counts": weights_table(models), "gradients": gradients_table(networks)}
    return filled(page, {**texts, "steps": f"{on}\n\n{step_table(models)}"})


if __name__ == "__main__":
    print(write_page())
