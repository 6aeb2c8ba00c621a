"""Grad-CAM: against torch's autograd, by hand, and on images where the answer is known."""

import numpy as np
import pytest

from tests.oracles import torch_or_skip
from tests.visualize.networks import WithSide, batch, conv, dense, everything
from tinynet.layers import Flatten, GlobalAvgPool2D, MaxPool2D, ReLU, Sequential
from tinynet.losses import SoftmaxCrossEntropy
from tinynet.models import googlenet, small_resnet, vgg_like
from tinynet.optimizers import Adam
from tinynet.train import fit
from tinynet.visualize import activation_and_gradient, grad_cam
from tinynet.visualize.__main__ import small_cnn
from tinynet.visualize.cam import enlarged, interpolation, last_spatial
from tinynet.visualize.shapes import CROSS, RING, SIZE, shapes


def averaging():
    return Sequential(
        conv1=conv(2, 5),
        relu1=ReLU(),
        pool=MaxPool2D(2),
        conv2=conv(5, 6),
        relu2=ReLU(),
        average=GlobalAvgPool2D(),
        classes=dense(6, 3),
    )


@pytest.mark.parametrize(
    ("name", "class_index"), [("relu2", None), ("conv2", [2, 1, 0, 1]), ("relu1", 0)]
)
def test_against_torch(name, class_index):
    torch = torch_or_skip()
    functional = torch.nn.functional
    model, x = averaging(), batch(side=12)
    w = {n: torch.from_numpy(a.copy()) for n, a in model.state().items()}

    def convolved(y, layer):
        weight = w[f"{layer}.weight"].permute(3, 2, 0, 1)
        return functional.conv2d(y, weight, w[f"{layer}.bias"], padding=1)

    a = {}
    images = torch.from_numpy(x.transpose(0, 3, 1, 2).copy()).requires_grad_()
    a["conv1"] = convolved(images, "conv1")
    a["relu1"] = a["conv1"].relu()
    a["conv2"] = convolved(functional.max_pool2d(a["relu1"], 2), "conv2")
    a["relu2"] = a["conv2"].relu()
    z = a["relu2"].mean(dim=(2, 3)) @ w["classes.weight"] + w["classes.bias"]
    chosen = z.argmax(dim=1) if class_index is None else torch.tensor(class_index).expand(len(x))
    (da,) = torch.autograd.grad(z[torch.arange(len(x)), chosen].sum(), a[name])
    cam = (da.mean(dim=(2, 3), keepdim=True) * a[name]).sum(dim=1, keepdim=True).relu()
    wanted = functional.interpolate(cam, size=(12, 12), mode="bilinear", align_corners=False)[:, 0]
    assert wanted.max() > 0
    got = grad_cam(model, x, class_index, name)
    np.testing.assert_allclose(got, wanted.detach().numpy(), rtol=1e-10, atol=1e-14)


def test_each_place_by_its_own_slope():
    """HiResCAM agrees where a global average follows; behind a head that flattens it differs."""
    model, x = averaging(), batch()
    mean, own = (grad_cam(model, x, 0, "relu2", average=average) for average in (True, False))
    np.testing.assert_allclose(own, mean, rtol=1e-12, atol=1e-15)
    flat, name = everything(), "base.gate"
    one = np.tile([0.0, 1, 0], (4, 1))
    a, da = activation_and_gradient(flat, x, name, lambda z: one)
    heat = enlarged(np.maximum(0, (a * da).sum(axis=-1)), (10, 10))
    np.testing.assert_array_equal(grad_cam(flat, x, 1, name, average=False), heat)
    assert abs(heat - grad_cam(flat, x, 1, name)).max() > 0.1 * heat.max()


