"""engine/plan/build.py and nodes.py: a plan computes what the network computes."""

import numpy as np
import pytest

from tests.layers.support import assert_close
from tinynet.backend import use_kernels
from tinynet.engine.plan import build
from tinynet.engine.plan.build import inference_plan, training_plans
from tinynet.engine.plan.nodes import (
    FusedBatchNorm,
    FusedConv2D,
    PlannedConcat,
    PlannedResidual,
    folded,
)
from tinynet.layer import Mode
from tinynet.layers import (
    BatchNorm,
    Concat,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool2D,
    MaxPool2D,
    ReLU,
    Residual,
    Sequential,
)
from tinynet.losses import SoftmaxCrossEntropy
from tinynet.models import vgg_like
from tinynet.optimizers import Adam
from tinynet.train.step import TrainStep


def conv(inputs, outputs, rng, **more):
    return Conv2D(inputs, outputs, 3, padding="same", rng=rng, dtype="float64", **more)


def network(rng):
    """Every kind of fused operation, and layers that make none."""
    return Sequential(
        Sequential(conv(2, 4, rng), ReLU(), conv(4, 4, rng, bias=False), ReLU(), MaxPool2D(2)),
        Residual(
            Sequential(conv(4, 4, rng, bias=False), BatchNorm(4, dtype="float64"), ReLU()),
            Sequential(conv(4, 4, rng), BatchNorm(4, dtype="float64", scale=False)),
        ),
        ReLU(),
        Residual(conv(4, 4, rng)),
        BatchNorm(4, dtype="float64"),
        Concat(
            Sequential(conv(4, 2, rng), BatchNorm(2, dtype="float64"), ReLU(), MaxPool2D(2)),
            MaxPool2D(2),
        ),
        ReLU(0.1),
        conv(6, 3, rng, stride=2),
        MaxPool2D(3, 1, 1),
        GlobalAvgPool2D(),
        Dense(3, 3, rng=rng, dtype="float64"),
    )


def moved_statistics(model, seed=0):
    """The model, its batch norms away from their starting values."""
    rng = np.random.default_rng(seed)
    for layer in model.named_layers().values():
        if isinstance(layer, BatchNorm):
            layer.running_mean = rng.standard_normal(layer.channels)
            layer.running_var = rng.uniform(0.5, 2, layer.channels)
            layer.beta.value[...] = rng.standard_normal(layer.channels)
    return model


def images(count=3, side=16):
    return np.random.default_rng(1).standard_normal((count, side, side + 2, 2))


def test_a_training_pass_is_the_networks():
    planned, plain = (moved_statistics(network(np.random.default_rng(0))) for _ in range(2))
    x, mode = images(), Mode(train=True)
    want, cache = plain.forward(x, mode)
    before, rest = training_plans(planned)
    assert before.layers == []
    z, kept = rest.forward(x, mode)
    assert_close(z, want)
    dz = np.random.default_rng(2).standard_normal(z.shape)
    plain.backward(dz, cache)
    rest.backward(dz, kept)
    assert kept == []  # used up
    for name, p in plain.parameters().items():
        assert_close(planned.parameters()[name].grad, p.grad)
    for name, statistic in plain.buffers().items():
        assert_close(planned.buffers()[name], statistic)


def test_outside_training_batch_norms_are_folded_into_convolutions():
    model, x = moved_statistics(network(np.random.default_rng(0))), images()
    plan = inference_plan(model)
    assert_close(plan.run(x), model.forward(x)[0])
    folds = [layer.norm for layer in plan.layers if isinstance(layer, FusedConv2D)]
    assert folds == [None, None, None]
    assert plan.layers[2].main.layers[0].norm is not None


def test_folding_is_the_formula():
    rng = np.random.default_rng(0)
    c, norm = conv(2, 3, rng), BatchNorm(3, dtype="float64")
    moved_statistics(Sequential(c, norm))
    w, b = folded(c, norm)
    x = images()
    y, _ = Sequential(c, norm).forward(x)
    c.weight.value[...], c.bias.value[...] = w, b
    assert_close(c.forward(x)[0], y)


def test_which_layers_are_fused():
    rng = np.random.default_rng(0)
    plan = training_plans(network(rng))[1]
    kinds = [type(layer) for layer in plan.layers]
    assert kinds[:5] == [FusedConv2D, FusedConv2D, PlannedResidual, ReLU, PlannedResidual]
    assert [layer.epilogue.kind for layer in plan.layers[:2]] == ["relu", "relu_pool"]
    assert [layer.need_dx for layer in plan.layers[:2]] == [False, True]
    assert [type(layer) for layer in plan.layers[2].main.layers] == [FusedConv2D, FusedBatchNorm]
    assert kinds[5:8] == [BatchNorm, PlannedConcat, ReLU]  # after a sum: as it is
    assert kinds[8:10] == [FusedConv2D, MaxPool2D]  # a 3 × 3 pool is not fused
    branch = plan.layers[6].branches[0]
    assert [layer.epilogue.kind for layer in branch.layers] == ["none", "relu_pool"]


