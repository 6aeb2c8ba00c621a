"""Every operation that is timed is the same function of tinynet's and of torch's."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.device import Cpu
from benchmarks.ops import OPS
from benchmarks.ops.layers import SHAPES
from benchmarks.ops.op import convolution
from benchmarks.turns import difference
from benchmarks.workloads import WORKLOADS
from tests.oracles import torch_or_skip
from tinynet.layers import Conv2D

CONVOLUTIONS = SHAPES["conv"]["cpu"]
each_op = pytest.mark.parametrize("op", OPS.values(), ids=lambda op: op.name)


@each_op
def test_ours_is_theirs(op):
    torch_or_skip()
    device = Cpu()
    for backend in ("cpu", "gpu"):
        for name in list(op.shapes.get(backend, ()))[-1:]:
            shape = op.sized(backend, name, small=True)
            want = op.subject(shape, "tinynet", device).values(op.calls)
            for way in op.ways:
                got = op.subject(shape, "torch", device, way=way).values(op.calls)
                assert difference(got, want) < 2e-5, (name, way)
                assert difference(got, want, "mean square") < 2e-5, (name, way)


@each_op
def test_costs_grow_with_the_batch_and_with_the_size_of_an_activation(op):
    for shape in [shape for shapes in op.shapes.values() for shape in shapes.values()]:
        half, whole = op.cost(shape, 2), op.cost(shape, 4)
        assert 0 < half.bytes <= whole.bytes
        assert half.multiply_adds == whole.multiply_adds >= 0
        if hasattr(shape, "batch"):
            assert op.cost(replace(shape, batch=2 * shape.batch), 4).bytes > whole.bytes


@pytest.mark.parametrize("workload", ["W128", "demo"])
def test_shapes_are_the_networks(workload):
    w = WORKLOADS[workload]
    model = w.starting_model()
    shapes = tuple(p.shape for p in model.parameters().values())
    assert SHAPES["adam"]["cpu"][workload].shapes == shapes
    layers = [
        convolution(w.batch, shape[0], layer.in_channels, layer.out_channels)
        for _, layer, shape in model.walk(w.input_shape)
        if isinstance(layer, Conv2D)
    ]
    for name, shape in CONVOLUTIONS.items():
        if name.startswith(f"{workload}, layer"):
            assert layers[int(name.rpartition(" ")[2]) - 1] == shape


def test_costs_are_counted_as_by_hand():
    conv = OPS["convolution, forward"]
    cost = conv.cost(conv.shapes["gpu"]["3×3 64→64, 112"], 2)
    assert cost.multiply_adds == 32 * 112 * 112 * 9 * 64 * 64
    assert cost.bytes == 2 * 2 * 32 * 112 * 112 * 64 + 4 * 9 * 64 * 64
    adam = OPS["Adam"]
    assert adam.cost(adam.shapes["gpu"]["VGG16, 138 M"], 4).bytes == 7 * 4 * 138_357_544


def test_a_difference_is_relative_and_sees_shapes_and_nan():
    want = [np.array([3.0, 4.0])]
    assert difference([np.array([3.0, 4.4])], want) == pytest.approx(0.1)
    assert difference([np.array([3.0, 4.5])], want, "mean square") == pytest.approx(0.1)
    assert difference([np.array([3.0])], want) == float("inf")
    for norm in ("largest", "mean square"):
        assert not difference([want[0], np.array([3.0, np.nan])], want * 2, norm) <= 1e9
