"""tinynet/engine/memory.py: buffers come back, and never while something refers to them."""

import gc
import threading
from contextvars import Context

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinynet.engine.memory import ALIGNMENT, LONG_LIVED, SMALL, Workspace, empty, empty_like

LARGE = (SMALL, 2)


def test_small_arrays_and_those_outside_a_workspace_are_fresh():
    workspace = Workspace()
    with workspace:
        assert empty((4,), "float32").base is None
    assert workspace.allocated == 0
    a = Context().run(empty, LARGE, "float32")
    assert a.shape == LARGE
    assert a.base is None
    assert empty_like(a).dtype == np.float32


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "complex128"])
def test_shape_dtype_alignment_and_writing(dtype):
    with Workspace() as workspace:
        a = empty(LARGE, dtype)
        assert (a.shape, a.dtype) == (LARGE, dtype)
        assert a.flags.c_contiguous
        assert a.flags.writeable
        assert a.ctypes.data % ALIGNMENT == 0
        a[...] = 1
        assert a.sum() == a.size
        assert workspace.allocated == a.nbytes


def filled(workspace):
    """The addresses of two large arrays and a small one, the first given back before the last."""
    with workspace:
        a, b = empty(LARGE, "float32"), empty((LONG_LIVED,), "uint8")
        addresses = [a.ctypes.data, b.ctypes.data]
        del a
        c = empty(LARGE, "float32")
        return [*addresses, c.ctypes.data]


def test_from_the_second_time_on_one_slab_serves():
    workspace = Workspace()
    filled(workspace)
    size = workspace.allocated
    assert size == LONG_LIVED + 4 * SMALL * 2  # the most that was in use at one time
    first, second = filled(workspace), filled(workspace)
    assert first == second
    assert first[2] == first[0]  # where the array was that had gone
    assert workspace.allocated == size


def test_a_view_keeps_its_piece():
    workspace = Workspace()
    filled(workspace)
    with workspace:
        a = empty(LARGE, "float32")
        a[...] = 5
        view = a.reshape(-1)[10::3].T
        del a
        gc.collect()
        other = empty(LARGE, "float32")
        other[...] = 7
        assert (view == 5).all()


def test_an_array_outlives_the_block_the_slab_and_the_workspace():
    workspace = Workspace()
    for _ in range(2):
        with workspace:
            a = empty(LARGE, "float32")
    workspace.clear()
    del workspace
    a[...] = 3
    gc.collect()
    assert (a == 3).all()


def test_what_does_not_fit_makes_the_slab_grow():
    workspace, sizes = Workspace(), []
    filled(workspace)
    for _ in range(2):
        with workspace:
            a, b = (empty((2 * LONG_LIVED,), "uint8") for _ in range(2))
            a[...], b[...] = 1, 2
            assert (a == 1).all()
            sizes.append(workspace.allocated)
            del a, b
        sizes.append(workspace.allocated)
    assert sizes[0] > 4 * LONG_LIVED
    assert sizes[1] == sizes[2] == sizes[3]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 3 * LONG_LIVED)), max_size=30))
@settings(max_examples=50)
def test_pieces_never_overlap(steps):
    """Arrays come and go in any order; each keeps what was written into its first and last byte."""
    workspace, held, a = Workspace(), {}, None
    for round_ in range(3):
        with workspace:
            for number, (place, size) in enumerate(steps):
                held[place] = None
                a = workspace.take((size,), np.uint8)
                a[0] = a[-1] = number
                held[place] = (a, number)
                assert all(pair[0][0] == pair[1] == pair[0][-1] for pair in held.values() if pair)
            if round_ != 1:
                held.clear()
    held.clear()
    a = None
    workspace.clear()
    assert workspace.allocated == 0


def test_clear_lets_go_of_what_is_not_in_use():
    workspace = Workspace()
    filled(workspace)
    with workspace:
        a = empty(LARGE, "float32")
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

    def nested():
        with outer:
            with pytest.raises(KeyError):
                fail()
            b = empty(LARGE, "float32")
        assert inner.allocated == b.nbytes
        assert outer.allocated == 2 * b.nbytes  # the slab, and b beside it
        assert empty(LARGE, "float32").base is None

    Context().run(nested)


def together(count, work):
    """Run ``work(number)`` in that many threads; [what it returned]."""
    results = []
    threads = [threading.Thread(target=lambda i=i: results.append(work(i))) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == count
    return results


def test_blocks_of_several_threads_end_each_by_itself():
    workspace, both_inside = Workspace(), threading.Barrier(2)

    def work(_):
        with workspace:
            both_inside.wait(60)
            a = empty(LARGE, "float32")
        both_inside.wait(60)
        return a.base is not None and empty(LARGE, "float32").base is None

    assert together(2, work) == [True, True]


def test_threads_never_share_a_buffer():
    workspace = Workspace()

    def work(number):
        for _ in range(200):
            a = workspace.take((SMALL,), np.dtype("uint8"))
            a[...] = number
            if (a != number).any():
                return False
        return True

    assert together(4, work) == [True] * 4
    assert workspace.allocated == 0
