"""What bounds an operation from below: multiplying matrices, and moving memory.

    floor = max(2 · multiply-adds / rate of a large matrix product, time to copy as many bytes)

Both are measured in turns with the operation. The copy moves the operation's bytes, half read and
half written, so that where they fit into a cache the floor is that of the cache.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np

from benchmarks.subject import Subject

SIDE = 1024  # of the matrices; larger ones are no faster
ONE_THREAD = 1 << 20  # bytes up to which a second thread costs more than it saves
PRODUCT_FLOPS = 2 * SIDE**3


def numpy_product() -> Subject:
    """A product of two matrices in NumPy."""
    a, b = np.random.default_rng(0).standard_normal((2, SIDE, SIDE), dtype=np.float32)
    c = np.empty_like(a)
    return Subject(lambda: np.matmul(a, b, out=c), lambda c: [c])


def torch_product() -> Subject:
    """The same in PyTorch, which brings another BLAS."""
    import torch

    a, b = np.random.default_rng(0).standard_normal((2, SIDE, SIDE), dtype=np.float32)
    left, right = torch.from_numpy(a), torch.from_numpy(b)
    out = torch.empty(SIDE, SIDE)
    return Subject(lambda: torch.mm(left, right, out=out), lambda c: [c.numpy()])


def copy(moved: int) -> Subject:
    """A copy that reads half of ``moved`` bytes and writes the other half, on every thread."""
    source = np.ones(max(1, moved // 2), np.uint8)
    target = np.zeros_like(source)
    threads = 1 if moved <= ONE_THREAD else int(os.environ["OMP_NUM_THREADS"])
    parts = list(zip(np.array_split(target, threads), np.array_split(source, threads), strict=True))
    pool = ThreadPoolExecutor(threads)

    def call() -> None:
        others = [pool.submit(np.copyto, *part) for part in parts[1:]]
        np.copyto(*parts[0])
        wait(others)

    return Subject(call, lambda _: [target])