def test_frozen_statistics_are_left_to_the_layer():
    rng = np.random.default_rng(0)
    model = Sequential(conv(2, 3, rng), BatchNorm(3, dtype="float64"), ReLU())
    model.freeze(parameters=False)
    plan = training_plans(model)[1]
    assert [type(layer) for layer in plan.layers] == [FusedConv2D, BatchNorm, ReLU]


def test_a_layer_of_a_subclass_is_run_as_it_is():
    class Loud(Conv2D):
        def forward(self, x, mode=None):
            y, cache = super().forward(x)
            return 2 * y, cache

    layer = Loud(1, 2, 3, rng=np.random.default_rng(0))
    assert training_plans(Sequential(layer, ReLU()))[1].layers[0] is layer


@pytest.mark.parametrize("kernels", ["reference", "numpy", "numba"])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_steps_are_those_of_the_layers(kernels, batch_norm, monkeypatch):
    """Ten steps of a small network in float64, dropout and all, planned and layer by layer."""
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((6, 12, 12, 1)), rng.integers(0, 3, 6)
    states, losses = [], []
    for planned in (True, False):
        model = vgg_like(
            3, (12, 12, 1), (4, 6), 8, batch_norm=batch_norm, rng=np.random.default_rng(0)
        ).to(dtype="float64")
        step = TrainStep(model, SoftmaxCrossEntropy(), Adam(1e-3), seed=5)
        if not planned:
            monkeypatch.setattr(build, "_fused", lambda layers, training: list(layers))
        with use_kernels(kernels):
            losses.append([step(x, y) for _ in range(10)])
        states.append(model.state())
    np.testing.assert_allclose(*losses, rtol=1e-9)
    for name, value in states[0].items():
        np.testing.assert_allclose(value, states[1][name], rtol=1e-6, atol=1e-9, err_msg=name)


def test_after_the_first_step_nothing_large_is_allocated():
    model = vgg_like(2, (32, 32, 1), (16, 16), 8, batch_norm=True, rng=np.random.default_rng(0))
    step = TrainStep(model, SoftmaxCrossEntropy(), Adam(1e-3))
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((16, 32, 32, 1), dtype=np.float32), rng.integers(0, 2, 16)
    sizes = []
    for _ in range(4):
        step(x, y)
        sizes.append(step.workspace.allocated)
    assert sizes[0] > 0
    assert sizes[1] == sizes[3]


def test_errors_name_the_layer():
    rng = np.random.default_rng(0)
    (plan,) = training_plans(Sequential(conv(2, 3, rng), ReLU(), MaxPool2D(2, dilation=2)))[1:]
    assert len(plan.layers) == 2  # a pool with gaps is not fused
    model = Sequential(conv(2, 3, rng), ReLU(), MaxPool2D(2), Flatten())
    step = TrainStep(model, SoftmaxCrossEntropy(), Adam(1e-3))
    with pytest.raises(ValueError, match=r"Conv2D\(2, 3, 3×3\): input is \(1, 4, 4, 1\), want"):
        step(np.zeros((1, 4, 4, 1)), np.array([0]))
    with pytest.raises(ValueError, match=r"MaxPool2D\(2×2\): the window covers 2 × 2 cells"):
        step(np.zeros((1, 1, 1, 2)), np.array([0]))
    with pytest.raises(TypeError, match="input is float32, the parameters are float64"):
        step(np.zeros((1, 4, 4, 2), np.float32), np.array([0]))


def test_paths_that_end_in_other_shapes_are_an_error_and_not_stretched():
    rng = np.random.default_rng(0)
    model = Sequential(Residual(conv(1, 4, rng)), Flatten())
    with pytest.raises(ValueError, match=r"Residual: the main path ends in \(4, 4, 4\)"):
        training_plans(model)[1].forward(np.zeros((1, 4, 4, 1)), Mode(train=True))
    with pytest.raises(ValueError, match="Residual: the main path"):
        inference_plan(model).run(np.zeros((1, 4, 4, 1)))
    model = Concat(conv(1, 4, rng), MaxPool2D(2))
    with pytest.raises(ValueError, match="Concat: the branches end in"):
        inference_plan(model).run(np.zeros((1, 4, 4, 1)))


def test_dense_layers_are_fused_and_dropout_stays_as_it_is():
    rng = np.random.default_rng(0)
    layers = [Dense(4, 3, rng=rng), ReLU(), Dropout(0.5), Dense(3, 2, rng=rng)]
    first, relu, dropout, last = training_plans(Sequential(*layers))[1].layers
    assert [first.dense, relu, dropout, last.dense] == layers
    assert (first.need_dx, last.need_dx) == (False, True)
    assert inference_plan(Sequential(*layers)).layers == layers


def test_shapes_are_the_networks():
    model = network(np.random.default_rng(0))
    for plan in (training_plans(model)[1], inference_plan(model)):
        assert plan.output_shape((16, 18, 2)) == model.output_shape((16, 18, 2)) == (3,)
        shapes = [(16, 18, 2)]
        for layer in plan.layers:
            shapes.append(layer.output_shape(shapes[-1]))
        assert shapes[2:4] == [(8, 9, 4), (8, 9, 4)]
