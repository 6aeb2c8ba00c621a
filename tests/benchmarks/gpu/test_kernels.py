"""Where a step's time goes, with the stand-in's clock: every launch takes a millisecond."""

import pytest

from benchmarks.gpu import kernels, tables
from benchmarks.gpu.device import Cpu, Gpu
from benchmarks.gpu.networks import Network
from tests.engine.kernels.cuda.few_threads import few_threads
from tests.engine.kernels.cuda.on_cpu import Kernel, Module, cupy_kernels
from tinynet.engine.kernels.cuda import source

__all__ = ["cupy_kernels", "few_threads"]  # fixtures

TINY = Network("vgg_like", 8, 2, 1, 2, {"keep_prob": 1.0, "filters": (4,), "hidden": 4})


@pytest.fixture
def gpu(few_threads, cupy_kernels, monkeypatch):
    """A device whose events are counts of launches."""
    if cupy_kernels.RawModule is not Module:
        pytest.skip("the stand-in's clock is for the stand-in: benchmarks.gpu has a GPU's")
    now = [0]
    launch = Kernel.__call__

    def counted(self, *arguments, **more):
        now[0] += 1
        launch(self, *arguments, **more)

    class Event:
        def record(self, stream):
            self.at = now[0]

        def synchronize(self):
            pass

    monkeypatch.setattr(Kernel, "__call__", counted)
    monkeypatch.setattr(cupy_kernels.cuda, "Event", Event)
    elapsed = staticmethod(lambda start, stop: stop.at - start.at)
    monkeypatch.setattr(cupy_kernels.cuda, "get_elapsed_time", elapsed, raising=False)
    device = Gpu.__new__(Gpu)
    device.xp, device.hertz = cupy_kernels, 1e9
    device.spin = lambda *arguments: None
    device.wait = lambda: None
    return device


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_launch_of_a_step_is_in_a_row(gpu, precision):
    before = source._function
    found = kernels.rows_of(gpu, TINY, precision)
    assert source._function is before
    rows = found["rows"]
    assert sum(row["ms"] for row in rows) == found["step_ms"]  # a launch, a millisecond
    assert all(row["launches"] == row["ms"] for row in rows)
    assert [row["ms"] for row in rows] == sorted((row["ms"] for row in rows), reverse=True)
    names = {row["kernel"] for row in rows}
    assert {"few_channels_forward", "adam_together", "softmax_cross_entropy_forward"} <= names
    first = next(row for row in rows if row["kernel"] == "few_channels_forward")
    assert first["at"] == "3×3, 1 → 4, 8×8"


def test_the_table_has_the_rest():
    rows = [{"source": "conv", "kernel": "f", "at": "3×3", "launches": 2.0, "ms": 0.75}]
    part = {
        "networks": {
            "a, bf16": {"rows": rows, "step_ms": 1.0},
            "b, bf16": {"failed": "out of memory"},
        }
    }
    table = tables.kernels_table(part)
    assert "conv: f" in table
    assert "75%" in table
    assert "0.250" in table
    assert "out of memory" in table


def test_on_the_processor_there_are_none():
    assert kernels.rows_of(Cpu(), TINY, "fp32") == {"rows": [], "step_ms": 0.0}
