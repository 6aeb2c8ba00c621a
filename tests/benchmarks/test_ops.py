"""Every operation that is timed is the same function of tinynet's and of torch's."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.ops import MODULES, load
from benchmarks.ops.op import difference
from benchmarks.ops.shapes import CONVOLUTIONS, DEPTHWISE, Conv
from benchmarks.workloads import WORKLOADS, Workload
from tests.oracles import torch_or_skip
from tinynet.layers import Conv2D

OPS = [(module, op) for module in MODULES for op in load(module).values()]


def small(shape):
    """The same kind of shape, in no time."""
    return Workload(16, 2, (4,), 8) if isinstance(shape, Workload) else shape.small()


def results(subject, calls):
    with subject.around():
        return [x.copy() for _ in range(calls) for x in subject.results(subject.call())]


@pytest.mark.parametrize(("module", "op"), OPS, ids=[op.name for _, op in OPS])
def test_ours_is_theirs(module, op):
    torch_or_skip()
    for name, shape in op.shapes.items():
        want = results(op.ours(small(shape)), op.calls)
        for way in op.ways:
            got = results(op.theirs(small(shape), way), op.calls)
            assert difference(got[0], want[0], "largest") < 1e-5, (name, way)
            assert op.error(got, want) < 1e-5, (name, way)


@pytest.mark.parametrize(("module", "op"), OPS, ids=[op.name for _, op in OPS])
def test_costs_grow_with_the_batch_and_count_every_array(module, op):
    for shape in op.shapes.values():
        cost = op.cost(shape)
        assert cost.bytes > 0
        assert cost.multiply_adds >= 0
        if not isinstance(shape, Workload):
            assert op.cost(replace(shape, batch=2 * shape.batch)).bytes > cost.bytes


@pytest.mark.parametrize("shape", [*CONVOLUTIONS.values(), *DEPTHWISE.values()], ids=str)
def test_convolutions_have_the_layers_geometry(shape):
    layer = Conv2D(
        shape.channels,
        shape.filters,
        shape.kernel,
        shape.stride,
        shape.padding,
        groups=shape.groups,
        rng=np.random.default_rng(0),
    )
    assert layer.weight.shape == shape.w
    assert layer.output_shape(shape.x[1:]) == shape.y[1:]
    assert shape.batch * layer.multiply_adds(shape.x[1:]) == shape.multiply_adds


@pytest.mark.parametrize("workload", ["W128", "W224"])
def test_convolutions_are_the_networks(workload):
    w = WORKLOADS[workload]
    layers = [
        Conv(w.batch, shape[0], layer.in_channels, layer.out_channels)
        for _, layer, shape in w.starting_model().walk(w.input_shape)
        if isinstance(layer, Conv2D)
    ]
    named = {name: s for name, s in CONVOLUTIONS.items() if name.startswith(workload)}
    assert len(named) >= 2
    for name, shape in named.items():
        assert layers[int(name.rpartition(" ")[2]) - 1] == shape


def test_a_difference_is_relative_and_sees_shapes_and_nan():
    want = np.array([3.0, 4.0])
    assert difference(np.array([3.0, 4.4]), want, "largest") == pytest.approx(0.1)
    assert difference(np.array([3.0, 4.5]), want, "mean square") == pytest.approx(0.1)
    assert difference(np.array([3.0]), want, "largest") == float("inf")
    assert difference(np.array([3.0, np.nan]), want, "mean square") == float("inf")
