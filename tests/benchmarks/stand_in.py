"""CuPy with a GPU's clock, stream and pool, without a GPU: for ``benchmarks.device``."""

from __future__ import annotations

import types
from typing import Any

import numpy as np
import pytest

from tests.engine.gpu import fake_cupy
from tests.engine.kernels.cuda import on_cpu


class Event:
    """Know when, on a clock that each launch moves on by a millisecond, and in which stream."""

    def __init__(self, gpu: Gpu) -> None:
        self.gpu = gpu

    def record(self, stream: Any) -> None:
        self.at, self.stream = self.gpu.now, stream

    def synchronize(self) -> None:
        self.gpu.log.append("synchronize")


class Gpu:
    """The clock and what happened."""

    def __init__(self) -> None:
        self.now = 0.0  # milliseconds
        self.log: list[Any] = []
        self.stream = "the default stream"

    def module(self, code: str, options: tuple[str, ...] = (), **_: Any) -> Any:
        """``cupy.RawModule``: ours by g++, those of the benchmark by name."""
        if "spin" not in code:
            return on_cpu.Module(code, options)
        return types.SimpleNamespace(get_function=self.kernel)

    def kernel(self, name: str) -> Any:
        def launch(grid: Any, block: Any, args: Any) -> None:
            self.log.append((name, *args))
            self.now += 1.0

        return launch

    def elapsed(self, start: Event, stop: Event) -> float:
        assert start.stream is stop.stream is self.stream
        return stop.at - start.at


def install(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    """Have ``import cupy`` give the stand-in, and torch take its arrays."""
    import torch

    gpu, made = Gpu(), fake_cupy.install(monkeypatch)
    pool = types.SimpleNamespace(
        total_bytes=lambda: 3 << 20, free_all_blocks=lambda: gpu.log.append("freed")
    )
    properties = {"name": b"NVIDIA H100 80GB HBM3", "totalGlobalMem": 1 << 36}
    made.RawModule = gpu.module
    made.get_default_memory_pool = lambda: pool
    made.cuda = types.SimpleNamespace(
        Event=lambda: Event(gpu),
        get_current_stream=lambda: gpu.stream,
        get_elapsed_time=gpu.elapsed,
        runtime=types.SimpleNamespace(
            deviceSynchronize=lambda: gpu.log.append("waited"),
            getDeviceProperties=lambda number: properties,
            runtimeGetVersion=lambda: 13000,
            driverGetVersion=lambda: 13000,
        ),
    )
    made.copyto = lambda target, source: gpu.kernel("copy")((1,), (1,), ())
    monkeypatch.setattr(torch, "from_dlpack", lambda x: torch.from_numpy(np.asarray(x.host)))
    return gpu
