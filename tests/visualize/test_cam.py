"""Grad-CAM: against torch's autograd, by hand, and on images where the answer is known."""

import numpy as np
import pytest

from tests.oracles import torch_or_skip
from tests.visualize.networks import WithSide, batch, conv, dense, everything
from tinynet.layers import Conv2D, Dense, GlobalAvgPool2D, MaxPool2D, ReLU, Sequential
from tinynet.losses import SoftmaxCrossEntropy
from tinynet.optimizers import Adam
from tinynet.visualize import activation_and_gradient, activation_at, grad_cam
from tinynet.visualize.cam import enlarged, interpolation
from tinynet.train import fit


def small_cnn():
    return Sequential(
        conv1=conv(2, 5),
        relu1=ReLU(),
        pool=MaxPool2D(2),
        conv2=conv(5, 6),
        relu2=ReLU(),
        average=GlobalAvgPool2D(),
        hidden=dense(6, 8),
        relu3=ReLU(),
        classes=dense(8, 3),
    )


@pytest.mark.parametrize("name", ["relu2", "conv2", "relu1"])
@pytest.mark.parametrize("class_index", [0, [2, 1, 0, 1], None])
def test_against_torch(name, class_index):
    torch = torch_or_skip()
    functional = torch.nn.functional
    model, x = small_cnn(), batch(side=12)
    w = {n: torch.from_numpy(a.copy()) for n, a in model.state().items()}

    def convolved(y, layer):
        return functional.conv2d(
            y, w[f"{layer}.weight"].permute(3, 2, 0, 1), w[f"{layer}.bias"], padding=1
        )

    a = {}
    a["conv1"] = convolved(
        torch.from_numpy(x.transpose(0, 3, 1, 2).copy()).requires_grad_(), "conv1"
    )
    a["relu1"] = a["conv1"].relu()
    a["conv2"] = convolved(functional.max_pool2d(a["relu1"], 2), "conv2")
    a["relu2"] = a["conv2"].relu()
    h = a["relu2"].mean(dim=(2, 3)) @ w["hidden.weight"] + w["hidden.bias"]
    z = h.relu() @ w["classes.weight"] + w["classes.bias"]
    chosen = z.argmax(dim=1) if class_index is None else torch.tensor(class_index).expand(len(x))
    (da,) = torch.autograd.grad(z[torch.arange(len(x)), chosen].sum(), a[name])
    cam = (da.mean(dim=(2, 3), keepdim=True) * a[name]).sum(dim=1, keepdim=True).relu()
    wanted = functional.interpolate(cam, size=(12, 12), mode="bilinear", align_corners=False)[:, 0]
    wanted = wanted.detach().numpy()
    assert wanted.max() > 0
    got = grad_cam(model, x, class_index, name)
    assert got.shape == (4, 12, 12)
    np.testing.assert_allclose(got, wanted, rtol=1e-10, atol=1e-14)


def test_the_weights_are_slopes_of_the_logit():
    """α of channel k is by how much the logit rises if the whole channel is raised, over hw."""
    model, x = small_cnn(), batch(n=2)
    name, c, k, step = "conv2", 1, 3, 1e-6
    a = activation_at(model, x, name)

    def logit(t):
        moved = a.copy()
        moved[..., k] += t
        for layer in model.layers[4:]:
            moved, _ = layer.forward(moved)
        return moved[:, c]

    slope = (logit(step) - logit(-step)) / (2 * step) / (a.shape[1] * a.shape[2])
    one = np.zeros((2, 3))
    one[:, c] = 1
    _, da = activation_and_gradient(model, x, name, lambda z: one)
    np.testing.assert_allclose(da.mean(axis=(1, 2))[:, k], slope, rtol=1e-6)
    heat = np.maximum(0, (a * da.mean(axis=(1, 2))[:, None, None]).sum(axis=-1))
    np.testing.assert_allclose(grad_cam(model, x, c, name), enlarged(heat, (10, 10)))


