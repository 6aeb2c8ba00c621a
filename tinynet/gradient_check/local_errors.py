"""Mistakes that spoil some elements and leave the others right."""

from __future__ import annotations

import numpy as np

from tinynet.gradient_check.evidence import Evidence


def one_element(e: Evidence) -> str | None:
    """A single wrong element among right ones."""
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
    """Wrong elements are zero, and the wanted are not."""
    if e.wrong.sum() > 1 and not e.got[e.wrong].any():
        where = _one_index(e) or _end(e)
        return "it is zero where it should not be, and right elsewhere" + (
            f": {where}" if where else ": is a mask too strict, or a part never visited?"
        )
    return None


def at_one_index(e: Evidence) -> str | None:
    """All wrong elements have one index on some axis."""
    return _one_index(e) or None


def at_one_end(e: Evidence) -> str | None:
    """The wrong elements lie together, at the end or at the border."""
    return _end(e) or None


def _one_index(e: Evidence) -> str:
    index = np.argwhere(e.wrong)
    for axis, size in enumerate(e.got.shape):
        if size > 1 and len(index) > 1 and (index[:, axis] == index[0, axis]).all():
            at = index[0, axis]
            last = ", the last: are remainder rows left out?" if at == size - 1 > 1 else ""
            return f"all wrong elements have index {at} on axis {axis}{last}"
    return ""


def _end(e: Evidence) -> str:
    index, shape = np.argwhere(e.wrong), np.array(e.got.shape)
    if len(index) < 2:
        return ""
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
    return ""
