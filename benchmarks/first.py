"""The first minutes on a GPU machine: ``python -m benchmarks.gpu first --minutes 8 --out DIR``.

What only a GPU can answer, in the order of what it is worth:

    facts      does the compiler take our sources, also for this GPU's own instructions (sm_90a)?
    products   does each operation compute what torch computes in float32?
    steps      does a whole step compile, become a graph, have torch's losses, and how fast is it?
    race       are batches overwritten while the processor is far ahead of the GPU?
    bits       do steps repeat bit by bit?
    layers     how far from its floor and from cuDNN is each convolution?
    kernels    where does a step's time go?
    variants   what would other copies to shared memory, or other tiles, be worth?
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
from benchmarks.correctness import gpu_tests, same_bits
from benchmarks.device import Subject
from benchmarks.floors import copy
from benchmarks.kernels import measure_kernels
from benchmarks.operations import measure, measure_ops, rows, task_of
from benchmarks.steps import measure_steps
from benchmarks.variants import CUDA

NETWORKS = ("VGG16 224, batch 64", "ResNet-50 224, batch 64", "vgg_like 128, batch 32")
CONVOLUTIONS = ("conv_forward", "conv_input_gradient", "conv_weight_gradient")
ROUNDS = 5  # at most
AHEAD = 0.5  # of a part's time, at most, for compiling
RACED = 4096  # images
HOPPER = 'extern "C" __global__ void f() { asm volatile("wgmma.fence.sync.aligned;"); }'


def products(run: Run) -> dict[str, Any]:
    """Compare every operation with torch's, tensor cores before fp32."""
    wanted = {f"{op.name}, {shape}, {p}": (op, shape, p) for op, shape, p in rows(run.backend)}
    tasks = [(label, task_of(run, *row, "tinynet")) for label, row in wanted.items()]
    problems = run.compile_ahead(tasks, AHEAD, run.backend.ours[0])
    wrong = [f"not compiled: {label}: {why}" for label, why in problems.items()]
    found: list[str] = []
    untimed = replace(run, backend=replace(run.backend, rounds=0))
    for label, row in wanted.items():
        if run.clock.has(label):
            measured = measure(untimed, *row)
            apart = measured["differences"].get(CUDA.name, float("nan"))
            found.append(f"{label}: off by {apart:.1e}")
            wrong += [f"WRONG {label}, {name}: {why}" for name, why in measured["failed"].items()]
            run.keep({"lines": [*wrong, *found]})
    return {"lines": [f"{len(wrong)} problems in {len(found)} operations", *wrong, *found]}


def briefly(run: Run, without: str = "") -> Run:
    """The same run, of few rounds, without a precision."""
    backend = run.backend
    kept = {p: limit for p, limit in backend.op_tolerance.items() if p != without}
    few = replace(backend, rounds=min(ROUNDS, backend.rounds), op_tolerance=kept)
    return replace(run, backend=few)


def asked(function: str) -> Callable[[Run], dict[str, Any]]:
    """A part that says what a function of this module finds, in a process on the GPU."""

    def part(run: Run) -> dict[str, Any]:
        return {"lines": run.worker(run.backend.ours[0]).call(f"first:{function}")}

    return part


PARTS: dict[str, tuple[float, Callable[[Run], dict[str, Any]]]] = {
    "facts": (0.03, asked("facts")),
    "products": (0.2, products),
    "steps": (0.25, lambda run: measure_steps(briefly(run), NETWORKS, compiled=False)),
    "race": (0.05, asked("race")),
    "bits": (0.05, same_bits),
    "layers": (0.15, lambda run: measure_ops(briefly(run, without="fp32"), CONVOLUTIONS)),
    "kernels": (0.05, measure_kernels),
    "variants": (0.07, asked("variants")),
    "tests": (0.15, lambda run: gpu_tests(run, run.clock.left())),
}


# in a process on the GPU


