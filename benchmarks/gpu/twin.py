"""PyTorch's network of one of tinynet's: the same layers with the same weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinynet import layers as ours


def twin(layer: Any, input_shape: tuple[int, ...]) -> Any:
    """PyTorch's module for a layer, and for all that is in it.

    input_shape   (H, W, C), or (n,), of one input of the layer
    Raises TypeError for a layer that none of the networks here has.
    """
    import torch
    from torch import nn

    class Residual(nn.Module):
        """Main path plus skip."""

        def __init__(self, main: Any, skip: Any) -> None:
            super().__init__()
            self.main, self.skip = main, skip

        def forward(self, x: Any) -> Any:
            return self.main(x) + self.skip(x)

    class Flatten(nn.Module):
        """In tinynet's order of height, width and channel: no copy, channels last."""

        def forward(self, x: Any) -> Any:
            return x.permute(0, 2, 3, 1).flatten(1)

    class GlobalAverage(nn.Module):
        """The mean of each channel."""

        def forward(self, x: Any) -> Any:
            return x.mean((2, 3))

    def given(module: Any, **arrays: Any) -> Any:
        with torch.no_grad():
            for name, array in arrays.items():
                if array is not None:
                    getattr(module, name).copy_(torch.from_numpy(np.ascontiguousarray(array)))
        return module

    if isinstance(layer, ours.Sequential):
        modules, shape = [], input_shape
        for child in layer.layers:
            modules.append(twin(child, shape))
            shape = child.output_shape(shape)
        return nn.Sequential(*modules)
    if isinstance(layer, ours.Residual):
        skip = nn.Identity() if layer.skip is None else twin(layer.skip, input_shape)
        return Residual(twin(layer.main, input_shape), skip)
    if isinstance(layer, ours.Conv2D):
        bias = None if layer.bias is None else layer.bias.value
        module: Any = nn.Conv2d(
            layer.in_channels,
            layer.out_channels,
            layer.kernel_size,
            layer.stride,
            padding(layer, input_shape),
            layer.dilation,
            layer.groups,
            bias=bias is not None,
        )
        return given(module, weight=layer.weight.value.transpose(3, 2, 0, 1), bias=bias)
    if isinstance(layer, ours.Dense):
        bias = None if layer.bias is None else layer.bias.value
        module = nn.Linear(layer.in_features, layer.out_features, bias=bias is not None)
        return given(module, weight=layer.weight.value.T, bias=bias)
    if isinstance(layer, ours.BatchNorm) and layer.gamma is not None:
        module = nn.BatchNorm2d(layer.channels, eps=layer.epsilon, momentum=1 - layer.momentum)
        return given(module, weight=layer.gamma.value, bias=layer.beta.value)
    if isinstance(layer, ours.MaxPool2D):
        return nn.MaxPool2d(layer.pool_size, layer.stride, padding(layer, input_shape))
    if isinstance(layer, ours.ReLU) and not layer.threshold:
        return nn.ReLU(inplace=True)
    if isinstance(layer, ours.Dropout) and layer.keep_prob == 1:
        return nn.Identity()
    if isinstance(layer, ours.Flatten):
        return Flatten()
    if isinstance(layer, ours.GlobalAvgPool2D):
        return GlobalAverage()
    raise TypeError(f"{layer!r} has no twin in PyTorch yet: write one in benchmarks/gpu/twin.py")


def padding(layer: Any, input_shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns of padding; PyTorch has as many on both sides."""
    (top, bottom), (left, right) = layer._window(input_shape[:2]).padding
    if (top, left) != (bottom, right):
        raise TypeError(f"{layer!r} pads one side more than the other, which PyTorch's does not")
    return top, left
