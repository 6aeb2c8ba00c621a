"""engine/kernels/cuda/dropout.cu, run on the processor: NumPy's draws, and the references."""

import numpy as np
import pytest

from tests.engine.gpu.fake_cupy import waits
from tests.engine.kernels.cuda.few_threads import few_threads
from tests.engine.kernels.cuda.on_cpu import cupy_kernels
from tests.layers.support import assert_close
from tinynet.backend import library_of, to_device, use_reference
from tinynet.engine.gpu.cuda_graph import CapturedFunction, GraphArena
from tinynet.engine.gpu.random import DeviceRandom, philox_state, skip
from tinynet.engine.kernels.cuda.launch import captured_step
from tinynet.layer import Mode
from tinynet.layers import Dropout, Sequential
from tinynet.layers.dropout import dropout_backward, dropout_forward, dropout_mask
from tinynet.train.data import generator

__all__ = ["cupy_kernels", "few_threads"]  # fixtures
pytestmark = pytest.mark.usefixtures("few_threads")

SHAPES = [(1,), (3,), (4,), (5, 1), (2, 3, 7), (61,), (0, 3)]


def on(x):
    return None if x is None else to_device(np.asarray(x), "cupy")


def off(x):
    return to_device(x, "numpy")


def rng_at(before, seed=7):
    """A generator that has drawn so many numbers."""
    rng = generator(seed, "dropout", 3)
    rng.random(before)
    return rng


def same_place(a, b):
    np.testing.assert_equal(a.bit_generator.state, b.bit_generator.state)


@pytest.mark.parametrize("before", range(9))
def test_several_draws_are_numpys(before):
    """Masks and numbers of all sizes, one after the other."""
    host, device = rng_at(before), DeviceRandom.from_generator(rng_at(before))
    for shape in SHAPES:
        mask = device.random_mask(shape, 0.6)
        assert mask.dtype == np.bool_
        np.testing.assert_array_equal(off(mask), host.random(shape) < 0.6)
        np.testing.assert_array_equal(off(device.random(shape)), host.random(shape))
    device.rewind()
    np.testing.assert_array_equal(off(device.random((5,))), rng_at(before).random(5))


@pytest.mark.parametrize("words", [1, 2, 3, 4])
def test_a_counter_carries_over(words):
    """2^64 − 1 in the lowest words: the next block of numbers changes all of them."""
    full = (1 << 64 * words) - 1
    host = np.random.Generator(np.random.Philox(counter=full - 1, key=5))
    twin = np.random.Generator(np.random.Philox(counter=full - 1, key=5))
    device = DeviceRandom.from_generator(host)
    np.testing.assert_array_equal(off(device.random((14,))), host.random(14))
    skip(twin, 14)
    same_place(twin, host)


def test_skipping_is_drawing():
    for before, count in np.ndindex(6, 10):
        a, b = rng_at(before), rng_at(before)
        a.random(count)
        skip(b, count)
        assert a.random() == b.random()
        if count:
            same_place(a, b)


@pytest.mark.parametrize("probability", [1e-300, 0.5, 1.0])
def test_probabilities_at_the_ends(probability):
    device = DeviceRandom.from_generator(rng_at(0))
    want = rng_at(0).random(50) < probability
    np.testing.assert_array_equal(off(device.random_mask((50,), probability)), want)


def test_it_may_start_from_one_generator_after_the_other():
    device = DeviceRandom()
    with pytest.raises(ValueError, match="over Philox"):
        device.start(np.random.default_rng(1))
    for seed in (1, 2):
        device.start(rng_at(3, seed))
        np.testing.assert_array_equal(off(device.random((6,))), rng_at(3, seed).random(6))
    assert philox_state(rng_at(3)).dtype == np.uint64


@pytest.mark.parametrize("kind", ["a generator on the GPU", "Philox", "another generator"])
def test_layers_draw_one_after_the_other(kind):
    """In a network of three, both passes; then the host's generator goes on as it would."""
    layers = [Dropout(0.5), Dropout(0.7, scale_at="test"), Dropout(0.9)]
    model, x = Sequential(*layers), np.random.default_rng(0).standard_normal((5, 7))
    host = np.random.default_rng(3) if kind == "another generator" else rng_at(2)
    twin = np.random.default_rng(3) if kind == "another generator" else rng_at(2)
    want, cache = model.forward(x, Mode(train=True, rng=host))
    rng = DeviceRandom.from_generator(twin) if kind == "a generator on the GPU" else twin
    y, kept = model.forward(on(x), Mode(train=True, rng=rng))
    np.testing.assert_array_equal(off(y), want)
    np.testing.assert_array_equal(off(model.backward(on(x), kept)), model.backward(x, cache))
    if rng is twin:
        assert twin.random() == host.random()
    assert (want == 0).any()


def test_the_reference_draws_from_a_generator_on_the_gpu():
    x = on(np.ones((3, 5)))
    with use_reference():
        mask = dropout_mask(x, DeviceRandom.from_generator(rng_at(1)), 0.4)
    assert library_of(mask) == "cupy"
    np.testing.assert_array_equal(off(mask), rng_at(1).random((3, 5)) < 0.4)


def test_a_captured_step_draws_from_the_state_of_its_step():
    first, second, x = Dropout(0.5), Dropout(0.4), on(np.ones((3, 5)))
    device, arena = DeviceRandom(), GraphArena()
    mode = Mode(train=True, rng=device)

    def body():
        device.rewind()
        y, cache = first.forward(x, mode)
        return y, first.backward(y, cache), second.forward(x, mode)[0]

    run = CapturedFunction(arena, body, "dropout")
    for seed in (1, 2, 3):
        host = rng_at(0, seed)
        y = 2.0 * (host.random((3, 5)) < 0.5)
        wanted = y, 2 * y, 2.5 * (host.random((3, 5)) < 0.4)
        with arena(), captured_step():
            device.start(rng_at(0, seed))
            waits.clear()
            results = run()
            assert waits == []
            for got, want in zip(results, wanted, strict=True):
                np.testing.assert_array_equal(off(got), want)


@pytest.mark.parametrize("scale_at", ["train", "test"])
def test_a_nan_that_is_removed_stays(scale_at):
    x, mask = np.full((3, 7), np.nan), np.zeros((3, 7), bool)
    y, cache = dropout_forward(on(x), on(mask), 0.7, scale_at)
    assert np.isnan(off(y)).all()
    assert np.isnan(off(dropout_backward(on(x), cache))).all()


def test_masks_that_are_not_covered_go_to_the_reference():
    x = np.arange(12.0).reshape(3, 4)
    for mask in ((x > 4).astype(float), np.asfortranarray(x > 4)):
        y, cache = dropout_forward(on(x), on(mask), 0.5)
        want, reference = dropout_forward.reference(x, mask, 0.5)
        assert_close(off(y), want)
        assert_close(off(dropout_backward(on(x), cache)), dropout_backward.reference(x, reference))
