"""Prediction on a GPU: a plan's outputs by CUDA graphs, one for each shape of a batch."""

from __future__ import annotations

from typing import Any

from tinynet.backend import Array, load_library
from tinynet.engine.gpu.capture import captured_step
from tinynet.engine.gpu.cuda_graph import Ground, Repeated
from tinynet.engine.plan.nodes import Plan
from tinynet.engine.precision import use_precision
from tinynet.engine.storage import stored, widened


class GraphRuns:
    """``plan.run`` on batches of CuPy's arrays.

    precision   "fp32", "tf32" or "bf16", see ``tinynet.engine.precision``
    """

    def __init__(self, plan: Plan, precision: str) -> None:
        self.plan, self.precision = plan, precision
        self.ground = Ground()
        self._runs: dict[Any, tuple[Array, Repeated]] = {}  # the place of x, and what runs on it

    def __call__(self, x: Array) -> Array:
        """The output z, in float32 or, of float64, float64; the caller's own."""
        key = x.shape, x.dtype
        with self.ground():
            if key not in self._runs:
                place = load_library("cupy").empty(x.shape, x.dtype)
                self._runs[key] = (
                    place,
                    Repeated(self.ground, lambda: self._body(place), "prediction"),
                )
            place, run = self._runs[key]
            self.ground.put(place, x)
            z = run()
        load_library("cupy").cuda.get_current_stream().wait_event(self.ground.stream.record())
        return z.copy()

    def _body(self, x: Array) -> Any:
        with captured_step(), use_precision(self.precision):
            return widened(self.plan.run(stored(x, self.precision)))
