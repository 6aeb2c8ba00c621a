"""From the probability of each view to the probability of each study.  Report §5.4.

MURA labels studies, not images: the 1 to 11 views of one study share its label. The network
sees one view at a time, so its probabilities are brought together by one of three rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from examples.mura.dataset import Image
from examples.mura.errors import UserError

RULES = {
    "mean": "mean of the views' probabilities; abnormal above the threshold",
    "vote": "share of views above the threshold; abnormal above one half, a tie goes to the mean",
    "max": "largest of the views' probabilities; abnormal above the threshold",
}


@dataclass(frozen=True)
class Cases:
    """What is scored, a row each: single images, or whole studies.

    part, patient, study   (n,) str     where it comes from; study is its number, "study1"
    label                  (n,) int64   1 abnormal, 0 normal
    probability            (n,) float64 of being abnormal, after the rule
    abnormal               (n,) bool    the decision
    views                  (n,) int64   images behind the row
    """

    part: NDArray[np.str_]
    patient: NDArray[np.str_]
    study: NDArray[np.str_]
    label: NDArray[np.int64]
    probability: NDArray[np.float64]
    abnormal: NDArray[np.bool_]
    views: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.label)

    def of_part(self, part: str) -> Cases:
        """The rows of one body part, in the same order."""
        chosen = self.part == part
        return Cases(**{name: column[chosen] for name, column in vars(self).items()})


def image_cases(
    probability: NDArray[np.floating], images: Sequence[Image], threshold: float = 0.5
) -> Cases:
    """One row per image; abnormal where probability (n,) > threshold, so a tie is normal."""
    p = _checked(probability, images)
    return Cases(
        part=np.array([image.part for image in images]),
        patient=np.array([image.patient for image in images]),
        study=np.array([image.study_key[2] for image in images]),
        label=np.array([image.label for image in images], dtype=np.int64),
        probability=p,
        abnormal=p > threshold,
        views=np.ones(len(images), dtype=np.int64),
    )


def study_probabilities(
    probability: NDArray[np.floating],
    images: Sequence[Image],
    rule: str = "mean",
    threshold: float = 0.5,
) -> Cases:
    """One row per study, in the order in which the studies first appear.  Report §5.4.

    A study is keyed by (body part, patient, study number). Its probability, and when it is
    called abnormal, follow ``rule`` (see ``RULES``); comparisons are strict, so a mean or a
    maximum that equals the threshold is normal. The mean is that of the MURA paper.

    probability (n,)   of each image being abnormal
    Raises UserError if two views of a study bear different labels, or for a threshold or a
    probability outside 0 to 1; ValueError for another rule.
    """
    number: dict[tuple[str, str, str], int] = {}
    index = np.array([number.setdefault(image.study_key, len(number)) for image in images], int)
    views_of = image_cases(probability, images, threshold)
    first = np.unique(index, return_index=True)[1]
    _check_labels(views_of, index, first)

    score, abnormal = combine(views_of.probability, index, rule, threshold)
    return Cases(
        part=views_of.part[first],
        patient=views_of.patient[first],
        study=views_of.study[first],
        label=views_of.label[first],
        probability=score,
        abnormal=abnormal,
        views=np.bincount(index, minlength=len(number)).astype(np.int64),
    )


def combine(
    probability: NDArray[np.float64], index: NDArray[np.int64], rule: str, threshold: float
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Probability and decision of each group.

    probability (n,)   of the views
    index       (n,)   group 0, 1, ... m - 1 that each view belongs to
    Returns probability (m,) float64 and decision (m,) bool.
    """
    if rule not in RULES:
        raise ValueError(f"study rule is {rule!r}, want one of {', '.join(RULES)}")
    if not 0 <= threshold <= 1:
        raise UserError(f"the threshold is {threshold:g}, want a probability, 0 to 1")
    views = np.bincount(index)
    # Rounded, so that equal means are equal whatever the number of views, and a tie is a tie
    mean = np.round(np.bincount(index, weights=probability) / views, 12)
    if rule == "mean":
        return mean, mean > threshold
    if rule == "max":
        largest = np.full(len(views), -np.inf)
        np.maximum.at(largest, index, probability)
        return largest, largest > threshold
    votes = np.bincount(index, weights=probability > threshold)
    tied = 2 * votes == views
    return votes / views, np.where(tied, mean > threshold, 2 * votes > views)


def _checked(probability: NDArray[np.floating], images: Sequence[Image]) -> NDArray[np.float64]:
    p = np.asarray(probability, dtype=np.float64)
    if p.shape != (len(images),):
        raise ValueError(f"probability is {p.shape}, want one per image, ({len(images)},)")
    if not np.all((p >= 0) & (p <= 1)):
        raise UserError(
            "some of the probabilities are NaN or outside 0 to 1: the weights are damaged, "
            "use another checkpoint or train again"
        )
    return p


def _check_labels(views: Cases, index: NDArray[np.int64], first: NDArray[np.int64]) -> None:
    clash = np.flatnonzero(views.label != views.label[first][index])
    if len(clash):
        at = clash[0]
        raise UserError(
            f"{views.part[at]} {views.patient[at]} {views.study[at]} is labelled both normal and "
            "abnormal: keep one of its folders, or correct the labels"
        )
