"""A network's outputs outside training: batch norms folded, micro-batches, graphs on a GPU."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from tinynet.backend import Array, kernels_in_use, library_of, load_library
from tinynet.engine.memory import Workspace
from tinynet.engine.plan.build import inference_plan
from tinynet.engine.plan.micro_batches import in_micro_batches
from tinynet.engine.plan.nodes import Plan
from tinynet.engine.precision import check_precision, stored, use_precision, widened
from tinynet.layer import Layer

# A network keeps the memory of its predictions for the next ones, for as long as it lives.
_workspaces: WeakKeyDictionary[Layer, Workspace] = WeakKeyDictionary()


class Predictor:
    """The outputs of ``model``, with the weights that it has now.

    precision   on a GPU "fp32", "tf32" or "bf16", see ``tinynet.engine.precision``
    """

    def __init__(self, model: Layer, precision: str = "fp32") -> None:
        device = library_of(next(iter(model.state().values()), None))
        self.precision = check_precision(precision, device)
        self.plan = inference_plan(model)
        self.workspace = _workspaces.setdefault(model, Workspace())
        by_graph = device == "cupy" and kernels_in_use() != "reference"
        self.graphs = GraphPredictor(self.plan, precision) if by_graph else None

    def __call__(self, x: Array) -> Array:
        """Return the output z of the batch x (N, ...)."""
        if self.graphs is not None:
            return self.graphs(x)
        with self.workspace, use_precision(self.precision):
            z: Array = widened(in_micro_batches(self.plan, x).run(stored(x, self.precision)))
            return z


class GraphPredictor:
    """``plan.run`` on batches of CuPy's arrays, by CUDA graphs, one for each shape of a batch."""

    def __init__(self, plan: Plan, precision: str) -> None:
        from tinynet.engine.gpu.cuda_graph import GraphArena  # needed on a GPU alone

        self.plan, self.precision = plan, precision
        self.arena = GraphArena()
        self._runs: dict[Any, tuple[Array, Any]] = {}  # the place of x, and what runs on it

    def __call__(self, x: Array) -> Array:
        """Return the output z, a new array, in float32 or, for float64, float64."""
        from tinynet.engine.gpu.cuda_graph import CapturedFunction

        key = x.shape, x.dtype
        with self.arena():
            if key not in self._runs:
                place = load_library("cupy").empty(x.shape, x.dtype)
                run = CapturedFunction(self.arena, lambda: self._body(place), "prediction")
                self._runs[key] = place, run
            place, run = self._runs[key]
            self.arena.put(place, x)
            z: Array = run()
        load_library("cupy").cuda.get_current_stream().wait_event(self.arena.stream.record())
        return z.copy()

    def _body(self, x: Array) -> Any:
        from tinynet.engine.kernels.cuda.launch import captured_step

        with captured_step(), use_precision(self.precision):
            return widened(self.plan.run(stored(x, self.precision)))
