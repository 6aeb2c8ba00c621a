"""Arrays and clocks of the GPU, and the same on the processor, where the whole run is rehearsed.

Single operations are timed by CUDA events on the default stream, which CuPy and PyTorch share. The
GPU first waits in a kernel that only counts, while the processor queues the calls: what is measured
is the GPU's time, and what Python takes for a call is told beside it. Whole steps are timed by
the clock, from an idle GPU to an idle GPU: a captured step has a stream of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from tinynet.engine.precision import bfloat16

PERIOD = 1_000_003  # numbers that are drawn; larger arrays repeat them. Prime: no row is another's
MOST_AHEAD = 0.2  # seconds for which the GPU may be kept waiting
SPIN = """
extern "C" __global__ void spin(long long cycles) {
    long long start = clock64();
    while (clock64() - start < cycles) { }
}
extern "C" __global__ void nothing() { }
"""


class Cpu:
    """The processor, in place of a GPU: NumPy's arrays, torch's on the CPU."""

    name = "cpu"
    torch_device = "cpu"

    def __init__(self) -> None:
        self.xp: Any = np

    def drawn(self, seed: int, shape: tuple[int, ...], dtype: str = "float32") -> Any:
        """Normal numbers, in "float32" or "bfloat16": the same for the same seed."""
        base = np.random.default_rng(seed).standard_normal(PERIOD, dtype=np.float32)
        if dtype == "float32":
            return self.xp.resize(self.xp.asarray(base), shape)
        # as bits: CuPy then needs no arithmetic in bfloat16
        bits = self.xp.asarray(base.astype(bfloat16()).view(np.uint16))
        return self.xp.resize(bits, shape).view(bfloat16())

    def tensor(self, x: Any) -> Any:
        """An array as a tensor of torch's over the same memory."""
        if x.dtype.name != "bfloat16":
            return self.share(x)
        import torch

        return self.share(x.view(np.int16)).view(torch.bfloat16)

    def share(self, x: Any) -> Any:
        """The same for a dtype that both libraries know."""
        import torch

        return torch.from_numpy(x)

    def wait(self) -> None:
        """Until everything that was started is done."""

    def time(self, call: Callable[[], Any], calls: int, ahead: float) -> float:
        """Milliseconds of a call, the mean over so many, one after the other.

        ahead   seconds that the processor takes to start them all
        """
        began = time.perf_counter()
        for _ in range(calls):
            call()
        return 1e3 * (time.perf_counter() - began) / calls

    def pool_bytes(self) -> int:
        """Bytes that CuPy's pool holds."""
        return 0

    def free(self) -> None:
        """Give back what the pool holds and nobody uses."""


class Gpu(Cpu):
    """CuPy's arrays, and torch's on the same GPU."""

    name = "gpu"
    torch_device = "cuda"

    def __init__(self) -> None:
        import cupy

        self.xp = cupy
        module = cupy.RawModule(code=SPIN)
        self.spin, self.nothing = (module.get_function(name) for name in ("spin", "nothing"))
        properties = cupy.cuda.runtime.getDeviceProperties(0)
        self.hertz = 1e3 * properties.get("clockRate", 0) or 2e9

    def share(self, x: Any) -> Any:
        import torch

        return torch.from_dlpack(x)

    def wait(self) -> None:
        self.xp.cuda.runtime.deviceSynchronize()

    def time(self, call: Callable[[], Any], calls: int, ahead: float) -> float:
        start, stop = self.xp.cuda.Event(), self.xp.cuda.Event()
        stream = self.xp.cuda.get_current_stream()  # an event's own default is another
        if 0 < ahead < MOST_AHEAD:
            cycles = int(1.5 * ahead * self.hertz)
            self.spin((1,), (1,), (np.int64(cycles),))
        start.record(stream)
        for _ in range(calls):
            call()
        stop.record(stream)
        stop.synchronize()
        return float(self.xp.cuda.get_elapsed_time(start, stop)) / calls

    def pool_bytes(self) -> int:
        return int(self.xp.get_default_memory_pool().total_bytes())

    def free(self) -> None:
        self.xp.get_default_memory_pool().free_all_blocks()


def open_device(name: str) -> Cpu:
    """The device called "gpu" or "cpu"."""
    return Gpu() if name == "gpu" else Cpu()


def set_torch(precision: str, search: bool = True) -> None:
    """Have torch multiply float32 as the precision says.

    search   let cuDNN try which algorithm is fastest, at the first call of each shape
    """
    import torch

    tensor_cores = precision != "fp32"
    torch.backends.cuda.matmul.allow_tf32 = tensor_cores
    torch.backends.cudnn.allow_tf32 = tensor_cores
    torch.backends.cudnn.benchmark = search
