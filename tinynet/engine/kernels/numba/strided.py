"""Three, four or six vectors that lie ``step`` numbers apart: columns and rows of small tiles."""

from __future__ import annotations

from tinynet.engine.kernels.numba.compile import compiled
from tinynet.engine.kernels.numba.vector import load, load_some, store, store_some


@compiled
def load_three(x, i, step):  # type: ignore[no-untyped-def]
    """The vectors at x.flat[i], x.flat[i + step], x.flat[i + 2 step]."""
    return load(x, i), load(x, i + step), load(x, i + 2 * step)


@compiled
def load_some_of_three(x, i, step, lanes):  # type: ignore[no-untyped-def]
    """The same, of each the first ``lanes`` lanes."""
    return (
        load_some(x, i, lanes),
        load_some(x, i + step, lanes),
        load_some(x, i + 2 * step, lanes),
    )


@compiled
def load_four(x, i, step):  # type: ignore[no-untyped-def]
    """Four vectors, ``step`` apart."""
    return load(x, i), load(x, i + step), load(x, i + 2 * step), load(x, i + 3 * step)


@compiled
def load_six(x, i, step):  # type: ignore[no-untyped-def]
    """Six vectors, ``step`` apart."""
    return (
        load(x, i),
        load(x, i + step),
        load(x, i + 2 * step),
        load(x, i + 3 * step),
        load(x, i + 4 * step),
        load(x, i + 5 * step),
    )


@compiled
def store_three(y, i, step, v):  # type: ignore[no-untyped-def]
    """The vectors v[0], v[1], v[2] to y.flat[i], y.flat[i + step], y.flat[i + 2 step]."""
    store(y, i, v[0])
    store(y, i + step, v[1])
    store(y, i + 2 * step, v[2])


@compiled
def store_some_of_three(y, i, step, v, lanes):  # type: ignore[no-untyped-def]
    """The same, of each the first ``lanes`` lanes."""
    store_some(y, i, v[0], lanes)
    store_some(y, i + step, v[1], lanes)
    store_some(y, i + 2 * step, v[2], lanes)


@compiled
def store_four(y, i, step, v):  # type: ignore[no-untyped-def]
    """Four vectors, ``step`` apart."""
    store(y, i, v[0])
    store(y, i + step, v[1])
    store(y, i + 2 * step, v[2])
    store(y, i + 3 * step, v[3])


@compiled
def store_six(y, i, step, v):  # type: ignore[no-untyped-def]
    """Six vectors, ``step`` apart."""
    store(y, i, v[0])
    store(y, i + step, v[1])
    store(y, i + 2 * step, v[2])
    store(y, i + 3 * step, v[3])
    store(y, i + 4 * step, v[4])
    store(y, i + 5 * step, v[5])


@compiled
def add_six(y, i, step, v):  # type: ignore[no-untyped-def]
    """y.flat[i], y.flat[i + step], … += the six vectors."""
    a = load_six(y, i, step)
    store_six(
        y,
        i,
        step,
        (v[0] + a[0], v[1] + a[1], v[2] + a[2], v[3] + a[3], v[4] + a[4], v[5] + a[5]),
    )
