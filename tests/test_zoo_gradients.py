"""benchmarks/zoo/gradients.py, and the figures and the page that come from it.

That whole networks are right is shown in tests/models/; here, that the check can fail: one element
of one gradient, a ten-thousandth off, is found and its layer named.
"""

import json
from math import prod

import numpy as np
import pytest

from benchmarks.zoo import gradients, page
from benchmarks.zoo.entries import ENTRIES
from benchmarks.zoo.gradients import REDUCED, Reduced, as_containers
from tinynet.gradient_check import GradientError, check_gradients
from tinynet.layer import Mode
from tinynet.layers import Conv2D
from tinynet.models.googlenet import GoogLeNet

# Smaller still, to be checked in seconds: a plain network, one of Concat, one of Residual.
TINY = {
    "mobilenet": Reduced(9, 3, {"width": 1 / 32, "padding": "symmetric"}),
    "shufflenet_v2": Reduced(5, 3, {"width": 1 / 60}),
    "resnet50": Reduced(5, 3, {"width": 1 / 64}),
}
DEEP = {
    "mobilenet": "base.block9.conv_pw",
    "shufflenet_v2": "base.stage3.unit5.join.branch2.conv3",
    "resnet50": "base.layer3.4.residual.main.conv2",
}
OFF = 1e-4


class OneElementOff(Conv2D):
    """One element of the weight's gradient is a ten-thousandth too large: the largest."""

    def backward(self, dy, cache):
        before = self.weight.grad.copy()
        dx = super().backward(dy, cache)
        dw = self.weight.grad - before
        at = np.unravel_index(abs(dw).argmax(), dw.shape)
        self.weight.grad[at] += OFF * dw[at]
        return dx


@pytest.mark.slow
@pytest.mark.parametrize("name", TINY)
def test_one_element_of_one_deep_layer_off_by_a_ten_thousandth_is_found(name):
    model, x = TINY[name].build(name), TINY[name].images()
    layer = model.named_layers()[DEEP[name]]
    layer.__class__ = OneElementOff
    with pytest.raises(GradientError) as caught:
        gradients.checked(model, x)
    (fault,) = caught.value.report.faults
    size = prod(layer.weight.shape)
    assert fault.startswith(f"the gradient of {DEEP[name]}.weight is wrong in 1 of {size} elements")
    assert sum(int(c.wrong.sum()) for c in caught.value.report.arrays) == 1
    assert not any(c.wrong.any() for c in caught.value.report.between)


def test_a_sample_of_the_elements_passes_it_over():
    model, x = TINY["resnet50"].build("resnet50"), TINY["resnet50"].images()
    model.named_layers()[DEEP["resnet50"]].__class__ = OneElementOff
    report = check_gradients(model, x, Mode(train=True, rng=np.random.default_rng(1)), elements=15)
    assert report.sample.detects(1) < 0.01


TINY_GOOGLENET = Reduced(15, 3, {"width": 1 / 64})


@pytest.mark.slow
def test_googlenets_own_backward_is_compared_too(monkeypatch):
    model, x = TINY_GOOGLENET.build("googlenet"), TINY_GOOGLENET.images()
    right = GoogLeNet.backward

    def second_classifier_left_out(self, dy, cache):
        z, z_1, z_2 = dy
        dx = right(self, (z, z_1, 0 * z_2), cache)
        self.aux2.backward(z_2, cache.auxiliary["aux2"])  # its own gradients are right
        return dx

    monkeypatch.setattr(GoogLeNet, "backward", second_classifier_left_out)
    with pytest.raises(GradientError) as caught:
        gradients.checked(model, x)
    said = caught.value.report.faults[-1]
    assert "base.conv1.conv.weight" in said
    assert "inception4e" not in said  # behind the second classifier all is as it should be
    assert "aux2" not in said.split(":")[0]


