"""Weight updates of CuPy's arrays: launchers of ``optimizers.cu``, tensor by tensor.

``engine/gpu/multi_tensor.py`` starts the kernels that change all tensors of a network at once.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from tinynet.backend import Array, library_of
from tinynet.engine.kernels.cuda.launch import THREADS, blocks
from tinynet.engine.kernels.cuda.source import REALS, function
from tinynet.engine.kernels.updates import RULES, register_update


def covers(*arrays: Array) -> bool:
    """Return True if the kernels here change these arrays: of one shape and dtype, without gaps."""
    w = arrays[0]
    return w.dtype in REALS and all(
        library_of(a) == "cupy"
        and a.dtype == w.dtype
        and a.shape == w.shape
        and a.flags.c_contiguous
        for a in arrays
    )


def over_all(name: str, arrays: tuple[Array, ...], numbers: tuple[float, ...]) -> bool:
    """Run the kernel ``name`` over all numbers; return False if it does not cover the arrays."""
    w = arrays[0]
    if not covers(*arrays):
        return False
    if w.size:
        kernel = function("optimizers", name, (("REAL", REALS[w.dtype]),))
        arguments = (*arrays, *map(w.dtype.type, numbers), np.int64(w.size))
        kernel((blocks(w.size),), (THREADS,), arguments)
    return True


for _rule in RULES:
    register_update(_rule, "cuda", partial(over_all, _rule.__name__))
