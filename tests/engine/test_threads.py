"""tinynet/engine/threads.py: tasks side by side, errors and Ctrl-C, forks."""

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from contextvars import ContextVar

import numpy as np
import pytest

from tinynet.backend import use_kernels
from tinynet.engine import threads
from tinynet.engine.memory import Workspace, empty
from tinynet.engine.threads import Worker, WorkerPool
from tinynet.losses import SoftmaxCrossEntropy
from tinynet.models import vgg_like
from tinynet.optimizers import Adam
from tinynet.train import fit

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


def test_work_inside_work_is_cut_the_same_and_done_by_the_caller(monkeypatch):
    monkeypatch.setattr(threads, "thread_count", lambda: 2)

    def inside(part):
        return threads.over_shares(4, lambda part: (part.stop, threading.get_ident()))

    for results in threads.over_shares(2, inside):
        assert [stop for stop, _ in results] == [2, 4]
        assert len({thread for _, thread in results}) == 1


def test_two_callers_get_the_same_shares(monkeypatch):
    monkeypatch.setattr(threads, "thread_count", lambda: 3)
    both_work = threading.Barrier(2, timeout=60)
    found = {}

    def caller(name):
        def work(part):
            if part.start == 0:
                both_work.wait()  # one caller has the workers, and the other does not wait for them
            return part.start, part.stop

        found[name] = threads.over_shares(7, work)

    callers = [threading.Thread(target=caller, args=(name,)) for name in "ab"]
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join(60)
    assert found["a"] == found["b"] == [(0, 3), (3, 6), (6, 7)]


class Library:
    """A BLAS library; the numbers of its calls at which Ctrl-C is pressed."""

    def __init__(self, interrupts=()):
        self.num_threads, self.calls, self.interrupts = 4, 0, interrupts

    def set_num_threads(self, count):
        self.num_threads, self.calls = count, self.calls + 1
        if self.calls in self.interrupts:
            raise KeyboardInterrupt


@pytest.mark.parametrize("interrupts", [(), (1,), (2,), (1, 2), (2, 3, 4)])
@pytest.mark.parametrize("which", [0, 1])
def test_blas_has_its_threads_again_after_ctrl_c(monkeypatch, which, interrupts):
    libraries = [Library(), Library()]
    libraries[which].interrupts = interrupts
    monkeypatch.setattr(threads, "_blas", lambda: libraries)
    monkeypatch.setattr(threads, "thread_count", lambda: 2)
    with (
        pytest.raises(KeyboardInterrupt) if interrupts else nullcontext(),
        threads.one_blas_thread(),
        threads.one_blas_thread(),
    ):
        assert [library.num_threads for library in libraries] == [1, 1]
    assert [library.num_threads for library in libraries] == [4, 4]


@pytest.mark.parametrize(
    ("setting", "count"),
    [
        ("", 4),
        ("1", 1),
        ("3", 3),
        ("003", 3),
        ("2,4", 2),
        (" 2 ", 2),
        ("20000", 4),
        ("9" * 5000, 4),
    ],
)
def test_the_number_of_threads_is_at_most_that_of_cores(monkeypatch, setting, count):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(4), raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", setting)
    assert threads.thread_count() == count


@pytest.mark.parametrize("setting", ["0", "-2", "two", "²", "1.5", ",", "0" * 5000])
def test_what_is_no_number_of_threads_is_said_in_one_line(monkeypatch, setting):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(4), raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", setting)
    with pytest.warns(RuntimeWarning, match="OMP_NUM_THREADS is .*, want a whole number from 1"):
        assert threads.thread_count() == 4


def in_a_fork(work):
    """What ``work()``, true or false, is in a forked process, which gets a minute."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(60)
            code = int(not work())
        finally:  # whatever happens, the child must not go on with the tests
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


FORKS = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a system with fork"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]


class TestForks:
    pytestmark = FORKS

    def test_a_new_process_makes_its_own_workers(self, monkeypatch):
        monkeypatch.setattr(threads, "thread_count", lambda: 2)
        threads.over_shares(2, lambda part: None)
        assert in_a_fork(lambda: threads.over_shares(2, lambda part: part.start) == [0, 1])

    def test_a_new_process_is_free_of_what_other_threads_held(self, monkeypatch):
        """The workers, BLAS, and the memory of a step."""
        monkeypatch.setattr(threads, "thread_count", lambda: 2)
        libraries = [Library()]
        monkeypatch.setattr(threads, "_blas", lambda: libraries)
        working, forked, workspace = threading.Event(), threading.Event(), Workspace()

        def elsewhere():
            with threads.one_blas_thread():
                threads.over_shares(2, lambda part: working.set() or forked.wait(60))

        def two_threads_work():
            with workspace:
                empty((1 << 20,), "uint8")
            seen = threads.over_shares(2, lambda part: threading.get_ident())
            return len(set(seen)) == 2 and libraries[0].num_threads == 4

        other = threading.Thread(target=elsewhere)
        other.start()
        assert working.wait(60)
        try:
            assert in_a_fork(two_threads_work)
            assert libraries[0].num_threads == 1
        finally:
            forked.set()
            other.join(60)
        assert libraries[0].num_threads == 4


@pytest.mark.parametrize("kernels", ["numpy", "numba"])
def test_two_fits_at_once_have_the_bits_of_one(monkeypatch, kernels):
    monkeypatch.setattr(threads, "thread_count", lambda: 2)
    monkeypatch.setattr(threads, "BLOCK_BYTES", 1 << 12)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((24, 12, 12, 3)).astype("float32"), rng.integers(0, 2, 24)

    def trained(_=None):
        model = vgg_like(2, (12, 12, 3), (16, 16), 8, batch_norm=True, rng=np.random.default_rng(1))
        with use_kernels(kernels):
            fit(
                model,
                SoftmaxCrossEntropy(),
                Adam(),
                (x, y),
                epochs=2,
                seed=0,
                batch_size=12,
                progress=False,
            )
        return np.concatenate([value.ravel() for value in model.state().values()])

    alone = trained()
    with ThreadPoolExecutor(3) as three:
        for found in three.map(trained, range(4)):
            np.testing.assert_array_equal(found, alone)
