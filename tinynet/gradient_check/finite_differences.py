"""Slopes from difference quotients, each with a bound on its own error.

For L = Σ dy ⊙ f(x), and one element xᵢ at a time,

    D(h) = (L(xᵢ + h) − L(xᵢ − h)) / 2h,       ∂L/∂xᵢ ≈ (4 D(h/2) − D(h)) / 3   (Richardson)

Where L is smooth, D(h) − D(h/2) is O(h²), and so bounds the error of the extrapolation, O(h⁴).
Source: Dahlquist & Björck 1974, "Numerical Methods", §7.2.2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from tinynet.backend import Array, to_device
from tinynet.gradient_check.complex_step import ComplexStep
from tinynet.gradient_check.precision import FLOAT64, FULL, Precision
from tinynet.gradient_check.report import ArrayCheck

# Powers of two, so that x ± h is exact. The first is tried on every element; the rest, from coarse
# (little rounding error) to fine (few kinks within reach), where the first leaves a doubt.
QUICK_STEP = 2.0**-17
STEPS = (2.0**-10, 2.0**-14, 2.0**-17, 2.0**-20, 2.0**-24)
MORE_STEPS = (2.0**-28, 2.0**-32)  # in less than float64, where they are coarse
TOLERANCE = 1e-9  # accepted relative error of a gradient, beside the estimate's own
NEARLY = 1e-6  # the same of the quick estimate, where the complex step will say it to rounding
ULPS = 64  # of float32, that a right gradient in float32 may be off
CLEAR = 1e-3  # an element is decided if its slope is known to this part of a typical one
SMALL = 1e-3  # a slope below this part of a typical one is judged as if it were as large
SAFETY = 8  # the bounds are estimates themselves
EPSILON = FLOAT64.epsilon


class Function:
    """L = Σ dy ⊙ f(), where f reads arrays that are perturbed in place, one element at a time."""

    def __init__(
        self,
        forward: Callable[[], tuple[Array, Any]],
        y: Array,
        dy: Array,
        precision: Precision = FLOAT64,
    ) -> None:
        self.forward, self.y, self.dy, self.precision = forward, y, dy, precision
        epsilon = precision.epsilon * precision.growth
        # L is a sum of rounded terms, and its rounding error is divided by h
        self.rounding = SAFETY * epsilon * float(abs(dy * y).sum()) / math.sqrt(max(y.size, 1))
        self.smallest = epsilon * float(abs(dy).max()) if dy.size else 0.0
        self.backward_rounding = 0.0
        self.floor = 1.0  # of the size that steps are in proportion to
        self.moved: Array | None = (
            None  # the outputs that changed, where only their rounding counts
        )

    def expect_rounding_of(
        self, gradients: Iterable[Array], moved: float = 0.0, epsilon: float = EPSILON
    ) -> None:
        """Allow every array the rounding that the largest of these gradients brings with it.

        moved     how far the gradient at hand was seen to move by changes in the last bits
        epsilon   of the backward pass
        In one backward pass they are made of the same terms. Where those cancel (a bias before a
        batch norm, whose gradient is 0) their rounding is left, in the size of what cancelled.
        """
        self.backward_rounding = SAFETY * epsilon * largest_of(gradients) + moved

    def step(self, step: float) -> float:
        """That step, a power of ε, in this function's precision."""
        return 2.0 ** round(math.log2(step) * (1 - self.precision.bits) / -52)

    def scaled(self, step: float, value: Any) -> float:
        """That step times the power of two just below |value|, if that is above ``floor``."""
        size = max(self.floor, abs(float(value)))
        return math.ldexp(self.step(step), math.frexp(size)[1] - 1)

    def change(self, flat: Array, i: int, h: float) -> float:
        """L(xᵢ + h) − L(xᵢ); NaN where the forward pass refuses xᵢ + h (a negative probability)."""
        kept = float(flat[i])
        flat[i] = kept + h
        try:
            y, _ = self.forward()
            if not self.precision.double:
                self.moved = (y != self.y) | (False if self.moved is None else self.moved)
            return float((self.dy * (y - self.y)).sum())
        except ValueError:  # it took xᵢ itself: a smaller h, or "undecidable", is the answer
            return math.nan
        finally:
            flat[i] = kept

    def central(self, flat: Array, i: int) -> tuple[float, float]:
        """D(h) and the difference between the slopes on the two sides, from two forward passes."""
        h = self.scaled(QUICK_STEP, flat[i])
        up, down = self.change(flat, i, h), self.change(flat, i, -h)
        return (up - down) / (2 * h), abs(up + down) / h

    def richardson(
        self, flat: Array, i: int, h: float, rounding: float | None = None
    ) -> tuple[float, float]:
        """The extrapolated slope and a bound on its error, from four forward passes.

        Two differences bound it: D(h) − D(h/2), and the bend L(h) + L(−h) − 4 (L(h/2) + L(−h/2)),
        in which the second derivative cancels. A kink makes at least one of them large, whether it
        lies at xᵢ itself, nearer than h/2, or between h/2 and h.
        """
        self.moved = None
        up, down = self.change(flat, i, h), self.change(flat, i, -h)
        half_up, half_down = self.change(flat, i, h / 2), self.change(flat, i, -h / 2)
        coarse, fine = (up - down) / (2 * h), (half_up - half_down) / h
        bend = (up + down - 4 * (half_up + half_down)) / h
        bound = abs(coarse - fine) + abs(bend)
        bound += (self._rounding_of_moved() if rounding is None else rounding) / h
        return (4 * fine - coarse) / 3, bound if math.isfinite(bound) else math.inf

    def careful(self, flat: Array, i: int, good: float) -> tuple[float, float]:
        """The slope with the smallest bound among the steps; stops at one as small as ``good``."""
        best = (math.nan, math.inf)
        value = float(flat[i])
        for step in STEPS if self.precision.double else (*STEPS, *MORE_STEPS):
            slope, bound = self.richardson(flat, i, self.scaled(step, value))
            if bound < best[1]:
                best = slope, bound
            if bound <= good:
                return best
        if 0 < abs(value) < STEPS[-1] and self.precision.double:  # not as far as to a kink at 0
            h = math.ldexp(0.25, math.frexp(value)[1])
            slope, bound = self.richardson(flat, i, h, SAFETY * self.grain(flat, i, h))
            if bound < best[1]:
                best = slope, bound
        return best

    def _rounding_of_moved(self) -> float:
        """The error in L by rounding: in float64 a global bound, else of the outputs that moved."""
        if self.precision.double or self.moved is None:
            return self.rounding
        terms = to_device(self.dy * self.y * (self.moved | (not self.moved.any())), "numpy")
        return self.precision.epsilon * self.precision.growth * float(np.linalg.norm(terms))

    def grain(self, flat: Array, i: int, h: float | None = None) -> float:
        """Σ |dy| times the last bit that is set in each output that xᵢ moves; 0 if none moves."""
        kept = float(flat[i])
        flat[i] = kept + (self.scaled(STEPS[0], kept) if h is None else h) * FULL
        try:
            y = to_device(self.forward()[0], "numpy")
        except ValueError:  # it refuses so large a step
            return 0.0
        finally:
            flat[i] = kept
        moved = np.isfinite(y) & (y != to_device(self.y, "numpy"))
        mantissa, exponent = np.frexp(np.where(moved, y, 0.0))
        bits = (mantissa * 2.0**53).astype(np.int64)
        last = np.ldexp((bits & -bits).astype(np.float64), exponent - 53)
        return float(abs(to_device(self.dy, "numpy") * last).sum())

    def influence(self, flat: Array, i: int) -> np.ndarray:
        """∂y/∂xᵢ, every output's own slope (the shape of y), by one plain central difference."""
        kept, h = float(flat[i]), self.scaled(QUICK_STEP, flat[i])
        try:
            flat[i] = kept + h
            up = self.forward()[0].copy()  # a copy: y may be a view of x
            flat[i] = kept - h
            return to_device((up - self.forward()[0]) / (2 * h), "numpy")
        finally:
            flat[i] = kept


