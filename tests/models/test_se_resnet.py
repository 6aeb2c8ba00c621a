"""tinynet/models/se_resnet.py, against timm's network with the same weights."""

import numpy as np
import pytest

from tests.oracles import (
    from_torch,
    randomise,
    timm_or_skip,
    to_torch,
    torch_arrays,
    torch_gradients,
    torch_or_skip,
)
from tinynet.gradient_check import check_gradients
from tinynet.interop.convert import converted, settings_mismatch
from tinynet.interop.names import names_of
from tinynet.layer import Mode
from tinynet.layers import BatchNorm, Conv2D, Gate
from tinynet.models import resnet50, se_resnet50
from tinynet.models.resnet import EPSILON, Parts, bottleneck
from tinynet.models.se_resnet import squeeze_and_excitation

TRAIN = Mode(train=True)
SHAPE = (35, 42, 3)  # odd sizes at every stride but one: 35, 18, 9, 5, 3, 2
PUBLISHED = 28_088_024  # timm's count: what is learned, without moving statistics


def build(*args, **settings):
    return se_resnet50(*args, rng=np.random.default_rng(0), **settings)


def learned(model):
    return sum(p.value.size for p in model.parameters().values())


def assert_close(ours, theirs, name=""):
    assert ours.shape == theirs.shape
    assert abs(ours - theirs).max() <= 1e-8 * abs(theirs).max(), name


@pytest.fixture(scope="module")
def pair():
    """Our network and timm's with the same random weights and statistics, float64."""
    torch, timm = torch_or_skip(), timm_or_skip()
    torch.manual_seed(0)
    theirs = randomise(timm.create_model("seresnet50"))
    ours = build(1000, SHAPE).to(dtype="float64")
    names = names_of("se_resnet50", "torch")
    assert settings_mismatch(ours.architecture.settings, names) is None
    ours.load_state(converted(ours, torch_arrays(theirs), names, SHAPE))
    return ours, theirs, names


def images(count=2):
    return np.random.default_rng(1).standard_normal((count, *SHAPE))


def test_logits_and_count_equal_timms(pair):
    ours, theirs, _ = pair
    torch = torch_or_skip()
    assert learned(ours) == sum(p.numel() for p in theirs.parameters()) == PUBLISHED
    with torch.no_grad():
        want = theirs.eval()(to_torch(images())).numpy()
    assert_close(ours.forward(images())[0], want)


def test_gradients_equal_torchs_in_training(pair):
    ours, theirs, names = pair
    torch = torch_or_skip()
    x, dy = images(), np.random.default_rng(2).standard_normal((2, 1000))
    t_x, statistics = to_torch(x), torch_arrays(theirs)
    t_y = theirs.train()(t_x)
    t_y.backward(torch.from_numpy(dy))

    ours.zero_grad()
    y, cache = ours.forward(x, TRAIN)
    dx = ours.backward(dy, cache)
    assert_close(y, t_y.detach().numpy())
    assert_close(dx, from_torch(t_x.grad))
    gradients = converted(ours, statistics | torch_gradients(theirs), names, SHAPE)
    for name, p in ours.parameters().items():
        assert_close(p.grad, gradients[name], name)


def test_is_a_resnet_50_with_a_gate_behind_each_bottleneck():
    plain = resnet50(2, (32, 32, 1), width=1 / 16, rng=np.random.default_rng(0))
    gated = build(2, (32, 32, 1), width=1 / 16)
    shapes = {name: x.shape for name, x in gated.state().items()}
    rest = {name: shape for name, shape in shapes.items() if ".se." not in name}
    assert rest == {name: x.shape for name, x in plain.state().items()}
    gates = [name for name, layer in gated.named_layers().items() if isinstance(layer, Gate)]
    assert len(gates) == 16
    assert all(name.endswith("residual.main.se") for name in gates)


def test_the_gate_is_the_papers_equation():
    gate = squeeze_and_excitation(8, 4, np.random.default_rng(0)).to(dtype="float64")
    for p in gate.parameters().values():
        p.value += 0.1 * np.random.default_rng(1).standard_normal(p.shape)
    x = np.random.default_rng(2).standard_normal((3, 5, 4, 8))
    w1, b1, w2, b2 = (p.value for p in gate.parameters().values())
    assert w1.shape == (8, 2)
    z = x.sum(axis=(1, 2)) / 20
    s = 1 / (1 + np.exp(-(np.maximum(z @ w1 + b1, 0) @ w2 + b2)))
    np.testing.assert_allclose(gate.forward(x)[0], x * s[:, None, None, :], rtol=1e-12)


@pytest.mark.parametrize("reduction", [1, 3, 100])
def test_reduction_leaves_at_least_one_channel(reduction):
    model = build(2, (32, 32, 1), width=1 / 16, reduction=reduction)
    widths = {n: p.shape[1] for n, p in model.parameters().items() if n.endswith("fc1.weight")}
    assert widths["base.layer1.0.residual.main.se.path.fc1.weight"] == max(1, 16 // reduction)
    assert widths["base.layer4.2.residual.main.se.path.fc1.weight"] == max(1, 128 // reduction)


def test_a_reduction_below_one_is_refused():
    with pytest.raises(ValueError, match="se_resnet50: reduction is 0, want a whole number from 1"):
        build(2, (32, 32, 1), reduction=0)


@pytest.mark.parametrize("mode", [TRAIN, Mode()])
@pytest.mark.parametrize(("channels", "stride"), [(8, 1), (3, 2)])
def test_gradients_of_a_gated_bottleneck(channels, stride, mode):
    rng = np.random.default_rng(0)
    parts = Parts(
        "3x3", False, EPSILON, False, rng, gate=lambda c: squeeze_and_excitation(c, 4, rng)
    )
    block = bottleneck(parts, channels, 2, stride)
    x = np.random.default_rng(1).standard_normal((3, 5, 4, channels))
    assert check_gradients(block, x, mode).undecidable == 0


@pytest.mark.parametrize("mode", [TRAIN, Mode()])
def test_gradients_of_the_whole_network_at_reduced_width(mode):
    model = build(2, (17, 17, 1), width=1 / 64)
    x = np.random.default_rng(1).standard_normal((4, 17, 17, 1))
    report = check_gradients(model, x, mode, elements=40)
    assert report.undecidable == 0


def test_settings_reach_the_layers():
    settings = {"conv_bias": True, "epsilon": 2e-3, "stride_in": "1x1", "zero_last_gamma": True}
    model = build(3, (9, 7, 1), width=1 / 16, **settings)
    layers = model.named_layers()
    norms = [layer for layer in layers.values() if isinstance(layer, BatchNorm)]
    assert {norm.epsilon for norm in norms} == {2e-3}
    assert sum(not norm.gamma.value.any() for norm in norms) == 16
    assert all(layer.bias is not None for layer in layers.values() if isinstance(layer, Conv2D))
    assert layers["base.layer2.0.residual.main.conv1"].stride == (2, 2)
    assert model.architecture.build().state().keys() == model.state().keys()


def test_any_image_down_to_one_pixel_grey_or_coloured():
    for shape in [(1, 1, 1), (7, 9, 3)]:
        model = build(5, shape, width=1 / 16)
        x = np.random.default_rng(0).standard_normal((2, *shape)).astype(np.float32)
        y, cache = model.forward(x)
        assert y.shape == (2, 5)
        assert model.backward(y, cache).shape == x.shape
    with pytest.raises(ValueError, match=r"se_resnet50: input_shape is \(8, 8\), want \(height"):
        build(2, (8, 8))
