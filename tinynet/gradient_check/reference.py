"""A kernel in float32, float16 or bfloat16, whose slopes are those of a float64 forward pass.

A difference quotient of 16-bit numbers shows no more than their rounding. So the kernel is run in
its own dtype, with arguments that are exact in it, and its gradients are compared with the slopes
of the same function written in float64. The check sees all in float64: ``in_own_dtype`` casts on
the way in and out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinynet.backend import Array, to_device
from tinynet.gradient_check.checkable import CheckablePair
from tinynet.gradient_check.foreign import Pair, is_tensor, leaves, rebuilt
from tinynet.gradient_check.precision import FLOAT64, FORMATS, Precision

FEW = 16  # of ε, that right forward passes may differ by, beside what ε in the arguments moves
SEED = 243_000_009


def in_own_dtype(functions: Pair, args: Sequence[Any]) -> tuple[Pair, tuple[Any, ...], Precision]:
    """The functions and arguments in float64, and the lowest precision among the arguments.

    In the functions each float argument has the dtype that it came in, and dy that of the output.
    """
    likes = [a for _, a in leaves(tuple(args))]
    lowest = min([_format(a) for a in likes] or [FLOAT64], key=lambda f: f.bits)

    def forward(*given: Any) -> tuple[Any, Any]:
        pairs = zip((a for _, a in leaves(given)), likes, strict=True)
        own = [_cast(a, like.dtype) if _known(like) else a for a, like in pairs]
        y, cache = functions[0](*rebuilt(tuple(args), iter(own)))
        outputs = [a for _, a in leaves(y)]
        return rebuilt(y, map(_double, outputs)), (outputs, cache)

    def backward(dy: Any, cache: Any) -> Any:
        outputs, inner = cache
        pairs = zip((d for _, d in leaves(dy)), outputs, strict=True)
        own = [_cast(d, y.dtype) if _known(y) else d for d, y in pairs]
        found = functions[1](rebuilt(dy, iter(own)), inner)
        return rebuilt(found, map(_double, (g for _, g in leaves(found))))

    return (forward, backward), rebuilt(tuple(args), map(_double, likes)), lowest


def reference_forward(reference: Callable[..., Any]) -> Pair:
    """The forward pass of a reference that returns (y, cache), or y alone, as one of a pair."""

    def forward(*given: Any) -> tuple[Any, Any]:
        found = reference(*given)
        return found if isinstance(found, tuple) and len(found) == 2 else (found, None)

    def backward(dy: Any, cache: Any) -> Any:
        raise NotImplementedError("only the forward pass of a reference is used")

    return forward, backward


class CheckableKernel(CheckablePair):
    """A kernel beside its float64 reference, which reads the same arrays.

    lowest   the precision of its arguments; float64 if it is to be measured
    """

    def __init__(
        self, pair: CheckablePair, reference: CheckablePair, lowest: Precision = FLOAT64
    ) -> None:
        vars(self).update(vars(pair))
        self.reference, self.lowest = reference, lowest
        reference.arrays = self.arrays

    def other_results(self, y: Array, epsilon: float) -> str:
        """A fault if the two forward passes differ by more than rounding."""
        here = to_device(y, "numpy").astype("float64")
        there = to_device(self.reference.forward()[0], "numpy")
        if here.shape != there.shape:
            return f"forward gives {here.shape}, the reference {there.shape}"
        rng, kept = np.random.default_rng(SEED), {n: a.copy() for n, a in self.arrays.items()}
        try:
            for a in self.arrays.values():
                a *= 1 + epsilon * rng.choice([-1.0, 1.0], a.shape)
            moved = abs(to_device(self.reference.forward()[0], "numpy") - there)
        finally:
            for name, a in kept.items():
                self.arrays[name][...] = a
        size = float(abs(there).max(initial=0)) + 2.0**-14
        beyond = abs(here - there) - FEW * (epsilon * size + float(moved.max(initial=0)))
        if not (beyond > 0).any():
            return ""
        at = tuple(int(i) for i in np.unravel_index(np.argmax(beyond), beyond.shape))
        return (
            f"forward gives another result than the reference: at {at} {here[at]:.6g}, the "
            f"reference {there[at]:.6g}"
        )


def _known(a: Any) -> bool:
    return hasattr(a, "shape") and str(getattr(a, "dtype", "")).rpartition(".")[2] in FORMATS


def _format(a: Any) -> Precision:
    return FORMATS[str(a.dtype).rpartition(".")[2]] if _known(a) else FLOAT64


def _cast(a: Any, dtype: Any) -> Any:
    return (
        a.to(dtype)
        if is_tensor(a)
        else np.asarray(a).astype(dtype)
        if np.isscalar(a)
        else (a.astype(dtype))
    )


def _double(a: Any) -> Any:
    if not _known(a):
        return a
    return a.detach().double() if is_tensor(a) else _cast(a, "float64")
