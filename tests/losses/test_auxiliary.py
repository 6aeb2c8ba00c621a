"""The loss of a network with several outputs: its number, its gradients, what it refuses."""

import numpy as np
import pytest

from tinynet.gradient_check import check_loss
from tinynet.layer import EVAL, Layer
from tinynet.losses import CrossEntropy, SoftmaxCrossEntropy, WithAuxiliary

OUTPUTS = tuple(np.random.default_rng(0).standard_normal((3, 5, 4)))
Z = OUTPUTS[0]
Y = np.random.default_rng(1).integers(0, 4, 5)


class OfOneArray:
    """The loss as a function of one array, in which the outputs stand side by side."""

    def __init__(self, loss):
        self.loss = loss

    def forward(self, z, y):
        return self.loss.forward(tuple(np.split(z, 3, axis=1)), y)

    def backward(self, cache):
        return np.concatenate(self.loss.backward(cache), axis=1)


@pytest.mark.parametrize("weight", [0.0, 0.3, 2.0])
def test_adds_up_the_losses_of_the_outputs(weight):
    inner = SoftmaxCrossEntropy(class_weight=[1, 2, 3, 4], label_smoothing=0.1)
    loss = WithAuxiliary(inner, weight)
    value, cache = loss.forward(OUTPUTS, Y)
    parts = [inner.forward(z, Y) for z in OUTPUTS]
    assert value == pytest.approx(parts[0][0] + weight * (parts[1][0] + parts[2][0]), rel=1e-14)
    gradients = loss.backward(cache)
    assert isinstance(gradients, tuple)
    for dz, (_, inner_cache), w in zip(gradients, parts, (1, weight, weight), strict=True):
        np.testing.assert_allclose(dz, w * inner.backward(inner_cache), rtol=1e-14)


@pytest.mark.parametrize("inner", [SoftmaxCrossEntropy(label_smoothing=0.1), CrossEntropy()])
def test_gradients(inner):
    z = np.concatenate(OUTPUTS, axis=1)
    if isinstance(inner, CrossEntropy):
        z = np.exp(z)
    assert check_loss(OfOneArray(WithAuxiliary(inner)), z, Y).ok


def test_of_one_output_it_is_the_inner_loss():
    inner, loss = SoftmaxCrossEntropy(), WithAuxiliary(SoftmaxCrossEntropy())
    value, cache = loss.forward(Z, Y)
    wanted, inner_cache = inner.forward(Z, Y)
    assert value == wanted
    assert np.array_equal(loss.backward(cache), inner.backward(inner_cache))
    for outputs in (OUTPUTS, Z):  # the network's own output decides
        assert np.array_equal(loss.probabilities(outputs), inner.probabilities(Z))


def test_keeps_the_dtype():
    loss = WithAuxiliary(SoftmaxCrossEntropy())
    value, cache = loss.forward(tuple(z.astype(np.float32) for z in OUTPUTS), Y)
    assert {value.dtype, *(dz.dtype for dz in loss.backward(cache))} == {np.dtype(np.float32)}


@pytest.mark.parametrize("inner", [SoftmaxCrossEntropy(), CrossEntropy()])
def test_a_plain_loss_of_several_outputs_names_the_wrapper(inner):
    name = type(inner).__name__
    message = rf"^{name}: the network gave 3 outputs, .* use WithAuxiliary\({name}\(\)\), .*$"
    with pytest.raises(TypeError, match=message) as seen:
        inner.forward(OUTPUTS, Y)
    assert "\n" not in str(seen.value)


@pytest.mark.parametrize("weight", [-0.1, float("nan"), float("inf")])
def test_a_weight_out_of_range_is_refused(weight):
    with pytest.raises(ValueError, match="WithAuxiliary: weight is .*, want a (finite )?number"):
        WithAuxiliary(SoftmaxCrossEntropy(), weight)


@pytest.mark.parametrize("inner", [SoftmaxCrossEntropy, 0.3, Layer().forward, EVAL])
def test_an_inner_loss_of_another_kind_is_refused(inner):
    with pytest.raises(TypeError, match=r"WithAuxiliary: loss is .*, want a loss, such as Softmax"):
        WithAuxiliary(inner)


def test_repr_names_the_inner_loss_and_the_report_s_weight():
    text = repr(WithAuxiliary(SoftmaxCrossEntropy(label_smoothing=0.1)))
    assert text.startswith("WithAuxiliary(SoftmaxCrossEntropy(")
    assert text.endswith("weight=0.3)")
