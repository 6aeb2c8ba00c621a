import numpy as np
import pytest
from hypothesis import given
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
from tinynet.layers import (
    AvgPool2D,
    GlobalAvgPool2D,
    MaxPool2D,
    SumPool2D,
    avg_pool2d_backward,
    avg_pool2d_forward,
    global_avg_pool2d_backward,
    global_avg_pool2d_forward,
    max_pool2d_backward,
    max_pool2d_forward,
    sum_pool2d_backward,
    sum_pool2d_forward,
)
from tinynet.testing.strategies import pool_geometries, seeds, tie_free_arrays, tie_full_arrays

POOLS = [MaxPool2D, AvgPool2D, SumPool2D]


def settings_of(g):
    return g.pool_size, g.stride, g.padding


def pooled(torch, g, pool, value=0.0):
    """x -> pool(the padded x, kernel, stride), in our order of axes."""
    kernel, stride, _ = g.window()

    def oracle(x):
        padded = torch.nn.functional.pad(channels_first(x), torch_padding(g), value=value)
        return channels_last(pool(padded, kernel, stride))

    return oracle


def assert_max_pool_equals_torch(torch, g, x, dy):
    y, cache = max_pool2d_forward(x, *settings_of(g))
    oracle = pooled(torch, g, torch.nn.functional.max_pool2d, value=-np.inf)
    wanted = torch_pass(torch, oracle, dy, x)
    assert_close(y, wanted[0])
    assert_close(max_pool2d_backward(dy, cache), wanted[1])


@drawn
@given(g=pool_geometries(), strided=st.booleans(), seed=seeds())
def test_max_pool_equals_torch(torch, g, strided, seed):
    x, dy = normal(seed, g.input_shape, g.output_shape, strided=strided)
    assert_max_pool_equals_torch(torch, g, x, dy)


@drawn
@given(data=st.data(), g=pool_geometries(), seed=seeds())
def test_max_pool_sends_ties_where_torch_does(torch, data, g, seed):
    x = data.draw(tie_full_arrays(g.input_shape))
    (dy,) = normal(seed, g.output_shape)
    assert_max_pool_equals_torch(torch, g, x, dy)


@drawn
@given(g=pool_geometries(), strided=st.booleans(), seed=seeds())
def test_sum_pool_equals_torch(torch, g, strided, seed):
    x, dy = normal(seed, g.input_shape, g.output_shape, strided=strided)
    y, cache = sum_pool2d_forward(x, *settings_of(g))

    def sums(x, kernel, stride):
        return torch.nn.functional.avg_pool2d(x, kernel, stride, divisor_override=1)

    wanted = torch_pass(torch, pooled(torch, g, sums), dy, x)
    assert_close(y, wanted[0])
    assert_close(sum_pool2d_backward(dy, cache), wanted[1])


@drawn
@given(g=pool_geometries(), count_padding=st.booleans(), strided=st.booleans(), seed=seeds())
def test_avg_pool_equals_torch(torch, g, count_padding, strided, seed):
    x, dy = normal(seed, g.input_shape, g.output_shape, strided=strided)
    y, cache = avg_pool2d_forward(x, *settings_of(g), count_padding)
    average = pooled(torch, g, torch.nn.functional.avg_pool2d)

    def oracle(x):  # over the real cells: the padded mean of x by the padded mean of ones
        return average(x) if count_padding else average(x) / average(torch.ones_like(x))

    wanted = torch_pass(torch, oracle, dy, x)
    assert_close(y, wanted[0])
    assert_close(avg_pool2d_backward(dy, cache), wanted[1])


@pytest.mark.parametrize("count_padding", [False, True])
def test_avg_pool_equals_torch_s_own_padding(torch, count_padding):
    x, dy = normal(0, (2, 7, 6, 3), (2, 4, 3, 3))
    y, cache = avg_pool2d_forward(x, 3, 2, 1, count_padding)
    pool = torch.nn.AvgPool2d(3, 2, 1, count_include_pad=count_padding)
    wanted = torch_pass(torch, lambda x: channels_last(pool(channels_first(x))), dy, x)
    assert_close(y, wanted[0])
    assert_close(avg_pool2d_backward(dy, cache), wanted[1])


@drawn
@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 5),
    seed=seeds(),
)
def test_ceil_equals_torch_s_ceil_mode(torch, size, kernel, stride, seed):
    """The stride beyond the kernel too: torch leaves out a window that starts outside."""
    kernels = tuple(min(kernel, n) for n in size)
    (x,) = normal(seed, (2, *size, 3))
    functional = torch.nn.functional
    for forward, backward, pool in (
        (max_pool2d_forward, max_pool2d_backward, functional.max_pool2d),
        (avg_pool2d_forward, avg_pool2d_backward, functional.avg_pool2d),  # of the real cells
    ):
        y, cache = forward(x, kernels, stride, "ceil")

        def oracle(x, pool=pool):
            return channels_last(pool(channels_first(x), kernels, stride, ceil_mode=True))

        (dy,) = normal(seed + 1, y.shape)
        wanted = torch_pass(torch, oracle, dy, x)
        assert_close(y, wanted[0])
        assert_close(backward(dy, cache), wanted[1])


