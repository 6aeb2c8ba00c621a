"""What every layer promises: shapes, dtypes, pure passes, the gradient, images apart."""

import numpy as np
import pytest

from tests.layers.examples import IMAGES, example, layer_classes
from tinynet.gradient_check import check_gradients
from tinynet.layer import EVAL, Layer, Mode

CLASSES = layer_classes()
each_layer = pytest.mark.parametrize("name", CLASSES)


def batch(dtype="float64"):
    return np.random.default_rng(1).standard_normal(IMAGES).astype(dtype)


def training():
    return Mode(train=True, rng=np.random.default_rng(3))


@each_layer
def test_the_declared_shape_is_the_computed_one(name):
    layer, x = example(CLASSES[name]), batch()
    for mode in (EVAL, training()):
        y, cache = layer.forward(x, mode)
        assert y.shape[1:] == layer.output_shape(x.shape[1:])
        assert layer.backward(np.ones_like(y), cache).shape == x.shape


@each_layer
@pytest.mark.parametrize("mode", ["outside training", "training"])
def test_gradients(name, mode):
    train = mode == "training"
    check_gradients(example(CLASSES[name]), batch(), mode=training() if train else EVAL)


@each_layer
def test_a_dtype_that_is_promised_is_kept(name):
    for dtype in set(example(CLASSES[name]).promise("dtypes")) - {"bfloat16"}:
        layer, x = example(CLASSES[name], dtype), batch(dtype)
        y, cache = layer.forward(x, training())
        assert y.dtype == dtype
        assert layer.backward(np.ones_like(y), cache).dtype == dtype


@each_layer
def test_another_dtype_than_the_parameters_is_refused(name):
    layer = example(CLASSES[name], "float32")
    if layer.parameters():
        with pytest.raises(TypeError, match=r"\(.*input is float64, the parameters are float32"):
            layer.forward(batch(), training())


@each_layer
def test_arguments_are_left_as_they_were(name):
    layer, x = example(CLASSES[name]), batch()
    kept = x.copy()
    y, cache = layer.forward(x, training())
    dy = np.random.default_rng(2).standard_normal(y.shape)
    dy_kept = dy.copy()
    layer.backward(dy, cache)
    np.testing.assert_array_equal(x, kept)
    np.testing.assert_array_equal(dy, dy_kept)


@each_layer
def test_an_image_has_the_same_output_in_any_batch_where_that_is_promised(name):
    layer, x = example(CLASSES[name]), batch()
    if not layer.promise("per_image"):
        pytest.skip(f"{name} does not promise it")
    whole = layer.forward(x)[0]
    for i in range(len(x)):
        alone = layer.forward(x[i : i + 1])[0]
        np.testing.assert_allclose(alone, whole[i : i + 1], rtol=1e-13, atol=1e-15)


@each_layer
def test_a_subclass_with_its_own_pass_keeps_no_promise(name):
    kind = CLASSES[name]
    own = type("Own", (kind,), {"forward": lambda self, x, mode=EVAL: kind.forward(self, x, mode)})
    layer = example(kind)
    layer.__class__ = own
    for promise in ("wiring", "per_image", "dtypes"):
        assert layer.promise(promise) == getattr(Layer, promise)


@each_layer
def test_a_label_for_pictures(name):
    label = example(CLASSES[name]).label()
    assert label
    assert len(label) < 40


@each_layer
def test_a_gradient_of_another_shape_is_refused_in_words(name):
    layer = example(CLASSES[name])
    y, cache = layer.forward(batch(), training())
    wrong = [y[:1], y[..., :1], np.concatenate([y, y]), np.concatenate([y, y], axis=-1), y.ravel()]
    for dy in (*wrong, y[None], np.float64(1), y.tolist()):
        with pytest.raises((ValueError, TypeError), match=r"the gradient is .* want"):
            layer.backward(dy, cache)
