"""tinynet.interop.names.weight_names: rules that rename."""

import numpy as np

from tests.oracles import torchvision_or_skip
from tinynet.interop.names import WeightNames, names_of, renamed


def test_rules_are_applied_in_turn_and_everywhere():
    rename = renamed([(r"^base\.", ""), (r"a", "b"), (r"b(\d)", r"c\1")])
    assert rename("base.a1.a2") == "c1.c2"
    assert rename("head.base.x") == "hebd.bbse.x"


def test_older_names_become_those_of_today_unless_they_are_taken():
    names = WeightNames("keras", "keras", renamed([]), older=((r"^probs/", "predictions/"),))
    x, y = np.zeros(1), np.ones(1)
    assert names.of_today({"probs/kernel": x, "a/probs/bias": y}) == {
        "predictions/kernel": x,
        "a/probs/bias": y,
    }
    both = {"probs/kernel": x, "predictions/kernel": y}
    assert names.of_today(both) == both


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


def test_keras_older_names_of_the_classes():
    assert list(names_of("resnet50", "keras").of_today({"probs/bias": 0})) == ["predictions/bias"]
    assert list(names_of("densenet169", "keras").of_today({"fc1000/bias": 0})) == [
        "predictions/bias"
    ]