@drawn
@given(
    shape=st.tuples(*[st.integers(1, 6)] * 4),
    strided=st.booleans(),
    seed=seeds(),
)
def test_global_avg_pool_equals_torch(torch, shape, strided, seed):
    x, dy = normal(seed, shape, (shape[0], shape[3]), strided=strided)
    y, cache = global_avg_pool2d_forward(x)
    wanted = torch_pass(torch, lambda x: x.mean(dim=(1, 2)), dy, x)
    assert_close(y, wanted[0])
    assert_close(global_avg_pool2d_backward(dy, cache), wanted[1])


@drawn_some
@given(data=st.data(), g=pool_geometries(max_batch=2), ties=st.booleans(), seed=seeds())
def test_equal_the_report_s_loops(data, g, ties, seed):
    x = data.draw((tie_full_arrays if ties else tie_free_arrays)(g.input_shape))
    (dy,) = normal(seed, g.output_shape)
    passes = [
        (max_pool2d_forward, max_pool2d_backward, (), loops.max_pool2d(x, dy, g)),
        (sum_pool2d_forward, sum_pool2d_backward, (), loops.sum_pool2d(x, dy, g)),
        (avg_pool2d_forward, avg_pool2d_backward, (False,), loops.avg_pool2d(x, dy, g, False)),
        (avg_pool2d_forward, avg_pool2d_backward, (True,), loops.avg_pool2d(x, dy, g, True)),
    ]
    for forward, backward, more, (want_y, want_dx) in passes:
        y, cache = forward(x, *settings_of(g), *more)
        assert_close(y, want_y)
        assert_close(backward(dy, cache), want_dx)


@drawn_few
@given(data=st.data(), g=pool_geometries(max_batch=2))
def test_gradients(data, g):
    x = data.draw(tie_free_arrays(g.input_shape))
    args = (x, *settings_of(g))
    check_backward(max_pool2d_forward, max_pool2d_backward, args)
    check_backward(sum_pool2d_forward, sum_pool2d_backward, args)
    for count_padding in (False, True):
        check_backward(avg_pool2d_forward, avg_pool2d_backward, (*args, count_padding))
    check_backward(global_avg_pool2d_forward, global_avg_pool2d_backward, (x,))
    for pool in POOLS:
        check_gradients(pool(*settings_of(g)), x)
    check_gradients(GlobalAvgPool2D(), x)


@drawn
@given(g=pool_geometries())
def test_layers_declare_their_output_shape(g):
    x = np.zeros(g.input_shape, np.float32)
    for pool in POOLS:
        layer = pool(*settings_of(g))
        y, cache = layer.forward(x)
        dx = layer.backward(y, cache)
        assert y.shape == g.output_shape == (g.batch, *layer.output_shape(g.input_shape[1:]))
        assert dx.shape == x.shape
        assert y.dtype == dx.dtype == np.float32
        assert not layer.parameters()


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


def test_padding_never_wins_a_maximum():
    y, cache = max_pool2d_forward(np.full((1, 2, 2, 1), -5.0), 2, 2, 1)
    assert y.ravel().tolist() == [-5] * 4
    assert max_pool2d_backward(np.ones_like(y), cache).ravel().tolist() == [1] * 4


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


@pytest.mark.parametrize("pool", POOLS)
def test_errors_name_the_layer_what_came_and_what_was_wanted(pool):
    name = pool.__name__
    with pytest.raises(ValueError, match=name + r"\(2×2\): input is \(4, 4, 1\), want \(N, H, W"):
        pool(2).forward(np.zeros((4, 4, 1)))
    with pytest.raises(ValueError, match=name + r"\(3×3\): the window covers 3 × 3 cells"):
        pool(3).forward(np.zeros((1, 2, 2, 1)))
    with pytest.raises(ValueError, match=name + r"\(2×2\): input shape is \(4, 4\), want"):
        pool(2).output_shape((4, 4))
    with pytest.raises(ValueError, match="pool_size is 0"):
        pool(0)
    with pytest.raises(ValueError, match="stride is -1"):
        pool(2, -1)
    with pytest.raises(ValueError, match="padding is 'sane'"):
        pool(2, padding="sane")
    with pytest.raises(
        ValueError, match=name + r"\(2×2\): .*\(\(2, 2\), \(2, 2\)\).* padding alone"
    ):
        pool(2, padding=2)


@pytest.mark.parametrize("forward", [max_pool2d_forward, avg_pool2d_forward, sum_pool2d_forward])
def test_pure_functions_refuse_windows_in_padding_alone(forward):
    with pytest.raises(ValueError, match=r"\(\(2, 2\), \(2, 2\)\).* padding alone"):
        forward(np.zeros((1, 4, 4, 1)), 2, 2, 2)
    with pytest.raises(ValueError, match=r"x is \(4, 4\), want \(N, H, W, C\)"):
        forward(np.zeros((4, 4)), 2)


def test_global_avg_pool_refuses_a_missing_batch():
    with pytest.raises(ValueError, match=r"GlobalAvgPool2D\(\): input is \(4, 4, 1\), want"):
        GlobalAvgPool2D().forward(np.zeros((4, 4, 1)))
    assert GlobalAvgPool2D().output_shape((4, 4, 7)) == (7,)


def test_padding_never_wins_even_over_minus_infinity():
    x = np.full((1, 2, 2, 1), -np.inf)
    y, cache = max_pool2d_forward(x, 2, 1, padding=1)
    dx = max_pool2d_backward(np.ones_like(y), cache)
    assert dx.sum() == y.size == 9  # no window's gradient is lost in the padding
