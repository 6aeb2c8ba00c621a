"""Grey images in the form that a network's weights were trained on."""

import numpy as np
import pytest

from examples.mura.augment import normalise
from examples.mura.errors import UserError
from examples.mura.inputs import FORMS, InputForm
from tinynet.interop import imagenet_preprocess

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 5, 5), dtype=np.uint8)
PIXELS[0, 0, :2] = 0, 255


def test_ours_is_the_normalised_image_itself():
    x = normalise(PIXELS)
    assert InputForm()(x) is x
    three = InputForm("centred", 3)(x)
    assert three.shape == (3, 5, 5, 3)
    assert all(np.array_equal(three[..., c], x[..., 0]) for c in range(3))


@pytest.mark.parametrize("name", [name for name in FORMS if name != "centred"])
def test_imagenet_s_forms_are_those_of_the_grey_levels(name):
    x = InputForm(name, 3)(normalise(PIXELS))
    expected = imagenet_preprocess(PIXELS[..., None], name)
    assert x.dtype == np.float32
    np.testing.assert_allclose(x, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "channels", "said"),
    [("centred", 2, "--channels is 2"), ("torch", 1, "--preprocessing torch has three colours")],
)
def test_a_form_that_is_none(name, channels, said):
    with pytest.raises(UserError, match=said):
        InputForm(name, channels)
