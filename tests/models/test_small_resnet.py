"""tinynet/models/small_resnet.py"""

import numpy as np
import pytest

from tests.oracles import torch_or_skip
from tinynet.gradient_check import check_gradients
from tinynet.layer import Mode
from tinynet.layers import BatchNorm, Conv2D, Dense, Residual
from tinynet.losses import SoftmaxCrossEntropy
from tinynet.models import small_resnet
from tinynet.models.small_resnet import padded_identity

TRAIN = Mode(train=True)
SHAPE = (8, 8, 1)


def build(*args, **settings):
    return small_resnet(*args, rng=np.random.default_rng(0), **settings)


def learned(model):
    return sum(p.value.size for p in model.parameters().values())


def layers_of(model, kind):
    return [layer for layer in model.named_layers().values() if isinstance(layer, kind)]


# the paper's Table 6: 0.27, 0.46, 0.66, 0.85 and 1.7 million
@pytest.mark.parametrize(
    ("depth", "count"), [(20, 269_722), (32, 464_154), (44, 658_586), (56, 853_018)]
)
def test_parameters_are_as_many_as_published_with_and_without_shortcuts(depth, count):
    for shortcuts in (True, False):
        assert learned(build(10, (32, 32, 3), depth, shortcuts=shortcuts)) == count


@pytest.mark.parametrize("depth", [8, 14, 56])
@pytest.mark.parametrize("shortcuts", [True, False])
def test_depth_counts_the_layers_of_weights(depth, shortcuts):
    model = build(10, SHAPE, depth, shortcuts=shortcuts, filters=(2, 4, 8))
    assert len(layers_of(model, Conv2D)) + len(layers_of(model, Dense)) == depth
    assert len(layers_of(model, Residual)) == (depth - 2) // 2 * shortcuts


def test_plain_and_residual_start_with_the_same_weights():
    plain, residual = (
        [p.value for p in build(10, SHAPE, 14, shortcuts=s).parameters().values()]
        for s in (False, True)
    )
    assert all(np.array_equal(a, b) for a, b in zip(plain, residual, strict=True))


def test_stages_halve_the_image_and_round_up():
    base = build(2, (9, 14, 3), 8, filters=(2, 5, 7)).base
    shape, shapes = (9, 14, 3), {}
    for name, layer in base.children().items():
        shape = shapes[name] = layer.output_shape(shape)
    assert shapes["layer1"] == (9, 14, 2)
    assert shapes["layer2"] == (5, 7, 5)
    assert shapes["layer3"] == (3, 4, 7)


@pytest.mark.parametrize(("channels", "outputs", "stride"), [(3, 6, 2), (2, 7, 1), (4, 4, 2)])
def test_padded_identity_leaves_out_pixels_and_adds_channels_of_zeros(channels, outputs, stride):
    skip = padded_identity(channels, outputs, stride)
    x = np.random.default_rng(0).standard_normal((2, 5, 4, channels))
    y, _ = skip.forward(x)
    assert y.shape[1:] == skip.output_shape(x.shape[1:])
    assert np.array_equal(y[..., :channels], x[:, ::stride, ::stride])
    assert y.shape[-1] == outputs
    assert not y[..., channels:].any()
    assert skip.parameters() == {}
    assert check_gradients(skip, x).undecidable == 0


def test_no_shortcut_ends_in_fewer_channels():
    with pytest.raises(ValueError, match="cannot end in 3 channels from 4: want no fewer filters"):
        build(2, SHAPE, 6, filters=(4, 3))
    model = build(2, SHAPE, 6, filters=(4, 3), projection=True)
    assert model.base.output_shape(SHAPE) == (4, 4, 3)
    assert build(2, SHAPE, 6, filters=(4, 3), shortcuts=False).output_shape(SHAPE) == (2,)


@pytest.mark.parametrize("mode", [TRAIN, Mode()])
@pytest.mark.parametrize(
    "settings",
    [{}, {"shortcuts": False}, {"projection": True}, {"batch_norm": False}],
    ids=["residual", "plain", "projection", "no batch norm"],
)
def test_gradients_of_every_block_and_of_the_whole_network(settings, mode):
    model = build(2, (5, 4, 1), 8, filters=(2, 3, 4), **settings)
    rng = np.random.default_rng(1)
    shape = (5, 4, 1)
    for name, layer in model.base.children().items():
        if name.startswith("layer"):
            x = rng.standard_normal((3, *shape))
            assert check_gradients(layer, x, mode, elements=60).undecidable == 0
        shape = layer.output_shape(shape)
    x = rng.standard_normal((3, 5, 4, 1))
    assert check_gradients(model, x, mode, elements=60).undecidable == 0


