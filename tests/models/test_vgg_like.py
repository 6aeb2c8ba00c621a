import numpy as np
import pytest

from tinynet.gradient_check import check_gradients
from tinynet.layer import Mode
from tinynet.layers import Conv2D, Dense, Dropout
from tinynet.losses import SoftmaxCrossEntropy
from tinynet.models import vgg_like


def small(**settings):
    return vgg_like(3, (8, 8, 2), (3, 4), 5, rng=np.random.default_rng(0), **settings)


def kinds(layer):
    return [type(part).__name__ for part in layer.layers]


def test_is_blocks_of_two_convolutions_and_a_pool_then_two_dense_layers():
    block = ["Conv2D", "ReLU", "Conv2D", "ReLU", "MaxPool2D"]
    assert kinds(small().base) == block * 2
    assert kinds(small().head) == ["Flatten", "Dense", "ReLU", "Dropout", "Dense"]
    with_norm = ["Conv2D", "BatchNorm", "ReLU"] * 2 + ["MaxPool2D"]
    assert kinds(small(batch_norm=True).base) == with_norm * 2
    assert kinds(small(batch_norm=True).head) == kinds(small().head)


def test_parameters_counted_by_hand():
    rng = np.random.default_rng(0)
    model = vgg_like(2, (32, 32, 1), (32, 64), 256, rng=rng)
    convolutions = (9 * 1 + 1) * 32 + (9 * 32 + 1) * 32 + (9 * 32 + 1) * 64 + (9 * 64 + 1) * 64
    dense = (8 * 8 * 64 + 1) * 256 + (256 + 1) * 2
    assert sum(p.value.size for p in model.parameters().values()) == convolutions + dense


def test_every_convolution_is_3x3_and_bias_free_before_a_batch_norm():
    for batch_norm in (False, True):
        model = small(batch_norm=batch_norm)
        for _, layer, _ in model.walk((8, 8, 2)):
            if isinstance(layer, Conv2D):
                assert layer.weight.shape[:2] == (3, 3)
                assert layer.padding == "same"
                assert (layer.bias is None) == batch_norm
            if isinstance(layer, Dense):
                assert layer.bias is not None


def test_declared_shape_is_the_computed_one_and_logits_are_not_probabilities():
    model = small()
    x = np.random.default_rng(0).standard_normal((4, 8, 8, 2)).astype(np.float32)
    y, cache = model.forward(x)
    assert y.shape == (4, *model.output_shape((8, 8, 2))) == (4, 3)
    assert y.dtype == np.float32
    assert (y < 0).any()
    assert not np.allclose(y.sum(axis=1), 1)
    assert model.backward(y, cache).shape == x.shape


def test_odd_sizes_lose_their_last_row():
    model = vgg_like(2, (9, 11, 1), (2, 2), 3, rng=np.random.default_rng(0))
    assert model.base.output_shape((9, 11, 1)) == (2, 2, 2)
    assert model.forward(np.zeros((1, 9, 11, 1), np.float32))[0].shape == (1, 2)


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("mode", [Mode(train=True, rng=np.random.default_rng(1)), Mode()])
def test_gradients(batch_norm, mode):
    model = vgg_like(2, (4, 4, 1), (2, 3), 4, batch_norm=batch_norm, rng=np.random.default_rng(0))
    x = np.random.default_rng(2).standard_normal((3, 4, 4, 1))
    report = check_gradients(model, x, mode)
    assert report.undecidable == 0
    assert {check.name for check in report.arrays} == {"x", *model.parameters()}


