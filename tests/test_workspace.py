"""tinynet/workspace.py: buffers come back, and never while something refers to them."""

import gc
import threading

import numpy as np
import pytest

from tinynet.workspace import ALIGNMENT, SMALL, Workspace, empty, empty_like

LARGE = (SMALL, 2)


def test_outside_a_workspace_arrays_are_fresh():
    a = empty(LARGE, "float32")
    assert a.shape == LARGE
    assert a.base is None
    assert empty_like(a).dtype == np.float32


def test_small_arrays_are_fresh():
    workspace = Workspace()
    with workspace:
        assert empty((4,), "float32").base is None
    assert workspace.allocated == 0


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "complex128"])
def test_shape_dtype_alignment_and_writing(dtype):
    with Workspace() as workspace:
        a = empty(LARGE, dtype)
        assert a.shape == LARGE
        assert a.dtype == dtype
        assert a.flags.c_contiguous
        assert a.flags.writeable
        assert a.ctypes.data % ALIGNMENT == 0
        a[...] = 1
        assert a.sum() == a.size
        assert workspace.allocated == a.nbytes


def test_a_buffer_is_handed_out_again_when_its_array_is_gone():
    with Workspace() as workspace:
        a = empty(LARGE, "float32")
        address = a.ctypes.data
        b = empty(LARGE, "float32")
        assert b.ctypes.data != address
        del a
        assert empty(LARGE, "float32").ctypes.data == address
        assert workspace.allocated == 2 * b.nbytes


def test_a_view_keeps_its_buffer():
    with Workspace():
        a = empty(LARGE, "float32")
        a[...] = 5
        view = a.reshape(-1)[10::3].T
        del a
        gc.collect()
        other = empty(LARGE, "float32")
        other[...] = 7
        assert (view == 5).all()


def test_an_array_outlives_the_block_and_the_workspace():
    with Workspace():
        a = empty(LARGE, "float32")
    a[...] = 3
    gc.collect()
    assert (a == 3).all()


def test_a_smaller_array_takes_a_buffer_only_if_little_is_wasted():
    with Workspace() as workspace:
        a = empty((10 * SMALL,), "uint8")
        del a
        b = empty((9 * SMALL,), "uint8")
        assert workspace.allocated == 10 * SMALL
        del b
        c = empty((5 * SMALL,), "uint8")
        assert workspace.allocated == 15 * SMALL
        assert len(c) == 5 * SMALL


def test_clear_lets_go_of_what_is_not_in_use():
    with Workspace() as workspace:
        a, b = empty(LARGE, "float32"), empty(LARGE, "float32")
        del b
        workspace.clear()
        assert workspace.allocated == a.nbytes
        a[...] = 1
        del a
        workspace.clear()
        assert workspace.allocated == 0


def test_workspaces_nest_and_end_with_an_error():
    outer, inner = Workspace(), Workspace()

    def fail():
        with inner:
            empty(LARGE, "float32")
            raise KeyError

    with outer:
        with pytest.raises(KeyError):
            fail()
        b = empty(LARGE, "float32")
    assert inner.allocated == b.nbytes
    assert outer.allocated == b.nbytes
    assert empty(LARGE, "float32").base is None


def test_threads_never_share_a_buffer():
    workspace, wrong = Workspace(), []

    def work(number):
        for _ in range(200):
            a = workspace.take((SMALL,), np.dtype("uint8"))
            a[...] = number
            if (a != number).any():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert workspace.allocated <= 4 * SMALL
