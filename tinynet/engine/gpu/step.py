"""A training step on a GPU: captured once as a CUDA graph, launched again for every batch.

It runs the same kernels on the same memory each time, so

    x, y          are copied to a fixed place
    what changes  (learning rate, bias corrections, the key of dropout) lies in the GPU's memory
    the labels    are checked before, by the processor
    the loss      is read once, at the end; an update whose loss is not finite changes nothing

The first step of a shape runs kernel by kernel, which compiles them and finds out how much memory
they need.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from operator import is_
from typing import Any

import numpy as np

from tinynet.backend import Array, load_library, to_device
from tinynet.engine.gpu.cuda_graph import CapturedFunction, GraphArena
from tinynet.engine.gpu.multi_tensor import MultiTensorUpdate
from tinynet.engine.gpu.random import DeviceRandom
from tinynet.engine.kernels.cuda.launch import captured_step
from tinynet.engine.passes import divided, passes
from tinynet.engine.precision import use_precision
from tinynet.layer import Layer, Mode
from tinynet.losses.base import Loss
from tinynet.optimizers.base import Optimizer
from tinynet.regularizers import Regularizer

MOST_GRAPHS = 4  # of different shapes; training has two, of whole batches and of the last


class GraphSteps:
    """The steps of one network, loss and optimiser on a GPU; a graph for each shape of a batch."""

    def __init__(
        self,
        model: Layer,
        loss: Loss,
        optimizer: Optimizer,
        regularizer: Regularizer | None,
        precision: str,
        micro_batch: int | None = None,
    ) -> None:
        self.model, self.loss, self.optimizer = model, loss, optimizer
        self.regularizer, self.precision = regularizer, precision
        self.micro_batch = micro_batch
        self.arena = GraphArena()
        self.together: MultiTensorUpdate | None = None
        self._steps: dict[Any, GraphStep] = {}
        self._watch: Watch | None = None  # on all that the graphs depend on
        self._settings: Any = None  # of the optimiser, that a graph holds
        self._memory: list[Array] = []

    def __call__(self, x: Array, y: Array, rng: np.random.Generator) -> tuple[float, Any] | None:
        """One step; None, and nothing is done, where the step cannot be a graph.

        Such are an optimiser whose rule has no kernel, and a piece whose labels weigh nothing.
        """
        self._renew()
        if self.together is None:
            return None
        key = x.shape, x.dtype, y.shape, y.dtype
        step = self._steps.pop(key, None) or GraphStep(self, self.together, x, y)
        while len(self._steps) >= MOST_GRAPHS:
            del self._steps[next(iter(self._steps))]
        self._steps[key] = step  # the latest is the last
        result = step(x, y, rng)
        if self._watch is not None and not step.run.launched:
            self._watch.refresh()  # a layer may keep what it saw
        return result

    def _renew(self) -> None:
        """Forget all graphs if the network, its loss or what the optimiser keeps is another."""
        optimizer = self.optimizer
        memory = list(optimizer.memory().values())
        settings = optimizer.rule, optimizer.clip, optimizer.clip_by
        if (
            self._watch is not None
            and not self._watch.changed()
            and settings == self._settings
            and same(memory, self._memory)
        ):
            return
        self._steps.clear()
        parameters = self.model.parameters()
        optimizer.check_choices(parameters)
        try:
            trainable = {name: p for name, p in parameters.items() if p.trainable}
            self.together = MultiTensorUpdate(optimizer, trainable)
        except ValueError as error:
            self.together = None
            warnings.warn(
                f"the training step runs kernel by kernel, not as a CUDA graph: {error}",
                RuntimeWarning,
                stacklevel=5,
            )
        watched = [*self.model.named_layers().values(), *parameters.values(), self.loss]
        self._watch = Watch([*watched, *([] if self.regularizer is None else [self.regularizer])])
        self._settings, self._memory = settings, list(optimizer.memory().values())


class GraphStep:
    """The step for one shape of batch."""

    def __init__(self, steps: GraphSteps, together: MultiTensorUpdate, x: Array, y: Array) -> None:
        self.steps, self.together = steps, together
        xp = load_library("cupy")
        self.pieces, shares = divided(steps.loss, x, y, steps.micro_batch)
        with steps.arena():
            self.x, self.y = xp.empty(x.shape, x.dtype), xp.empty(y.shape, y.dtype)
            self.shares = xp.empty(len(shares), together.dtype)
            self.numbers = xp.empty(together.shape, together.dtype)
            self.random = DeviceRandom()
        self.before: list[Array] = []  # the moving statistics before the step
        self.labels: Array | None = None  # to be checked in the first run, which tells z's shape
        statistics = steps.model.buffers().values()
        self.run = CapturedFunction(steps.arena, self._body, "the training step", statistics)

    def __call__(self, x: Array, y: Array, rng: np.random.Generator) -> tuple[float, Any] | None:
        """One step; x and y are NumPy's or CuPy's."""
        steps, labels = self.steps, to_device(y, "numpy")
        pieces, shares = divided(steps.loss, x, labels, steps.micro_batch)
        if 0 in shares or pieces != self.pieces:
            return None
        if self.run.result is None:
            self.labels = labels
        else:
            self.labels = None
            steps.loss.check_labels(self.run.result[1], labels)
        value = math.nan
        steps.optimizer.count(self.together.names)
        try:
            with steps.arena():
                steps.arena.put(self.x, x)
                steps.arena.put(self.y, y)
                steps.arena.put(self.numbers, self.together.numbers(steps.optimizer))
                steps.arena.put(self.shares, np.array(shares, self.together.dtype))
                self.random.start(rng)
                loss, z = self.run()
                value = float(loss)
        finally:
            if not math.isfinite(value):  # no weight was changed
                with steps.arena():
                    for kept, was in zip(steps.model.buffers().values(), self.before, strict=False):
                        kept[...] = was
                steps.optimizer.count(self.together.names, -1)
        return value, z

    def _body(self) -> tuple[Any, Any]:
        """Forward pass, backward pass and update, without waiting; the loss and z, on the GPU."""
        steps = self.steps
        model, loss, regularizer = steps.model, steps.loss, steps.regularizer
        parameters = model.parameters()
        self.random.rewind()
        self.before = [kept.copy() for kept in model.buffers().values()]
        with captured_step(), use_precision(steps.precision):
            steps.optimizer.zero_grad(parameters)
            mode = Mode(train=True, rng=self.random)
            batch = self.x, self.y, mode, steps.precision, self.pieces, list(self.shares)
            value, z = passes(model, loss, regularizer, *batch, captured=True)
            if self.labels is not None:
                loss.check_labels(z, self.labels)
            steps.optimizer.clip_gradients({n: parameters[n] for n in self.together.names})
            self.together.launch(self.numbers, value)
        return value, z


class Watch:
    """Detect attribute changes of some objects; an array counts as changed when it is replaced.

    A few microseconds for each object: much less than to look for all arrays of a network.
    """

    def __init__(self, objects: Iterable[Any]) -> None:
        self._objects = list(objects)
        self.refresh()

    def refresh(self) -> None:
        """Take the attributes as they are now."""
        self._attributes = [(vars(one), list(vars(one).values())) for one in self._objects]
        lists = [v for _, values in self._attributes for v in values if isinstance(v, list)]
        self._lists = [(one, list(one)) for one in lists]

    def changed(self) -> bool:
        """Return True if an attribute, or an element of a list among them, is another object."""
        return not (
            all(same(now.values(), then) for now, then in self._attributes)
            and all(same(now, then) for now, then in self._lists)
        )


def same(now: Any, then: list[Any]) -> bool:
    """Return True if both hold the same objects."""
    return len(now) == len(then) and all(map(is_, now, then))
