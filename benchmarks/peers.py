"""The libraries that are timed: each makes a step function from a workload and weights.

A step has no dropout while it is checked (``keep_prob`` 1), so that all libraries compute the same
numbers; dropout costs next to nothing at these sizes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.workloads import Workload

LEARNING_RATE = 1e-5  # small, so that rounding does not grow from step to step

Step = Callable[[], float]  # one training step on the workload's data; returns its loss


def tinynet_step(workload: Workload) -> Step:
    """A step of tinynet's ``TrainStep``."""
    from tinynet.losses import SoftmaxCrossEntropy
    from tinynet.optimizers import Adam
    from tinynet.train import TrainStep

    x, y = workload.data()
    step = TrainStep(starting_model(workload), SoftmaxCrossEntropy(), Adam(LEARNING_RATE))
    return lambda: step(x, y)


def torch_step(workload: Workload, channels_last: bool) -> Step:
    """The same step in PyTorch, eager."""
    import torch
    from torch import nn

    model = starting_model(workload)
    layers: list[nn.Module] = []
    for _, layer, shape in model.walk(workload.input_shape):
        layers.append(torch_layer(layer, shape))
    order = torch.channels_last if channels_last else torch.contiguous_format
    network = nn.Sequential(*layers).to(memory_format=order)
    x, y = workload.data()
    inputs = torch.from_numpy(x.transpose(0, 3, 1, 2).copy()).to(memory_format=order)
    labels = torch.from_numpy(y)
    optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE)

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = nn.functional.cross_entropy(network(inputs), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def starting_model(workload: Workload) -> Any:
    """tinynet's network with the starting weights that every library gets."""
    from tinynet.models import vgg_like

    return vgg_like(
        2,
        workload.input_shape,
        workload.filters,
        workload.hidden,
        batch_norm=workload.batch_norm,
        keep_prob=1.0,
        rng=np.random.default_rng(0),
    )


def torch_layer(layer: Any, shape: tuple[int, ...]) -> Any:
    """PyTorch's layer with the weights of one of tinynet's; ``shape`` is that of its input."""
    import torch
    from torch import nn

    from tinynet import layers as ours

    def given(module: Any, **arrays: Any) -> Any:
        with torch.no_grad():
            for name, array in arrays.items():
                if array is not None:
                    getattr(module, name).copy_(torch.from_numpy(np.ascontiguousarray(array)))
        return module

    bias = getattr(layer, "bias", None)
    b = None if bias is None else bias.value
    if isinstance(layer, ours.Conv2D):
        module = nn.Conv2d(layer.in_channels, layer.out_channels, 3, padding=1, bias=b is not None)
        return given(module, weight=layer.weight.value.transpose(3, 2, 0, 1), bias=b)
    if isinstance(layer, ours.Dense):
        module = nn.Linear(layer.in_features, layer.out_features, bias=b is not None)
        return given(module, weight=layer.weight.value.T, bias=b)
    if isinstance(layer, ours.BatchNorm):
        return nn.BatchNorm2d(layer.channels, eps=layer.epsilon, momentum=1 - layer.momentum)
    if isinstance(layer, ours.Flatten):  # tinynet's order: height, width, channel
        return LastAxisFlatten()
    plain = {ours.ReLU: nn.ReLU, ours.Dropout: nn.Identity}
    return nn.MaxPool2d(2) if isinstance(layer, ours.MaxPool2D) else plain[type(layer)]()


def LastAxisFlatten() -> Any:  # noqa: N802 - a module's constructor
    """nn.Flatten in tinynet's order of height, width and channel."""
    from torch import nn

    class Flatten(nn.Module):
        def forward(self, x: Any) -> Any:
            return x.permute(0, 2, 3, 1).flatten(1)

    return Flatten()


PEERS: dict[str, Callable[[Workload], Step]] = {
    "tinynet": tinynet_step,
    "torch contiguous": lambda workload: torch_step(workload, channels_last=False),
    "torch channels_last": lambda workload: torch_step(workload, channels_last=True),
}
