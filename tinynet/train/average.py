"""An exponential moving average of a network's weights, which often does better than the last."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np

from tinynet.backend import Checked, array_module, check_number
from tinynet.layer import Layer


class WeightAverage(Checked):
    """Average of the weights over the last steps, in a network beside the one that is trained.

        a ← a + (1 − d)(w − a)  after every step,   a = w after the first

    About 1/(1 − d) steps count: with d = 0.99 the last hundred. Batch norm's moving statistics
    are averaged alike, so that they fit the averaged weights.

        average = WeightAverage(model, 0.99)
        step(x, y); average.update()                      # again and again
        evaluate(average.model, loss, data)

    decay     d, 0 to 1, and below 1
    model     (the attribute) a copy of the network that holds the averages
    updates   how many were made
    Raises ValueError for another decay, TypeError for float16 weights.
    Source: Polyak & Juditsky 1992, "Acceleration of stochastic approximation by averaging"; in
    PyTorch ``AveragedModel`` with ``get_ema_multi_avg_fn(d)`` and ``use_buffers=True``.
    """

    def __init__(self, model: Layer, decay: float) -> None:
        if not check_number("the average's decay", decay, 0) < 1:
            raise ValueError(f"the average's decay is {decay}, want from 0, below 1, such as 0.99")
        half = [name for name, x in model.state().items() if x.dtype == np.float16]
        if half:
            advice = "in which an average stands still: use model.to(dtype='float32')"
            raise TypeError(f"{half[0]} is float16, {advice}")
        self.decay, self.updates, self._trained = decay, 0, model
        self.model = copies(model)

    def update(self) -> None:
        """Take in the weights and statistics as they are after a step."""
        averages = self.model.state()
        for name, x in self._trained.state().items():
            if self.updates:
                change = x - averages[name]
                change *= 1 - self.decay
                averages[name] += change
            else:
                averages[name][...] = x
        self.updates += 1


def copies(model: Layer, *more: Any) -> Any:
    """Return a deep copy of a network, or a tuple of copies of it and more; gradients start at 0.

    So theirs take no memory until they are written to.
    """
    zeros = {
        id(p.grad): array_module(p.grad).zeros(p.shape, p.grad.dtype)
        for p in model.parameters().values()
    }
    return deepcopy((model, *more) if more else model, zeros)
