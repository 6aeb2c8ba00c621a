"""One weight update: forward pass, loss, backward pass, optimiser.  Report §2.3.2.

Step     on the processor, in memory kept from step to step; on a GPU, a captured CUDA graph
         (``engine.gpu.step``), or kernel by kernel where it cannot be one
passes   the forward and the backward pass, which both kinds of step run
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from tinynet.backend import Array, kernels_in_use, library_of, load_library, to_device
from tinynet.engine.memory import Workspace
from tinynet.engine.passes import divided, passes
from tinynet.engine.precision import check_precision, use_precision
from tinynet.layer import Layer, Mode
from tinynet.losses import Loss
from tinynet.optimizers import Optimizer
from tinynet.regularizers import Regularizer


class Result(NamedTuple):
    """Result of a step."""

    value: float  # the loss; if it is not finite, nothing was changed
    z: Any  # the network's output; on a GPU the next step of this shape overwrites it


class Step:
    """Weight updates of one network by one loss, optimiser and regularizer.

    precision     on a GPU "fp32", "tf32" or "bf16", see ``tinynet.engine.precision``
    micro_batch   examples that go through the network at a time, at most; None: all
    A step whose loss is not finite changes neither weights nor moving statistics.
    """

    def __init__(
        self,
        model: Layer,
        loss: Loss,
        optimizer: Optimizer,
        regularizer: Regularizer | None = None,
        precision: str = "fp32",
        micro_batch: int | None = None,
    ) -> None:
        self.model, self.loss, self.optimizer = model, loss, optimizer
        self.regularizer, self.precision = regularizer, check_precision(precision)
        self.micro_batch = micro_batch
        self.workspace = Workspace()
        self._shape: tuple[int, ...] = ()  # of the last batch
        self.graphs: Any = None  # of a model on a GPU: GraphSteps

    def __call__(self, x: Array, y: Array, rng: np.random.Generator) -> Result:
        """Make one step on the batch x (N, ...) with labels y; dropout draws from ``rng``."""
        if library_of(next(iter(self.model.state().values()), None)) == "cupy":
            return self._on_gpu(x, y, rng)
        check_precision(self.precision, "numpy")
        if x.shape != self._shape:  # memory for other sizes is of no use
            self.workspace.clear()
            self._shape = x.shape
        with self.workspace:
            return self._eager(x, y, rng)

    @property
    def gpu_memory(self) -> int:
        """Bytes of the GPU's memory that are held: the pools of the graphs and of all else."""
        if self.graphs is None:
            return 0
        of_all_else = load_library("cupy").get_default_memory_pool().total_bytes()
        return int(self.graphs.arena.pool.total_bytes() + of_all_else)

    def _on_gpu(self, x: Array, y: Array, rng: np.random.Generator) -> Result:
        if kernels_in_use() != "reference":
            if self.graphs is None:
                from tinynet.engine.gpu.step import GraphSteps  # needed on a GPU alone

                self.graphs = GraphSteps(
                    *(self.model, self.loss, self.optimizer, self.regularizer),
                    *(self.precision, self.micro_batch),
                )
            if (result := self.graphs(x, y, rng)) is not None:
                return Result(*result)
        with use_precision(self.precision):
            return self._eager(to_device(x, "cupy"), to_device(y, "cupy"), rng)

    def _eager(self, x: Array, y: Array, rng: np.random.Generator) -> Result:
        parameters, mode = self.model.parameters(), Mode(train=True, rng=rng)
        statistics = {name: x.copy() for name, x in self.model.buffers().items()}
        self.optimizer.zero_grad(parameters)
        batch = x, y, mode, self.precision, *divided(self.loss, x, y, self.micro_batch)
        value, z = math.nan, None
        try:
            total, z = passes(self.model, self.loss, self.regularizer, *batch)
            value = float(total)
        finally:
            if not math.isfinite(value):
                for name, buffer in self.model.buffers().items():
                    buffer[...] = statistics[name]
        if math.isfinite(value):
            self.optimizer.step(parameters)
        return Result(value, z)
