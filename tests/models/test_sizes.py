"""tinynet/models/sizes.py"""

import numpy as np
import pytest

from tinynet.layers import Concat, Conv2D, MaxPool2D, ReLU, Sequential
from tinynet.models.sizes import image_shape, representation_shape, smallest_side

RNG = np.random.default_rng(0)


def base() -> Sequential:
    return Sequential(
        stem=Sequential(conv=Conv2D(1, 2, 5, stride=2, rng=RNG), relu=ReLU()),
        mixed=Concat(pool=MaxPool2D(3), conv=Conv2D(2, 3, 3, stride=3, rng=RNG)),
    )


def test_a_large_enough_image_has_a_representation():
    assert representation_shape("net", base(), (21, 30, 1)) == (3, 4, 5)
    assert representation_shape("net", base(), [9, 9, 1]) == (1, 1, 5)


@pytest.mark.parametrize(
    ("shape", "layer"),
    [((8, 40, 1), "mixed.pool"), ((4, 9, 1), "stem.conv"), ((9, 3, 1), "stem.conv")],
)
def test_too_small_names_the_layer_and_the_smallest_side(shape, layer):
    with pytest.raises(ValueError, match=f"net: an image of {shape[0]} × {shape[1]} is too small"):
        representation_shape("net", base(), shape)
    with pytest.raises(ValueError, match=rf"runs out at {layer} \(.*square that works is 9 × 9"):
        representation_shape("net", base(), shape)


def test_smallest_side_is_the_smallest():
    for least in (1, 2, 3, 31, 32, 33, 200):
        assert smallest_side(lambda s, least=least: _at_least(s, least), 3) == least
    assert smallest_side(lambda s: _at_least(s, 10**9), 3) is None


def _at_least(shape, least):
    if shape[0] < least:
        raise ValueError
    return shape


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 0), (8, 8.0, 1), (8, 8, 3, 1)])
def test_not_an_image(shape):
    with pytest.raises(ValueError, match=r"net: input_shape is .*want \(height, width, channels\)"):
        image_shape("net", shape)