def test_the_containers_give_googlenets_outputs_with_the_same_masks():
    model, x = TINY_GOOGLENET.build("googlenet").to(dtype="float64"), TINY_GOOGLENET.images()
    (z, *auxiliary), _ = model.forward(x, Mode(True, np.random.default_rng(4)))
    nested, _ = as_containers(model).forward(x, Mode(True, np.random.default_rng(4)))
    np.testing.assert_array_equal(nested, np.concatenate([*auxiliary, z], axis=1))


def test_networks_are_reduced_in_width_alone():
    assert REDUCED.keys() == ENTRIES.keys()
    for name, reduced in REDUCED.items():
        assert reduced.settings.keys() <= {"width", "hidden"}, name


@pytest.mark.slow
def test_the_figures_are_those_of_the_report(monkeypatch):
    tiny = TINY["shufflenet_v2"]
    model, x = tiny.build("shufflenet_v2"), tiny.images()
    found = gradients.figures("shufflenet_v2", tiny)
    assert found["compared"]["parameters"] == found["parameters"] > 1000
    assert found["compared"]["images"] == x.size
    report = gradients.checked(model, x)
    assert found["compared"]["between"] == sum(int(c.decided.sum()) for c in report.between)
    assert found["left_out"] == found["wrong"] == found["undecidable"] == 0
    assert "fault" not in found
    assert 0 < found["worst"] < 1

    backward = Conv2D.backward
    monkeypatch.setattr(Conv2D, "backward", lambda self, dy, c: 1.001 * backward(self, dy, c))
    found = gradients.figures("shufflenet_v2", tiny)
    assert found["wrong"] > 1000
    assert found["worst"] > 1
    assert "all elements are 1.001 times what they should be" in found["fault"]


def test_the_command_keeps_other_networks_figures_written_before_and_meanwhile(
    monkeypatch, tmp_path, capsys
):
    for module, name in ((page, "RESULTS"), (gradients, "RESULTS"), (page, "PAGE")):
        monkeypatch.setattr(module, name, tmp_path / "models.md" if name == "PAGE" else tmp_path)
    found = {"compared": {"all": 5}, "wrong": 1, "undecidable": 0, "seconds": 1, "fault": "bad"}
    others = {"vgg16": {"wrong": 0}}
    (tmp_path / "gradients-2020-01-01.json").write_text(json.dumps({"networks": others}))

    def meanwhile(name, reduced):
        others["vgg19"] = {"wrong": 0}
        file = tmp_path / f"gradients-{gradients.date.today()}.json"
        file.write_text(json.dumps({"networks": others}))
        return found

    monkeypatch.setattr(gradients, "figures", meanwhile)
    monkeypatch.setattr("sys.argv", ["gradients", "resnet50"])
    assert gradients.main() == 1
    assert page.newest("gradients")["networks"] == {**others, "resnet50": found}
    said = capsys.readouterr().out
    assert "resnet50: 5 elements compared, 1 wrong, 0 undecidable" in said
    assert "models.md is left as it is: there are no figures yet of alexnet" in said
    monkeypatch.setattr("sys.argv", ["gradients", "resnet"])
    with pytest.raises(SystemExit):
        gradients.main()
    assert "resnet is not one of alexnet, " in capsys.readouterr().err


@pytest.mark.parametrize("name", ENTRIES)
def test_every_element_of_every_architecture_was_compared_and_is_right(name):
    found, reduced = page.newest("gradients")["networks"][name], REDUCED[name]
    assert (found["side"], found["batch"]) == (reduced.side, reduced.batch)
    assert found["settings"] == reduced.settings
    assert found["wrong"] == found["left_out"] == found["undecidable"] == 0
    assert found["worst"] < 1
    assert found["slope_0"] < 0.7 * sum(found["compared"].values())
    model = reduced.build(name)
    assert found["compared"]["parameters"] == sum(p.value.size for p in model.parameters().values())
    assert found["compared"]["images"] == reduced.images().size


def test_the_page_is_made_of_the_newest_figures():
    networks = page.newest("gradients")["networks"]
    written = page.PAGE.read_text(encoding="utf-8")
    assert written == page.renewed(written, page.newest("models"), networks)
    assert len(page.gradients_table(networks).splitlines()) == 2 + len(ENTRIES)
