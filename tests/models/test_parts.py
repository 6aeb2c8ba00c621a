"""tinynet/models/parts.py: layers from plans, a network in two parts, and images too small."""

import numpy as np
import pytest

from tinynet.layers import AvgPool2D, Concat, Conv2D, MaxPool2D, ReLU, ReLU6, Sequential
from tinynet.models.parts import Parts, channels_after, representation_shape

RNG = np.random.default_rng(0)


def parts(width=1.0, epsilon=1e-3, **settings):
    return Parts(np.random.default_rng(0), width, epsilon, **settings)


def test_numbers_of_filters_are_scaled_to_multiples_from_one_upwards():
    assert [parts(0.5).scaled(n) for n in (64, 5, 1)] == [32, 2, 1]
    assert [parts(0.33).scaled(n, 2) for n in (24, 9, 1)] == [8, 2, 2]


def test_a_convolution_without_padding_leaves_the_size_over_the_stride():
    for kernel, stride in ((1, 1), (3, 1), (3, 2), (7, 2), (5, 1), ((1, 7), 1), ((7, 1), 1)):
        layer = parts().conv(2, 3, kernel, stride)
        assert layer.output_shape((15, 16, 2)) == (-(-15 // stride), -(-16 // stride), 3)
        assert layer.bias is None
    assert parts(bias=True).conv(2, 3, 3, 2, "valid").output_shape((15, 16, 2)) == (7, 7, 3)
    depthwise = parts(bias=True).conv(4, 4, 3, groups=4)
    assert depthwise.weight.shape == (3, 3, 1, 4)
    assert depthwise.bias is not None


def test_names_say_which_layers_there_are():
    names = "conv7 bn7 relu7"
    assert list(parts().conv_bn_relu(names, 2, 3, 3)) == names.split()
    assert list(parts(batch_norm=False).conv_bn_relu(names, 2, 3, 3)) == ["conv7", "relu7"]
    assert list(parts().conv_bn_relu("conv bn", 2, 3, 3)) == ["conv", "bn"]
    layers = parts(activation=ReLU6, gamma=False, momentum=0.7).conv_bn_relu(names, 2, 3, 3)
    assert isinstance(layers["relu7"], ReLU6)
    assert (layers["bn7"].gamma, layers["bn7"].momentum) == (None, 0.7)


def test_a_tuple_is_a_convolution_with_batch_norm_and_relu():
    layer = parts(0.5, epsilon=0.5)((12, (1, 7), 2, "valid"), 3)
    conv, bn, relu = layer.layers
    assert layer.names == ["conv", "bn", "relu"]
    assert conv.weight.shape == (1, 7, 3, 6)
    assert (conv.stride, conv.padding) == ((2, 2), "valid")
    assert (bn.channels, bn.epsilon) == (6, 0.5)
    assert isinstance(relu, ReLU)


def test_or_a_kind_of_layer_with_its_arguments():
    average, largest = parts()(("average", 3, 1, "same"), 3), parts()(("max", 3, 2), 3)
    assert isinstance(average, AvgPool2D)
    assert isinstance(largest, MaxPool2D)
    assert average.output_shape((9, 8, 3)) == (9, 8, 3)
    assert largest.output_shape((9, 8, 3)) == (4, 3, 3)


def test_lists_are_in_turn_and_dictionaries_side_by_side_in_their_order():
    pool = ("average", 3, 1, "same")
    plan = [(4, 1), {"b": (2, 3), "a": [pool, (5, 1)], "c": pool}, lambda p, c: p.conv(c, 7, 1)]
    layer = parts()(plan, 3)
    first, concat, last = layer.layers
    assert isinstance(layer, Sequential)
    assert isinstance(concat, Concat)
    assert concat.names == ["b", "a", "c"]
    assert channels_after(first, 3) == 4
    assert channels_after(concat, 4) == last.in_channels == 2 + 5 + 4
    stages = parts().in_turn({"x": (4, 1), "y": (5, 3)}, 3)
    assert list(stages) == ["x", "y"]
    assert stages["y"].layers[0].in_channels == 4


def base():
    return Sequential(
        stem=Sequential(conv=Conv2D(1, 2, 5, stride=2, rng=RNG), relu=ReLU()),
        mixed=Concat(pool=MaxPool2D(3), conv=Conv2D(2, 3, 3, stride=3, rng=RNG)),
    )


@pytest.mark.parametrize(
    ("shape", "layer"),
    [((8, 40, 1), "mixed.pool"), ((4, 9, 1), "stem.conv"), ((9, 3, 1), "stem.conv")],
)
def test_too_small_an_image_names_the_layer_and_the_smallest_side(shape, layer):
    assert representation_shape(base(), (9, 9, 1)) == (1, 1, 5)
    message = (
        rf"an image of {shape[0]} × {shape[1]} is too small, its size runs out at {layer} \(.*\), "
        "whose input is .* × .*: the smallest square that works is 9 × 9$"
    )
    with pytest.raises(ValueError, match=message):
        representation_shape(base(), shape)


def test_what_no_size_mends_is_the_layers_own_error():
    wrong = Concat(MaxPool2D(2), Sequential())
    with pytest.raises(ValueError, match="Concat: the branches end in"):
        representation_shape(wrong, (8, 8, 1))


def test_the_usual_head_averages_drops_and_scores():
    stages = {"conv": parts().conv(3, 4, 3)}
    model = parts().classifier(stages, (8, 9, 3), 2, keep_prob=0.7)
    assert list(model.head.children()) == ["pool", "dropout", "classes"]
    assert list(parts().classifier(stages, (8, 9, 3), 2).head.children()) == ["pool", "classes"]
    assert model.head.layers[1].keep_prob == 0.7
    assert model.output_shape((8, 9, 3)) == (2,)
    assert model.architecture is None
