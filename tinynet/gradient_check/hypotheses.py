"""What the pattern of an error suggests: which of the usual mistakes would give just this gradient.

Each hypothesis is a small function of the evidence that tests one mistake numerically and, if it
fits every element, says so in a sentence. ``HYPOTHESES`` has them in the order in which they are
tried, the most specific first.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tinynet.gradient_check import chain_errors as chain
from tinynet.gradient_check import local_errors as local
from tinynet.gradient_check import whole_errors as whole
from tinynet.gradient_check.evidence import Evidence, alike
from tinynet.gradient_check.report import ArrayCheck

HYPOTHESES: tuple[Callable[[Evidence], str | None], ...] = (
    whole.holds_nan,
    whole.is_zero,
    local.one_element,
    whole.is_transposed,
    whole.is_flipped,
    whole.is_scaled,
    whole.belongs_to_another,
    whole.is_shifted,
    local.a_mask,
    chain.is_another_array,
    chain.lacks_a_factor,
    chain.only_the_diagonal,
    chain.lacks_a_path,
    chain.lacks_a_mean,
    local.zero_where_it_should_not_be,
    local.at_one_index,
    whole.a_factor_for_each_index,
    chain.one_contribution,
    whole.right_if_an_argument_were_changed,
    whole.is_rearranged,
    local.at_one_end,
    whole.is_rounded,
)
# Where the gradient is nearly right, it is also nearly any pattern that the true one has.
IF_NEARLY_RIGHT = (local.one_element, local.at_one_index, local.at_one_end, whole.is_rounded)


def explain_wrong(evidence: Evidence) -> str:
    """Which array, which index, got, wanted, and what the pattern of the error suggests."""
    check = evidence.check
    i = check.worst
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
