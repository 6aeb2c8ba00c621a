"""Generators, datasets, batches of an epoch, reading ahead."""

import itertools
import threading
from contextlib import closing

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinynet.backend import kernels_in_use, use_reference
from tinynet.train.data import ArrayDataset, as_dataset, batches, generator, prefetch


def draws(*arguments):
    return tuple(generator(*arguments).integers(0, 2**63, 4))


def test_generator_tells_all_arguments_apart_and_draws_the_same_again():
    arguments = [
        (seed, purpose, *counters)
        for seed in (0, 1)
        for purpose in ("shuffle", "dropout")
        for counters in ((), (0,), (1,), (0, 0), (0, 1), (1, 0))
    ]
    assert len({draws(*a) for a in arguments}) == len(arguments)
    assert draws(3, "shuffle", 1, 2) == draws(3, "shuffle", 1, 2)


def test_generator_draws_the_same_in_every_process_and_version():
    assert generator(7, "shuffle", 0).permutation(6).tolist() == [0, 2, 1, 4, 3, 5]


@pytest.mark.parametrize("arguments", [(-1, "shuffle"), (0, "shuffle", 2, -1)])
def test_generator_refuses_negative_numbers(arguments):
    with pytest.raises(ValueError, match="want numbers of at least 0"):
        generator(*arguments)


@given(n=st.integers(1, 60), m=st.integers(1, 70), epoch=st.integers(0, 3))
def test_an_epoch_is_a_permutation_in_ceil_n_over_m_batches(n, m, epoch):
    parts = batches(n, m, generator(0, "shuffle", epoch))
    assert sorted(np.concatenate(parts)) == list(range(n))
    assert len(parts) == -(-n // m)
    assert [len(part) for part in parts[:-1]] == [m] * (len(parts) - 1)
    assert len(parts[-1]) == (n % m or m)


def test_each_epoch_is_shuffled_afresh():
    orders = [np.concatenate(batches(100, 8, generator(0, "shuffle", e))) for e in range(3)]
    assert not np.array_equal(orders[0], orders[1])
    assert not np.array_equal(orders[1], orders[2])


@pytest.mark.parametrize(("m", "parts"), [(2, [[0, 1], [2, 3], [4]]), (None, [[0, 1, 2, 3, 4]])])
def test_without_a_generator_the_order_is_kept(m, parts):
    assert [part.tolist() for part in batches(5, m, None)] == parts


@pytest.mark.parametrize(("n", "m"), [(0, 4), (0, None), (4, 0), (4, -1)])
def test_batches_of_nothing_are_refused(n, m):
    with pytest.raises(ValueError, match="want at least 1 of each"):
        batches(n, m, None)


def test_array_dataset_gives_the_examples_asked_for():
    data = ArrayDataset(np.arange(12).reshape(6, 2), np.arange(6) * 10)
    x, y = data.batch(np.array([4, 1]), None)
    assert len(data) == 6
    assert x.tolist() == [[8, 9], [2, 3]]
    assert y.tolist() == [40, 10]


def test_augmentation_needs_a_generator_and_leaves_the_data_alone():
    x = np.zeros((4, 3))
    data = ArrayDataset(x, np.zeros(4, int), augment=lambda x, rng: x + rng.random(x.shape))
    indices = np.arange(4)
    plain, _ = data.batch(indices, None)
    once, again = (data.batch(indices, generator(0, "augment", 0, 0))[0] for _ in range(2))
    assert (plain == 0).all()
    assert (once > 0).all()
    assert np.array_equal(once, again)
    assert (x == 0).all()


@pytest.mark.parametrize(
    ("n", "labels", "message"), [(3, 2, "x has 3 examples and y 2 labels"), (0, 0, "empty")]
)
def test_array_dataset_refuses_lengths_that_differ_and_emptiness(n, labels, message):
    with pytest.raises(ValueError, match=message):
        ArrayDataset(np.zeros((n, 2)), np.zeros(labels, int))


def test_a_pair_of_arrays_becomes_a_dataset_and_a_dataset_stays():
    data = as_dataset((np.zeros((3, 2)), np.zeros(3, int)))
    assert isinstance(data, ArrayDataset)
    assert as_dataset(data) is data


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_prefetch_keeps_items_and_order(depth):
    assert list(prefetch(iter(range(20)), depth)) == list(range(20))


@pytest.mark.parametrize("depth", [1, 3])
def test_prefetch_runs_ahead_by_depth_and_no_further(depth):
    made = []
    ahead, too_far = threading.Event(), threading.Event()

    def items():
        for i in range(20):
            made.append(i)
            if i == depth:
                ahead.set()
            if i > depth:
                too_far.set()
            yield i

    with closing(prefetch(items(), depth)) as loaded:
        assert next(loaded) == 0
        assert ahead.wait(60)
        assert not too_far.wait(0.05)
        assert next(loaded) == 1
        assert too_far.wait(60)


@pytest.mark.parametrize("error", [OSError("image2.png is truncated"), KeyboardInterrupt()])
def test_prefetch_raises_the_items_exception_in_its_place(error):
    def items():
        yield 1
        raise error

    loaded = prefetch(items())
    assert next(loaded) == 1
    with pytest.raises(type(error), match=str(error) or None):
        next(loaded)


def test_prefetch_ends_its_thread_when_left_early():
    for item in prefetch(iter(range(1000))):
        if item == 3:
            break


def test_prefetch_ends_its_thread_when_the_consumer_fails():
    with pytest.raises(KeyboardInterrupt), closing(prefetch(iter(range(1000)))) as loaded:  # noqa: PT012
        next(loaded)
        raise KeyboardInterrupt


def test_prefetch_carries_the_context_into_its_thread():
    def items():
        yield np.geterr()["over"], kernels_in_use()

    with np.errstate(over="raise"), use_reference():
        assert list(prefetch(items())) == [("raise", "reference")]


def test_prefetch_refuses_a_depth_of_nothing():
    with pytest.raises(ValueError, match="want at least 1"):
        prefetch([1], depth=0)


def test_an_interrupt_while_the_thread_starts_leaves_no_thread(monkeypatch):
    started, start = [], threading.Thread.start

    def interrupted(thread):
        start(thread)
        started.append(thread)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        next(prefetch(itertools.count()))
    started[0].join(timeout=10)
    assert not started[0].is_alive()