@pytest.mark.parametrize("batch_norm", [False, True])
def test_loss_and_gradients_equal_torch(batch_norm):
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install torch==2.13.0")
    torch.set_num_threads(1)
    model = small(batch_norm=batch_norm, keep_prob=1.0).to(dtype="float64")
    rng = np.random.default_rng(3)
    for p in model.parameters().values():
        p.value += 0.1 * rng.standard_normal(p.shape)  # biases and betas are not left at zero
    x, y = rng.standard_normal((4, 8, 8, 2)), np.array([0, 1, 2, 1])

    tensors = {n: torch.tensor(p.value, requires_grad=True) for n, p in model.parameters().items()}
    queue = list(tensors.values())
    t_x = torch.tensor(x, requires_grad=True)
    f, h = torch.nn.functional, t_x.permute(0, 3, 1, 2)
    for kind in kinds(model.base):
        if kind == "Conv2D":
            w = queue.pop(0).permute(3, 2, 0, 1)
            h = f.conv2d(h, w, None if batch_norm else queue.pop(0), padding=1)
        elif kind == "BatchNorm":
            h = f.batch_norm(h, None, None, queue.pop(0), queue.pop(0), True, eps=1e-3)
        else:
            h = torch.relu(h) if kind == "ReLU" else f.max_pool2d(h, 2)
    w1, b1, w2, b2 = queue
    h = torch.relu(h.permute(0, 2, 3, 1).reshape(4, -1) @ w1 + b1) @ w2 + b2
    t_loss = f.cross_entropy(h, torch.tensor(y))
    t_loss.backward()

    loss = SoftmaxCrossEntropy()
    z, cache = model.forward(x, Mode(train=True, rng=np.random.default_rng(0)))
    value, loss_cache = loss.forward(z, y)
    dx = model.backward(loss.backward(loss_cache), cache)
    assert float(value) == pytest.approx(t_loss.item(), abs=1e-9)
    np.testing.assert_allclose(z, h.detach().numpy(), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(dx, t_x.grad.numpy(), rtol=1e-9, atol=1e-9)
    for name, p in model.parameters().items():
        want = tensors[name].grad.numpy()
        np.testing.assert_allclose(p.grad, want, rtol=1e-9, atol=1e-9, err_msg=name)


def test_signal_keeps_its_size_through_the_base():
    # He normal weights keep the variance through a ReLU; Glorot's would lose half at each
    model = vgg_like(2, (32, 32, 1), (32, 64, 64), 64, rng=np.random.default_rng(0))
    x = np.random.default_rng(1).standard_normal((2, 32, 32, 1)).astype(np.float32)
    h, _ = model.base.forward(x)
    assert 0.3 < np.sqrt((h**2).mean()) < 5


def test_same_generator_seed_same_network():
    one, other = small().state(), small().state()
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_keep_prob_reaches_the_dropout():
    (dropout,) = (part for part in small(keep_prob=0.7).head.layers if isinstance(part, Dropout))
    assert dropout.keep_prob == 0.7


def test_transfer_learning_freezes_the_base_and_replaces_the_head():
    model = small(batch_norm=True)
    model.base.freeze()
    model.head = Dense(2 * 2 * 4, 7, rng=np.random.default_rng(0))
    trainable = [name for name, p in model.parameters().items() if p.trainable]
    assert trainable == ["head.weight", "head.bias"]
    assert model.base.layers[1].frozen_statistics
    before = {name: a.copy() for name, a in model.buffers().items()}
    model.base.forward(np.ones((2, 8, 8, 2), np.float32), Mode(train=True))
    for name, a in model.buffers().items():
        assert np.array_equal(a, before[name])


def test_an_image_too_small_to_be_halved_is_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"input_shape is \(8, 4, 1\), want .* from 8.*3 blocks"):
        vgg_like(2, (8, 4, 1), (2, 2, 2), rng=rng)
    with pytest.raises(ValueError, match=r"input_shape is \(8, 8\), want \(H, W, C\)"):
        vgg_like(2, (8, 8), (2,), rng=rng)


def test_the_wrong_image_names_the_layer():
    with pytest.raises(ValueError, match=r"Conv2D\(2, 3, 3×3\): input is \(1, 8, 8, 1\)"):
        small().forward(np.zeros((1, 8, 8, 1), np.float32))
