"""One training step of a network, ours and PyTorch's: the loss, all gradients, Adam.

Images are on the device from the start. Ours returns the loss, and so waits for it; PyTorch's
leaves it on the device, and is asked for it only where losses are compared.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, NamedTuple

from benchmarks.gpu.device import Cpu, set_torch
from benchmarks.gpu.networks import Network
from benchmarks.gpu.variants import Variant

WARM_UP = 3


class Step(NamedTuple):
    """What is timed.

    call      one step; returns something that ``float`` makes the loss of
    restart   forget the peak of memory so far
    memory    bytes by name, since then
    facts     of the network
    """

    call: Callable[[], Any]
    restart: Callable[[], None]
    memory: Callable[[], dict[str, int]]
    facts: dict[str, Any]


def make(network: Network, precision: str, variant: Variant, device: Cpu) -> Step:
    """The step of a variant."""
    maker = ours if variant.library == "tinynet" else theirs
    return maker(network, precision, variant, device)


def ours(network: Network, precision: str, _: Variant, device: Cpu) -> Step:
    """tinynet's ``TrainStep``; its memory is CuPy's pool, or its own account if that is more."""
    from tinynet.losses import SoftmaxCrossEntropy
    from tinynet.optimizers import Adam
    from tinynet.train import TrainStep

    # NumPy's arrays know fp32 alone
    more: dict[str, Any] = {"precision": precision} if device.name == "gpu" else {}
    model = network.build()
    facts = {"multiply_adds": network.step_multiply_adds(model)}
    if device.name == "gpu":
        model.to("cupy")
    step = TrainStep(model, SoftmaxCrossEntropy(), Adam(network.rate), **more)
    x, y = network.data()
    images = device.xp.asarray(x)

    def memory() -> dict[str, int]:
        found = {"pool": device.pool_bytes(), "step": int(getattr(step, "gpu_memory", 0))}
        return {"peak": max(found.values()), **found}

    return Step(lambda: step(images, y), device.free, memory, facts)


def theirs(network: Network, precision: str, variant: Variant, device: Cpu) -> Step:
    """PyTorch's step, with its fused Adam; bf16 by autocast."""
    import torch

    set_torch(precision)
    where = device.torch_device
    order = torch.channels_last if variant.channels_last else torch.contiguous_format
    model = network.build()
    facts = {"multiply_adds": network.step_multiply_adds(model)}
    from benchmarks.gpu.twin import twin

    net: Any = twin(model, network.input_shape).to(where).to(memory_format=order)
    del model
    x, y = network.data()
    images = torch.from_numpy(x).permute(0, 3, 1, 2).to(where).contiguous(memory_format=order)
    labels = torch.from_numpy(y).to(where)
    optimizer = torch.optim.Adam(
        net.parameters(), network.rate, fused=True, capturable=variant.graph and where == "cuda"
    )
    run = torch.compile(net, mode=variant.compiled) if variant.compiled else net

    def forward() -> Any:
        rounded = torch.autocast(where, torch.bfloat16) if precision == "bf16" else nullcontext()
        with rounded:
            return torch.nn.functional.cross_entropy(run(images), labels)

    def step() -> Any:
        optimizer.zero_grad(set_to_none=True)
        loss = forward()
        loss.backward()
        optimizer.step()
        return loss.detach()

    def restart() -> None:
        if where == "cuda":
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def memory() -> dict[str, int]:
        if where != "cuda":
            return {"peak": 0, "allocated": 0}
        return {
            "peak": torch.cuda.max_memory_reserved(),
            "allocated": torch.cuda.max_memory_allocated(),
        }

    call = captured(net, optimizer, step) if variant.graph and where == "cuda" else step
    return Step(call, restart, memory, facts)


def captured(net: Any, optimizer: Any, step: Callable[[], Any]) -> Callable[[], Any]:
    """A step that the first call captures as one CUDA graph, which every call replays.

    Weights, statistics and Adam's memory are then as they were before.

    Source: PyTorch's notes on CUDA semantics, "Whole-network capture".
    """
    kept: dict[str, Any] = {}

    def call() -> Any:
        if not kept:
            kept["graph"], kept["loss"] = capture(net, optimizer, step)
        kept["graph"].replay()
        return kept["loss"]

    return call


def capture(net: Any, optimizer: Any, step: Callable[[], Any]) -> tuple[Any, Any]:
    """The graph, and the loss that it writes."""
    import torch

    before = [x.clone() for x in net.state_dict().values()]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            step()
    torch.cuda.current_stream().wait_stream(side)
    optimizer.zero_grad(set_to_none=True)
    torch.cuda.empty_cache()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = step()
    with torch.no_grad():
        for now, then in zip(net.state_dict().values(), before, strict=True):
            now.copy_(then)
        for entry in optimizer.state.values():
            for value in entry.values():
                value.zero_()
    return graph, loss


def same_bits(network: Network, precision: str, device: Cpu, steps: int = 3) -> bool:
    """Whether so many of our steps, made twice from the start, leave the same bits."""
    from tinynet.backend import to_device
    from tinynet.losses import SoftmaxCrossEntropy
    from tinynet.optimizers import Adam
    from tinynet.train import TrainStep

    def run() -> list[bytes]:
        more: dict[str, Any] = {"precision": precision} if device.name == "gpu" else {}
        model = network.build()
        if device.name == "gpu":
            model.to("cupy")
        step = TrainStep(model, SoftmaxCrossEntropy(), Adam(1e-3), **more)
        x, y = network.data()
        for _ in range(steps):
            step(device.xp.asarray(x), y)
        return [to_device(a, "numpy").tobytes() for a in model.state().values()]

    return run() == run()
