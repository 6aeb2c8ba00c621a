"""tinynet.interop.convert and names: layouts, by hand; maps of names."""

import numpy as np
import pytest

from tests.oracles import torchvision_or_skip
from tinynet.interop import WeightNames, WeightsError, renamed
from tinynet.interop.convert import converted, fitted, settings_mismatch, slots, under
from tinynet.interop.names import names_of
from tinynet.layers import BatchNorm, Conv2D, Dense, Flatten, MaxPool2D, Sequential

SHAPE = (4, 6, 3)
TORCH = WeightNames("torch", "torch", renamed([]))
KERAS = WeightNames("keras", "keras", renamed([]))


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
        pool=MaxPool2D(2),
        flatten=Flatten(),
        first=Dense(36, 5, rng=rng()),
        second=Dense(5, 4, rng=rng()),
    )


def numbered(model, names):
    """Arrays by the file's names, each element its position."""
    places = slots(model, names, SHAPE).values()
    return {s.name: np.arange(np.prod(s.there)).reshape(s.there) for s in places}


def test_every_element_goes_to_its_place():
    arrays = numbered(network(), TORCH)
    ours = converted(network(), arrays, TORCH, SHAPE)
    assert ours["conv.weight"][2, 0, 1, 5] == arrays["conv.weight"][5, 1, 2, 0]
    assert ours["depthwise.weight"][2, 1, 0, 7] == arrays["depthwise.weight"][7, 0, 2, 1]
    # cell (1, 2), channel 4 of 2 × 3 × 6: row (1·3 + 2)·6 + 4 here, column (4·2 + 1)·3 + 2 there
    assert ours["first.weight"][34, 3] == arrays["first.weight"][3, 29]
    assert ours["second.weight"][1, 3] == arrays["second.weight"][3, 1]
    np.testing.assert_array_equal(ours["bn.gamma"], arrays["bn.weight"])

    arrays = numbered(network(), KERAS)
    ours = converted(network(), arrays, KERAS, SHAPE)
    # filter 1 of channel 3 is output 3·2 + 1
    assert ours["depthwise.weight"][2, 1, 0, 7] == arrays["depthwise/kernel"][2, 1, 3, 1]
    np.testing.assert_array_equal(ours["first.weight"], arrays["first/kernel"])


def test_a_1x1_convolution_that_is_a_dense_layer_here():
    model = Sequential(fc=Dense(3, 2, rng=rng()))
    place = slots(model, TORCH, (3,))["fc.weight"]
    x = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(fitted(place, x[:, :, None, None]), x.T)
    assert fitted(place, x[None, :, :, None]) is None
    place = slots(model, KERAS, (3,))["fc.weight"]
    np.testing.assert_array_equal(fitted(place, x.T[None, None]), x.T)


def test_what_does_not_fit_is_named():
    model = Sequential(fc=Dense(3, 2, rng=rng()))
    for arrays in ({}, {"fc.weight": np.zeros((3, 2)), "fc.bias": np.zeros(2)}):
        with pytest.raises(WeightsError, match=r"fc\.weight is missing or not \(2, 3\)"):
            converted(model, arrays, TORCH, (3,))
    with pytest.raises(WeightsError, match=r"takes no input of \(9, 9, 3\): Dense\(36, 5\)"):
        slots(network(), TORCH, (9, 9, 3))
    names = WeightNames("torch", "torchvision a", {"conv": "c"}.__getitem__)
    model = Sequential(conv=Conv2D(3, 2, 1, rng=rng()), extra=Conv2D(2, 2, 1, rng=rng()))
    with pytest.raises(WeightsError, match=r"torchvision a has no layer that is extra here.*skip="):
        slots(model, names, SHAPE)
    assert set(slots(model, names, SHAPE, skip=("extra",))) == {"conv.weight", "conv.bias"}


def test_under_is_by_whole_names():
    assert under("head.classes.weight", ("base", "head"))
    assert not under("header.weight", ("head",))
    assert under("fc/kernel", ("fc",), "/")


def test_settings_that_differ_are_named():
    names = WeightNames("torch", "torch", renamed([]), requires={"a": 1, "b": "x", "c": True})
    assert settings_mismatch({"a": 1, "b": "x", "c": True, "d": 5}, names) is None
    assert settings_mismatch({"a": 2, "b": "x"}, names) == "build it with a=1, c=True"


def test_rules_are_applied_in_turn_and_everywhere():
    rename = renamed([(r"^base\.", ""), (r"a", "b"), (r"b(\d)", r"c\1")])
    assert rename("base.a1.a2") == "c1.c2"
    assert rename("head.base.x") == "hebd.bbse.x"


def test_older_names_become_those_of_today_unless_they_are_taken():
    names = WeightNames("keras", "keras", renamed([]), older=((r"^probs/", "predictions/"),))
    assert names.of_today({"probs/kernel": 1, "a/probs/bias": 2}) == {
        "predictions/kernel": 1,
        "a/probs/bias": 2,
    }
    both = {"probs/kernel": 1, "predictions/kernel": 2}
    assert names.of_today(both) == both
    for network, classes in (("resnet50", "probs"), ("densenet169", "fc1000")):
        names = names_of(network, "keras")
        assert list(names.of_today({f"{classes}/bias": 0})) == ["predictions/bias"]


@pytest.mark.slow
def test_densenets_published_names_are_renamed():
    """torchvision's file has norm.1 where its network has had norm1 since PyTorch 0.4.1."""
    torchvision = torchvision_or_skip()
    today = list(torchvision.models.densenet121(num_classes=2).state_dict())
    published = []
    for name in today:
        for layer in ("norm1", "norm2", "conv1", "conv2"):
            if "denselayer" in name:
                name = name.replace(f".{layer}.", f".{layer[:-1]}.{layer[-1]}.")
        published.append(name)
    assert sum(a != b for a, b in zip(published, today, strict=True)) == 58 * (2 * 5 + 2)
    names = names_of("densenet121", "torch")
    assert list(names.of_today(dict.fromkeys(published))) == today
