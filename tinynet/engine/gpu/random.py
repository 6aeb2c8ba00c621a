"""NumPy's random numbers on a GPU: ``DeviceRandom``.  The kernels are in ``dropout.cu``."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinynet.backend import Array, load_library
from tinynet.engine.kernels.cuda.launch import THREADS, blocks
from tinynet.engine.kernels.cuda.source import Definitions, function
from tinynet.layer import Shape

PLAIN: Definitions = (("ACT", "float"), ("REAL", "float"))  # of kernels that have neither
WORDS = 7  # of a state: key (2), counter (4), position
WHOLE = 1 << 256  # from there on a counter begins again


class DeviceRandom:
    """What a NumPy generator over Philox would draw, drawn by the GPU.

        random = DeviceRandom()
        random.start(rng)                   # copies the generator's state; not while capturing
        random.random_mask(shape, p)        # rng.random(shape) < p
        random.random_mask(shape, p)        # the draws after these
        random.rewind()                     # from the beginning again, or from another start

    state    (7,) uint64 on the GPU, which the kernels read when they run: a captured graph draws
             from what ``start`` put there last
    drawn    numbers drawn since ``rewind``; part of a captured graph
    The generator itself stays where it is.
    """

    def __init__(self) -> None:
        self.state: Any = load_library("cupy").empty(WORDS, np.uint64)
        self.drawn = 0

    @classmethod
    def from_generator(cls, rng: np.random.Generator) -> DeviceRandom:
        """One that starts where ``rng`` is.  Raises as ``start``."""
        made = cls()
        made.start(rng)
        return made

    def start(self, rng: np.random.Generator) -> None:
        """Draw as ``rng`` would from now on.

        Raises ValueError where ``rng`` is of another kind: see ``philox_state``.
        """
        self.state.set(philox_state(rng))
        self.rewind()

    def rewind(self) -> None:
        """Back to the state's first number."""
        self.drawn = 0

    def random(self, shape: Shape) -> Array:
        """Uniform numbers from 0, below 1: rng.random(shape), in float64."""
        u = load_library("cupy").empty(shape, np.float64)
        self._draw("random_numbers", u)
        return u

    def random_mask(self, shape: Shape, keep_prob: float) -> Array:
        """True with probability ``keep_prob``: rng.random(shape) < keep_prob."""
        mask = load_library("cupy").empty(shape, np.bool_)
        self._draw("random_mask", mask, np.float64(keep_prob))
        return mask

    def _draw(self, name: str, into: Array, *numbers: Any) -> None:
        if into.size:
            kernel, sizes = function("dropout", name, PLAIN), (self.drawn, into.size)
            arguments = (self.state, into, *numbers, *map(np.int64, sizes))
            kernel((blocks(into.size // 4 + 2),), (THREADS,), arguments)
        self.drawn += into.size


def is_philox(rng: Any) -> bool:
    """Whether ``rng`` is NumPy's, and draws from NumPy's own Philox."""
    return isinstance(rng, np.random.Generator) and type(rng.bit_generator) is np.random.Philox


def philox_state(rng: np.random.Generator) -> Array:
    """Where a generator over Philox stands, NumPy's (7,): key (2), counter (4), position.

    Its next number is word ``position % 4`` of philox(counter + position // 4).
    Raises ValueError for a generator over anything else, which the GPU cannot follow.
    """
    if not is_philox(rng):
        raise ValueError(f"the generator is {rng!r}, want NumPy's over Philox: data.generator(...)")
    state: Any = rng.bit_generator.state
    key, counter = state["state"]["key"], state["state"]["counter"]
    return np.array([*key, *counter, state["buffer_pos"]], np.uint64)


def skip(rng: np.random.Generator, count: int) -> None:
    """Advance a generator over Philox by that many draws."""
    if count == 0:
        return
    bits: Any = rng.bit_generator
    state = bits.state
    # the last number drawn is number `last` of those that the counter's block begins with
    last = state["buffer_pos"] + count - 1
    words = (int(word) << 64 * i for i, word in enumerate(state["state"]["counter"]))
    before = (sum(words) + last // 4 - 1) % WHOLE  # the next block made is that of the last number
    mask = (1 << 64) - 1
    counter = [before >> 64 * i & mask for i in range(4)]
    state["state"]["counter"] = np.array(counter, np.uint64)
    state["buffer_pos"] = 4
    bits.state = state
    bits.random_raw(last % 4 + 1)


def drawn_mask(rng: np.random.Generator, shape: Shape, keep_prob: float) -> Array:
    """rng.random(shape) < keep_prob, drawn by the GPU; ``rng`` is left after the draws."""
    mask = DeviceRandom.from_generator(rng).random_mask(shape, keep_prob)
    skip(rng, math.prod(shape))
    return mask
