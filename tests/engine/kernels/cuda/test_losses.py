"""engine/kernels/cuda/losses.cu, run on the processor, against the references."""

import numpy as np
import pytest

from tests.engine.gpu.fake_cupy import waits
from tests.engine.kernels.cuda.few_threads import few_threads
from tests.engine.kernels.cuda.on_cpu import cupy_kernels
from tests.layers.support import assert_close
from tinynet.backend import to_device
from tinynet.engine.gpu.cuda_graph import CapturedFunction, GraphArena
from tinynet.engine.kernels.cuda.launch import captured_step
from tinynet.losses import (
    CrossEntropy,
    SoftmaxCrossEntropy,
    WithAuxiliary,
    softmax_cross_entropy_backward,
    softmax_cross_entropy_forward,
)

__all__ = ["cupy_kernels", "few_threads"]  # fixtures
pytestmark = pytest.mark.usefixtures("few_threads")

SHAPES = [(1, 1), (1, 2), (3, 1), (5, 3), (2, 40), (35, 7)]


def on(x):
    return None if x is None else to_device(x, "cupy")


def off(x):
    return to_device(x, "numpy")


def drawn(shape, dtype="float64"):
    """Logits, labels, one-hot rows, rows of any sum, weights."""
    rng = np.random.default_rng(3)
    z = (3 * rng.standard_normal(shape)).astype(dtype)
    labels = rng.integers(0, shape[1], shape[0])
    targets = [labels, np.eye(shape[1], dtype=dtype)[labels], rng.random(shape).astype(dtype)]
    return z, targets, rng.random(shape[0]).astype(dtype)


@pytest.mark.parametrize("kind", [0, 1, 2], ids=["labels", "one-hot", "any"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_both_passes(shape, kind):
    z, targets, w = drawn(shape)
    y, w = targets[kind], w if sum(shape) % 2 else None
    want, cache = softmax_cross_entropy_forward.reference(z, y, w)
    value, kept = softmax_cross_entropy_forward(on(z), on(y), on(w))
    assert value.shape == ()
    assert_close(off(value), want)
    for got, wish in zip(kept[:3], cache[:3], strict=True):
        assert_close(off(got), wish)
    dz = softmax_cross_entropy_backward(kept)
    assert_close(off(dz), softmax_cross_entropy_backward.reference(cache))
    assert_close(off(softmax_cross_entropy_backward.reference(kept)), off(dz))
    if kind == 2:
        z, y = z.astype("f4"), y.astype("f4")
        value, kept = softmax_cross_entropy_forward(on(z), on(y))
        assert value.dtype == kept.share.dtype == np.float32
        want, _ = softmax_cross_entropy_forward.reference(z, y)
        np.testing.assert_allclose(off(value), want, rtol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_as_in_the_reference(bad):
    z, (y, *_), _ = drawn((4, 3))
    y[1], z[1, 0], z[1, 2], y[2], z[2] = 1, bad, 1000.0, 0, bad
    with np.errstate(all="ignore"):
        want, cache = softmax_cross_entropy_forward.reference(z, y)
        wanted = softmax_cross_entropy_backward.reference(cache)
    value, kept = softmax_cross_entropy_forward(on(z), on(y))
    np.testing.assert_array_equal(np.isnan(off(value)), np.isnan(want))
    assert np.isnan(want)
    np.testing.assert_allclose(off(softmax_cross_entropy_backward(kept)), wanted, rtol=1e-9)


def test_large_logits():
    z = np.array([[1000.0, 0.0, -1000.0]])
    value, kept = softmax_cross_entropy_forward(on(z), on(np.array([2])))
    assert float(value) == 2000
    np.testing.assert_array_equal(off(softmax_cross_entropy_backward(kept)), [[1, 0, -1]])


def test_what_is_not_covered_and_mistakes():
    z, (y, *_), _ = drawn((4, 6))
    value, _ = softmax_cross_entropy_forward(on(z)[:, ::2], on(y % 3))
    assert_close(off(value), softmax_cross_entropy_forward.reference(z[:, ::2], y % 3)[0])
    with pytest.raises(ValueError, match="labels run from"):
        softmax_cross_entropy_forward(on(z), on(y + 6))
    with pytest.raises(ValueError, match="empty"):
        softmax_cross_entropy_forward(on(z[:0]), on(y[:0]))
    with pytest.raises(ValueError, match="weights are"):
        softmax_cross_entropy_forward(on(z), on(y), on(np.ones(3)))
    with pytest.raises(TypeError, match="one library"):
        softmax_cross_entropy_forward(on(z), y)


LOSSES = {
    "plain": SoftmaxCrossEntropy(),
    "smoothed and weighted": SoftmaxCrossEntropy([1, 2, 0.5], 0.1),
    "mean over weights": SoftmaxCrossEntropy([1, 2, 0.5], 0.1, mean_over="weights"),
    "left out": SoftmaxCrossEntropy([1, 2, 0.5], 0.1, mean_over="weights", ignore_index=2),
    "sum": SoftmaxCrossEntropy(reduction="sum", ignore_index=2),
    "none": SoftmaxCrossEntropy([1, 2, 0.5], reduction="none"),
    "probabilities": CrossEntropy([1, 2, 0.5]),
    "auxiliary": WithAuxiliary(SoftmaxCrossEntropy([1, 2, 0.5]), 0.3),
}


@pytest.mark.parametrize("kind", [0, 1], ids=["labels", "one-hot"])
@pytest.mark.parametrize("name", LOSSES)
def test_a_captured_step_waits_for_nothing_and_copies_nothing(name, kind):
    loss, (z, targets, _) = LOSSES[name], drawn((5, 3))
    y = targets[kind]
    z = abs(z) / abs(z).sum(axis=1, keepdims=True)

    def both(z, y):
        value, cache = loss.compute((z, 2 * z) if name == "auxiliary" else z, y)
        dz = loss.backward(cache)
        return value, *(dz if isinstance(dz, tuple) else (dz,))

    wanted = both(z, y)
    z, y, arena = on(z), on(y), GraphArena()
    run = CapturedFunction(arena, lambda: both(z, y), "the loss")
    with arena(), captured_step():
        run()  # class weights are copied once
        waits.clear()
        results = run()  # a graph: what is not permitted is a warning, and so an error
        assert waits == []
        for got, wish in zip(results, wanted, strict=True):
            assert_close(off(got), wish)
    if name != "auxiliary" and kind == 0:
        with pytest.raises(ValueError, match="labels run from"):  # outside, labels are checked
            loss.forward(z, y + 3)


def test_class_weights_that_are_changed_are_copied_again():
    z, (y, *_), _ = drawn((5, 3))
    loss = SoftmaxCrossEntropy([1, 2, 0.5])
    before = float(loss.forward(on(z), on(y))[0])
    loss.class_weight[:] = 1
    after = float(loss.forward(on(z), on(y))[0])
    assert after == pytest.approx(float(SoftmaxCrossEntropy().forward(z, y)[0]))
    assert after != pytest.approx(before)
