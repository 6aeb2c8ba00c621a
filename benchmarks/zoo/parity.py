"""One architecture beside a peer's: the same weights, the same images, the same numbers? How fast?

Weights, biases, scales and shifts are random. Batch norm's statistics are those that the network
has on random images: with drawn ones a deep network's output explodes, and all probabilities are 0
or 1. Its shifts are about 1, so that most ReLUs are open: with shifts about 0 a deep network is
chaotic and makes every rounding 1.2 times as large in each layer. The last layer is scaled so that
logits spread by 2, and probabilities are far from equal.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.device import Cpu
from benchmarks.peers import train_step
from benchmarks.workloads import Workload
from benchmarks.zoo.entries import CLASSES, ENTRIES, Entry
from tests.oracles import to_torch
from tinynet import EVAL, Mode
from tinynet.interop.convert import converted
from tinynet.interop.names import WeightNames, names_of
from tinynet.interop.onnx_export import export_onnx
from tinynet.layers import Softmax
from tinynet.models.architecture import Architecture

BATCH = 2
STEP_BATCH, STEPS = 4, 3
SCALES, SHIFTS, BIASES = (0.7, 1.3), (0.5, 1.5), (-0.1, 0.1)  # what they are drawn between
LOGITS = 2.0  # standard deviation of the logits
FLOOR = 1e-6  # of the largest gradient: a bias before a batch norm has gradient 0, and rounding


def counts(name: str, entry: Entry) -> list[dict[str, Any]]:
    rows = []
    for count, source, statistics, settings in entry.published:
        model = build(name, entry.side, settings)
        arrays = (model.state() if statistics else model.parameters()).values()
        row = {"source": source, "published": count, "statistics": statistics}
        rows.append({**row, "ours": sum(int(np.prod(x.shape)) for x in arrays)})
    return rows


def build(name: str, side: int, settings: dict[str, Any]) -> Any:
    shape = {"num_classes": CLASSES, "input_shape": (side, side, 3)}
    return Architecture(name, shape | settings).build()


def images(side: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(BATCH, side, side, 3))


def against_torch(name: str, entry: Entry, gradient_side: int) -> dict[str, dict[str, Any]]:
    """Differences from a torch network: probabilities in float32, gradients in float64.

    And, with the same weights, those of our network from its own ONNX file.
    """
    import torch

    names = names_of(name, "torch")
    torch.manual_seed(0)
    theirs = calibrated_torch(entry.torch(), images(entry.side))
    arrays = {key: x.detach().numpy().copy() for key, x in theirs.state_dict().items()}
    ours = loaded(name, entry.side, names, arrays)

    x = images(entry.side).astype(np.float32)
    with torch.no_grad():
        expected = theirs.float().eval()(to_torch(x)).softmax(1).numpy()
    result = probabilities_apart(ours, x, expected)
    in_file = in_onnxruntime(ours, x)

    # smaller images, and all that is drawn switched off: each gradient is a sum over fewer pixels
    theirs.double().train()
    for module in theirs.modules():
        if "dropout" in type(module).__name__.lower():
            module.p = 0.0
    # what flattens into a dense layer takes images of one size
    flat = name.startswith(("vgg", "alexnet"))
    ours = ours if flat else loaded(name, gradient_side, names, arrays)
    ours.to(dtype="float64").freeze(parameters=False, statistics=False)
    x = images(entry.side if flat else gradient_side)
    tensor = to_torch(x)
    outputs = theirs(tensor)
    outputs = tuple(outputs) if isinstance(outputs, tuple) else (outputs,)
    rng = np.random.default_rng(1)
    upstream = [rng.normal(size=tuple(z.shape)) for z in outputs]
    sum((z * torch.from_numpy(d)).sum() for z, d in zip(outputs, upstream, strict=True)).backward()

    z, cache = ours.forward(x, Mode(train=True, rng=np.random.default_rng(0)))
    heads = tuple(upstream[i] for i in head_order(outputs, z)) if isinstance(z, tuple) else ()
    dx = ours.backward(heads or upstream[0], cache)
    there = {key: p.grad.numpy() for key, p in theirs.named_parameters() if p.grad is not None}
    wanted = converted(ours, arrays | there, names, x.shape[1:])
    floor = FLOOR * max(np.abs(wanted[key]).max() for key in ours.parameters())
    apart = {key: relative(p.grad, wanted[key], floor) for key, p in ours.parameters().items()}
    apart["input"] = relative(dx, tensor.grad.numpy().transpose(0, 2, 3, 1))
    worst = max(apart, key=apart.__getitem__)
    gradient = {"gradient": apart[worst], "gradient_of": worst, "gradient_side": x.shape[1]}
    return {"torch": result | gradient, "onnx": in_file}


def head_order(theirs: tuple[Any, ...], ours: tuple[Any, ...]) -> list[int]:
    logits = [z.detach().numpy() for z in theirs]
    return [min(range(len(logits)), key=lambda i: relative(z, logits[i])) for z in ours]


def against_keras(name: str, entry: Entry) -> dict[str, float]:
    """Differences from a Keras application, which runs on torch: probabilities in float32."""
    import keras

    keras.utils.set_random_seed(0)
    names = names_of(name, "keras")
    theirs = entry.keras()
    x = images(entry.side).astype(np.float32)
    rng = np.random.default_rng(2)
    variables = {f"{lay.name}/{v.name}": v for lay in theirs.layers for v in lay.variables}
    for key, variable in variables.items():
        if len(variable.shape) == 1 and "/moving_" not in key:
            low, high = {"gamma": SCALES, "beta": SHIFTS}.get(variable.name, BIASES)
            variable.assign(rng.uniform(low, high, variable.shape))
    for layer in theirs.layers:  # its statistics: those of one pass in training
        if hasattr(layer, "moving_mean"):
            layer.momentum = 0.0
    theirs(x, training=True)
    last = [key for key, v in variables.items() if v.shape[-1] == CLASSES][0].split("/")[0]
    kernel, bias = (variables[f"{last}/{kind}"] for kind in ("kernel", "bias"))
    logits = keras.ops.log(theirs(x, training=False)) - bias
    kernel.assign(kernel * (LOGITS / keras.ops.std(logits)))
    arrays = {key: np.array(keras.ops.convert_to_numpy(v)) for key, v in variables.items()}
    ours = loaded(name, entry.side, names, arrays)
    expected = keras.ops.convert_to_numpy(theirs(x, training=False))
    return probabilities_apart(ours, x, expected)


def calibrated_torch(model: Any, x: np.ndarray) -> Any:
    """The network with the statistics that it has on ``x``, and scales and biases drawn."""
    import torch

    rng = np.random.default_rng(2)
    model.float().train()
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    momenta = [m.momentum for m in norms]
    with torch.no_grad():
        for key, p in model.named_parameters():
            if p.ndim == 1:
                low, high = SCALES if key.endswith("weight") else BIASES
                p.copy_(torch.from_numpy(rng.uniform(low, high, p.shape)))
        for norm in norms:
            norm.momentum = 1.0
            norm.bias.copy_(torch.from_numpy(rng.uniform(*SHIFTS, norm.bias.shape)))
        model(to_torch(x.astype(np.float32)))
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        logits = model.eval()(to_torch(x.astype(np.float32)))
        *_, last = (m for m in model.modules() if getattr(m, "out_features", 0) == CLASSES)
        last.weight *= LOGITS / (logits - last.bias).std()
    return model


def loaded(name: str, side: int, names: WeightNames, arrays: dict[str, np.ndarray]) -> Any:
    epsilon = {} if names.epsilon is None else {"epsilon": names.epsilon}
    model = build(name, side, names.requires | epsilon)
    model.load_state(converted(model, arrays, names, (side, side, 3)))
    return model


def probabilities_apart(ours: Any, x: np.ndarray, expected: np.ndarray) -> dict[str, float]:
    """Largest difference in probability, and the largest probability there is."""
    got, _ = Softmax().forward(ours.forward(x, EVAL)[0])
    apart, largest = float(np.abs(got - expected).max()), float(expected.max())
    return {"probability": apart, "largest_probability": largest}


def in_onnxruntime(ours: Any, x: np.ndarray) -> dict[str, float]:
    """Largest difference in probability between our network and its ONNX file."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        file = export_onnx(ours, Path(folder) / "model.onnx", probabilities=True)
        size = file.stat().st_size
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        expected = session.run(None, {"x": x})[0]
    return probabilities_apart(ours, x, expected) | {"bytes": size}


