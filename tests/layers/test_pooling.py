import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.layers.support import assert_close, channels_first, channels_last, normal, torch_pass
from tinynet import layers
from tinynet.layers import (
    AdaptiveAvgPool2D,
    AvgPool2D,
    GlobalAvgPool2D,
    GlobalMaxPool2D,
    MaxPool2D,
    SumPool2D,
    adaptive_avg_pool2d_backward,
    adaptive_avg_pool2d_forward,
    avg_pool2d_forward,
    global_avg_pool2d_forward,
    global_max_pool2d_backward,
    global_max_pool2d_forward,
    max_pool2d_backward,
    max_pool2d_forward,
    sum_pool2d_backward,
    sum_pool2d_forward,
)
from tinynet.testing.strategies import pool_geometries, seeds

POOLS = [MaxPool2D, AvgPool2D, SumPool2D]
FORWARD = [max_pool2d_forward, avg_pool2d_forward, sum_pool2d_forward]


@pytest.mark.parametrize(("pool", "forward"), list(zip(POOLS, FORWARD, strict=True)))
@settings(max_examples=20)
@given(g=pool_geometries())
def test_layers_hand_their_settings_on_and_declare_their_shape(pool, forward, g):
    how, (x,) = (g.pool_size, g.stride, g.padding), normal(0, g.input_shape)
    layer = pool(*how, dilation=g.dilation)
    y, _ = layer.forward(x)
    assert_close(y, forward(x, *how, dilation=g.dilation)[0])
    assert y.shape == g.output_shape == (g.batch, *layer.output_shape(g.input_shape[1:]))


@pytest.mark.parametrize("name", ["max", "avg"])
@settings(max_examples=40)
@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 5),
    seed=seeds(),
)
def test_ceil_equals_torch_s_ceil_mode(torch, name, size, kernel, stride, seed):
    """The stride beyond the kernel too: torch leaves out a window that starts outside."""
    kernels = tuple(min(kernel, n) for n in size)
    (x,) = normal(seed, (2, *size, 3))
    pool = getattr(torch.nn.functional, f"{name}_pool2d")
    y, cache = getattr(layers, f"{name}_pool2d_forward")(x, kernels, stride, "ceil")

    def oracle(x):  # the mean of the real cells
        return channels_last(pool(channels_first(x), kernels, stride, ceil_mode=True))

    (dy,) = normal(seed + 1, y.shape)
    wanted = torch_pass(torch, oracle, dy, x)
    assert_close(y, wanted[0])
    assert_close(getattr(layers, f"{name}_pool2d_backward")(dy, cache), wanted[1])


def test_a_worked_example():
    x = np.array([[1.0, 2, 0, 4], [3, 0, 1, 1], [5, 5, -1, -2], [0, 0, -3, -4]])
    x = x.reshape(1, 4, 4, 1)
    assert max_pool2d_forward(x, 2)[0].ravel().tolist() == [3, 4, 5, -1]
    assert sum_pool2d_forward(x, 2)[0].ravel().tolist() == [6, 6, 10, -10]
    assert avg_pool2d_forward(x, 2)[0].ravel().tolist() == [1.5, 1.5, 2.5, -2.5]
    assert global_avg_pool2d_forward(x)[0].tolist() == [[0.75]]


def test_first_of_equal_cells_wins_row_by_row():
    x = np.array([[0.0, 7, 7], [7, 7, 7]]).reshape(1, 2, 3, 1)
    _, cache = max_pool2d_forward(x, (2, 3))
    dx = max_pool2d_backward(np.ones((1, 1, 1, 1)), cache)
    assert dx[0, :, :, 0].tolist() == [[0, 1, 0], [0, 0, 0]]


def test_a_cell_that_wins_under_several_windows_collects_all_their_gradients():
    x = np.array([0.0, 9, 0]).reshape(1, 1, 3, 1)
    _, cache = max_pool2d_forward(x, (1, 2), 1)
    dx = max_pool2d_backward(np.array([10.0, 5.0]).reshape(1, 1, 2, 1), cache)
    assert dx.ravel().tolist() == [0, 15, 0]