def test_the_heat_lies_on_what_the_network_was_taught_to_find():
    rng = np.random.default_rng(0)
    model = small_cnn(rng)
    x, y, _ = shapes(400, rng=rng)
    history = fit(
        model, SoftmaxCrossEntropy(), Adam(1e-2), (x, y), epochs=6, batch_size=20, progress=False
    )
    assert history[-1]["train_accuracy"] > 0.9
    x, y, corners = shapes(60, rng=rng)
    heat = grad_cam(model, x, y)
    brightest = heat.reshape(len(heat), -1).argmax(axis=1)
    places = np.stack(np.unravel_index(brightest, heat.shape[1:]), axis=1)
    assert ((places >= corners - 1) & (places <= corners + SIZE)).all(axis=1).mean() >= 0.9


def test_shapes_are_brighter_than_the_noise_and_where_they_are_said_to_be():
    x, y, corners = shapes(40, noise=0.01, rng=np.random.default_rng(0))
    assert (y == np.arange(40) % 2).all()
    for image, label, (row, column) in zip(x[..., 0], y, corners, strict=True):
        bright = np.argwhere(image > 0.5)
        assert (bright.min(axis=0) >= (row, column)).all()
        assert (bright.max(axis=0) < (row + SIZE, column + SIZE)).all()
        middle = image[row + SIZE // 2, column + SIZE // 2] > 0.5
        assert middle == (label == CROSS) != (label == RING)


def test_enlarging_keeps_what_is_linear_and_what_is_even():
    np.testing.assert_allclose(enlarged(np.full((1, 3, 2), 7.0), (9, 5)), 7)
    slope = enlarged(np.arange(4.0).reshape(1, 4, 1), (8, 1))[0, :, 0]
    np.testing.assert_allclose(slope, [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3])
    for after, before in ((7, 3), (3, 7), (1, 4), (4, 1)):
        matrix = interpolation(after, before)
        assert matrix.min() >= 0
        np.testing.assert_allclose(matrix.sum(axis=1), 1)
    np.testing.assert_array_equal(interpolation(5, 5), np.eye(5))


@pytest.mark.parametrize(
    ("model", "side", "wanted"),
    [
        (everything(), 10, "base.gate"),
        (WithSide(), 10, "base.second"),
        (Sequential(conv(2, 3), ReLU(), MaxPool2D(2), Flatten(), dense(12, 3)), 4, "1"),
        (Sequential(Sequential(conv(2, 3), GlobalAvgPool2D()), ReLU()), 4, "0.0"),
        (vgg_like(3, (32, 32, 2), (2, 2), 4, rng=np.random.default_rng(0)), 32, "base.8"),
        (small_resnet(3, (32, 32, 2), rng=np.random.default_rng(0)), 32, "base.layer3"),
        (
            googlenet(3, (64, 64, 2), width=0.05, rng=np.random.default_rng(0)),
            64,
            "base.inception5b",
        ),
    ],
)
def test_the_last_layer_with_places(model, side, wanted):
    x = batch(1, side).astype(next(iter(model.parameters().values())).value.dtype)
    assert last_spatial(model, x.shape[1:]) == wanted
    heat = grad_cam(model, x, 1)
    np.testing.assert_array_equal(heat, grad_cam(model, x, 1, wanted))
    assert (heat.shape, heat.dtype) == (x.shape[:3], x.dtype)


@pytest.mark.parametrize(
    ("x", "class_index", "layer", "message"),
    [
        (batch(), 3, None, "want 0 to 2: the model has 3 classes"),
        (batch(), -1, None, "want 0 to 2"),
        (batch(), [0, 1], None, "one for each of the 4 images"),
        (batch(), 0.5, None, "want a whole number"),
        (batch(), 0, "head.hidden", r"\(4, 6\), want \(N, h, w, K\)"),
        (batch(), 0, "no.such", "no layer 'no.such'"),
        (batch()[0], 0, None, r"x is \(10, 10, 2\), want images \(N, H, W, C\)"),
    ],
)
def test_what_makes_no_sense_is_refused(x, class_index, layer, message):
    with pytest.raises(ValueError, match=message):
        grad_cam(everything(), x, class_index, layer)


def test_no_layer_with_places():
    with pytest.raises(ValueError, match="has an output with places"):
        last_spatial(Sequential(dense(4, 3)), (4,))
