import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.layers.support import assert_close, normal
from tinynet.layers import Conv2D, conv2d_backward, conv2d_forward
from tinynet.testing.strategies import conv_geometries


def conv(*sizes, **settings):
    return Conv2D(*sizes, rng=np.random.default_rng(0), **settings)


def row(*numbers):
    return np.array(numbers, float).reshape(1, 1, -1, 1)


@settings(max_examples=40)
@given(g=conv_geometries(max_batch=2))
def test_the_layer_hands_its_settings_on_and_declares_shape_and_cost(g):
    how = g.stride, g.padding, g.dilation, g.groups
    layer = conv(g.channels, g.filters, g.kernel, *how, g.bias, dtype="float64")
    (x,) = normal(0, g.input_shape)
    y, _ = layer.forward(x)
    bias = layer.bias.value if g.bias else None
    assert_close(y, conv2d_forward(x, layer.weight.value, bias, *how)[0])
    assert y.shape == g.output_shape == (g.batch, *layer.output_shape(g.input_shape[1:]))
    cost = np.prod(g.output_size) * layer.weight.value.size
    assert layer.multiply_adds(g.input_shape[1:]) == cost


@settings(max_examples=40)
@given(n=st.tuples(st.integers(1, 9), st.integers(1, 9)), kernel=st.integers(1, 5))
@example(n=(5, 4), kernel=2)
def test_same_padding_keeps_the_size_at_stride_one(n, kernel):
    x, w = np.ones((1, *n, 1)), np.ones((kernel, kernel, 1, 1))
    for stride in (1, 2, 3):
        z, _ = conv2d_forward(x, w, None, stride, "same")
        assert z.shape == (1, -(-n[0] // stride), -(-n[1] // stride), 1)


def test_an_odd_cell_of_same_padding_is_at_the_end():
    # TensorFlow's rule: 4 cells, kernel 2, stride 1 take one cell of padding, after the last
    z, _ = conv2d_forward(row(1, 2, 3, 4), np.ones((1, 2, 1, 1)), None, 1, "same")
    assert z.ravel().tolist() == [3, 5, 7, 4]


def test_ceil_pads_the_end_until_the_last_column_is_seen():
    x, w = row(1, 2, 3, 4), np.ones((1, 3, 1, 1))
    assert conv2d_forward(x, w, None, 2)[0].ravel().tolist() == [6]
    assert conv2d_forward(x, w, None, 2, "ceil")[0].ravel().tolist() == [6, 7]
    assert conv2d_forward(x, w, None, 1, "ceil")[0].ravel().tolist() == [6, 9]
    dilated = conv2d_forward(x, w[:, :2], None, 2, "ceil", (1, 2))[0]  # cells 0 and 2, 2 and none
    assert dilated.ravel().tolist() == [4, 3]


@pytest.mark.parametrize(
    ("padding", "sides"),
    [("valid", ((0, 0), (0, 0))), (2, ((2, 2), (2, 2))), ("same", ((1, 1), (1, 1)))],
)
def test_forms_of_padding_agree(padding, sides):
    x, w = normal(0, (1, 5, 5, 2), (3, 3, 2, 2))
    assert_close(conv2d_forward(x, w, padding=padding)[0], conv2d_forward(x, w, padding=sides)[0])


def test_a_worked_example():
    # one 2×2 filter over a 3×3 image: each z is Σ w_ij p_ij + b, the filter not flipped
    x = np.arange(9.0).reshape(1, 3, 3, 1)
    w = np.array([[1.0, 10.0], [100.0, 1000.0]]).reshape(2, 2, 1, 1)
    z, _ = conv2d_forward(x, w, np.array([0.5]))
    assert z[0, :, :, 0].tolist() == [[4310.5, 5421.5], [7643.5, 8754.5]]


def test_groups_do_not_see_each_other():
    x, w = normal(0, (1, 4, 4, 4), (3, 3, 2, 6))
    z, _ = conv2d_forward(x, w, None, groups=2)
    changed = x.copy()
    changed[..., 2:] += 1
    z_changed, _ = conv2d_forward(changed, w, None, groups=2)
    assert np.array_equal(z[..., :3], z_changed[..., :3])
    assert not np.isclose(z[..., 3:], z_changed[..., 3:]).any()


def test_rows_under_no_window_have_no_gradient():
    x, w, dz = normal(0, (1, 6, 6, 1), (3, 3, 1, 1), (1, 2, 2, 1))
    _, cache = conv2d_forward(x, w, None, stride=2)
    dx, _, _ = conv2d_backward(dz, cache)
    assert not dx[:, 5].any()
    assert not dx[:, :, 5].any()
    assert dx[:, :5, :5].all()


def test_a_1x1_convolution_is_a_dense_layer_at_every_pixel():
    x, w, b = normal(0, (2, 3, 4, 5), (1, 1, 5, 6), (6,))
    assert_close(conv2d_forward(x, w, b)[0], x @ w[0, 0] + b)


def test_an_empty_batch_passes_through():
    layer = conv(1, 2, 3)
    y, cache = layer.forward(np.zeros((0, 5, 5, 1), np.float32))
    assert y.shape == (0, 3, 3, 2)
    assert layer.backward(y, cache).shape == (0, 5, 5, 1)
    assert not layer.weight.grad.any()


def test_parameters_and_sizes():
    layer = conv(4, 6, (1, 3), groups=2)
    shapes = {name: p.shape for name, p in layer.parameters().items()}
    assert shapes == {"weight": (1, 3, 2, 6), "bias": (6,)}
    assert layer.weight.value.dtype == np.float32
    assert not layer.bias.value.any()
    assert list(conv(4, 6, 3, bias=False).parameters()) == ["weight"]
    assert conv(1, 2, np.int64(3), stride=np.int64(2)).output_shape((7, 7, 1)) == (3, 3, 2)


NAME = r"Conv2D\(3, 8, 3×3\): "


def forward(*shape):
    return lambda: conv(3, 8, 3).forward(np.zeros(shape, np.float32))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (forward(2, 8, 8, 1), NAME + r"input is \(2, 8, 8, 1\), want \(N, H, W, 3\)"),
        (forward(8, 8, 3), NAME + r"input is \(8, 8, 3\), want \(N, H, W, 3\)"),
        (forward(2, 2, 2, 3), NAME + "the window covers 3 × 3 cells, .* only 2 × 2"),
        (
            lambda: conv(3, 8, 3).output_shape((8, 8, 1)),
            NAME + r"input shape is \(8, 8, 1\), want \(H, W, 3\)",
        ),
        (lambda: conv(3, 8, 3, padding="full"), "padding is 'full', want 'valid', 'same'"),
        (lambda: conv(3, 8, 3, padding=-1), "padding is -1"),
        (lambda: conv(3, 8, 3, stride=0), "stride is 0"),
        (lambda: conv(3, 8, 3, groups=2), "groups is 2, want a divisor of in_channels 3"),
        (
            lambda: conv2d_forward(np.zeros((1, 5, 5, 3)), np.zeros((3, 3, 2, 4))),
            "x has 3 channels, w is .* groups 1",
        ),
    ],
)
def test_errors_name_the_layer_what_came_and_what_was_wanted(call, message):
    with pytest.raises(ValueError, match=message):
        call()
