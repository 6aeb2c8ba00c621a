import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.layers import loops
from tests.layers.support import (
    assert_close,
    channels_first,
    channels_last,
    drawn,
    drawn_few,
    drawn_some,
    normal,
    torch_padding,
    torch_pass,
)
from tinynet.gradient_check import check_backward, check_gradients
from tinynet.layers import Conv2D, conv2d_backward, conv2d_forward
from tinynet.testing.strategies import ConvGeometry, conv_geometries, seeds


def arguments(g, seed, strided=False):
    """x, w, b, dz for a geometry; b None where it has no bias."""
    shapes = (g.input_shape, g.weight_shape, (g.filters,), g.output_shape)
    x, w, b, dz = normal(seed, *shapes, strided=strided)
    return x, w, b if g.bias else None, dz


def settings_of(g):
    return g.stride, g.padding, g.dilation, g.groups


def layer_of(g, seed):
    stride, padding, dilation, groups = settings_of(g)
    rng = np.random.default_rng(seed)
    return Conv2D(
        g.channels, g.filters, g.kernel, stride, padding, dilation, groups, g.bias, rng=rng
    )


@drawn
@given(g=conv_geometries(), strided=st.booleans(), seed=seeds())
def test_equals_torch(torch, g, strided, seed):
    x, w, b, dz = arguments(g, seed, strided)
    z, cache = conv2d_forward(x, w, b, *settings_of(g))
    dx, dw, db = conv2d_backward(dz, cache)
    _, stride, dilation = g.window()

    def oracle(x, w, b):
        padded = torch.nn.functional.pad(channels_first(x), torch_padding(g))
        filters = w.permute(3, 2, 0, 1).clone(memory_format=torch.contiguous_format)
        z = torch.nn.functional.conv2d(padded, filters, b, stride, 0, dilation, g.groups)
        return channels_last(z)

    wanted = torch_pass(torch, oracle, dz, x, w, b)
    for got, want in zip((z, dx, dw), wanted, strict=False):
        assert_close(got, want)
    assert (db is None) == (b is None)
    if b is not None:
        assert_close(db, wanted[3])


@drawn_some
@given(g=conv_geometries(max_batch=2), seed=seeds())
def test_equals_the_report_s_loops(g, seed):
    x, w, b, dz = arguments(g, seed)
    z, cache = conv2d_forward(x, w, b, *settings_of(g))
    dx, dw, db = conv2d_backward(dz, cache)
    want_dx, want_dw, want_db = loops.conv2d_backward(dz, x, w, g)
    assert_close(z, loops.conv2d_forward(x, w, b, g))
    assert_close(dx, want_dx)
    assert_close(dw, want_dw)
    if b is not None:
        assert_close(db, want_db)


@drawn_few
@given(g=conv_geometries(max_batch=2), seed=seeds())
def test_gradients(g, seed):
    x, w, b, _ = arguments(g, seed)
    check_backward(conv2d_forward, conv2d_backward, (x, w, b, *settings_of(g)))
    check_gradients(layer_of(g, seed), x)


@drawn
@given(g=conv_geometries(), seed=seeds())
def test_declares_its_output_shape_and_cost(g, seed):
    layer = layer_of(g, seed)
    x = np.zeros(g.input_shape, np.float32)
    y, cache = layer.forward(x)
    dx = layer.backward(y, cache)
    assert y.shape == g.output_shape == (g.batch, *layer.output_shape(g.input_shape[1:]))
    assert dx.shape == x.shape
    assert y.dtype == dx.dtype == layer.weight.grad.dtype == np.float32
    weights = layer.weight.value.size
    assert layer.multiply_adds(g.input_shape[1:]) == np.prod(g.output_size) * weights


