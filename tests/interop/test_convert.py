"""tinynet.interop.convert: layouts, by hand and against torch."""

import numpy as np
import pytest

from tinynet.interop.convert import converted, fitted, settings_mismatch, slots, under
from tinynet.interop.errors import WeightsError
from tinynet.interop.names import WeightNames, names_of, renamed
from tinynet.layers import (
    BatchNorm,
    Conv2D,
    Dense,
    Flatten,
    GlobalAvgPool2D,
    MaxPool2D,
    ReLU,
    Sequential,
)

SHAPE = (4, 6, 3)


def rng():
    return np.random.default_rng(0)


def network():
    """One layer of every layout; the flatten has 2 × 3 cells of 6 channels."""
    return Sequential(
        conv=Conv2D(3, 6, (3, 1), padding="same", rng=rng()),
        grouped=Conv2D(6, 6, 3, padding="same", groups=2, rng=rng()),
        depthwise=Conv2D(6, 12, 3, padding="same", groups=6, bias=False, rng=rng()),
        point=Conv2D(12, 6, 1, rng=rng()),
        bn=BatchNorm(6),
        relu=ReLU(),
        pool=MaxPool2D(2),
        flatten=Flatten(),
        first=Dense(36, 5, rng=rng()),
        second=Dense(5, 4, rng=rng()),
    )


TORCH = WeightNames("torch", "torch", renamed([]))
KERAS = WeightNames("keras", "keras", renamed([]))


def test_names_and_shapes_of_torch():
    assert {s.name: s.there for s in slots(network(), TORCH, SHAPE).values()} == {
        "conv.weight": (6, 3, 3, 1),
        "conv.bias": (6,),
        "grouped.weight": (6, 3, 3, 3),
        "grouped.bias": (6,),
        "depthwise.weight": (12, 1, 3, 3),
        "point.weight": (6, 12, 1, 1),
        "point.bias": (6,),
        "bn.weight": (6,),
        "bn.bias": (6,),
        "bn.running_mean": (6,),
        "bn.running_var": (6,),
        "first.weight": (5, 36),
        "first.bias": (5,),
        "second.weight": (4, 5),
        "second.bias": (4,),
    }


def test_names_and_shapes_of_keras():
    there = {s.name: s.there for s in slots(network(), KERAS, SHAPE).values()}
    assert there["depthwise/kernel"] == (3, 3, 6, 2)
    assert there["grouped/kernel"] == (3, 3, 3, 6)
    assert there["first/kernel"] == (36, 5)
    assert set(there) >= {"bn/gamma", "bn/beta", "bn/moving_mean", "bn/moving_variance"}


def test_every_element_goes_to_its_place():
    model = network()
    arrays = {
        s.name: np.arange(np.prod(s.there)).reshape(s.there)
        for s in slots(model, TORCH, SHAPE).values()
    }
    ours = converted(model, arrays, TORCH, SHAPE)
    assert ours["conv.weight"][2, 0, 1, 5] == arrays["conv.weight"][5, 1, 2, 0]
    assert ours["depthwise.weight"][2, 1, 0, 7] == arrays["depthwise.weight"][7, 0, 2, 1]
    # cell (1, 2), channel 4 of 2 × 3 × 6: row (1·3 + 2)·6 + 4 here, column (4·2 + 1)·3 + 2 there
    assert ours["first.weight"][34, 3] == arrays["first.weight"][3, 29]
    assert ours["second.weight"][1, 3] == arrays["second.weight"][3, 1]
    assert ours["bn.gamma"] is not None
    np.testing.assert_array_equal(ours["bn.gamma"], arrays["bn.weight"])

    arrays = {
        s.name: np.arange(np.prod(s.there)).reshape(s.there)
        for s in slots(model, KERAS, SHAPE).values()
    }
    ours = converted(model, arrays, KERAS, SHAPE)
    # filter 1 of channel 3 is output 3·2 + 1
    assert ours["depthwise.weight"][2, 1, 0, 7] == arrays["depthwise/kernel"][2, 1, 3, 1]
    np.testing.assert_array_equal(ours["first.weight"], arrays["first/kernel"])


def test_a_dense_layer_behind_a_global_pool_is_only_turned():
    model = Sequential(pool=GlobalAvgPool2D(), fc=Dense(3, 2, rng=rng()))
    weight = np.arange(6.0).reshape(2, 3)
    arrays = {"fc.weight": weight, "fc.bias": np.zeros(2)}
    np.testing.assert_array_equal(converted(model, arrays, TORCH, SHAPE)["fc.weight"], weight.T)


def test_a_1x1_convolution_that_is_a_dense_layer_here():
    model = Sequential(fc=Dense(3, 2, rng=rng()))
    place = slots(model, TORCH, (3,))["fc.weight"]
    x = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(fitted(place, x[:, :, None, None]), x.T)
    assert fitted(place, x[None, :, :, None]) is None
    place = slots(model, KERAS, (3,))["fc.weight"]
    np.testing.assert_array_equal(fitted(place, x.T[None, None]), x.T)


def test_a_missing_or_misshapen_array_is_an_error():
    model = Sequential(fc=Dense(3, 2, rng=rng()))
    with pytest.raises(WeightsError, match=r"fc\.weight is missing"):
        converted(model, {}, TORCH, (3,))
    arrays = {"fc.weight": np.zeros((3, 2)), "fc.bias": np.zeros(2)}
    with pytest.raises(WeightsError, match=r"fc\.weight is \(3, 2\), want \(2, 3\)"):
        converted(model, arrays, TORCH, (3,))


def test_a_layer_that_the_names_do_not_know():
    names = WeightNames("torch", "torchvision a", {"conv": "c"}.__getitem__)
    model = Sequential(conv=Conv2D(3, 2, 1, rng=rng()), extra=Conv2D(2, 2, 1, rng=rng()))
    with pytest.raises(WeightsError, match=r"torchvision a has no layer that is extra here.*skip="):
        slots(model, names, SHAPE)
    assert set(slots(model, names, SHAPE, skip=("extra",))) == {"conv.weight", "conv.bias"}


def test_under_is_by_whole_names():
    assert under("head.classes.weight", ("head",))
    assert under("head", ("base", "head"))
    assert not under("header.weight", ("head",))
    assert under("fc/kernel", ("fc",), "/")
    assert not under("a.b", ())


def test_settings_that_differ_are_named():
    names = WeightNames("torch", "torch", renamed([]), requires={"a": 1, "b": "x", "c": True})
    assert settings_mismatch({"a": 1, "b": "x", "c": True, "d": 5}, names) is None
    assert settings_mismatch({"a": 2, "b": "x"}, names) == "build it with a=1, c=True"


def test_an_image_that_the_network_does_not_take():
    with pytest.raises(WeightsError, match=r"takes no input of \(9, 9, 3\): Dense\(36, 5\)"):
        slots(network(), TORCH, (9, 9, 3))


def test_an_unknown_architecture_says_what_to_do():
    with pytest.raises(WeightsError, match="efficientnet are not known.*as a WeightNames"):
        names_of("efficientnet", "torch")
