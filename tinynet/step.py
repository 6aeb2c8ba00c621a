"""One training step: forward pass, loss, backward pass, weight update.  Report §2.3.

``TrainStep`` is the whole step behind one call. It runs a plan of the network (``planning``), in
memory that it keeps from step to step (``workspace``): the first step of a shape allocates, the
later ones do not.
"""

from __future__ import annotations

import math

import numpy as np

from tinynet.backend import Array, array_module
from tinynet.data import generator
from tinynet.kernels.cpu.threads import one_blas_thread
from tinynet.layer import Layer, Mode, Parameter
from tinynet.loss import Loss
from tinynet.optimizer import Optimizer
from tinynet.planning import training_plans
from tinynet.regularizers import Regularizer
from tinynet.workspace import Workspace


class TrainingError(Exception):
    """Training cannot go on: the loss or a weight is no longer a finite number."""


class TrainStep:
    """One weight update from one batch.  Report §2.3.2-3.

        L = loss(model(x), y) + penalty(w),   w ← optimiser(w, ∂L/∂w)

    ``loss_value = step(x, y)`` takes x (N, ...) and labels y (N,) or (N, K), and returns L, the
    very number that was differentiated, taken before the update.
    seed          what dropout's masks are drawn from, together with ``count``
    count         steps made so far; set it to go on where another run stopped
    last_output   the model's output z (N, K) of the last call
    whole         False from a step's beginning to its end: after an exception, whether model and
                  optimiser stand between two steps
    The backward pass ends at the first trainable parameter: layers before it, such as a frozen
    base, keep no cache, and their parameters' gradients stay 0 (§2.5.6).
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
    ) -> None:
        self.model, self.loss, self.optimizer = model, loss, optimizer
        self.seed, self.regularizer = seed, regularizer
        self.count = 0
        self.last_output: Array | None = None
        self.whole = True
        self.workspace = Workspace()
        self._shape: tuple[int, ...] = ()  # of the last batch

    # an overflow is reported once, by the loss that it spoils, not operation by operation
    @np.errstate(over="ignore", invalid="ignore", divide="ignore")
    @one_blas_thread()
    def __call__(self, x: Array, y: Array) -> float:
        self.whole = False
        parameters = self.model.parameters()
        mode = Mode(train=True, rng=generator(self.seed, "dropout", self.count))

        if x.shape != self._shape:  # buffers of other sizes are of no use
            self.workspace.clear()
            self._shape = x.shape
        with self.workspace:
            loss_value = self._step(x, y, parameters, mode)

        self.count += 1
        self.whole = True
        return loss_value

    def _step(self, x: Array, y: Array, parameters: dict[str, Parameter], mode: Mode) -> float:
        before, rest = training_plans(self.model)
        z, cache = rest.forward(before.run(x, mode), mode)
        value, loss_cache = self.loss.forward(z, y)
        loss_value = float(value)
        if self.regularizer is not None:
            loss_value += self.regularizer.penalty(parameters)
        if not math.isfinite(loss_value):
            cause = why_not_finite(self.model, self.optimizer, x)
            raise TrainingError(f"the loss is {loss_value}: {cause}")

        self.optimizer.zero_grad(parameters)
        rest.backward(self.loss.backward(loss_cache), cache)
        if self.regularizer is not None:
            self.regularizer.add_gradients(parameters)
        self.optimizer.step(parameters)
        self.last_output = z
        return loss_value

    def last_probabilities(self) -> Array:
        """Probabilities (N, K) that the last call's forward pass gave, before its update."""
        if self.last_output is None:
            raise ValueError("no step has been made yet: call step(x, y) first")
        return self.loss.probabilities(self.last_output)


def why_not_finite(model: Layer, optimizer: Optimizer, x: Array | None = None) -> str:
    """The likely cause, and the fix, of a loss that is NaN or infinite, from where NaN is found.

    x   (N, ...) the batch whose loss it is; None if only the weights are in question
    """
    xp = array_module(x)
    if x is not None:
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
