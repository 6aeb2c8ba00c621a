"""One training step: forward pass, loss, backward pass, weight update.  Report §2.3.

``TrainStep`` is the whole step behind one call: it draws, counts and reports; ``engine.Step``
computes. The first step of a shape allocates memory, the later ones do not.
"""

from __future__ import annotations

import math

import numpy as np

from tinynet.backend import Array, array_module, check_array, check_instance, check_number
from tinynet.engine import Step, Workspace, one_blas_thread
from tinynet.layer import Layer
from tinynet.losses import Loss
from tinynet.losses.base import as_labels
from tinynet.optimizers import Optimizer
from tinynet.regularizers import Regularizer
from tinynet.train.data import generator
from tinynet.train.evaluation import check_parts


class TrainingError(Exception):
    """Training cannot go on: the loss or a weight is no longer a finite number."""


class TrainStep:
    """One weight update from one batch.  Report §2.3.2-3.

        L = loss(model(x), y) + penalty(w),   w ← optimiser(w, ∂L/∂w)

    ``loss_value = step(x, y)`` takes x (N, ...) and labels y (N,) or (N, K), and returns L, the
    very number that was differentiated, taken before the update. On a GPU the step is a captured
    graph (``graph_step``), and x and y may be NumPy's, too.
    seed          what dropout's masks are drawn from, together with ``count``
    count         steps made so far; set it to go on where another run stopped
    last_output   the model's output z (N, K) of the last call; on a GPU until the next
    precision     on a GPU "fp32", "tf32" or "bf16", see ``tinynet.engine.precision``
    micro_batch   examples that go through the network at a time, at most: the gradients of the
                  pieces add up to that of the batch, in less memory. None: all of them
    whole         False from a step's beginning to its end: after an exception, whether model and
                  optimiser stand between two steps
    The backward pass ends at the first trainable parameter: layers before it, such as a frozen
    base, keep no cache, and their parameters' gradients stay 0 (§2.5.6).
    In micro-batches, batch norm normalises over each by itself and its statistics move with each;
    without it, and without dropout, the step is the large batch's to rounding.
    Raises TrainingError, with the weights unchanged, if L is not finite.
    """

    def __init__(
        self,
        model: Layer,
        loss: Loss,
        optimizer: Optimizer,
        *,
        seed: int = 0,
        regularizer: Regularizer | None = None,
        precision: str = "fp32",
        micro_batch: int | None = None,
    ) -> None:
        check_parts(model, loss, optimizer, regularizer)
        check_instance("optimizer", optimizer, Optimizer, "an optimizer, such as Adam(1e-3)")
        check_number("seed", seed, whole=True)
        if micro_batch is not None:
            check_number("micro_batch", micro_batch, 1, whole=True)
        self.model, self.loss, self.optimizer = model, loss, optimizer
        self.seed, self.precision = seed, precision
        self.count = 0
        self.last_output: Array | None = None
        self.whole = True
        self._step = Step(model, loss, optimizer, regularizer, precision, micro_batch)

    # an overflow is reported once, by the loss that it spoils, not operation by operation
    @np.errstate(over="ignore", invalid="ignore", divide="ignore")
    @one_blas_thread()
    def __call__(self, x: Array, y: Array) -> float:
        check_array("TrainStep", "x", x, floating=False)
        y = as_labels(y)
        self.whole = False
        value, z = self._step(x, y, generator(self.seed, "dropout", self.count))
        if not math.isfinite(value):
            cause = why_not_finite(self.model, self.optimizer, x)
            raise TrainingError(f"the loss is {value}: {cause}")
        self.last_output = z
        self.count += 1
        self.whole = True
        return value

    @property
    def workspace(self) -> Workspace:
        """Memory that is kept for the next step; ``allocated`` is its size in bytes."""
        return self._step.workspace

    @property
    def gpu_memory(self) -> int:
        """Bytes of the GPU's memory that are held; 0 on the processor."""
        return self._step.gpu_memory

    def last_probabilities(self) -> Array:
        """Probabilities (N, K) that the last call's forward pass gave, before its update."""
        if self.last_output is None:
            raise ValueError("no step has been made yet: call step(x, y) first")
        return self.loss.probabilities(self.last_output)


def why_not_finite(model: Layer, optimizer: Optimizer, x: Array | None = None) -> str:
    """The likely cause, and the fix, of a loss that is NaN or infinite, from where NaN is found.

    x   (N, ...) the batch whose loss it is; None if only the weights are in question
    """
    if x is not None:
        xp = array_module(x)
        bad = ~xp.isfinite(x).reshape(len(x), -1).all(axis=1)
        if bad.any():
            first, total = int(bad.argmax()), int(bad.sum())
            return (
                f"{total} of the {len(x)} inputs hold NaN or infinity (the first is number {first} "
                "of the batch, counted from 0): clean the data"
            )
    names = not_finite(model)
    if names:
        return (
            f"{', '.join(names[:3])} {'hold' if names[1:] else 'holds'} NaN or infinity: the last "
            f"update was too large, lower the learning rate ({optimizer.learning_rate:g})"
        )
    return (
        "input and weights are finite, the output is not or is too far off: lower the learning "
        f"rate ({optimizer.learning_rate:g}), scale the input to about -1 ... 1, or use "
        "SoftmaxCrossEntropy on logits"
    )


def not_finite(model: Layer) -> list[str]:
    """Names of the parameters and moving statistics that hold NaN or infinity."""
    return [name for name, x in model.state().items() if not array_module(x).isfinite(x).all()]