def estimate(
    function: Function,
    name: str,
    x: Array,
    got: np.ndarray,
    tolerance: float | None = None,
    step: ComplexStep | None = None,
    chosen: np.ndarray | None = None,
    computed: Precision | None = None,
    noise: np.ndarray | None = None,
) -> ArrayCheck:
    """``got`` against ∂L/∂x for each chosen element of ``x``, a contiguous array of the function's.

    got         the gradient under test: an element that agrees with the quick estimate, on both
                sides, needs no careful one
    tolerance   accepted relative error, beside the bounds of the estimates; None: TOLERANCE
    step        the complex step for x; None where the forward pass takes no complex numbers
    chosen      flat indices; None: every element
    computed    the precision of ``got``; None: the function's
    noise       what ``got`` may be off by rounding on the way; None: a few ULPS, if not in float64
    """
    computed = computed or function.precision
    relative = TOLERANCE if tolerance is None else tolerance
    if not computed.double:  # the result is rounded once, by half an ε
        relative = max(relative, (2 if computed.bits > 8 else 0.75) * computed.epsilon)
    if not function.precision.double:  # whose steps are not small beside small arrays
        size = _root_mean_square(to_device(x, "numpy"))
        function.floor = min(max(size, 2.0**-10), 1.0)
    clear = CLEAR  # with coarse steps more kinks are in reach, and finer ones know less
    if not function.precision.double:
        clear = 0.25 if function.precision.coarse else 1e-2
    flat = x.reshape(-1)
    index = np.arange(flat.size) if chosen is None else chosen
    g = got.reshape(-1)[index]
    quick = max(relative, relative if step is None else NEARLY)
    with np.errstate(all="ignore"):  # a step too far (the log of a negative number) gives NaN
        both = [function.central(flat, i) for i in index.tolist()]
        wanted, sides = np.array(both).reshape(-1, 2).T.copy()
        bound = np.zeros_like(wanted)

        def settled(relative: float, doubtful: Any) -> np.ndarray:
            """What is accepted, once those that do not agree have a careful slope."""
            accepted = relative * (abs(wanted) + SMALL * _root_mean_square(wanted))
            for k in np.flatnonzero((doubtful | ~(abs(g - wanted) <= accepted)) & (bound == 0)):
                wanted[k], bound[k] = function.careful(flat, int(index[k]), accepted[k])
            typical = _root_mean_square(wanted)
            return relative * (abs(wanted) + SMALL * typical) + SAFETY * bound

        accepted = settled(quick, ~(sides <= clear * (abs(wanted) + _root_mean_square(wanted))))
    # as well as rounding allows at the best step: nothing that L resolves is left in doubt
    finest = SAFETY * SAFETY * function.rounding / (function.step(STEPS[0]) * function.floor)

    def in_doubt() -> np.ndarray:
        typical = np.maximum(abs(wanted), _root_mean_square(wanted))
        return np.asarray(~(SAFETY * bound <= clear * typical + finest))

    undecidable = in_doubt()
    exact = np.zeros(len(index), bool)
    found = None if step is None else step.slopes(index[~undecidable])
    if found is not None:
        slopes, sizes = found
        if (abs(slopes - wanted[~undecidable]) <= accepted[~undecidable]).all():
            exact = ~undecidable
            wanted[exact] = slopes
            accepted[exact] = relative * (abs(slopes) + SMALL * _root_mean_square(wanted))
            # what a sum of such terms is rounded by
            accepted[exact] += SAFETY * (SAFETY * EPSILON * sizes + function.rounding)
    if quick > relative and not exact.any():
        with np.errstate(all="ignore"):
            accepted = settled(relative, False)
        undecidable = in_doubt()
    if not computed.coarse:  # in the backward pass too
        accepted += SAFETY * function.backward_rounding
    if not computed.double:
        size = np.maximum(abs(wanted), _root_mean_square(wanted))
        accepted += ULPS * computed.epsilon * size if noise is None else noise.reshape(-1)[index]

    # An error that rounding could make proves nothing, of dy or of y, which may be coarser than its
    # size says: a sigmoid's 1 + tanh, far out, where quotients of fine steps agree by chance.
    error = abs(g - wanted)
    undecidable |= (error > accepted) & (error <= 2 * function.smallest)
    for k in np.flatnonzero((error > accepted) & ~undecidable):
        with np.errstate(all="ignore"):
            grain, limit = function.grain(flat, int(index[k])), 0.0
        if not grain:  # flat as far as the coarsest step reaches
            limit = function.smallest / function.scaled(STEPS[0], flat[index[k]])
        elif grain > SAFETY * function.rounding:
            finest_step = function.scaled(STEPS[-1], flat[index[k]])
            limit = grain if exact[k] else grain / finest_step
        undecidable[k] = error[k] <= SAFETY * limit

    def spread(values: np.ndarray, elsewhere: Any) -> np.ndarray:
        whole = np.full(flat.size, elsewhere, values.dtype)
        whole[index] = values
        return whole.reshape(x.shape)

    return ArrayCheck(
        name,
        got,
        wanted=spread(wanted, np.nan),
        tolerance=spread(accepted, np.nan),
        undecidable=spread(undecidable, False),
        checked=spread(np.ones(len(index), bool), False),
        exact=spread(exact, False),
    )


def largest_of(gradients: Iterable[Array]) -> float:
    """The size of the largest finite element; the arrays may be on any device."""
    sizes = [abs(g[np.isfinite(g)]) for g in (to_device(g, "numpy") for g in gradients)]
    return max((float(s.max()) for s in sizes if s.size), default=0.0)


def _root_mean_square(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(np.sqrt((finite**2).mean())) if finite.size else 0.0