def test_each_place_by_its_own_slope():
    """The same where a global average follows; behind a head that flattens, another map."""
    model, x = small_cnn(), batch()
    mean, own = (grad_cam(model, x, 0, "relu2", average=average) for average in (True, False))
    np.testing.assert_allclose(own, mean, rtol=1e-12, atol=1e-15)
    flat, name = everything(), "base.gate"
    one = np.zeros((4, 3))
    one[:, 1] = 1
    a, da = activation_and_gradient(flat, x, name, lambda z: one)
    heat = enlarged(np.maximum(0, (a * da).sum(axis=-1)), (10, 10))
    np.testing.assert_array_equal(grad_cam(flat, x, 1, name, average=False), heat)
    assert abs(heat - grad_cam(flat, x, 1, name)).max() > 0.1 * heat.max()


def planted(n, seed, side=16, patch=4):
    """Noise; in half of the images a bright patch, which is what label 1 means; its corner."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 0.5, (n, side, side, 1)).astype(np.float32)
    y = np.arange(n) % 2
    corners = rng.integers(0, side - patch + 1, (n, 2))
    for i, (row, column) in enumerate(corners):
        if y[i]:
            x[i, row : row + patch, column : column + patch] += 1.5
    return x, y, corners


def test_the_heat_lies_on_what_the_network_was_taught_to_find():
    rng = np.random.default_rng(0)
    model = Sequential(
        Conv2D(1, 8, 3, padding="same", rng=rng),
        ReLU(),
        MaxPool2D(2),
        Conv2D(8, 8, 3, padding="same", rng=rng),
        ReLU(),
        GlobalAvgPool2D(),
        Dense(8, 2, rng=rng),
    )
    x, y, _ = planted(400, seed=1)
    history = fit(
        model, SoftmaxCrossEntropy(), Adam(1e-2), (x, y), epochs=6, batch_size=20, progress=False
    )
    assert history[-1]["train_accuracy"] > 0.9
    x, y, corners = planted(100, seed=2)
    heat = grad_cam(model, x, 1)
    hits, share = [], []
    for i in np.flatnonzero(y == 1):
        row, column = np.unravel_index(heat[i].argmax(), heat[i].shape)
        near = [range(corner - 1, corner + 5) for corner in corners[i]]  # a cell is 2 pixels wide
        hits.append(row in near[0] and column in near[1])
        inside = heat[i, corners[i, 0] :, corners[i, 1] :][:4, :4].sum()
        share.append(inside / heat[i].sum())
    assert len(hits) == 50
    assert np.mean(hits) >= 0.9
    assert np.mean(share) > 3 * 16 / 256  # three times what even heat would put there


def test_enlarging_keeps_what_is_linear_and_what_is_even():
    np.testing.assert_allclose(enlarged(np.full((1, 3, 2), 7.0), (9, 5)), 7)
    np.testing.assert_allclose(enlarged(np.full((1, 1, 1), 7.0), (4, 3)), 7)
    slope = enlarged(np.arange(4.0).reshape(1, 4, 1), (8, 1))[0, :, 0]
    np.testing.assert_allclose(slope, [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3])
    for after, before in ((7, 3), (3, 7), (5, 5), (1, 4)):
        matrix = interpolation(after, before)
        assert matrix.min() >= 0
        np.testing.assert_allclose(matrix.sum(axis=1), 1)
    np.testing.assert_array_equal(interpolation(5, 5), np.eye(5))


def test_networks_of_other_kinds():
    assert grad_cam(everything(), batch()).shape == (4, 10, 10)
    assert grad_cam(WithSide(), batch(), 2).shape == (4, 10, 10)
    single = everything().to(dtype="float32")
    assert grad_cam(single, batch().astype(np.float32)).dtype == np.float32


@pytest.mark.parametrize(
    ("class_index", "layer", "message"),
    [
        (3, None, "want 0 to 2: the model has 3 classes"),
        (-1, None, "want 0 to 2"),
        ([0, 1], None, "one for each of the 4 images"),
        (0.5, None, "want a whole number"),
        (0, "head.hidden", r"\(4, 6\), want \(N, h, w, K\)"),
        (0, "no.such", "no layer 'no.such'"),
    ],
)
def test_what_makes_no_sense_is_refused(class_index, layer, message):
    with pytest.raises(ValueError, match=message):
        grad_cam(everything(), batch(), class_index, layer)


def test_an_image_without_a_batch_is_refused():
    with pytest.raises(ValueError, match=r"x is \(10, 10, 2\), want images \(N, H, W, C\)"):
        grad_cam(everything(), batch()[0])
