"""Arrays, memory and clocks of a CPU and of a GPU.

On a CPU every call is timed by itself, and a turn's figure is their median. On a GPU single
operations are timed by CUDA events on the default stream, which CuPy and PyTorch share: the GPU
first waits in a kernel that only counts, while the processor queues the calls, so that its time is
measured and not Python's. Whole steps, which have their own streams, are timed there by the
processor's clock, from an idle GPU to an idle GPU.
"""

from __future__ import annotations

import gc
import os
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from tinynet.engine.precision import bfloat16

PERIOD = 1_000_003  # numbers that are drawn; larger arrays repeat them. Prime: no row is another's
MB = 1 << 20
ONE_THREAD = 1 << 20  # bytes up to which a second thread costs more than it saves
MOST_CALLS = 50  # in a turn, on a GPU
MOST_AHEAD = 0.2  # seconds for which the GPU may be kept waiting
COUNT = """
extern "C" __global__ void spin(long long cycles) {
    long long start = clock64();
    while (clock64() - start < cycles) { }
}
"""


class Subject(NamedTuple):
    """What is timed: one call of one library."""

    call: Callable[[], Any]  # what the clock runs for
    results: Callable[[Any], list[Any]] = lambda value: []  # as arrays, in tinynet's order of axes
    around: Callable[[], AbstractContextManager[Any]] = nullcontext  # entered around many calls
    whole: bool = False  # a whole step; on a GPU it has a separate stream
    memory: Callable[[], int] = lambda: 0  # bytes on a GPU, by the library's own account

    def values(self, calls: int) -> list[Any]:
        with self.around():
            return [x for _ in range(calls) for x in self.results(self.call())]


class Cpu:
    """NumPy's arrays, and torch's on the CPU."""

    name = "cpu"
    torch_device = "cpu"
    xp: Any = np

    def drawn(self, seed: int, shape: tuple[int, ...], dtype: str = "float32") -> Any:
        """Return normal numbers in "float32" or "bfloat16", the same for the same seed."""
        base = np.random.default_rng(seed).standard_normal(PERIOD, dtype=np.float32)
        if dtype == "float32":
            return self.xp.resize(self.xp.asarray(base), shape)
        # as bits: CuPy then needs no arithmetic in bfloat16
        bits = self.xp.asarray(base.astype(bfloat16()).view(np.uint16))
        return self.xp.resize(bits, shape).view(bfloat16())

    def tensor(self, x: Any) -> Any:
        """Return an array as a tensor of torch's over the same memory."""
        import torch

        share: Any = torch.from_numpy if self.xp is np else torch.from_dlpack
        if x.dtype.name == "bfloat16":
            return share(x.view(np.int16)).view(torch.bfloat16)
        return share(x)

    def comparable(self, x: Any) -> Any:
        """Return a copy of an array or tensor in float32: NumPy's here, torch's on a GPU."""
        return np.array(x.detach().float().numpy() if hasattr(x, "detach") else x, np.float32)

    def wait(self) -> None:
        """Wait until everything that was started is done."""

    def time(self, subject: Subject, seconds: float) -> float:
        times: list[float] = []
        with subject.around():
            end = time.perf_counter() + seconds
            while not times or time.perf_counter() < end:
                start = time.perf_counter()
                subject.call()
                times.append(1e3 * (time.perf_counter() - start))
        return median(times)

    def peak_mb(self, subjects: Iterable[Subject]) -> float:
        """Return the largest memory that this process ever had, in MB of 2²⁰ bytes."""
        with suppress(OSError):  # on Linux ru_maxrss begins with its parent's
            return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most / (MB if sys.platform == "darwin" else 1024)

    def free(self) -> None:
        """Give back memory that is not in use; on a GPU its peak counts from here."""
        gc.collect()


