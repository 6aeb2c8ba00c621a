"""What the GPU does at best: copying, multiplying matrices, starting a kernel.

copy      bytes read and written a second, from one large array to another
product   operations a second of a square product in fp32, tf32 and bf16, by cuBLAS
launch    microseconds from one empty kernel to the next, started by Python and in a CUDA graph
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from statistics import median
from typing import Any

from benchmarks.gpu.device import Cpu, set_torch
from tinynet.engine.precision import PRECISIONS

REPETITIONS = 10
LAUNCHES = 1000


def measure(device: Cpu, side: int, bytes: int) -> dict[str, Any]:
    """{"copy_gb_s", "product_tflop_s": {precision: rate or None}, "launch_us": {way: time}}.

    side    of the matrices
    bytes   that are copied; as many are read as written
    """
    return {
        "copy_gb_s": 2 * bytes / best(device, copy(device, bytes)) / 1e6,
        "copied_bytes": bytes,
        "side": side,
        "product_tflop_s": products(device, side),
        "launch_us": launches(device),
    }


def best(device: Cpu, call: Callable[[], Any], calls: int = 5) -> float:
    """Median of several times, in milliseconds."""
    for _ in range(3):
        call()
    return median(device.time(call, calls, 0) for _ in range(REPETITIONS))


def copy(device: Cpu, bytes: int) -> Callable[[], Any]:
    """A copy of so many bytes."""
    source = device.drawn(0, (bytes // 4,))
    target = device.xp.empty_like(source)
    return lambda: device.xp.copyto(target, source)


def products(device: Cpu, side: int) -> dict[str, float | None]:
    """Rates by precision; None where no library here makes the product."""
    found: dict[str, float | None] = {}
    for precision in PRECISIONS:
        product = torch_product if importlib.util.find_spec("torch") else own_product
        try:
            call = product(device, side, precision)
            found[precision] = 2 * side**3 / best(device, call, 3) / 1e9
        except Exception as error:
            if product is torch_product:
                raise
            print(f"no rate of {precision} without torch: {error}")
            found[precision] = None
    return found


def torch_product(device: Cpu, side: int, precision: str) -> Callable[[], Any]:
    """torch's product."""
    import torch

    set_torch(precision)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (device.tensor(device.drawn(seed, (side, side))).to(dtype) for seed in (0, 1))
    out = torch.empty_like(a)
    return lambda: torch.mm(a, b, out=out)


def own_product(device: Cpu, side: int, precision: str) -> Callable[[], Any]:
    """CuPy's, which multiplies in float32 without tensor cores, and in bfloat16."""
    if precision == "tf32":
        raise ValueError("CuPy's products in tf32 are switched on by an environment variable")
    dtype = "bfloat16" if precision == "bf16" else "float32"
    a, b = (device.drawn(seed, (side, side), dtype) for seed in (0, 1))
    return lambda: device.xp.matmul(a, b)


def launches(device: Cpu) -> dict[str, float]:
    """Microseconds for each of many kernels that do nothing."""
    nothing = getattr(device, "nothing", None)
    if nothing is None:
        return {}

    def start() -> None:
        nothing((1,), (32,), ())

    def started(calls: int) -> Callable[[], None]:
        def call() -> None:
            for _ in range(calls):
                start()

        return call

    found = {"python": 1e3 * best(device, started(LAUNCHES), 1) / LAUNCHES}
    stream = device.xp.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        started(LAUNCHES)()
        graph = stream.end_capture()
        # events are recorded in the stream that is current: this one
        found["graph"] = 1e3 * best(device, graph.launch, 1) / LAUNCHES
    return found
