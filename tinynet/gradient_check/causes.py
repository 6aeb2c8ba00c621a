"""What the pattern of an error suggests: which of the usual mistakes would give just this gradient.

Each hypothesis is a small function of the evidence that tests one mistake numerically and, if it
fits every element, says so in a sentence. ``HYPOTHESES`` lists them in the order in which they are
tried, the most specific first.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from tinynet.backend import Array, to_device
from tinynet.gradient_check.finite_differences import Function
from tinynet.gradient_check.report import ArrayCheck

LOOKED_AT = 24  # elements for which a hypothesis may run the forward pass again


class Evidence:
    """All that a hypothesis may look at; everything but ``arrays`` is on the host.

    check      the gradient that is wrong
    others     the checks of the same backward pass, this one among them
    arrays     the arguments, by name; they are perturbed in place, and put back
    function   the forward pass; its y and dy
    got, wanted, wrong   those of the check, undecidable elements set to 0 and False
    error      got − wanted, 0 where that is within the tolerance
    """

    def __init__(
        self,
        check: ArrayCheck,
        others: Sequence[ArrayCheck],
        arrays: Mapping[str, Array],
        function: Function,
    ) -> None:
        self.check, self.others, self.arrays, self.function = check, others, arrays, function
        self.got, self.wanted = (np.where(check.decided, a, 0.0) for a in (check.got, check.wanted))
        self.wrong = check.wrong
        self.error = np.where(self.wrong, self.got - self.wanted, 0.0)
        self.y, self.dy = to_device(function.y, "numpy"), to_device(function.dy, "numpy")

    def values(self) -> dict[str, np.ndarray]:
        return {name: to_device(a, "numpy") for name, a in self.arrays.items()}

    def some_wrong(self) -> list[int]:
        """Flat indices of up to LOOKED_AT wrong elements, spread evenly."""
        flat = np.flatnonzero(self.wrong)
        picked = np.linspace(0, len(flat) - 1, min(len(flat), LOOKED_AT)).round().astype(int)
        return flat[picked].tolist()

    def contributions(self, i: int) -> np.ndarray:
        """dy ⊙ ∂y/∂aᵢ (the shape of y): what the true gradient of element i is a sum of."""
        flat = self.arrays[self.check.name].reshape(-1)
        return self.dy * self.function.influence(flat, i)


def alike(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal but for 1e-4 of the largest: gradients of several patterns are told apart."""
    return a.shape == b.shape and a.size > 0 and bool(abs(a - b).max() <= 1e-4 * abs(b).max())


def axes_named(axes: Sequence[int]) -> str:
    """ "axis 1", "axes 0, 2"."""
    return f"axis {axes[0]}" if len(axes) == 1 else "axes " + ", ".join(map(str, axes))


def sets_of_axes(ndim: int) -> Iterator[tuple[int, ...]]:
    """All axes but one, then fewer: the largest mean that explains the error is named."""
    for count in range(ndim - 1 if ndim > 1 else 1, 0, -1):
        yield from itertools.combinations(range(ndim), count)


def explain_wrong(
    checks: Sequence[ArrayCheck], arrays: Mapping[str, Array], function: Function
) -> list[str]:
    """For each wrong gradient: array, index, got, wanted, and what the error's pattern suggests."""
    wrong = [check for check in checks if check.wrong.any()]
    return [_explained(Evidence(check, checks, arrays, function)) for check in wrong]


def _explained(evidence: Evidence) -> str:
    check, i = evidence.check, evidence.check.worst
    text = (
        f"the gradient of {check.name} is wrong in {int(check.wrong.sum())} of "
        f"{int(check.checked.sum())} elements; at {i} got {check.got[i]:.6g}, "
        f"want {check.wanted[i]:.6g}"
    )
    nearly = alike(evidence.got, evidence.wanted)
    for hypothesis in IF_NEARLY_RIGHT if nearly else HYPOTHESES:
        try:
            with np.errstate(all="ignore"):
                cause = hypothesis(evidence)
        except ValueError:  # the forward pass refuses what was tried: another cause, or none
            continue
        if cause:
            return f"{text}: {cause}"
    return text


