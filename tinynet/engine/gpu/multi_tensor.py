"""Update all parameters by one launch, which a CUDA graph can hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from tinynet.backend import Array, Swappable, library_of, load_library
from tinynet.engine.kernels.cuda.launch import THREADS
from tinynet.engine.kernels.cuda.source import REALS, function
from tinynet.engine.kernels.updates import (
    adam_numbers,
    gradient_descent_numbers,
    momentum_numbers,
    rmsprop_numbers,
)
from tinynet.layer import Parameter
from tinynet.optimizers import (
    adam_update,
    gradient_descent_update,
    momentum_update,
    rmsprop_update,
)
from tinynet.optimizers.base import Optimizer

CHUNK = 1 << 14  # numbers of a tensor that a block changes


class Rule(NamedTuple):
    """A rule of ``optimizers.cu``."""

    name: str
    width: int  # how many numbers it takes, beside those of weight decay
    numbers: Callable[..., tuple[float, ...]]  # which it takes, from what the update takes


RULES: dict[Swappable[..., None], Rule] = {
    gradient_descent_update: Rule("GradientDescent", 1, gradient_descent_numbers),
    momentum_update: Rule("Momentum", 3, momentum_numbers),
    rmsprop_update: Rule("RMSProp", 4, rmsprop_numbers),
    adam_update: Rule("Adam", 7, adam_numbers),
}


class MultiTensorUpdate:
    """What ``optimizer.step(parameters)`` does to CuPy's arrays, in one launch.

        update = MultiTensorUpdate(optimizer, parameters)          # copies tables to the GPU
        optimizer.count(together.names)                     # before each step
        numbers.set(together.numbers(optimizer))
        together.launch(numbers, loss)                      # may be captured

    optimizer    whose memory is used, and made where there is none yet
    parameters   dotted name -> Parameter: those that are to be changed
    names        of the parameters
    shape        (T, k) of the numbers
    dtype        of the parameters, their gradients, the numbers and the loss
    Where arrays are replaced (``model.to``, ``load_state``) or the optimiser gets another rule, a
    new one is needed.
    Raises ValueError, which says why, where no kernel does what the optimiser does.
    """

    def __init__(self, optimizer: Optimizer, parameters: Mapping[str, Parameter]) -> None:
        self._rule = _rule_of(optimizer)
        self.names = list(parameters)
        if not self.names:
            raise ValueError("no parameter is trainable: there is nothing to update")
        kept = {name: _arrays(optimizer, name, p) for name, p in parameters.items()}
        self._arrays = list(kept.values())
        self.dtype = self._arrays[0][0].dtype
        self.shape = len(self.names), 2 + self._rule.width
        for name, (w, g, *remembered) in kept.items():
            if w.dtype != self.dtype or not _covers(w, g, *remembered):
                raise ValueError(
                    f"{name} is {w.dtype} {w.shape}, its gradient {g.dtype} {g.shape}: want CuPy's "
                    f"arrays without gaps, of float32 or float64, all {self.dtype}"
                )
        optimizer.count(self.names, 0)  # state() knows them, as it does what is remembered of them

        sizes = [w.size for w, *_ in self._arrays]
        chunks = [(t, first) for t, size in enumerate(sizes) for first in range(0, size, CHUNK)]
        pointers = [[a.data.ptr for a in arrays] for arrays in self._arrays]  # type: ignore[attr-defined]
        xp = load_library("cupy")
        self._blocks = len(chunks)
        self._tables = (
            xp.asarray(np.array(pointers, np.uint64)),
            xp.asarray(np.array(sizes, np.int64)),
            xp.asarray(np.array(chunks, np.int64).reshape(-1, 2)),
        )

    def numbers(self, optimizer: Optimizer) -> Array:
        """NumPy's (T, k), what ``launch`` takes for a step that is counted already."""
        rows = [
            (*optimizer.decay(name), *self._rule.numbers(*optimizer.numbers(name)))
            for name in self.names
        ]
        return np.array(rows, self.dtype)

    def launch(self, numbers: Array, loss: Array) -> None:
        """Change all parameters and what is remembered of them, unless the loss is not finite.

        numbers   (T, k), on the GPU: what ``numbers`` gave
        loss      of one number, on the GPU, of the parameters' dtype
        """
        if numbers.shape != self.shape or not numbers.flags.c_contiguous:
            raise ValueError(f"numbers are {numbers.shape}, want {self.shape} without gaps")
        if numbers.dtype != self.dtype or loss.dtype != self.dtype or loss.size != 1:
            raise ValueError(
                f"numbers are {numbers.dtype} and the loss {loss.dtype} {loss.shape}, want "
                f"{self.dtype}, and a single number"
            )
        if not self._blocks:
            return
        given = ("REAL", REALS[self.dtype]), ("RULE", self._rule.name)
        kernel = function("optimizers", "update_all", given)
        kernel((self._blocks,), (THREADS,), (*self._tables, numbers, loss, np.int32(CHUNK)))


def _rule_of(optimizer: Optimizer) -> Rule:
    """The kernel that does what the optimiser does; ValueError where a subclass does it itself."""
    kind = type(optimizer)
    own = [name for name in ("update", "step", "_step_one") if _overridden(optimizer, name)]
    if own:
        raise ValueError(f"{kind.__name__} has its own {own[0]}: no kernel does the same")
    rule = RULES.get(optimizer.rule)
    if rule is None:
        name = optimizer.rule.__name__
        raise ValueError(f"{kind.__name__} updates by {name}, which has no kernel for all tensors")
    return rule


def _overridden(optimizer: Optimizer, name: str) -> bool:
    return name in vars(optimizer) or getattr(type(optimizer), name) is not getattr(Optimizer, name)


def _arrays(optimizer: Optimizer, name: str, parameter: Parameter) -> list[Array]:
    """w, g and what is remembered, at first 0."""
    remembered = [optimizer.remembered(slot, name, parameter.value) for slot in optimizer.slots]
    return [parameter.value, parameter.grad, *remembered]


def _covers(*arrays: Array) -> bool:
    """Return True if the kernel changes these arrays: of one shape and dtype, without gaps."""
    w = arrays[0]
    return w.dtype in REALS and all(
        library_of(a) == "cupy"
        and (a.dtype, a.shape) == (w.dtype, w.shape)
        and a.flags.c_contiguous
        for a in arrays
    )