def facts(device: Any) -> list[str]:
    """Return what the GPU copies, and whether its newest instructions compile and run."""
    moved = 1 << 31 if device.name == "gpu" else 1 << 16
    rate = moved / device.time(copy(device, "numpy", moved), 0.1) / 1e6
    found = [f"copies {rate:.0f} GB/s, read and written"]
    if device.name == "gpu":
        module = device.xp.RawModule(code=HOPPER, options=("-arch=sm_90a",))
        module.get_function("f")((1,), (128,), ())
        device.wait()
        found.append("sm_90a compiles by RawModule, and runs")
    return found


def race(device: Any, batch: int = 64) -> list[str]:
    """Predict many batches, and each alone: the same probabilities?"""
    from tinynet.losses import SoftmaxCrossEntropy
    from tinynet.models import vgg_like
    from tinynet.train import predict

    model = vgg_like(3, (64, 64, 1), (16, 32), 64, rng=np.random.default_rng(0))
    number, more = 2 * batch, dict[str, Any]()
    if device.name == "gpu":
        model.to("cupy")
        number, more = RACED, {"precision": "bf16"}
    x = np.random.default_rng(1).standard_normal((number, 64, 64, 1), dtype=np.float32)

    def predicted(some: Any) -> Any:
        return predict(model, SoftmaxCrossEntropy(), some, batch, **more)

    alone = np.concatenate([predicted(x[i : i + batch]) for i in range(0, number, batch)])
    wrong = int((predicted(x) != alone).any(axis=1).sum())
    return [f"predict: {wrong} of {number} images have other probabilities than alone"]


def variants(device: Any, batch: int = 64) -> list[str]:
    """Return the rates of the forward convolution, and with other copies and tiles.

    .ca   copies to shared memory that the first-level cache keeps
    """
    if device.name != "gpu":
        return ["there are no kernels for tensor cores on the processor"]
    from tinynet.engine.kernels.cuda import source
    from tinynet.engine.kernels.cuda import tensor_conv as tc
    from tinynet.layers.window import window_over

    def rate(code: str, tile: Any, side: int, c: int, k: int) -> str:
        x = device.drawn(0, (batch, side, side, c), "bfloat16")
        w, window = device.drawn(1, (3, 3, c, k)), window_over((side, side), (3, 3), (1, 1), 1)
        z, rows = tc.convolve(x, w, None, window), batch * side * side
        want, filters = device.comparable(z), tc.filters_forward(x, w)
        options = source.options(tc.definitions(x, w, window, tile))
        kernel = device.xp.RawModule(code=code, options=options).get_function("tensor_forward")
        shared = kernel.max_dynamic_shared_size_bytes = tile.shared_bytes(2)
        given = x, filters, w, z, device.xp.empty(1, np.uint8), *map(np.int32, (batch, 0, 0))
        launch = (tile.blocks(rows, k),), (tile.threads,), given
        z.view(np.uint16).fill(0xFFFF)  # not a number where nothing is written
        ms = device.time(Subject(lambda: kernel(*launch, shared_mem=shared)), 0.01)
        off = float(abs(device.comparable(z) - want).max() / abs(want).max())
        return f"{18 * rows * c * k / ms / 1e9:.0f} TFLOP/s, off by {off:.1e}"

    own, wider = source.text("tensor_conv"), tc.Tile(256, 128, 4, 2, 8, 3)
    cached = own.replace("cp.async.cg", "cp.async.ca")
    tried = ("as it is", own, tc.WIDE), (".ca", cached, tc.WIDE), ("256 × 128", own, wider)
    found = []
    for side, c, k in ((112, 128, 128), (56, 256, 256), (28, 512, 512)):
        for name, code, tile in tried:
            try:
                said = rate(code, tile, side, c, k)
            except Exception as error:
                said = f"FAILED, {str(error)[:200]}"
            found.append(f"{c} → {k} at {side}, {name}: {said}")
    return found
