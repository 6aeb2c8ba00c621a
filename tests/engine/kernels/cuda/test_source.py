"""Sources counted before they are compiled, and compiled together."""

import numpy as np
import pytest

from tests.engine.kernels.cuda.on_cpu import Module, cupy_kernels
from tinynet.backend import to_device
from tinynet.engine.kernels.cuda import source
from tinynet.engine.kernels.cuda.elementwise import add, cast

__all__ = ["cupy_kernels"]  # a fixture


def test_while_kernels_are_counted_nothing_runs(cupy_kernels):
    a = to_device(np.ones(5, "float32"), "cupy")
    made = []
    with source.counted() as wanted:
        made += [add(a, a), add(a, a), cast(a, "float64")]
    assert len(wanted) == 2
    assert {name for name, _ in wanted} == {"elementwise"}
    assert [x.shape for x in made] == [(5,)] * 3
    np.testing.assert_array_equal(to_device(add(a, a), "numpy"), 2)


def test_all_that_was_counted_is_compiled_once(cupy_kernels, monkeypatch):
    if cupy_kernels.RawModule is not Module:
        pytest.skip("counted on the processor alone: CuPy's modules are as they are")
    compiled = []
    monkeypatch.setattr(Module, "compile", lambda self: compiled.append(self))
    a = to_device(np.ones(5, "float32"), "cupy")
    with source.counted() as wanted:
        add(a, a), cast(a, "float64")
    source.compile_all(wanted)
    assert len(set(map(id, compiled))) == len(compiled) == 2
    made = source._module(*next(iter(wanted)))
    assert made in compiled  # and what runs later is the same


def test_what_does_not_compile_is_said(cupy_kernels, monkeypatch):
    monkeypatch.setattr(source, "text", lambda name: "no source")
    with pytest.raises(Exception, match=r"(?s).+"):
        source.compile_all([("elementwise", (("ACT", "float"),))])
