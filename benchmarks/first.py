"""The first minutes on a GPU machine: ``python -m benchmarks.gpu first --minutes 8 --out DIR``.

What only a GPU can answer, in the order of what it is worth:

    facts      does the compiler take this GPU's own instructions (sm_90a)?
    ceilings   what does it copy and multiply at best?
    products   does each operation compute what torch computes in float32?
    steps      does a whole step compile, become a graph, have torch's losses, and how fast is it?
    race       are batches overwritten while the processor is far ahead of the GPU?
    bits       do steps repeat bit by bit?
    layers     how far from its floor and from cuDNN is each convolution?
    kernels    where does a step's time go?
    tests      the tests that wait for a GPU

Each part has its share of the minutes, and the next ones get what it leaves; what was found is
written after each. A failure, an illegal access or a kernel that never ends costs one row. Kernels
stay compiled in CUPY_CACHE_DIR, so that the same command is faster the second time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.backends import Run
from benchmarks.ops import measure_ops
from benchmarks.parts import gpu_tests, measure_ceilings, measure_kernels, same_bits
from benchmarks.steps import measure_steps

NETWORKS = ("VGG16 224, batch 64", "ResNet-50 224, batch 64", "vgg_like 128, batch 32")
CONVOLUTIONS = ("conv_forward", "conv_input_gradient", "conv_weight_gradient")
RACED = 4096  # images
HOPPER = 'extern "C" __global__ void f() { asm volatile("wgmma.fence.sync.aligned;"); }'


def briefly(run: Run, rounds: int = 5, without: str = "") -> Run:
    """Return the same run with at most ``rounds`` rounds, without a precision."""
    kept = {p: limit for p, limit in run.backend.op_tolerance.items() if p != without}
    rounds = min(rounds, run.backend.rounds)
    return replace(run, backend=replace(run.backend, rounds=rounds, op_tolerance=kept))


def asked(function: str) -> Callable[[Run], dict[str, Any]]:
    def part(run: Run) -> dict[str, Any]:
        return {"lines": run.worker(run.backend.ours[0]).call(f"first:{function}")}

    return part


PARTS: dict[str, tuple[float, Callable[[Run], dict[str, Any]]]] = {
    "facts": (0.01, asked("facts")),
    "ceilings": (0.02, measure_ceilings),
    "products": (0.2, lambda run: measure_ops(briefly(run, rounds=0))),
    "steps": (0.25, lambda run: measure_steps(briefly(run), NETWORKS, compiled=False)),
    "race": (0.05, asked("race")),
    "bits": (0.05, same_bits),
    "layers": (0.22, lambda run: measure_ops(briefly(run, without="fp32"), CONVOLUTIONS)),
    "kernels": (0.05, measure_kernels),
    "tests": (0.15, lambda run: gpu_tests(run, run.clock.left())),
}


def facts(device: Any) -> list[str]:
    """Return whether the GPU's newest instructions compile and run."""
    if device.name != "gpu":
        return ["there is no GPU"]
    module = device.xp.RawModule(code=HOPPER, options=("-arch=sm_90a",))
    module.get_function("f")((1,), (128,), ())
    device.wait()
    return ["sm_90a compiles by RawModule, and runs"]


def race(device: Any, batch: int = 64) -> list[str]:
    """Predict many batches, and each alone: the same probabilities?"""
    from tinynet.losses import SoftmaxCrossEntropy
    from tinynet.models import vgg_like
    from tinynet.train import predict

    number, filters, more = 2 * batch, (4, 8), dict[str, Any]()
    if device.name == "gpu":
        number, filters, more = RACED, (128, 256), {"precision": "bf16"}
    model = vgg_like(3, (64, 64, 1), filters, 64, rng=np.random.default_rng(0))
    if device.name == "gpu":
        model.to("cupy")
    x = np.random.default_rng(1).standard_normal((number, 64, 64, 1), dtype=np.float32)

    def predicted(some: Any) -> Any:
        return predict(model, SoftmaxCrossEntropy(), some, batch, **more)

    alone = np.concatenate([predicted(x[i : i + batch]) for i in range(0, number, batch)])
    wrong = int((predicted(x) != alone).any(axis=1).sum())
    return [f"predict: {wrong} of {number} images have other probabilities than alone"]
