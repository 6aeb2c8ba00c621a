"""Training steps and predictions of a workload, in tinynet and in PyTorch.

Training: the loss, all gradients, Adam; the result is the loss. Inference: a batch's probabilities;
the results are their logarithms, which are the logits but for a constant. On a GPU images are there
from the start.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np

from benchmarks.device import Cpu, Subject, torch_precision
from benchmarks.variants import Variant
from benchmarks.workloads import Workload
from tinynet import layers as ours

WARM_UP = 3
RESULTS: dict[str, Callable[[Any], list[np.ndarray]]] = {
    "training": lambda loss: [np.array(float(loss))],
    "inference": lambda probabilities: [np.log(np.asarray(probabilities))],
}


def subject(
    kind: str, workload: dict[str, Any], precision: str, variant: Variant, device: Cpu
) -> Subject:
    given = Workload(**workload)
    if variant.library == "torch":
        return torch_subject(kind, given, precision, variant, device)
    from tinynet.losses import SoftmaxCrossEntropy
    from tinynet.train import predict

    x, y = given.data()
    images = device.xp.asarray(x)
    if kind == "inference":
        model, loss = given.starting_model(), SoftmaxCrossEntropy()
        return Subject(lambda: predict(model, loss, images), RESULTS[kind], whole=True)
    step = train_step(given, precision, device)
    # its memory on a GPU is CuPy's pool, or its own account if that is more
    memory = lambda: int(getattr(step, "gpu_memory", 0))  # noqa: E731
    return Subject(lambda: step(images, y), RESULTS[kind], whole=True, memory=memory)


def train_step(workload: Workload, precision: str, device: Cpu, rate: float | None = None) -> Any:
    from tinynet.losses import SoftmaxCrossEntropy, WithAuxiliary
    from tinynet.optimizers import Adam
    from tinynet.train import TrainStep

    model, more, loss = workload.starting_model(), dict[str, Any](), SoftmaxCrossEntropy()
    if device.name == "gpu":  # NumPy's arrays know fp32 alone
        model.to("cupy")
        more["precision"] = precision
    heads = WithAuxiliary(loss) if workload.model == "googlenet" else loss
    return TrainStep(model, heads, Adam(rate or workload.rate), **more)


def same_bits(device: Cpu, workload: dict[str, Any], precision: str, steps: int = 3) -> bool:
    """Return whether a few of our steps, made twice from the start, leave the same bits."""
    from tinynet.backend import to_device

    given = Workload(**workload)
    x, y = given.data()

    def run() -> list[bytes]:
        step = train_step(given, precision, device, rate=1e-3)
        for _ in range(steps):
            step(device.xp.asarray(x), y)
        return [to_device(a, "numpy").tobytes() for a in step.model.state().values()]

    return run() == run()


def torch_subject(
    kind: str, workload: Workload, precision: str, variant: Variant, device: Cpu
) -> Subject:
    """PyTorch's step, with its fused Adam (the fastest of its three), or prediction.

    bf16 is by autocast.
    """
    import torch

    where = device.torch_device
    order = torch.channels_last if variant.channels_last else torch.contiguous_format
    # in place where memory is what bounds it; stock PyTorch's on a CPU is what most people write
    net: Any = twin(workload.starting_model(), workload.input_shape, inplace=where == "cuda")
    net = net.to(where).to(memory_format=order)
    x, y = workload.data()
    # copied in torch's order: a view of NumPy's would be channels last already
    images = torch.from_numpy(x.transpose(0, 3, 1, 2).copy()).to(where, memory_format=order)
    run = torch.compile(net, mode=variant.compiled) if variant.compiled else net
    how: dict[str, Any] = {"around": lambda: torch_precision(precision), "whole": True}

    def rounded() -> Any:
        return torch.autocast(where, torch.bfloat16) if precision == "bf16" else nullcontext()

    if kind == "inference":
        net.eval()

        def predict() -> Any:
            with torch.inference_mode(), rounded():
                return run(images).softmax(dim=1).float().numpy(force=True)

        return Subject(predict, RESULTS[kind], **how)

    graph, labels = variant.graph and where == "cuda", torch.from_numpy(y).to(where)
    optimizer = torch.optim.Adam(net.parameters(), workload.rate, fused=True, capturable=graph)

    def step() -> Any:
        optimizer.zero_grad(set_to_none=True)
        with rounded():
            loss = torch.nn.functional.cross_entropy(run(images), labels)
        loss.backward()
        optimizer.step()
        return loss.detach()

    call = captured(net, optimizer, step) if graph else step
    return Subject(call, RESULTS[kind], **how)


def captured(net: Any, optimizer: Any, step: Callable[[], Any]) -> Callable[[], Any]:
    """Return a step that the first call captures as a CUDA graph, and every call replays.

    The capture leaves the network as it was.
    Source: PyTorch's notes on CUDA semantics, "Whole-network capture".
    """
    import torch

    cuda, kept = torch.cuda, list[Any]()

    def capture() -> tuple[Any, Any]:
        before = [x.clone() for x in net.state_dict().values()]
        side = cuda.Stream()
        side.wait_stream(cuda.current_stream())
        with cuda.stream(side):
            for _ in range(WARM_UP):
                step()
        cuda.current_stream().wait_stream(side)
        optimizer.zero_grad(set_to_none=True)
        cuda.empty_cache()
        graph = cuda.CUDAGraph()
        with cuda.graph(graph):
            loss = step()
        with torch.no_grad():
            for now, then in zip(net.state_dict().values(), before, strict=True):
                now.copy_(then)
            for value in [v for entry in optimizer.state.values() for v in entry.values()]:
                value.zero_()
        return graph, loss

    def call() -> Any:
        if not kept:
            kept.extend(capture())
        graph, loss = kept
        graph.replay()
        return loss

    return call


def twin(layer: Any, shape: tuple[int, ...], inplace: bool = False) -> Any:
    """Return PyTorch's module for a layer and all that is in it, with the same weights.

    shape     (H, W, C), or (n,), of one input of the layer
    inplace   of its ReLUs
    Raises TypeError for a layer that none of the networks here has.
    """
    import torch
    from torch import nn

    class Function(nn.Module):
        """A function of the image, and of modules of its own."""

        def __init__(self, function: Callable[..., Any], *parts: Any) -> None:
            super().__init__()
            self.function, self.parts = function, nn.ModuleList(parts)

        def forward(self, x: Any) -> Any:
            return self.function(x, *self.parts)

    def given(module: Any, **arrays: Any) -> Any:
        with torch.no_grad():
            for name, array in arrays.items():
                if array is not None:
                    getattr(module, name).copy_(torch.from_numpy(np.ascontiguousarray(array)))
        return module

    bias = getattr(layer, "bias", None)
    b = None if bias is None else bias.value
    match layer:
        case ours.Sequential():
            modules = []
            for child in layer.layers:
                modules.append(twin(child, shape, inplace))
                shape = child.output_shape(shape)
            return nn.Sequential(*modules)
        case ours.Residual():
            skip = nn.Identity() if layer.skip is None else twin(layer.skip, shape, inplace)
            main = twin(layer.main, shape, inplace)
            return Function(lambda x, main, skip: main(x) + skip(x), main, skip)
        case ours.Conv2D():
            geometry = layer.kernel_size, layer.stride, padding(layer, shape), layer.dilation
            sizes = layer.in_channels, layer.out_channels
            module: Any = nn.Conv2d(*sizes, *geometry, layer.groups, bias=b is not None)
            return given(module, weight=layer.weight.value.transpose(3, 2, 0, 1), bias=b)
        case ours.Dense():
            module = nn.Linear(layer.in_features, layer.out_features, bias=b is not None)
            return given(module, weight=layer.weight.value.T, bias=b)
        case ours.BatchNorm() if layer.gamma is not None:
            module = nn.BatchNorm2d(layer.channels, eps=layer.epsilon, momentum=1 - layer.momentum)
            moving = {"running_mean": layer.running_mean, "running_var": layer.running_var}
            return given(module, weight=layer.gamma.value, bias=layer.beta.value, **moving)
        case ours.MaxPool2D():
            return nn.MaxPool2d(layer.pool_size, layer.stride, padding(layer, shape))
        case ours.ReLU(threshold=0):
            return nn.ReLU(inplace=inplace)
        case ours.Dropout(keep_prob=1):
            return nn.Identity()
        case ours.Flatten():  # in tinynet's order of height, width and channel
            return Function(lambda x: x.permute(0, 2, 3, 1).flatten(1))
        case ours.GlobalAvgPool2D():
            return Function(lambda x: x.mean((2, 3)))
    raise TypeError(f"{layer!r} has no twin in PyTorch yet: write one in benchmarks/peers.py")


def padding(layer: Any, shape: tuple[int, ...]) -> tuple[int, int]:
    (top, bottom), (left, right) = layer._window(shape[:2]).padding
    if (top, left) != (bottom, right):
        raise TypeError(f"{layer!r} pads one side more than the other, which PyTorch's does not")
    return top, left
