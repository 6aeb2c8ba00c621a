"""Softmax cross-entropy of CuPy's arrays: launchers of ``losses.cu``."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinynet.backend import Array, array_module, load_library, register
from tinynet.engine.kernels.cuda.launch import contiguous
from tinynet.engine.kernels.cuda.source import Definitions, dtype_macros, function
from tinynet.losses.base import one_hot, shares
from tinynet.losses.cross_entropy import (
    SoftmaxCrossEntropyCache,
    softmax_cross_entropy_backward,
    softmax_cross_entropy_forward,
)

WARP, MOST_THREADS = 32, 256  # threads in a block, at least and at most


@register(softmax_cross_entropy_forward, "cuda")
def softmax_cross_entropy_forward_cuda(
    logits: Array, targets: Array, weights: Array | None = None, reduction: str = "mean"
) -> tuple[Array, SoftmaxCrossEntropyCache]:
    """softmax_cross_entropy_forward: logits (N, K) -> L, a scalar or (N,)."""
    array_module(logits, targets, weights)  # of one library, or an error
    given = dtype_macros(logits)
    if given is None or logits.ndim != 2 or not logits.size:
        return softmax_cross_entropy_forward.reference(logits, targets, weights, reduction)
    xp, y = load_library("cupy"), contiguous(one_hot(targets, logits))
    examples, classes = logits.shape
    weighted = weights is not None or reduction != "mean"
    given_shares = contiguous(shares(weights, (examples,), y, reduction)) if weighted else y
    p, share = xp.empty(y.shape, y.dtype), xp.empty(examples, y.dtype)
    losses, total = xp.empty(examples, y.dtype), xp.empty((), y.dtype)

    kernel, threads = _kernel("softmax_cross_entropy_forward", given, classes)
    sizes = np.int32(classes), np.int32(weighted)
    kernel((examples,), (threads,), (contiguous(logits), y, given_shares, p, share, losses, *sizes))
    if reduction == "none":
        return losses, SoftmaxCrossEntropyCache(p, y, share)
    kernel, threads = _kernel("sum_of_losses", given, examples)
    kernel((1,), (threads,), (losses, total, np.int32(examples)))
    return total, SoftmaxCrossEntropyCache(p, y, share)


@register(softmax_cross_entropy_backward, "cuda")
def softmax_cross_entropy_backward_cuda(cache: SoftmaxCrossEntropyCache) -> Array:
    """softmax_cross_entropy_backward: -> dz (N, K)."""
    p, y, share = cache
    dz = load_library("cupy").empty(p.shape, p.dtype)
    given = dtype_macros(dz, p)
    if given is None or y.dtype != p.dtype or share.dtype != p.dtype or not p.size:
        return softmax_cross_entropy_backward.reference(cache)
    examples, classes = p.shape
    kernel, threads = _kernel("softmax_cross_entropy_backward", given, classes)
    kernel(
        (examples,),
        (threads,),
        (contiguous(p), contiguous(y), contiguous(share), dz, np.int32(classes)),
    )
    return dz


def _kernel(name: str, given: Definitions, length: int) -> tuple[Any, int]:
    """The kernel for rows of such a length, and the threads of its blocks."""
    threads = WARP
    while threads < min(length, MOST_THREADS):
        threads *= 2
    return function("losses", name, definitions(given, threads)), threads


def definitions(given: Definitions, threads: int) -> Definitions:
    """What ``losses.cu`` asks for."""
    return (*given, ("THREADS", threads))