@pytest.mark.parametrize(
    "settings",
    [{}, {"shortcuts": False}, {"projection": True}, {"batch_norm": False}],
    ids=["residual", "plain", "projection", "no batch norm"],
)
def test_loss_and_gradients_equal_torch(settings):
    torch = torch_or_skip()
    f = torch.nn.functional
    filters, shape = (4, 8, 16), (9, 8, 3)
    model = build(5, shape, 14, filters=filters, **settings).to(dtype="float64")
    rng = np.random.default_rng(3)
    for p in model.parameters().values():
        p.value += 0.1 * rng.standard_normal(p.shape)  # biases and betas are not left at zero
    x, y = rng.standard_normal((4, *shape)), np.array([0, 1, 4, 1])

    tensors = {n: torch.tensor(p.value, requires_grad=True) for n, p in model.parameters().items()}
    t_x = torch.tensor(x, requires_grad=True)

    def convolution(path, number, h, stride=1):
        w = tensors[f"{path}conv{number}.weight"].permute(3, 2, 0, 1)
        bias = tensors.get(f"{path}conv{number}.bias")
        h = f.conv2d(h, w, bias, stride=stride, padding=w.shape[2] // 2)
        if f"{path}bn{number}.gamma" in tensors:
            gamma, beta = (tensors[f"{path}bn{number}.{v}"] for v in ("gamma", "beta"))
            h = f.batch_norm(h, None, None, gamma, beta, True, eps=1e-5)
        return h

    h = torch.relu(convolution("base.", 1, t_x.permute(0, 3, 1, 2)))
    for stage, count in enumerate(filters, start=1):
        for i in range(2):
            path = f"base.layer{stage}.{i}."
            stride = 2 if stage > 1 and i == 0 else 1
            inner = path + ("main." if settings.get("shortcuts") is False else "residual.main.")
            main = torch.relu(convolution(inner, 1, h, stride))
            main = convolution(inner, 2, main)
            if settings.get("shortcuts") is False:
                h = torch.relu(main)
            elif stride == 1:
                h = torch.relu(main + h)
            elif settings.get("projection"):
                h = torch.relu(main + convolution(f"{path}residual.skip.", "", h, 2))
            else:
                skip = f.pad(h[:, :, ::2, ::2], (0, 0, 0, 0, 0, count - h.shape[1]))
                h = torch.relu(main + skip)
    w, b = tensors["head.classes.weight"], tensors["head.classes.bias"]
    t_loss = f.cross_entropy(h.mean(dim=(2, 3)) @ w + b, torch.tensor(y))
    t_loss.backward()

    loss = SoftmaxCrossEntropy()
    z, cache = model.forward(x, TRAIN)
    value, loss_cache = loss.forward(z, y)
    dx = model.backward(loss.backward(loss_cache), cache)
    assert float(value) == pytest.approx(t_loss.item(), rel=1e-10)
    assert abs(dx - t_x.grad.numpy()).max() <= 1e-8 * abs(dx).max()
    for name, p in model.parameters().items():
        want = tensors[name].grad.numpy()
        assert abs(p.grad - want).max() <= 1e-8 * abs(want).max(), name


def test_without_batch_norm_the_convolutions_have_biases():
    without = build(2, SHAPE, 8, batch_norm=False)
    assert layers_of(without, BatchNorm) == []
    assert all(layer.bias is not None for layer in layers_of(without, Conv2D))
    assert all(layer.bias is None for layer in layers_of(build(2, SHAPE, 8), Conv2D))


def test_settings_reach_the_layers():
    model = build(2, SHAPE, 8, epsilon=2e-3, zero_last_gamma=True)
    assert {norm.epsilon for norm in layers_of(model, BatchNorm)} == {2e-3}
    zero = [n for n, p in model.parameters().items() if n.endswith("gamma") and not p.value.any()]
    assert zero == [f"base.layer{stage}.0.residual.main.bn2.gamma" for stage in (1, 2, 3)]


def test_any_image_down_to_one_pixel_grey_or_coloured():
    for shape in [(1, 1, 1), (7, 9, 3)]:
        model = build(5, shape, 8)
        x = np.random.default_rng(0).standard_normal((2, *shape)).astype(np.float32)
        y, cache = model.forward(x)
        assert y.shape == (2, 5)
        assert model.backward(y, cache).shape == x.shape
    with pytest.raises(ValueError, match=r"small_resnet: input_shape is \(8, 8\), want \(height"):
        build(2, (8, 8))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"depth": 18}, "depth is 18 with 3 stages .* want .* 6·n \\+ 2, such as 8 or 20"),
        ({"depth": 2}, "depth is 2 with 3 stages"),
        ({"filters": ()}, "depth is 20 with 0 stages .* at least one stage"),
        ({"batch_norm": False, "zero_last_gamma": True}, "zero_last_gamma without batch norm"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=f"small_resnet: {message}"):
        build(2, SHAPE, **settings)


def test_the_settings_build_the_same_network_again():
    model = build(2, SHAPE, 14, filters=[2, 4, 8], projection=True)
    again = model.architecture.build()
    assert again.architecture == model.architecture
    assert again.state().keys() == model.state().keys()
