"""Training steps and predictions of a workload, in tinynet and in PyTorch.

Dropout is left out (``keep_prob`` 1), so that all compute the same numbers; it costs next to
nothing at these sizes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.subject import Subject
from benchmarks.variants import Variant
from benchmarks.workloads import Workload

LEARNING_RATE = 1e-5  # small, so that rounding does not grow from step to step


def subject(workload: Workload, kind: str, variant: Variant) -> Subject:
    """What a variant is timed at; ``kind`` is "training" or "inference".

    Training: the loss, the gradients, Adam; the result is the loss. Inference: a batch's
    probabilities; the results are their logarithms, which are the logits but for a constant.
    """
    makers = {
        ("tinynet", "training"): tinynet_training,
        ("tinynet", "inference"): tinynet_inference,
        ("torch", "training"): torch_training,
        ("torch", "inference"): torch_inference,
    }
    return makers[variant.library, kind](workload, variant)


def loss_value(value: float) -> list[np.ndarray]:
    """A step's result."""
    return [np.array(value)]


def tinynet_training(workload: Workload, _: Variant) -> Subject:
    """A step of tinynet's ``TrainStep``."""
    from tinynet.losses import SoftmaxCrossEntropy
    from tinynet.optimizers import Adam
    from tinynet.train import TrainStep

    x, y = workload.data()
    step = TrainStep(workload.starting_model(), SoftmaxCrossEntropy(), Adam(LEARNING_RATE))
    return Subject(lambda: step(x, y), loss_value)


def tinynet_inference(workload: Workload, _: Variant) -> Subject:
    """tinynet's ``predict``."""
    from tinynet.losses import SoftmaxCrossEntropy
    from tinynet.train import predict

    x, _labels = workload.data()
    model, loss = workload.starting_model(), SoftmaxCrossEntropy()
    return Subject(lambda: predict(model, loss, x), lambda p: [np.log(p)])


def torch_training(workload: Workload, variant: Variant) -> Subject:
    """The same step in PyTorch, with its fused Adam, which is the fastest of its three."""
    import torch

    network, inputs = torch_network(workload, variant)
    labels = torch.from_numpy(workload.data()[1])
    optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE, fused=True)

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(network(inputs), labels)
        loss.backward()
        optimizer.step()
        return float(loss.item())

    return Subject(step, loss_value)


def torch_inference(workload: Workload, variant: Variant) -> Subject:
    """The same probabilities in PyTorch."""
    import torch

    network, inputs = torch_network(workload, variant)
    network.eval()

    def predict() -> np.ndarray:
        with torch.inference_mode():
            probabilities: np.ndarray = network(inputs).softmax(dim=1).numpy()
        return probabilities

    return Subject(predict, lambda p: [np.log(p)])


def torch_network(workload: Workload, variant: Variant) -> tuple[Any, Any]:
    """PyTorch's network with the starting weights, and the images, both in the variant's order."""
    import torch

    layers = [
        torch_layer(layer) for _, layer, _ in workload.starting_model().walk(workload.input_shape)
    ]
    order = torch.channels_last if variant.channels_last else torch.contiguous_format
    network: Any = torch.nn.Sequential(*layers)
    network = network.to(memory_format=order)
    images = workload.data()[0].transpose(0, 3, 1, 2).copy()
    inputs = torch.from_numpy(images).to(memory_format=order)
    return torch.compile(network) if variant.compiled else network, inputs


def torch_layer(layer: Any) -> Any:
    """PyTorch's layer with the weights and statistics of one of tinynet's."""
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
        module: Any = nn.Conv2d(
            layer.in_channels, layer.out_channels, 3, padding=1, bias=b is not None
        )
        return given(module, weight=layer.weight.value.transpose(3, 2, 0, 1), bias=b)
    if isinstance(layer, ours.Dense):
        module = nn.Linear(layer.in_features, layer.out_features, bias=b is not None)
        return given(module, weight=layer.weight.value.T, bias=b)
    if isinstance(layer, ours.BatchNorm):
        module = nn.BatchNorm2d(layer.channels, eps=layer.epsilon, momentum=1 - layer.momentum)
        return given(module, running_mean=layer.running_mean, running_var=layer.running_var)
    if isinstance(layer, ours.Flatten):
        return channels_last_flatten()
    plain = {ours.ReLU: nn.ReLU, ours.Dropout: nn.Identity}
    return nn.MaxPool2d(2) if isinstance(layer, ours.MaxPool2D) else plain[type(layer)]()


def channels_last_flatten() -> Any:
    """nn.Flatten in tinynet's order of height, width and channel."""
    from torch import nn

    class Flatten(nn.Module):
        def forward(self, x: Any) -> Any:
            return x.permute(0, 2, 3, 1).flatten(1)

    return Flatten()
