"""Data for training: reproducible generators, sets of examples, batches, reading ahead.

A dataset is anything with ``len()`` and ``batch(indices, rng)``: examples may come from memory,
a memory-mapped file or a folder, and only those of the batch in hand are ever read.
"""

from __future__ import annotations

import contextvars
import queue
import threading
import zlib
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np

from tinynet.backend import Array, check_array, check_number, described, library_of, to_device
from tinynet.losses.base import as_labels

T = TypeVar("T")
Augment: TypeAlias = Callable[[Array, np.random.Generator], Array]


def generator(seed: int, purpose: str, *counters: int) -> np.random.Generator:
    """A random generator that depends on its arguments alone: the same arguments, the same draws.

    seed       whole number >= 0, the run's
    purpose    what is drawn, such as "shuffle" or "dropout"; each purpose draws independently
    counters   which draw it is, such as the epoch and the batch; whole numbers >= 0
    Raises ValueError for a negative number.

    Source: the counter-based Philox of Salmon et al. 2011, keyed through NumPy's SeedSequence.
    """
    if min(seed, *counters, 0) < 0:
        raise ValueError(f"seed and counters are {(seed, *counters)}, want numbers of at least 0")
    # spawn_key, unlike more entropy, also tells () from (0,) and (0, 0)
    stream = (zlib.crc32(purpose.encode()), *counters)
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=stream)))


class Dataset(Protocol):
    """A set of labelled examples, read a batch at a time."""

    def __len__(self) -> int:
        """Number of examples."""

    def batch(self, indices: Array, rng: np.random.Generator | None) -> tuple[Array, Array]:
        """x (m, ...) and labels y (m,) or (m, K) of the examples at ``indices`` (m,).

        rng is what augmentation draws from; None means no augmentation.
        """


class ArrayDataset:
    """Examples held in memory, or in a memory-mapped array.

    x         (N, ...)          examples
    y         (N,) or (N, K)    labels: class numbers, or one row of K per example
    augment   function (x of a batch, generator) -> x, applied in training only; None for none
    Raises ValueError if x and y differ in length or are empty.
    """

    def __init__(self, x: Array, y: Array, augment: Augment | None = None) -> None:
        check_array("ArrayDataset", "x", x, floating=False)
        y = as_labels(y)
        if not x.shape or not y.shape:
            raise ValueError(f"x is {x.shape} and y {y.shape}, want (N, ...) and (N,) or (N, K)")
        if len(x) != len(y):
            raise ValueError(f"x has {len(x)} examples and y {len(y)} labels, want one label each")
        if len(x) == 0:
            raise ValueError("x and y are empty, want at least one example")
        self.x, self.y, self.augment = x, y, augment

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, indices: Array, rng: np.random.Generator | None) -> tuple[Array, Array]:
        """x (m, ...) and y of the examples at ``indices`` (m,); augmented if rng is given."""
        x = self.x[to_device(indices, library_of(self.x))]
        y = self.y[to_device(indices, library_of(self.y))]
        if self.augment is not None and rng is not None:
            x = self.augment(x, rng)
        return x, y


def as_dataset(data: Dataset | tuple[Array, Array]) -> Dataset:
    """``data`` as a dataset: a pair (x, y) of arrays becomes an ``ArrayDataset``.

    Raises TypeError for anything else.
    """
    if isinstance(data, tuple) and len(data) == 2:
        return ArrayDataset(*data)
    if isinstance(data, type) or not (hasattr(data, "batch") and hasattr(data, "__len__")):
        count = f" of {len(data)}" if isinstance(data, tuple | list) else ""
        raise TypeError(
            f"data are {described(data)}{count}, want a pair of arrays, (x, y), or a dataset, such "
            "as ArrayDataset(x, y)"
        )
    return data


def batches(n: int, batch_size: int | None, rng: np.random.Generator | None) -> list[Array]:
    """Divide the numbers 0 ... n − 1 into ⌈n/m⌉ batches for one epoch.  Report §2.3.4.

    Each number is put, without replacement, into one batch of m; if m does not divide n the
    last batch holds the remaining n mod m.

    n            number of examples
    batch_size   m; None puts all in one batch, which makes the update full-batch gradient descent
    rng          shuffles; None keeps the order
    Returns a list of index arrays.  Raises ValueError if n or m is less than 1.
    """
    m = n if batch_size is None else check_number("batch_size", batch_size, whole=True)
    if n < 1 or m < 1:
        raise ValueError(f"got {n} examples in batches of {m}, want at least 1 of each")
    order = np.arange(n) if rng is None else rng.permutation(n)
    return [order[start : start + m] for start in range(0, n, m)]


def prefetch(iterable: Iterable[T], depth: int = 2) -> Generator[T, None, None]:
    """The items of ``iterable``, in order, made up to ``depth`` ahead by a thread.

    An exception raised while an item is made is raised here, in its place.  The thread ends with
    the iteration: when the items are used up, when it is closed early, and on any exception.
    Raises ValueError if depth is less than 1.
    """
    if depth < 1:
        raise ValueError(f"depth is {depth}, want at least 1")
    return _prefetch(iterable, depth)


def _prefetch(iterable: Iterable[T], depth: int) -> Generator[T, None, None]:
    made: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
    room: queue.SimpleQueue[None] = queue.SimpleQueue()  # an entry for each item that may be made
    closed = False

    def work() -> None:
        try:
            for item in iterable:
                made.put(("item", item))
                room.get()
                if closed:
                    return
            made.put(("end", None))
        except BaseException as error:  # whatever it is, it belongs to the consumer
            made.put(("error", error))

    for _ in range(depth - 1):  # the item in the making takes no room yet
        room.put(None)
    # a copy of the context carries np.errstate and use_reference() into the thread
    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(work,), name="prefetch", daemon=True)
    try:
        try:
            thread.start()
        except RuntimeError:  # threads cannot start here, as in a browser: nothing is read ahead
            yield from iterable
            return
        while True:
            kind, item = made.get()
            if kind == "end":
                return
            if kind == "error":
                raise item
            room.put(None)
            yield item
    finally:
        # An interrupt may come at any Python call: neither of these is one, so both are done
        closed = True
        room.put(None)  # wakes the thread if it was waiting for room
        with suppress(RuntimeError):  # not started, or the interrupt came as it was
            thread.join()