def explain_undecidable(check: ArrayCheck) -> str:
    """Where, and why, an element was left undecided."""
    first = tuple(int(i) for i in np.argwhere(check.undecidable)[0])
    return (
        f"{int(check.undecidable.sum())} of {check.got.size} elements of {check.name} cannot be "
        f"decided, the first at {first}: they lie at a kink or a tie (ReLU at its threshold, equal "
        "values under one max-pool window), or their slopes are lost in rounding; check at an "
        "input without, or let margin=0.01 move it"
    )


# The whole gradient is a plain variation of the true one.


def holds_nan(e: Evidence) -> str | None:
    return None if np.isfinite(e.got).all() else "it holds NaN or infinity"


def is_zero(e: Evidence) -> str | None:
    return (
        None if e.got.any() else "it is zero everywhere: is it computed, and added to the gradient?"
    )


def is_scaled(e: Evidence) -> str | None:
    """One factor throughout: the sign, a mean for a sum, a root of m / (m − 1)."""
    if not e.wanted.any():
        return None
    ratio = float((e.got * e.wanted).sum() / (e.wanted**2).sum())
    if not ratio or not alike(e.got, ratio * e.wanted):
        return None
    if _near(ratio, -1):
        return "the sign is wrong"
    batch = e.y.shape[0] if e.y.ndim else 1
    if batch > 1 and _near(ratio, batch):
        twice = ", or all is counted twice" if batch == 2 else ""
        return f"it is N = {batch} times too large: a mean over the batch taken for a sum{twice}"
    if batch > 1 and _near(ratio, 1 / batch):
        return f"it is N = {batch} times too small: a sum over the batch taken for a mean"
    text = f"all elements are {ratio:.6g} times what they should be: "
    for name, a in {"the output": e.y, **e.values()}.items():
        for count, what in _counts(a):
            if _near(ratio, count):
                return f"{text}that is {what} of {name}, a mean taken for a sum?"
            if _near(ratio, 1 / count):
                return f"{text}that is 1 / {what} of {name}, a sum taken for a mean?"
            unbiased = math.sqrt(count / (count - 1))
            if _near(ratio, unbiased) or _near(ratio, 1 / unbiased):
                return f"{text}√(m / (m − 1)), m = {count}: is a variance divided by m − 1?"
    if _near(ratio, 2):
        return f"{text}is each counted twice, or the 2 of a square forgotten?"
    return f"{text}a factor is missing or extra"


def is_rounded(e: Evidence) -> str | None:
    """Wrong by a little, nearly everywhere."""
    if e.wrong.mean() < 0.5 or not e.wanted.any():
        return None
    part = math.sqrt(float((e.error**2).mean() / (e.wanted**2).mean()))
    if part < 1e-5:
        return f"it is right to {-math.log10(part):.0f} digits: is a part computed in float32?"
    if part < 5e-3:
        return (
            f"it is right to {-math.log10(part):.0f} digits: is a part computed in float16, or is "
            "a small constant, such as an ε, not the forward pass's?"
        )
    return None


def is_transposed(e: Evidence) -> str | None:
    for a, b in itertools.combinations(range(e.got.ndim), 2):
        if e.got.shape[a] == e.got.shape[b] and alike(e.got.swapaxes(a, b), e.wanted):
            return "it is transposed" + (f": axes {a} and {b}" if e.got.ndim > 2 else "")
    return None


def is_flipped(e: Evidence) -> str | None:
    """A filter turned by half a turn, or an axis read backwards."""
    if e.got.ndim == 4 and alike(e.got[::-1, ::-1], e.wanted):
        return "it is flipped in height and width: convolution against correlation"
    for axes in [*((a,) for a in range(e.got.ndim)), (1, 2)]:
        if max(axes) < e.got.ndim and alike(np.flip(e.got, axes), e.wanted):
            return f"it is reversed along {axes_named(axes)}"
    return None


def belongs_to_another(e: Evidence) -> str | None:
    for other in e.others:
        if other is not e.check and alike(e.got, other.wanted):
            return f"this is the gradient of {other.name}: are two results in the wrong order?"
    return None


