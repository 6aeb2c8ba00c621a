"""engine/kernels/cuda/dropout.cu, run on the processor: NumPy's draws, and the references."""

import numpy as np
import pytest

from tests.engine.gpu.fake_cupy import waits
from tests.engine.kernels.cuda.on_cpu import cupy_kernels
from tests.layers.support import assert_close
from tinynet.backend import library_of, to_device, use_reference
from tinynet.engine.gpu import random
from tinynet.engine.gpu.cuda_graph import CapturedFunction, GraphArena
from tinynet.engine.gpu.random import DeviceRandom, philox_state, skip
from tinynet.engine.kernels.cuda import dropout, launch
from tinynet.engine.kernels.cuda.launch import captured_step
from tinynet.engine.precision import bfloat16
from tinynet.layer import Mode
from tinynet.layers import Dropout, Sequential
from tinynet.layers.dropout import dropout_backward, dropout_forward, dropout_mask
from tinynet.layers.scale import scale_backward, scale_forward
from tinynet.train.data import generator

__all__ = ["cupy_kernels"]  # a fixture

SHAPES = [(1,), (3,), (4,), (5, 1), (2, 3, 7), (61,), (0, 3)]


@pytest.fixture(autouse=True)
def few_threads(cupy_kernels, monkeypatch):
    """Two blocks of 4 threads, so that a thread takes several blocks of numbers, and some none."""
    for module in (launch, dropout, random):
        monkeypatch.setattr(module, "THREADS", 4)
    monkeypatch.setattr(launch, "MOST_BLOCKS", 2)


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


@pytest.mark.parametrize("before", range(6))
@pytest.mark.parametrize("count", range(10))
def test_skipping_is_drawing(before, count):
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


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale_at", ["train", "test"])
@pytest.mark.parametrize("masked", [True, False])
def test_both_passes(masked, scale_at, dtype):
    """A NaN that is removed stays NaN."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 7)).astype(dtype)
    x[1, 2] = np.nan
    mask = rng.random((3, 7)) < 0.5 if masked else None
    if masked:
        mask[1, 2] = False
    want, cache = dropout_forward.reference(x, mask, 0.7, scale_at)
    y, kept = dropout_forward(on(x), on(mask), 0.7, scale_at)
    assert y.dtype == dtype
    assert kept.scale == cache.scale
    np.testing.assert_array_equal(off(y), want)
    dx = dropout_backward(on(x), kept)
    np.testing.assert_array_equal(off(dx), dropout_backward.reference(x, cache))
    assert np.isnan(off(dx)[1, 2])


def test_bfloat16():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 7)).astype(np.float32).astype(bfloat16())
    mask = rng.random((3, 7)) < 0.5
    exact = x.astype(np.float32)
    y, cache = dropout_forward(on(x), on(mask), 0.7)
    want = (exact * mask * np.float32(1 / 0.7)).astype(bfloat16())
    np.testing.assert_array_equal(off(y), want)
    np.testing.assert_array_equal(off(dropout_backward(on(x), cache)), want)
    y, factor = scale_forward(on(x), 0.3)
    assert y.dtype == bfloat16()
    np.testing.assert_array_equal(off(y), (exact * np.float32(0.3)).astype(bfloat16()))
    np.testing.assert_array_equal(off(scale_backward(on(x), factor)), off(y))


def test_what_is_not_covered_goes_to_the_reference():
    x = np.arange(12.0).reshape(3, 4)
    mask = x > 4
    for given, masks in ((x.astype(int), mask), (x, mask.astype(float)), (x, mask[:1])):
        y, cache = dropout_forward(on(given), on(masks), 0.5)
        want, reference = dropout_forward.reference(given, masks, 0.5)
        assert_close(off(y), want)
        assert_close(off(dropout_backward(on(x), cache)), dropout_backward.reference(x, reference))
    y, _ = dropout_forward(on(x)[:, ::2], on(mask)[:, ::2], 0.5)
    assert_close(off(y), (x * mask * 2)[:, ::2])
    assert_close(off(scale_forward(on(x.astype(int)), 2)[0]), x.astype(int) * 2)
    with pytest.raises(ValueError, match="keep_prob is 0"):
        dropout_forward(on(x), on(mask), 0)
