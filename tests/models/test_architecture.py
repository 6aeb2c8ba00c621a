"""tinynet/models/architecture.py: what every builder checks, and the settings a network keeps."""

import inspect

import numpy as np
import pytest

from tests.models.peers import build
from tinynet.models import resnet50, se_resnet50, vgg_like
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


def test_a_builder_keeps_its_name_documentation_and_signature():
    assert ARCHITECTURES["vgg_like"] is vgg_like
    assert vgg_like.__name__ == "vgg_like"
    assert "3×3 convolutions" in vgg_like.__doc__
    assert list(inspect.signature(vgg_like).parameters)[:4] == [
        *("num_classes", "input_shape", "filters", "hidden")
    ]


def test_a_variant_is_the_familys_function_with_its_table_and_defaults():
    for name, builder, reduction in (
        ("resnet50", resnet50, None),
        ("se_resnet50", se_resnet50, 16),
    ):
        assert ARCHITECTURES[name] is builder
        assert (builder.__name__, builder.__module__) == (name, "tinynet.models.resnet")
        assert f"{name} " in builder.__doc__
        parameters = inspect.signature(builder).parameters
        assert list(parameters)[:2] == ["num_classes", "input_shape"]
        assert parameters["reduction"].default == reduction
        with pytest.raises(TypeError):
            builder(2, (8, 8, 1), (1, 1, 1, 1), rng=RNG)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_classes": 0}, "num_classes is 0, want a whole number from 1"),
        ({"num_classes": True}, "num_classes is True, want"),
        ({"num_classes": 2.0}, "num_classes is 2.0, want"),
        ({"input_shape": (32, 32)}, r"input_shape is \(32, 32\), want \(height, width, channels\)"),
        ({"input_shape": 32}, "input_shape is 32, want"),
        ({"input_shape": (0, 8, 1)}, r"input_shape is \(0, 8, 1\), want"),
        ({"input_shape": (8, 8.0, 1)}, r"input_shape is \(8, 8.0, 1\), want"),
        ({"input_shape": (8, 8, 3, 1)}, r"input_shape is \(8, 8, 3, 1\), want"),
        ({"width": 0}, "width is 0, want a number above 0; 1 is the paper's"),
        ({"width": float("nan")}, "width is nan, want"),
        ({"epsilon": 0}, "BatchNorm.*epsilon"),  # a layer's own message
    ],
)
def test_what_a_builder_refuses_starts_with_its_name(settings, message):
    with pytest.raises(ValueError, match=f"^resnet50: {message}"):
        resnet50(**{"num_classes": 2, "input_shape": (32, 32, 1), "rng": RNG} | settings)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("resnet101", {"stride_in": "2x2"}, "stride_in is '2x2', want '3x3' .* or '1x1'"),
        ("se_resnet50", {"reduction": 0}, "reduction is 0, want a whole number from 1"),
        ("mobilenet", {"padding": "same"}, "padding is 'same', want 'keras' .* or 'symmetric'"),
        ("shufflenet_v2", {"multiplier": 0.75}, "multiplier is 0.75, want one of 0.5, 1.0, 1.5, 2"),
        *[
            (name, {"repeats": repeats}, "repeats is .*, want (three|a tuple of) whole numbers")
            for name, repeats in (
                *(("inception_v4", (4, 7)), ("inception_v4", (1, 2, -1)), ("inception_v4", "123")),
                *(("inception_resnet_v2", 3), ("inception_resnet_v2", (1, 2, 0.5))),
            )
        ],
        ("small_resnet", {"depth": 18}, r"depth is 18 with 3 stages .* 6·n \+ 2, such as 8 or 20"),
        ("small_resnet", {"depth": 2}, "depth is 2 with 3 stages"),
        ("small_resnet", {"filters": ()}, "depth is 20 with 0 stages .* at least one stage"),
        (
            "small_resnet",
            {"batch_norm": False, "zero_last_gamma": True},
            "zero_last_gamma needs .* batch_norm=True",
        ),
        ("small_resnet", {"filters": (4, 3), "depth": 6}, ".*cannot end in 3 channels from 4"),
    ],
)
def test_bad_settings_are_refused(name, settings, message):
    with pytest.raises(ValueError, match=f"^{name}: {message}"):
        build(name, 2, (99, 99, 1), **settings)