def is_shifted(e: Evidence) -> str | None:
    for axis, by in itertools.product(range(e.got.ndim), (1, -1, 2, -2)):
        size = e.got.shape[axis]
        if size < abs(by) + 2 or e.got.size // size * (size - abs(by)) < 4:
            continue
        there, here = slice(max(by, 0), size + min(by, 0)), slice(max(-by, 0), size - max(by, 0))
        got, wanted = (np.moveaxis(a, axis, 0) for a in (e.got, e.wanted))
        if wanted[here].any() and alike(got[there], wanted[here]):
            return f"it is shifted by {by} along axis {axis}: is an index or an offset off by one?"
    return None


def right_if_an_argument_were_changed(e: Evidence) -> str | None:
    """The gradient that a flipped or transposed argument would give."""
    flat, picked = e.arrays[e.check.name].reshape(-1), e.some_wrong()[: LOOKED_AT // 2]
    for name, a in e.arrays.items():
        if name == e.check.name or a.ndim < 2:
            continue
        kept = a.copy()
        for what, changed in _variations(kept):
            if (changed == kept).all():
                continue
            try:
                a[...] = changed
                slopes = np.array([(e.dy * e.function.influence(flat, i)).sum() for i in picked])
            finally:
                a[...] = kept
            if len(picked) > 2 and alike(e.got.reshape(-1)[picked], slopes):
                return f"it would be right if {name} were {what}"
    return None


def an_epsilon(e: Evidence) -> str | None:
    """1 / x in one pass and 1 / (x + ε) in the other."""
    x, at = e.values()[e.check.name], e.wrong
    if at.sum() < 3 or np.ptp(x[at]) <= 1e-3 * abs(x[at]).max():
        return None
    for where, other, ratio in (
        ("forward", "backward", e.got[at] / e.wanted[at]),
        ("backward", "forward", e.wanted[at] / e.got[at]),
    ):
        found = (ratio - 1) * x[at]
        epsilon = float(np.median(found))
        if 0 < epsilon < 0.1 and (abs(found - epsilon) <= 0.02 * epsilon).all():
            return (
                f"the {where} pass has ε = {epsilon:.2g} added to {e.check.name}, as in "
                f"log({e.check.name} + ε), and the {other} pass has not: use the same in both"
            )
    return None


def a_factor_for_each_index(e: Evidence) -> str | None:
    for axis, size in enumerate(e.got.shape):
        if size < 2 or e.got.size // size < 2:
            continue
        rest = tuple(a for a in range(e.got.ndim) if a != axis)
        square = (e.wanted**2).sum(axis=rest, keepdims=True)
        if not square.all():
            continue
        factors = (e.got * e.wanted).sum(axis=rest, keepdims=True) / square
        if abs(factors - 1).max() > 1e-3 and alike(e.got, factors * e.wanted):
            shown = ", ".join(f"{f:.4g}" for f in factors.reshape(-1)[:6])
            more = ", …" if size > 6 else ""
            return (
                f"each index of axis {axis} has its own factor, {shown}{more}: is a weight, a "
                "scale or a count for each of them missing or extra?"
            )
    return None


def is_rearranged(e: Evidence) -> str | None:
    if e.got.size > 3 and alike(np.sort(e.got, axis=None), np.sort(e.wanted, axis=None)):
        return "the values are right, in the wrong places: a reshape, an order of axes, or a group?"
    return None


def _near(ratio: float, wanted: float) -> bool:
    return abs(ratio / wanted - 1) < 1e-5


def _counts(a: np.ndarray) -> Iterator[tuple[int, str]]:
    """The numbers that a mean over neighbouring axes of ``a`` could divide by."""
    for first, last in itertools.combinations(range(a.ndim + 1), 2):
        count = math.prod(a.shape[first:last])
        if count > 1:
            all_axes = last - first == a.ndim
            yield count, "the size" if all_axes else f"the size of {axes_named(range(first, last))}"


def _variations(a: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    if a.ndim == 4:
        yield "flipped in height and width", a[::-1, ::-1]
    for first, second in itertools.combinations(range(a.ndim), 2):
        if a.shape[first] == a.shape[second]:
            axes = f" (axes {first} and {second})" if a.ndim > 2 else ""
            yield f"transposed{axes}", a.swapaxes(first, second)


# Some elements are spoilt, and the others right.


def one_element(e: Evidence) -> str | None:
    if int(e.wrong.sum()) != 1 or e.got.size < 2:
        return None
    return "all other elements are right: is this index left out, counted twice, or treated apart?"


def a_mask(e: Evidence) -> str | None:
    """Wrong just where one of the two is zero."""
    zero_wanted = abs(e.wanted) <= e.check.tolerance
    zero_got = abs(e.got) <= e.check.tolerance
    if e.wrong.sum() < 2:
        return None
    if (e.wrong & zero_wanted).sum() == e.wrong.sum():
        return (
            "it is not zero where it should be, and right elsewhere: is a mask missing "
            "(of ReLU, dropout, a maximum, a clip)?"
        )
    if e.wrong.all() and (zero_wanted != zero_got).all():
        return "it is zero where it should not be, and the reverse: is the mask inverted?"
    return None


def zero_where_it_should_not_be(e: Evidence) -> str | None:
    if e.wrong.sum() > 1 and not e.got[e.wrong].any():
        where = at_one_index(e) or at_one_end(e)
        return "it is zero where it should not be, and right elsewhere" + (
            f": {where}" if where else ": is a mask too strict, or a part never visited?"
        )
    return None


def at_one_index(e: Evidence) -> str | None:
    index = np.argwhere(e.wrong)
    for axis, size in enumerate(e.got.shape):
        if size > 1 and len(index) > 1 and (index[:, axis] == index[0, axis]).all():
            at = index[0, axis]
            last = ", the last: are remainder rows left out?" if at == size - 1 > 1 else ""
            return f"all wrong elements have index {at} on axis {axis}{last}"
    return None


def at_one_end(e: Evidence) -> str | None:
    index, shape = np.argwhere(e.wrong), np.array(e.got.shape)
    if len(index) < 2:
        return None
    image_axes = [1, 2] if e.got.ndim == 4 else []
    for axis in range(e.got.ndim):
        first = int(index[:, axis].min())
        if first > 1 and 2 * first >= shape[axis]:
            stride = ": what a stride leaves over?" if axis in image_axes else ""
            count = shape[axis] - first
            return f"all wrong elements are among the last {count} on axis {axis}{stride}"
    if image_axes:
        depth = np.minimum(index, shape - 1 - index)[:, image_axes].min(axis=1)
        rim = int(depth.max()) + 1
        if (2 * rim < shape[image_axes]).all():
            return (
                f"all wrong elements are within {rim} of the border in height or width: "
                "is the padding treated wrongly?"
            )
    return None


# In the chain rule a factor, a term or a contribution is missing, or there twice.


def lacks_a_factor(e: Evidence) -> str | None:
    for name, factor in _factors(e):
        if alike(e.got * factor, e.wanted):
            return f"it lacks the factor {name}"
        if alike(e.got, e.wanted * factor):
            return f"it has the factor {name} once too often"
    return None


def is_another_array(e: Evidence) -> str | None:
    for name, a in _factors(e):
        if a.shape == e.got.shape and alike(e.got, a):
            return f"it is {name} itself: is the layer's own slope left out?"
    return None


def lacks_a_path(e: Evidence) -> str | None:
    """The error is a multiple of an array that is at hand."""
    for name, term in _factors(e):
        if term.shape != e.got.shape or name == "1 − y" or e.got.size < 3:
            continue
        times = float((e.error * term).sum() / max(float((term**2).sum()), 1e-300))
        if times and alike(e.error, times * term):
            if name == "dy" and abs(times + 1) < 1e-3:
                return "dy itself is missing from it: is a path left out, such as a shortcut's?"
            return f"it is {times:.6g} times {name} too large: is a term added or left out?"
    return None


def only_the_diagonal(e: Evidence) -> str | None:
    """dyᵢ ∂yᵢ/∂xᵢ, without the other outputs that xᵢ moves."""
    if e.got.shape != e.y.shape:
        return None
    picked = e.some_wrong()
    own = np.array([e.contributions(i).reshape(-1)[i] for i in picked])
    if not alike(e.got.reshape(-1)[picked], own):
        return None
    return (
        "only the diagonal of the Jacobian is in it, dyᵢ ∂yᵢ/∂xᵢ: xᵢ moves other outputs too, as "
        "in a softmax or a normalisation, and those terms are left out"
    )


def one_contribution(e: Evidence) -> str | None:
    """One window's, one example's contribution instead of the sum, or one too few or too many."""
    single, missing, double = [], [], []
    for i in e.some_wrong():
        parts = e.contributions(i)
        windows = parts.sum(axis=-1) if parts.ndim > 2 else parts  # a window has all channels
        examples = parts.reshape(len(parts), -1).sum(axis=1) if parts.ndim else parts
        got, wanted = (float(a.reshape(-1)[i]) for a in (e.got, e.wanted))
        candidates = np.concatenate([a.reshape(-1) for a in (parts, windows, examples)])
        small = 1e-5 * max(abs(candidates).max(), abs(got), abs(wanted))
        candidates = candidates[abs(candidates) > small]
        partial = candidates[abs(candidates - wanted) > small]

        def found(value: float, among: np.ndarray, near: float = small) -> bool:
            return bool((abs(among - value) <= near).any())

        single.append(found(got, partial))
        missing.append(found(wanted - got, partial))
        double.append(found(got - wanted, candidates))
    if len(single) < 2:
        return None
    if all(single):
        return (
            "each element has only one of the contributions that should add up (of windows, or "
            "examples): is it overwritten (=) instead of added to (+=)?"
        )
    if all(missing):
        return "from each wrong element one contribution (of a window, an example) is missing"
    if all(double):
        return "in each wrong element one contribution (of a window, an example) counts twice"
    return None


def lacks_a_mean(e: Evidence) -> str | None:
    """The error is the same, or a straight line in x, all along some axes."""
    x = e.values()[e.check.name]
    for axes in sets_of_axes(e.got.ndim):
        along = math.prod(e.got.shape[a] for a in axes)
        if along < 3 or not e.error.any():
            continue
        mean = e.error.mean(axis=axes, keepdims=True)
        if alike(e.error, np.broadcast_to(mean, e.error.shape)):
            return (
                f"the error is the same all along {axes_named(axes)}: a term of the chain rule is "
                "missing, the path through a mean or a sum over them"
            )
    for axes in sets_of_axes(e.got.ndim):
        if math.prod(e.got.shape[a] for a in axes) < 4:
            continue
        centred = x - x.mean(axis=axes, keepdims=True)
        spread = np.maximum((centred**2).sum(axis=axes, keepdims=True), 1e-300)
        level = e.error.mean(axis=axes, keepdims=True)
        slope = (e.error * centred).sum(axis=axes, keepdims=True) / spread
        if alike(e.error, level + slope * centred):
            return (
                f"the error is a straight line in {e.check.name} along {axes_named(axes)}: a term "
                "of the chain rule is missing, the path through a variance (or a norm) over them"
            )
    return None


def _factors(e: Evidence) -> Iterator[tuple[str, np.ndarray]]:
    """Arrays that a backward pass may forget, or use twice; those that fit the gradient."""
    named = {"dy": e.dy, **e.values(), "y": e.y, "1 − y": 1 - e.y}
    for name, factor in named.items():
        fits = factor.size > 1 and factor.ndim <= e.got.ndim
        if fits and all(
            size in (1, full)
            for size, full in zip(factor.shape[::-1], e.got.shape[::-1], strict=False)
        ):
            yield name, factor


HYPOTHESES: tuple[Callable[[Evidence], str | None], ...] = (
    holds_nan,
    is_zero,
    one_element,
    an_epsilon,
    is_transposed,
    is_flipped,
    is_scaled,
    belongs_to_another,
    is_shifted,
    a_mask,
    is_another_array,
    lacks_a_factor,
    only_the_diagonal,
    lacks_a_path,
    lacks_a_mean,
    zero_where_it_should_not_be,
    at_one_index,
    a_factor_for_each_index,
    one_contribution,
    right_if_an_argument_were_changed,
    is_rearranged,
    at_one_end,
    is_rounded,
)
# Where the gradient is nearly right, it is also nearly any pattern that the true one has.
IF_NEARLY_RIGHT = (an_epsilon, one_element, at_one_index, at_one_end, is_rounded)
