"""tinynet/models/architecture.py"""

import numpy as np
import pytest

from tinynet.models import vgg_like
from tinynet.models.architecture import ARCHITECTURES, Architecture

RNG = np.random.default_rng(0)


def test_a_network_carries_all_its_settings_defaults_too():
    model = vgg_like(3, [8, 8, np.int64(1)], filters=[2, 4], rng=RNG)
    assert model.architecture == Architecture(
        "vgg_like",
        {
            "num_classes": 3,
            "input_shape": (8, 8, 1),
            "filters": (2, 4),
            "hidden": 256,
            "batch_norm": False,
            "keep_prob": 0.5,
        },
    )


def test_it_builds_the_same_network_again():
    model = vgg_like(3, (8, 8, 1), filters=(2, 4), hidden=5, batch_norm=True, rng=RNG)
    again = model.architecture.build()
    assert again.architecture == model.architecture
    assert {k: x.shape for k, x in again.state().items()} == {
        k: x.shape for k, x in model.state().items()
    }
    again.load_state(model.state())


def test_unknown_names_and_settings_are_refused():
    with pytest.raises(ValueError, match="no architecture 'vgg15': want one of .*vgg_like"):
        Architecture("vgg15").build()
    with pytest.raises(ValueError, match="vgg_like has no setting colour, depth: use the version"):
        Architecture("vgg_like", {"num_classes": 2, "depth": 3, "colour": True}).build()


def test_a_builder_keeps_its_name_and_documentation():
    assert ARCHITECTURES["vgg_like"] is vgg_like
    assert vgg_like.__name__ == "vgg_like"
    assert "3×3 convolutions" in vgg_like.__doc__