def relative(got: np.ndarray, wanted: np.ndarray, floor: float = 1e-300) -> float:
    """Largest difference over the largest element, or over ``floor`` if that is larger."""
    if got.shape != wanted.shape:
        return float("inf")
    return float(np.abs(got - wanted).max() / max(np.abs(wanted).max(), floor))


def compare(device: Any, name: str) -> dict[str, Any]:
    entry = ENTRIES[name]
    result: dict[str, Any] = {"counts": counts(name, entry)}
    if entry.torch is not None:
        result |= against_torch(name, entry, {299: 139}.get(entry.side, 96))
    return result if entry.keras is None else {**result, "keras": against_keras(name, entry)}


# one training step: batch 4 at the usual size, Adam, float32


def their_step(name: str, x: np.ndarray, y: np.ndarray) -> Callable[[], float]:
    """torch's step, in the memory order that it is fastest in on a CPU (channels last)."""
    import torch
    from torch.nn.functional import cross_entropy

    build: Any = ENTRIES[name].torch
    model = build().train().to(memory_format=torch.channels_last)
    images, labels = torch.from_numpy(x).permute(0, 3, 1, 2), torch.from_numpy(y)
    optimizer = torch.optim.Adam(model.parameters(), 1e-4)

    def step() -> float:
        optimizer.zero_grad()
        outputs = model(images)
        main, *heads = outputs if isinstance(outputs, tuple) else (outputs,)
        loss = cross_entropy(main, labels) + 0.3 * sum(cross_entropy(z, labels) for z in heads)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def measure(device: Cpu, name: str, library: str) -> dict[str, Any]:
    """Return the milliseconds of each step after the first, and the process's peak memory."""
    side, times = ENTRIES[name].side, list[float]()
    workload = Workload(side, STEP_BATCH, name, 3, CLASSES, rate=1e-4)
    x, y = workload.data()
    ours = train_step(workload, "fp32", device) if library == "tinynet" else None
    step = (lambda: ours(x, y)) if ours else their_step(name, x, y)
    for _ in range(1 + STEPS):
        start = time.perf_counter()
        loss = step()
        times.append(1e3 * (time.perf_counter() - start))
        assert np.isfinite(loss)
    return {"ms": times[1:], "peak_mb": device.peak_mb([]), "side": side, "batch": STEP_BATCH}