@pytest.mark.parametrize("value", [-5.0, -np.inf])
def test_padding_never_wins_a_maximum(value):
    y, cache = max_pool2d_forward(np.full((1, 2, 2, 1), value), 2, 1, 1)
    assert y.ravel().tolist() == [value] * 9
    dx = max_pool2d_backward(np.ones_like(y), cache)
    assert dx.sum() == 9  # no window's gradient is lost in the padding


def test_padding_counts_in_an_average_only_on_demand():
    x = np.full((1, 2, 2, 1), 8.0)
    assert avg_pool2d_forward(x, 2, 2, 1)[0].ravel().tolist() == [8] * 4
    assert avg_pool2d_forward(x, 2, 2, 1, count_padding=True)[0].ravel().tolist() == [2] * 4


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "windows"),
    [
        (112, 3, 2, 56),  # ⌈(112 − 3) / 2⌉ + 1
        (7, 3, 2, 3),  # fits as it is
        (8, 3, 2, 4),  # one row more, so one window more, with one row of padding
        (2, 3, 2, 1),  # smaller than the window: one window with one row of padding
        (7, 2, 3, 3),  # the last window starts in the last row
        (6, 2, 4, 2),
        (6, 2, 5, 2),  # in the last row
        (5, 2, 5, 1),  # would start below it: left out, and so are the rows between
    ],
)
def test_ceil_leaves_no_row_out_that_a_window_can_start_in(size, kernel, stride, windows):
    x = np.ones((1, size, 1, 1))
    y, cache = sum_pool2d_forward(x, (kernel, 1), (stride, 1), "ceil")
    assert y.shape == (1, windows, 1, 1)
    assert MaxPool2D((kernel, 1), stride, "ceil").output_shape((size, 1, 1))[0] == windows
    starts = range(0, windows * stride, stride)
    assert y.ravel().tolist() == [min(kernel, size - start) for start in starts]
    if kernel >= stride:
        assert sum_pool2d_backward(np.ones_like(y), cache).all()
    with pytest.raises(ValueError, match="the window covers 3 × 1 cells"):
        sum_pool2d_forward(x[:, :1], (3, 1), (1, 1), "ceil")


def test_a_window_of_more_than_256_cells():
    (x,) = normal(0, (1, 20, 20, 1))
    y, cache = max_pool2d_forward(x, 20)
    dx = max_pool2d_backward(np.ones_like(y), cache)
    assert y.item() == x.max()
    assert dx.argmax() == x.argmax()
    assert dx.sum() == 1


def test_nan_is_not_hidden_by_a_maximum():
    x = np.array([1.0, np.nan, 2.0]).reshape(1, 1, 3, 1)
    assert np.isnan(max_pool2d_forward(x, (1, 3))[0]).all()


def test_adaptive_windows_that_meet_are_average_pooling_and_one_window_is_global():
    (x,) = normal(0, (2, 12, 8, 3))
    assert_close(AdaptiveAvgPool2D(4).forward(x)[0], AvgPool2D((3, 2)).forward(x)[0])
    assert_close(AdaptiveAvgPool2D(1).forward(x)[0][:, 0, 0], GlobalAvgPool2D().forward(x)[0])


def test_adaptive_windows_that_do_not_meet_share_a_cell():
    x = np.arange(5.0).reshape(1, 1, 5, 1)
    y, cache = adaptive_avg_pool2d_forward(x, (1, 2))  # cells 0, 1, 2 and 2, 3, 4
    assert y.ravel().tolist() == [1, 3]
    dx = adaptive_avg_pool2d_backward(np.array([3.0, 30.0]).reshape(y.shape), cache)
    np.testing.assert_allclose(dx.ravel(), [1, 1, 11, 10, 10], rtol=1e-15)


