"""tinynet.interop.preprocess, by hand."""

import numpy as np
import pytest

from tinynet.interop import imagenet_preprocess

KINDS = ("torch", "caffe", "tf")


def images(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype="uint8")


def test_values_by_hand():
    x = np.array([[[255, 0, 51]]], "uint8")
    torch = [(1 - 0.485) / 0.229, -0.456 / 0.224, (0.2 - 0.406) / 0.225]
    np.testing.assert_allclose(imagenet_preprocess(x)[0, 0], torch, rtol=1e-6)
    caffe = [51 - 103.939, -116.779, 255 - 123.68]
    np.testing.assert_allclose(imagenet_preprocess(x, "caffe")[0, 0], caffe, rtol=1e-6)
    np.testing.assert_allclose(imagenet_preprocess(x, "tf")[0, 0], [1, -1, -0.6], rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_greyscale_becomes_three_equal_channels_in_a_new_array(kind):
    grey = images(2, 5, 4, 1).astype("float64")
    before = grey.copy()
    y = imagenet_preprocess(grey, kind, "float64")
    assert y.dtype == "float64"
    np.testing.assert_array_equal(y, imagenet_preprocess(np.repeat(grey, 3, -1), kind, "float64"))
    y[...] = 0
    np.testing.assert_array_equal(grey, before)
    assert imagenet_preprocess(images(0, 3, 3, 3), kind).shape == (0, 3, 3, 3)


BAD = [
    (np.zeros((2, 3, 3, 3)), "keras", "want one of 'torch', 'caffe', 'tf'"),
    (np.zeros((2, 3, 3, 4)), "torch", r"\(2, 3, 3, 4\), want"),
    (np.zeros((3, 3)), "torch", r"\(3, 3\), want"),
    (np.full((1, 3, 3, 3), -0.5), "torch", "values from -0.5 to -0.5, want 0 to 255"),
    (np.full((1, 3, 3, 3), 300.0), "tf", "want 0 to 255"),
]


@pytest.mark.parametrize(("x", "kind", "said"), BAD)
def test_bad_images_are_refused(x, kind, said):
    with pytest.raises(ValueError, match=said):
        imagenet_preprocess(x, kind)