class Gpu(Cpu):
    """CuPy's arrays, and torch's on the same GPU."""

    name = "gpu"
    torch_device = "cuda"

    def __init__(self) -> None:
        import cupy

        self.xp = cupy
        self.spin = cupy.RawModule(code=COUNT).get_function("spin")
        properties = cupy.cuda.runtime.getDeviceProperties(0)
        self.hertz = 1e3 * properties.get("clockRate", 0) or 2e9

    def comparable(self, x: Any) -> Any:
        import torch

        tensor = x.detach() if hasattr(x, "detach") else self.tensor(x)
        return tensor.to(torch.float32, copy=True)

    def wait(self) -> None:
        self.xp.cuda.runtime.deviceSynchronize()

    def time(self, subject: Subject, seconds: float) -> float:
        call = subject.call
        with subject.around():
            host, whole = self.once(call)
            calls = max(2, min(MOST_CALLS, int(seconds / max(whole, 1e-6))))
            if subject.whole:
                return 1e3 * self.once(lambda: [call() for _ in range(calls)])[1] / calls
            return self.by_events(call, calls, ahead=host * calls)

    def once(self, call: Callable[[], Any]) -> tuple[float, float]:
        """Return the seconds that Python takes for a call, and until the GPU is idle again."""
        self.wait()
        began = time.perf_counter()
        call()
        host = time.perf_counter() - began
        self.wait()
        return host, time.perf_counter() - began

    def by_events(self, call: Callable[[], Any], calls: int, ahead: float) -> float:
        """Return the GPU's milliseconds a call; Python takes ``ahead`` seconds to start them."""
        start, stop = self.xp.cuda.Event(), self.xp.cuda.Event()
        stream = self.xp.cuda.get_current_stream()  # an event's own default is another
        if 0 < ahead < MOST_AHEAD:
            self.spin((1,), (1,), (np.int64(1.5 * ahead * self.hertz),))
        start.record(stream)
        for _ in range(calls):
            call()
        stop.record(stream)
        stop.synchronize()
        return float(self.xp.cuda.get_elapsed_time(start, stop)) / calls

    def peak_mb(self, subjects: Iterable[Subject]) -> float:
        """Return what the libraries hold of the GPU, at most since ``free``, in MB."""
        held = [self.xp.get_default_memory_pool().total_bytes(), *(s.memory() for s in subjects)]
        if cuda := torch_cuda():
            held.append(cuda.max_memory_reserved())
        return max(held) / MB

    def free(self) -> None:
        super().free()
        self.xp.get_default_memory_pool().free_all_blocks()
        if cuda := torch_cuda():
            cuda.synchronize()
            cuda.empty_cache()
            cuda.reset_peak_memory_stats()


def torch_cuda() -> Any:
    torch = sys.modules.get("torch")
    return torch.cuda if torch and torch.cuda.is_available() else None


@contextmanager
def torch_precision(precision: str, search: bool = True) -> Iterator[None]:
    """Have torch multiply float32 as the precision says, in this block.

    search   let cuDNN try which algorithm is fastest, at the first call of each shape
    """
    from torch.backends import cuda, cudnn

    before = cuda.matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark
    fast = precision != "fp32"
    cuda.matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark = fast, fast, search
    try:
        yield
    finally:
        cuda.matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark = before


# what bounds a calculation from below: multiplying matrices, and moving memory


def product(device: Cpu, library: str, side: int, precision: str = "fp32") -> Subject:
    dtype = "bfloat16" if precision == "bf16" else "float32"
    a, b, c = (device.drawn(seed, (side, side), dtype) for seed in range(3))
    results = lambda c: [device.comparable(c)]  # noqa: E731
    if library == "numpy":
        return Subject(lambda: device.xp.matmul(a, b, out=c), results)
    import torch

    left, right, out = (device.tensor(x) for x in (a, b, c))
    around = lambda: torch_precision(precision)  # noqa: E731
    return Subject(lambda: torch.mm(left, right, out=out), results, around)


def copy(device: Cpu, library: str, moved: int) -> Subject:
    """A copy that reads half of ``moved`` bytes and writes the other half, on every thread."""
    source = device.xp.ones(max(1, moved // 2), np.uint8)
    target = device.xp.zeros_like(source)
    if device.xp is not np:
        return Subject(lambda: device.xp.copyto(target, source))
    threads = 1 if moved <= ONE_THREAD else int(os.environ["OMP_NUM_THREADS"])
    parts = list(zip(np.array_split(target, threads), np.array_split(source, threads), strict=True))
    pool = ThreadPoolExecutor(threads)

    def call() -> None:
        others = [pool.submit(np.copyto, *part) for part in parts[1:]]
        np.copyto(*parts[0])
        wait(others)

    return Subject(call, lambda _: [target])
