"""tinynet/engine/threads.py: tasks side by side, errors and Ctrl-C, forks."""

import os
import signal
import threading
import time
from contextvars import ContextVar

import pytest

from tinynet.engine import threads
from tinynet.engine.threads import Worker, WorkerPool

number = ContextVar("number", default=0)


@pytest.fixture
def pool():
    made = WorkerPool(3)
    yield made
    made.end()


def test_results_in_order_each_from_a_thread_of_its_own(pool):
    together = threading.Barrier(3, timeout=60)  # none returns before all have started

    def task(i):
        together.wait()
        return i, threading.get_ident()

    for _ in range(50):
        results = pool.run([lambda i=i: task(i) for i in range(3)])
        assert [i for i, _ in results] == [0, 1, 2]
        assert len({thread for _, thread in results}) == 3
        assert results[0][1] == threading.get_ident()
    assert pool.run([lambda: 5, lambda: 6]) == [5, 6]
    assert pool.run([lambda: 7]) == [7]


def test_each_task_runs_in_a_copy_of_the_callers_context(pool):
    token = number.set(4)
    try:
        assert pool.run([number.get] * 3) == [4] * 3
        pool.run([lambda: None, lambda: number.set(5)])
        assert number.get() == 4
    finally:
        number.reset(token)


@pytest.mark.parametrize("fails", [0, 1, 2])
def test_an_error_is_raised_when_all_have_ended(pool, fails):
    ended = []

    def task(i):
        if i == fails:
            raise ValueError(f"task {i}")
        time.sleep(0.02)
        ended.append(i)

    with pytest.raises(ValueError, match=f"task {fails}"):
        pool.run([lambda i=i: task(i) for i in range(3)])
    assert sorted(ended) == [i for i in range(3) if i != fails]
    assert pool.run([lambda: 1, lambda: 2, lambda: 3]) == [1, 2, 3]


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs a POSIX system")
@pytest.mark.parametrize("seconds", [0, 1], ids=["while it waits", "while it works"])
def test_ctrl_c_waits_for_the_others(pool, seconds):
    ended, both_run = [], threading.Barrier(2)

    def slow():
        if both_run.wait(60) == 0:  # one of the two
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        time.sleep(0.2)
        ended.append(True)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            pool.run([lambda: time.sleep(seconds), slow, slow])
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(ended) == 2
    assert pool.run([lambda: 1, lambda: 2, lambda: 3]) == [1, 2, 3]


def test_a_worker_keeps_neither_task_nor_result():
    worker = Worker()

    class Large:
        gone = 0

        def __del__(self):
            Large.gone += 1

    large = Large()
    worker.start(lambda large=large: large)
    worker.wait()
    del large
    assert worker.result() is not None
    assert Large.gone == 1
    worker.end()


def test_a_pool_that_ends_leaves_no_thread():
    pool = WorkerPool(4)
    pool.end()
    for worker in pool.workers:
        worker.thread.join(60)
    assert [worker.thread.is_alive() for worker in pool.workers] == [False] * 3


def test_another_number_of_threads_is_another_pool(monkeypatch):
    monkeypatch.setattr(threads, "_pool", None)
    pools = []
    for count in (2, 3, 2):
        monkeypatch.setattr(threads, "thread_count", lambda count=count: count)
        assert threads.over_shares(10, lambda part: part.stop - part.start) == (
            [5, 5] if count == 2 else [4, 4, 2]
        )
        pools.append(threads._pool)
    for pool in pools[:2]:
        for worker in pool.workers:
            worker.thread.join(60)
    alive = [[worker.thread.is_alive() for worker in pool.workers] for pool in pools]
    assert alive == [[False], [False, False], [True]]
    pools[-1].end()


def test_shares(monkeypatch):
    monkeypatch.setattr(threads, "thread_count", lambda: 3)

    def shares(n, multiple=1):
        return threads.over_shares(n, lambda part: (part.start, part.stop), multiple)

    assert shares(0) == []
    assert shares(1) == [(0, 1)]
    assert shares(2) == [(0, 1), (1, 2)]
    assert shares(7) == [(0, 3), (3, 6), (6, 7)]
    assert shares(7, multiple=2) == [(0, 4), (4, 7)]
    assert shares(100, multiple=24) == [(0, 48), (48, 96), (96, 100)]


def test_work_inside_work_and_of_two_callers_is_done_by_the_caller(monkeypatch):
    monkeypatch.setattr(threads, "thread_count", lambda: 2)

    def inside(part):
        return threads.over_shares(4, lambda part: (part.stop, threading.get_ident()))

    for results in threads.over_shares(2, inside):
        assert [stop for stop, _ in results] == [4]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a system with fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_makes_its_own(monkeypatch):
    monkeypatch.setattr(threads, "thread_count", lambda: 2)
    threads.over_shares(2, lambda part: None)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = threads.over_shares(2, lambda part: part.start) != [0, 1]
        finally:  # whatever happens, the child must not go on with the tests
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