def test_the_largest_of_an_image_that_is_larger_than_two_bytes_count():
    x = np.zeros((2, 300, 300, 1), np.float32)
    x[0, 299, 298], x[1, 0, 1], x[1, 0, 2] = 3, np.nan, 5
    y, cache = global_max_pool2d_forward(x)
    np.testing.assert_array_equal(y, [[3], [np.nan]])  # which is not hidden
    dx = global_max_pool2d_backward(np.float32([[2], [7]]), cache)
    assert dx.dtype == np.float32
    assert (dx[0, 299, 298], dx[1, 0, 1], dx.sum()) == (2, 7, 9)


def test_a_window_with_gaps_reads_every_other_cell():
    x = np.arange(25.0).reshape(1, 5, 5, 1)
    for pool, corner in ((MaxPool2D, 12), (AvgPool2D, 6), (SumPool2D, 24)):
        y, _ = pool(2, 1, dilation=2).forward(x)  # 0, 2, 10, 12 in the first
        assert y.shape == (1, 3, 3, 1)
        assert y[0, 0, 0, 0] == corner


def zeros(*shape):
    return np.zeros(shape)


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda pool: pool(2).forward(zeros(4, 4, 1)),
            r"\(2×2\): input is \(4, 4, 1\), want \(N, H",
        ),
        (
            lambda pool: pool(3).forward(zeros(1, 2, 2, 1)),
            r"\(3×3\): the window covers 3 × 3 cells",
        ),
        (lambda pool: pool(2).output_shape((4, 4)), r"\(2×2\): input shape is \(4, 4\), want"),
        (lambda pool: pool(0), "pool_size is 0"),
        (lambda pool: pool(2, -1), "stride is -1"),
        (lambda pool: pool(2, padding="sane"), "padding is 'sane'"),
        (lambda pool: pool(2, padding=2), r"\(2×2\): .*\(\(2, 2\), \(2, 2\)\).* padding alone"),
    ],
)
def test_errors_name_the_layer_what_came_and_what_was_wanted(pool, call, message):
    with pytest.raises(ValueError, match=pool.__name__ * message.startswith(r"\(") + message):
        call(pool)


@pytest.mark.parametrize("forward", FORWARD)
def test_pure_functions_refuse_windows_in_padding_alone(forward):
    with pytest.raises(ValueError, match=r"\(\(2, 2\), \(2, 2\)\).* padding alone"):
        forward(zeros(1, 4, 4, 1), 2, 2, 2)
    with pytest.raises(ValueError, match=r"x is \(4, 4\), want \(N, H, W, C\)"):
        forward(zeros(4, 4), 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: AdaptiveAvgPool2D(0), "output_size is 0"),
        (
            lambda: AdaptiveAvgPool2D(2).forward(zeros(4, 4, 1)),
            r"Adap\w+\(2×2\): input is \(4, 4, 1\)",
        ),
        (
            lambda: adaptive_avg_pool2d_forward(zeros(4, 4), 2),
            r"x is \(4, 4\), want \(N, H, W, C\)",
        ),
        (lambda: AdaptiveAvgPool2D(2).output_shape((4, 4)), r"Adap.*: input shape is \(4, 4\)"),
        (lambda: GlobalMaxPool2D().forward(zeros(4, 4, 1)), r"GlobalMaxPool2D\(\): input is"),
        (lambda: global_max_pool2d_forward(zeros(1, 0, 4, 1)), r"\(1, 0, 4, 1\), want .* from 1"),
        (lambda: MaxPool2D(2, dilation=0), "dilation is 0"),
        (
            lambda: MaxPool2D(2, 1, "same", 3).forward(zeros(1, 2, 2, 1)),
            r"\(3, 3\) apart, want less",
        ),
        (lambda: GlobalAvgPool2D().forward(zeros(4, 4, 1)), r"Global\w+\(\): input is \(4, 4, 1\)"),
    ],
)
def test_errors_of_adaptive_and_global_pooling(call, message):
    with pytest.raises(ValueError, match=message):
        call()
