"""The gradient checks that people use, restated, to be compared with ``tinynet.gradient_check``.

Each takes a ``Subject`` in its own dtype and a generator, and returns True if the backward pass
passes. Steps and tolerances are those of the family of checks that it stands for.

    name            upstream    compares                            step   tolerance
    one direction   random      one number: along a random line     1e-3   1e-4 relative, 1e-5
    upstream ones   ones        every element                       1e-4   1e-4 relative, 1e-5
    float32         random      every element, in float32           1e-3   1e-2 relative, 1e-2
    random index    ones        one random element of each array    1e-6   1e-2 relative, 1e-2
    sum of norms    random      one number: Σ ‖got - wanted‖        1e-5   1e-2 absolute
    full Jacobian   each axis   every element, for each output      1e-6   1e-3 relative, 1e-5

"one direction" is Chainer's ``check_backward`` and JAX's ``check_grads``; "upstream ones" DeZero's
``gradient_check``; "random index" minitorch's ``grad_check``; "sum of norms" needle's; "full
Jacobian" PyTorch's ``gradcheck``, the strictest; "float32" is what is left of any of them in a
project that tests in the precision it trains in. "one direction" runs in float32, its default, as
well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinynet.backend import Array
from tinynet.testing.planted import Subject

Check = Callable[[Subject, np.random.Generator], bool]


@dataclass(frozen=True)
class UsualCheck:
    """One of the checks: what it is called, the dtype it runs in, and the check itself."""

    name: str
    dtype: str
    passes: Check


def slopes_along_a_line(
    subject: Subject, dy: Array, cache: Any, rng: np.random.Generator
) -> tuple[float, float]:
    """⟨gradient, r⟩, and a difference quotient along r, a random direction of length 1."""
    got = _gradients(subject, dy, cache)
    directions = {name: rng.standard_normal(g.shape) for name, g in got.items()}
    length = np.sqrt(sum((r**2).sum() for r in directions.values()))
    directions = {name: (r / length).astype(dy.dtype) for name, r in directions.items()}
    step, kept = 1e-3, {name: subject.arrays[name].copy() for name in got}
    sides = []
    for h in (step, -step):
        for name, r in directions.items():
            subject.arrays[name][...] = kept[name] + np.asarray(h, r.dtype) * r
        sides.append(_total(subject, dy))
    for name in got:
        subject.arrays[name][...] = kept[name]
    along = sum(float((g * directions[name]).sum()) for name, g in got.items())
    return along, (sides[0] - sides[1]) / (2 * step)


def close(got: float, wanted: float) -> bool:
    """True if two slopes along a line are as near as "one direction" wants them."""
    return bool(np.isclose(got, wanted, rtol=1e-4, atol=1e-5))


def one_direction(subject: Subject, rng: np.random.Generator) -> bool:
    """Compare one slope along a random line."""
    y, cache = subject.forward()
    dy = rng.standard_normal(y.shape).astype(y.dtype)
    return close(*slopes_along_a_line(subject, dy, cache, rng))


def upstream_ones(subject: Subject, rng: np.random.Generator) -> bool:
    """Every element, for the sum of the outputs."""
    y, cache = subject.forward()
    return _every_element(subject, np.ones_like(y), cache, step=1e-4, rtol=1e-4, atol=1e-5)


def float32(subject: Subject, rng: np.random.Generator) -> bool:
    """Every element, in single precision, with the tolerance that this needs."""
    y, cache = subject.forward()
    dy = rng.standard_normal(y.shape).astype(y.dtype)
    return _every_element(subject, dy, cache, step=1e-3, rtol=1e-2, atol=1e-2)


def random_index(subject: Subject, rng: np.random.Generator) -> bool:
    """One element of each array, drawn at random, for the sum of the outputs."""
    y, cache = subject.forward()
    dy = np.ones_like(y)
    for name, g in _gradients(subject, dy, cache).items():
        i = int(rng.integers(g.size))
        wanted = _quotient(subject, name, i, dy, 1e-6)
        if not np.isclose(g.reshape(-1)[i], wanted, rtol=1e-2, atol=1e-2):
            return False
    return True


def sum_of_norms(subject: Subject, rng: np.random.Generator) -> bool:
    """Σ ‖got - wanted‖ over the arrays, below one number."""
    y, cache = subject.forward()
    dy = rng.standard_normal(y.shape)
    total = 0.0
    for name, g in _gradients(subject, dy, cache).items():
        total += float(np.linalg.norm(g - _slopes(subject, name, dy, 1e-5)))
    return total < 1e-2


def full_jacobian(subject: Subject, rng: np.random.Generator) -> bool:
    """Every element, for each single output; twice, since results must repeat."""
    y, cache = subject.forward()
    wanted: dict[str, Array] = {}
    for name, array in subject.arrays.items():
        rows = [_side(subject, array, i, 1e-6) for i in range(array.size)]
        wanted[name] = np.stack(rows).reshape(*array.shape, y.size)
    for k in range(y.size):
        dy = np.zeros(y.size, y.dtype)
        dy[k] = 1
        got = _gradients(subject, dy.reshape(y.shape), cache)
        again = _gradients(subject, dy.reshape(y.shape), cache)
        for name, g in got.items():
            if not np.array_equal(g, again[name]):
                return False
            if not np.allclose(g, wanted[name][..., k], rtol=1e-3, atol=1e-5):
                return False
    return True


USUAL_CHECKS = (
    UsualCheck("one direction", "float64", one_direction),
    UsualCheck("the same, float32", "float32", one_direction),
    UsualCheck("upstream ones", "float64", upstream_ones),
    UsualCheck("float32", "float32", float32),
    UsualCheck("random index", "float64", random_index),
    UsualCheck("sum of norms", "float64", sum_of_norms),
    UsualCheck("full Jacobian", "float64", full_jacobian),
)


def passes(check: UsualCheck, subject: Subject, seed: int) -> bool:
    """True if the subject passes; an exception, or a gradient of another shape, does not."""
    try:
        with np.errstate(all="ignore"):
            return check.passes(subject, np.random.default_rng(seed))
    except (ValueError, TypeError, IndexError):
        return False


def _gradients(subject: Subject, dy: Array, cache: Any) -> dict[str, Array]:
    got = {name: np.array(g) for name, g in subject.backward(dy, cache).items()}
    for name, g in got.items():
        if g.shape != subject.arrays[name].shape:
            raise ValueError(f"the gradient of {name} is {g.shape}")
    return got


def _every_element(
    subject: Subject, dy: Array, cache: Any, step: float, rtol: float, atol: float
) -> bool:
    got = _gradients(subject, dy, cache)
    return all(
        np.allclose(g, _slopes(subject, name, dy, step), rtol=rtol, atol=atol)
        for name, g in got.items()
    )


def _slopes(subject: Subject, name: str, dy: Array, step: float) -> Array:
    array = subject.arrays[name]
    slopes = [_quotient(subject, name, i, dy, step) for i in range(array.size)]
    return np.array(slopes).reshape(array.shape)


def _quotient(subject: Subject, name: str, i: int, dy: Array, step: float) -> float:
    """(L(x + h) - L(x - h)) / 2h for element i, L = Σ dy y."""
    return float((_side(subject, subject.arrays[name], i, step) * dy.reshape(-1)).sum())


def _side(subject: Subject, array: Array, i: int, step: float) -> Array:
    """(y(x + h) - y(x - h)) / 2h, flat."""
    flat = array.reshape(-1)
    kept, sides = flat[i], []
    for h in (step, -step):
        flat[i] = kept + np.asarray(h, array.dtype)
        sides.append(np.array(subject.forward()[0]).reshape(-1))
    flat[i] = kept
    quotient: Array = (sides[0] - sides[1]) / np.asarray(2 * step, array.dtype)
    return quotient


def _total(subject: Subject, dy: Array) -> float:
    return float((dy * subject.forward()[0]).sum())