@drawn
@given(n=st.tuples(st.integers(1, 9), st.integers(1, 9)), kernel=st.integers(1, 5))
@example(n=(5, 4), kernel=2)
def test_same_padding_keeps_the_size_at_stride_one(n, kernel):
    x, w = np.ones((1, *n, 1)), np.ones((kernel, kernel, 1, 1))
    for stride in (1, 2, 3):
        z, _ = conv2d_forward(x, w, None, stride, "same")
        assert z.shape == (1, -(-n[0] // stride), -(-n[1] // stride), 1)


def test_an_odd_cell_of_same_padding_is_at_the_end():
    # TensorFlow's rule: 4 cells, kernel 2, stride 1 take one cell of padding, after the last
    x, w = np.array([1.0, 2, 3, 4]).reshape(1, 1, 4, 1), np.ones((1, 2, 1, 1))
    z, _ = conv2d_forward(x, w, None, 1, "same")
    assert z.ravel().tolist() == [3, 5, 7, 4]


def test_ceil_pads_the_end_until_the_last_column_is_seen():
    x, w = np.array([1.0, 2, 3, 4]).reshape(1, 1, 4, 1), np.ones((1, 3, 1, 1))
    assert conv2d_forward(x, w, None, 2)[0].ravel().tolist() == [6]
    assert conv2d_forward(x, w, None, 2, "ceil")[0].ravel().tolist() == [6, 7]
    assert conv2d_forward(x, w, None, 1, "ceil")[0].ravel().tolist() == [6, 9]
    dilated = conv2d_forward(x, w[:, :2], None, 2, "ceil", (1, 2))[0]  # cells 0 and 2, 2 and none
    assert dilated.ravel().tolist() == [4, 3]


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


def test_depthwise_filters_each_see_one_channel():
    x, w = normal(0, (2, 5, 5, 3), (3, 3, 1, 3))
    z, _ = conv2d_forward(x, w, None, groups=3)
    for c in range(3):
        alone, _ = conv2d_forward(x[..., c : c + 1], w[..., c : c + 1])
        assert_close(z[..., c : c + 1], alone)


def test_rows_under_no_window_have_no_gradient():
    x, w, dz = normal(0, (1, 6, 6, 1), (3, 3, 1, 1), (1, 2, 2, 1))
    _, cache = conv2d_forward(x, w, None, stride=2)
    dx, _, _ = conv2d_backward(dz, cache)
    assert not dx[:, 5].any()
    assert not dx[:, :, 5].any()
    assert dx[:, :5, :5].all()


def test_a_1x1_convolution_is_a_dense_layer_at_every_pixel():
    x, w, b = normal(0, (2, 3, 4, 5), (1, 1, 5, 6), (6,))
    z, _ = conv2d_forward(x, w, b)
    assert_close(z, x @ w[0, 0] + b)


@pytest.mark.parametrize(
    ("padding", "sides"),
    [("valid", ((0, 0), (0, 0))), (2, ((2, 2), (2, 2))), ("same", ((1, 1), (1, 1)))],
)
def test_forms_of_padding_agree(padding, sides):
    x, w = normal(0, (1, 5, 5, 2), (3, 3, 2, 2))
    assert_close(conv2d_forward(x, w, padding=padding)[0], conv2d_forward(x, w, padding=sides)[0])


def test_an_empty_batch_passes_through():
    layer = Conv2D(1, 2, 3, rng=np.random.default_rng(0))
    y, cache = layer.forward(np.zeros((0, 5, 5, 1), np.float32))
    assert y.shape == (0, 3, 3, 2)
    assert layer.backward(y, cache).shape == (0, 5, 5, 1)
    assert not layer.weight.grad.any()


def test_whole_numbers_of_numpy_are_whole_numbers():
    layer = Conv2D(1, 2, np.int64(3), stride=np.int64(2), rng=np.random.default_rng(0))
    assert layer.output_shape((7, 7, 1)) == (3, 3, 2)


def test_parameters_and_start():
    layer = Conv2D(4, 6, (1, 3), groups=2, rng=np.random.default_rng(0))
    shapes = {name: p.shape for name, p in layer.parameters().items()}
    assert shapes == {"weight": (1, 3, 2, 6), "bias": (6,)}
    assert layer.weight.value.dtype == np.float32
    assert not layer.bias.value.any()
    bare = Conv2D(4, 6, 3, bias=False, rng=np.random.default_rng(0))
    assert list(bare.parameters()) == ["weight"]


def test_errors_name_the_layer_what_came_and_what_was_wanted():
    rng = np.random.default_rng(0)
    layer = Conv2D(3, 8, 3, rng=rng)
    name = r"Conv2D\(3, 8, 3×3\): "
    with pytest.raises(ValueError, match=name + r"input is \(2, 8, 8, 1\), want \(N, H, W, 3\)"):
        layer.forward(np.zeros((2, 8, 8, 1), np.float32))
    with pytest.raises(ValueError, match=name + r"input is \(8, 8, 3\), want \(N, H, W, 3\)"):
        layer.forward(np.zeros((8, 8, 3), np.float32))
    with pytest.raises(TypeError, match=name + "input is float64, the parameters are float32"):
        layer.forward(np.zeros((2, 8, 8, 3)))
    with pytest.raises(ValueError, match=name + "the window covers 3 × 3 cells, .* only 2 × 2"):
        layer.forward(np.zeros((2, 2, 2, 3), np.float32))
    with pytest.raises(ValueError, match=name + r"input shape is \(8, 8, 1\), want \(H, W, 3\)"):
        layer.output_shape((8, 8, 1))
    with pytest.raises(ValueError, match="padding is 'full', want 'valid', 'same'"):
        Conv2D(3, 8, 3, padding="full", rng=rng)
    with pytest.raises(ValueError, match="padding is -1"):
        Conv2D(3, 8, 3, padding=-1, rng=rng)
    with pytest.raises(ValueError, match="stride is 0"):
        Conv2D(3, 8, 3, stride=0, rng=rng)
    with pytest.raises(ValueError, match="groups is 2, want a divisor of in_channels 3"):
        Conv2D(3, 8, 3, groups=2, rng=rng)
    with pytest.raises(ValueError, match="x has 3 channels, w is .* groups 1"):
        conv2d_forward(np.zeros((1, 5, 5, 3)), np.zeros((3, 3, 2, 4)))


def test_geometry_of_a_known_case():
    # AlexNet's first layer: 227 pixels, kernel 11, stride 4 give 55
    g = ConvGeometry(
        batch=1, height=227, width=227, channels=3, padding="valid", filters=96, kernel=(11, 11),
        stride=4, dilation=1, groups=1, bias=True,
    )  # fmt: skip
    assert g.output_shape == (1, 55, 55, 96)
