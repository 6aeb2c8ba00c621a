"""A training step on a GPU: captured once as a CUDA graph, launched again for every batch.

A step of a small network is some hundred kernels, and Python takes longer to start one than the
GPU to run it. A graph starts them all at once. It runs the same kernels on the same memory each
time, so

    x, y          are copied to a fixed place
    what changes  (learning rate, bias corrections, the key of dropout) lies in the GPU's memory
    the labels    are checked before, by the processor
    the loss      is read once, at the end; an update whose loss is not finite changes nothing

The first step of a shape runs kernel by kernel, which compiles them and finds out how much memory
they need. That memory is a pool of this step's own: what a graph writes to is given to nobody else.
All graphs share it, as they never run at the same time.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import numpy as np

from tinynet.backend import Array, library_of, load_library
from tinynet.capture import captured_step
from tinynet.kernels.cuda.random import DeviceRandom
from tinynet.kernels.cuda.together import Together
from tinynet.layer import Layer, Mode
from tinynet.loss import Loss
from tinynet.optimizer import Optimizer
from tinynet.precision import use_precision
from tinynet.regularizers import Regularizer
from tinynet.training_pass import backward, forward

MOST_GRAPHS = 4  # of different shapes; training has two, of whole batches and of the last


class Result(NamedTuple):
    """What a step gives."""

    value: float  # the loss
    z: Any  # the network's output; the next step of this shape writes over it


class GraphSteps:
    """The steps of one network, loss and optimiser on a GPU; a graph for each shape of a batch.

    pool   the memory of all graphs
    """

    def __init__(
        self,
        model: Layer,
        loss: Loss,
        optimizer: Optimizer,
        regularizer: Regularizer | None,
        precision: str,
    ) -> None:
        self.model, self.loss, self.optimizer = model, loss, optimizer
        self.regularizer, self.precision = regularizer, precision
        cuda = load_library("cupy").cuda
        self.stream, self.pool = cuda.Stream(non_blocking=True), cuda.MemoryPool()
        self.together: Together | None = None
        self._graphs: dict[Any, GraphStep] = {}
        self._arrays: list[Any] = []  # what the graphs read and write
        self._settings: list[Any] = []

    def __call__(self, x: Array, y: Array, rng: np.random.Generator) -> Result | None:
        """One step; None, and nothing is done, for an optimiser whose rule has no kernel."""
        self._renew()
        if self.together is None:
            return None
        key = x.shape, x.dtype, y.shape, y.dtype
        step = self._graphs.pop(key, None) or GraphStep(self, x, y)
        while len(self._graphs) >= MOST_GRAPHS:
            del self._graphs[next(iter(self._graphs))]
        self._graphs[key] = step  # the latest is the last
        return step(x, y, rng)

    def _renew(self) -> None:
        """Forget all graphs if the network or the optimiser has other arrays or settings."""
        if self._same():
            return
        self._graphs.clear()
        trainable = {
            name: parameter
            for name, parameter in self.model.parameters().items()
            if parameter.trainable
        }
        self.together = Together.of(self.optimizer, trainable)
        self._arrays, self._settings = self._state()

    def _same(self) -> bool:
        arrays, settings = self._state()
        return (
            bool(self._arrays)
            and settings == self._settings
            and len(arrays) == len(self._arrays)
            and all(a is b for a, b in zip(arrays, self._arrays, strict=True))
        )

    def _state(self) -> tuple[list[Any], list[Any]]:
        """All arrays that a graph reads or writes, and what else it depends on."""
        parameters = self.model.parameters().values()
        arrays = [array for p in parameters for array in (p.value, p.grad)]
        arrays += [*self.model.buffers().values(), *self.optimizer.memory().values()]
        settings: list[Any] = [p.trainable for p in parameters]
        for layer in self.model.named_layers().values():
            names = ("frozen_statistics", "frozen_dropout", "keep_prob", "momentum")
            settings += [getattr(layer, name, None) for name in names]
        return arrays, settings

    @contextmanager
    def running(self) -> Iterator[None]:
        """Within this block kernels run in our stream, and memory is of our pool."""
        cuda = load_library("cupy").cuda
        with self.stream, cuda.using_allocator(self.pool.malloc):
            yield


class GraphStep:
    """The step for one shape of batch."""

    def __init__(self, steps: GraphSteps, x: Array, y: Array) -> None:
        xp = load_library("cupy")
        self.steps = steps
        with steps.running():
            self.x, self.y = xp.empty(x.shape, x.dtype), xp.empty(y.shape, y.dtype)
            assert steps.together is not None  # or there would be no graph
            self.numbers = xp.empty(steps.together.shape, steps.together.dtype)
            self.random = DeviceRandom()
        self.graph: Any = None
        self.captures = True  # False where that was tried in vain
        self.done: tuple[Any, Any] | None = None  # (loss, z) on the GPU

    def __call__(self, x: Array, y: Array, rng: np.random.Generator) -> Result:
        """One step; x and y are NumPy's or CuPy's."""
        steps, labels = self.steps, y if library_of(y) == "numpy" else y.get()
        if self.done is not None:
            check_labels(steps.loss, self.done[1], labels)
        steps.optimizer.count(steps.model.parameters())
        try:
            value = self._run(x, y, labels, rng)
        except BaseException:
            steps.optimizer.uncount(steps.model.parameters())
            raise
        if not math.isfinite(value):
            steps.optimizer.uncount(steps.model.parameters())
        assert self.done is not None
        return Result(value, self.done[1])

    def _run(self, x: Array, y: Array, labels: Array, rng: np.random.Generator) -> float:
        steps = self.steps
        assert steps.together is not None
        # whatever made x, or changed a weight, in another stream comes first
        steps.stream.wait_event(load_library("cupy").cuda.get_current_stream().record())
        with steps.running():
            put(self.x, x, steps.stream)
            put(self.y, y, steps.stream)
            put(self.numbers, steps.together.numbers(steps.optimizer), steps.stream)
            self.random.start(rng)
            if self.done is not None and self.graph is None and self.captures:
                self.graph = self._capture()
            if self.graph is not None:
                self.graph.launch(steps.stream)
            else:
                self.done = self._body(labels if self.done is None else None)
            assert self.done is not None
            return float(self.done[0].get(stream=steps.stream))

    def _capture(self) -> Any:
        """The graph of the body; None, with a warning, where something in it cannot be captured."""
        stream = self.steps.stream
        stream.begin_capture()
        try:
            done = self._body(None)
        except Exception as error:
            with suppress(Exception):  # CUDA reports the same error once more
                stream.end_capture()
            self.captures = False
            warnings.warn(
                "the training step cannot be made a CUDA graph, and runs kernel by kernel: "
                f"{str(error).strip().splitlines()[0] if str(error).strip() else error!r}",
                RuntimeWarning,
                stacklevel=2,
            )
            return None
        graph = stream.end_capture()
        self.done = done
        return graph

    def _body(self, labels: Array | None) -> tuple[Any, Any]:
        """Forward pass, backward pass and update, without waiting; the loss and z, on the GPU.

        labels   to be checked, in the first run, which alone tells the shape of z
        """
        steps = self.steps
        model, loss, regularizer = steps.model, steps.loss, steps.regularizer
        parameters = model.parameters()
        self.random.rewind()
        with captured_step(), use_precision(steps.precision):
            mode = Mode(train=True, rng=self.random)
            done = forward(model, loss, regularizer, self.x, self.y, mode, steps.precision)
            if labels is not None:
                check_labels(loss, done.z, labels)
            steps.optimizer.zero_grad(parameters)
            backward(done, loss, regularizer, parameters, steps.precision)
            assert steps.together is not None
            steps.together.launch(self.numbers, done.value)
        return done.value, done.z


def check_labels(loss: Loss, z: Any, labels: Array) -> None:
    """Raise what ``loss`` raises for labels (NumPy's) that do not fit the output z, or are none."""

    def like(z: Any) -> Any:
        if isinstance(z, tuple):
            return tuple(like(part) for part in z)
        return np.full(z.shape, 1 / z.shape[-1], np.float32)

    loss.forward(like(z), labels)


def put(place: Array, x: Array, stream: Any) -> None:
    """Copy x, NumPy's or CuPy's, to ``place`` on the GPU, in order with what ``stream`` does."""
    if library_of(x) == "numpy":
        place.set(np.ascontiguousarray(x), stream=stream)  # type: ignore[attr-defined]
    else:
        place[...] = x
