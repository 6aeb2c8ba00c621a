"""The check itself: the contract first, then every element against its slope."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinynet.backend import Array, array_module, to_device
from tinynet.gradient_check.chain_rule import Sweep
from tinynet.gradient_check.complex_step import ComplexStep, takes_complex
from tinynet.gradient_check.contract import (
    Subject,
    entangled,
    misshapen,
    modified,
    unrepeatable,
)
from tinynet.gradient_check.end_to_end import more_than_its_layers
from tinynet.gradient_check.finite_differences import Function, estimate
from tinynet.gradient_check.hypotheses import Evidence, explain_undecidable, explain_wrong
from tinynet.gradient_check.report import ArrayCheck, GradientError, GradientReport
from tinynet.gradient_check.sample import Sample, draw_sample
from tinynet.gradient_check.steadiness import unsteadiness

# Not 0: a test's x is often default_rng(0)'s, and dy = x makes a wrong dw = xᵀ dy look right.
UPSTREAM_SEED, MARGIN_SEED = 243_000_001, 243_000_004


@dataclass(frozen=True)
class Settings:
    """The keywords of ``check_gradients``."""

    rng: np.random.Generator | None = None
    tolerance: float | None = None
    allow_undecidable: float = 0.1
    elements: int | None = None
    fraction: float | None = None
    margin: float | None = None


def check(subject: Subject, settings: Settings) -> GradientReport:
    """The report; raises GradientError if it has a fault."""
    if settings.margin is not None and not settings.margin > 0:
        raise ValueError(f"margin is {settings.margin}, want a number above 0")
    rng = settings.rng if settings.rng is not None else np.random.default_rng(UPSTREAM_SEED)
    report = _examine(subject, settings, rng)
    if settings.margin is not None and report.undecidable and not _any_wrong(report):
        found = report.undecidable
        for name in subject.inputs:
            subject.arrays[name] = _moved(subject.arrays[name], settings.margin)
        report = _examine(subject, settings, rng)
        report.notes.append(
            f"{found} elements were undecidable, so every element of {', '.join(subject.inputs)} "
            f"was moved by {settings.margin / 2:g} to {settings.margin:g}, and checked there"
        )
    if report.faults:
        raise GradientError(report)
    return report


def _examine(subject: Subject, settings: Settings, rng: np.random.Generator) -> GradientReport:
    xp = array_module(*subject.arrays.values())
    report = GradientReport(subject.name)
    before = {name: a.copy() for name, a in subject.arrays.items()}
    y, cache = subject.forward()
    y = xp.array(y)  # a copy: y may be a view of x, which will be perturbed
    report.faults += modified("forward", subject.arrays, before)
    if y.dtype != xp.float64:
        report.faults.append(f"forward gives {y.dtype} for float64 arguments, want float64")
    if not xp.isfinite(y).all():
        report.faults.append("forward gives NaN or infinity: there is nothing to compare with")
    report.faults += [] if report.faults else unrepeatable(subject, y)
    if report.faults:
        return report

    dy = xp.asarray(rng.standard_normal(y.shape))
    before["dy"] = dy.copy()
    got = {name: xp.array(g) for name, g in subject.backward(dy, cache).items()}
    report.faults += modified("backward", {**subject.arrays, "dy": dy}, before)
    report.faults += misshapen(got, subject.arrays)
    report.unchecked = [name for name in subject.arrays if name not in got]
    if not got:
        report.faults.append("backward returns no gradient at all")
    if report.faults:
        return report
    report.faults += entangled(subject, y, cache, dy, got)
    if not report.faults:
        report.faults += subject.more_faults(y, cache, dy, got)

    sample = draw_sample(
        {name: g.size for name, g in got.items()}, settings.elements, settings.fraction, rng
    )
    if sample is not None:
        total, checked = sum(g.size for g in got.values()), sum(map(len, sample.values()))
        report.sample = Sample(total, checked)
    function = Function(subject.forward, y, dy)
    whole = subject.applications() if sample is None else None
    if whole is not None:
        _layer_by_layer(report, Sweep.through(whole, dy, settings.tolerance), got)
        report.faults += more_than_its_layers(report.arrays, function, subject)
    else:
        _in_one_piece(report, subject, function, got, settings.tolerance, sample)
    for found in report.arrays:
        if found.undecidable.sum() > settings.allow_undecidable * found.checked.sum():
            report.faults.append(explain_undecidable(found))
    return report


def _in_one_piece(
    report: GradientReport,
    subject: Subject,
    function: Function,
    got: Mapping[str, Array],
    tolerance: float | None,
    sample: Mapping[str, np.ndarray] | None,
) -> None:
    """Each element through the whole forward pass."""
    steps = complex_steps(subject, function)
    moved = unsteadiness(subject, function.dy, got)
    for name, gradient in got.items():
        function.expect_rounding_of((to_device(a, "numpy") for a in got.values()), moved[name])
        g, chosen = to_device(gradient, "numpy"), None if sample is None else sample[name]
        slopes = estimate(function, subject.arrays[name], g, tolerance, steps.get(name), chosen)
        report.arrays.append(ArrayCheck(name, g, *slopes))
    for found in report.arrays:
        if found.wrong.any():
            evidence = Evidence.of(found, report.arrays, subject.arrays, function)
            report.faults.append(explain_wrong(evidence))


def complex_steps(subject: Subject, function: Function) -> dict[str, ComplexStep]:
    """Array's name -> its complex step; empty where the subject takes no complex numbers."""
    arrays, forward = subject.complexes()
    if not takes_complex(forward, function.y):
        return {}
    return {name: ComplexStep(forward, a, function.dy) for name, a in arrays.items()}


def _layer_by_layer(report: GradientReport, sweep: Sweep, got: Mapping[str, Array]) -> None:
    """The network's own gradients against those that the walk through its layers found true."""
    report.faults += sweep.faults
    report.between = sweep.between
    for name, gradient in got.items():
        report.arrays.append(sweep.true[name].of(to_device(gradient, "numpy")))
    explained = {check.name for check in sweep.true.values() if check.wrong.any()}
    late = [c.name for c in report.arrays if c.wrong.any() and c.name not in explained]
    if late and sweep.faults:
        report.faults.append(f"so these gradients are wrong too: {_list(late)}")
    elif late:
        report.faults.append(
            f"the gradients of {_list(late)} are wrong, though each layer by itself is right: "
            "does a container hand them on to the wrong layer, or lose one?"
        )


def _any_wrong(report: GradientReport) -> bool:
    return any(found.wrong.any() for found in [*report.arrays, *report.between])


def _moved(a: Array, margin: float) -> Array:
    """Each element moved up or down by an amount of its own, margin / 2 to margin."""
    rng = np.random.default_rng(MARGIN_SEED)
    amounts = margin * (1 + rng.permutation(a.size) / max(a.size, 1)) / 2
    signs = rng.choice([-1.0, 1.0], a.size)
    moves: Any = array_module(a).asarray((signs * amounts).reshape(a.shape))
    return a + moves


def _list(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if names[4:] else "")
