"""What a child process runs to try a BLAS: exact products, then one rate, as a line of JSON.

Run as a file, ``python trial.py SECONDS``, it loads NumPy, SciPy and threadpoolctl only. Products
of small whole numbers are exact in float32, in whatever order they are summed, so any difference
from NumPy's integer product, which calls no BLAS, is a fault.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.linalg.blas as scipy_blas
from threadpoolctl import ThreadpoolController

SHAPES = ((1, 9, 1), (5, 3, 2), (64, 64, 64), (130, 257, 67), (30, 1000, 71), (400, 300, 200))
LARGEST = 8  # sums of 1000 products of such numbers stay below 2²⁴, where float32 ends to be exact
SIDE = 768


def exact_products(multiply: Callable[[Any, Any], Any] = np.matmul) -> str | None:
    """None if every product of whole numbers is right, else which one is not."""
    rng = np.random.default_rng(0)
    for m, k, n in SHAPES:
        a = rng.integers(-LARGEST, LARGEST + 1, (m, k))
        b = rng.integers(-LARGEST, LARGEST + 1, (k, n))
        want = a @ b
        for dtype in ("float32", "float64"):
            for order in ("C", "F"):  # transposed operands take other kernels
                left, right = a.astype(dtype, order=order), b.astype(dtype)
                if not np.array_equal(multiply(left, right), want):
                    return f"a {dtype} product ({m}, {k}) x ({k}, {n}) comes out wrong"
    return None


def scipy_product(a: Any, b: Any) -> Any:
    """a b by SciPy's copy of BLAS, which need not be NumPy's."""
    product = scipy_blas.sgemm if a.dtype == np.float32 else scipy_blas.dgemm
    return product(1.0, a, b)


def gigaflops(seconds: float) -> float:
    """Rate of a float32 product of two 768 x 768 matrices, the best of ``seconds``."""
    a = np.ones((SIDE, SIDE), np.float32)
    out = np.empty_like(a)
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        np.matmul(a, a, out=out)
        times.append(time.perf_counter() - start)
    return 2e-9 * SIDE**3 / min(times)


def main(seconds: float) -> None:
    """Print the outcome: what is wrong or null, the libraries, the rate on one thread."""
    controller = ThreadpoolController()
    problem = exact_products() or exact_products(scipy_product)
    rate = None
    if seconds and not problem:
        with controller.limit(limits=1, user_api="blas"):
            rate = gigaflops(seconds)
    print(json.dumps({"problem": problem, "libraries": controller.info(), "rate": rate}))


if __name__ == "__main__":
    main(float(sys.argv[1]))
