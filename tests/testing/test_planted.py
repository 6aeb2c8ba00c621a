"""Every planted bug is caught, the same code without it passes, and so do drawn geometries."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinynet import layers
from tinynet.gradient_check import GradientError, check_gradients, check_loss
from tinynet.layer import Mode
from tinynet.layers import BatchNorm, Concat, Dense, Dropout, Residual, Sequential, Sigmoid
from tinynet.losses import CrossEntropy, Loss, SoftmaxCrossEntropy
from tinynet.testing import strategies as drawn
from tinynet.testing.planted import BENCHES, PLANTED, LayerBench, Planted, table, without_bugs
from tinynet.testing.planted.bench import dx, part
from tinynet.testing.planted.table import DRAWS, page, shortened, smallest, try_out
from tinynet.testing.usual_checks import USUAL_CHECKS

PAGE = Path(__file__).parents[2] / "docs" / "planted.md"
BY_NAME = {planted.name: planted for planted in PLANTED}


@pytest.mark.parametrize("planted", PLANTED, ids=BY_NAME)
def test_the_bug_is_caught_and_the_code_without_it_passes(planted):
    case = planted.case()
    report = case.check(wrong=False)
    assert report.ok
    assert report.undecidable == 0
    with pytest.raises(GradientError):
        case.check()


def test_there_are_enough_of_them_each_with_a_name_and_its_bug_in_words():
    assert len(BY_NAME) == len(PLANTED) >= 237
    for planted in PLANTED:
        assert len(planted.bug) < 100, planted.name
        assert planted.name.startswith(planted.breaks + ": ")


def test_a_layer_without_planted_bugs_is_reported_as_missing(monkeypatch):
    assert not {"Dense", "MaxPool2D", "BatchNorm", "Residual", "CrossEntropy"} & {*without_bugs()}
    others = [bench for bench in BENCHES if bench.spoils != "dense"]
    monkeypatch.setattr("tinynet.testing.planted.BENCHES", others)
    monkeypatch.setattr(table, "growth", str)  # which takes long
    assert "Dense" in without_bugs()
    text = page([try_out(PLANTED[0])], "today")
    assert re.search("Missing, layers and losses without planted bugs: .*Dense", text)


def test_a_wrong_layer_differs_from_the_right_one_in_its_methods_only():
    cases = [b.case() for bench in BENCHES if isinstance(bench, LayerBench) for b in bench.bugs]
    for case in cases:
        right, wrong = case.right.state(), case.wrong.state()
        assert right.keys() == wrong.keys()
        assert all(np.array_equal(right[name], wrong[name]) for name in right)


def test_a_bug_with_a_misspelt_part_or_without_words_is_refused():
    (dense,) = (bench for bench in BENCHES if bench.layer == "dense")
    dense = dense.using(bugs=[])
    dense.plant("misspelt: The gradient of v.", part("dv")(lambda g, dy, c: g))
    with pytest.raises(TypeError, match=r"dense has no gradient dv: it is of \['x', 'w', 'b'\]"):
        dense.bugs[0].case()
    with pytest.raises(ValueError, match="a bug is 'name: What is wrong"):
        dense.plant("no words", dx(lambda g, dy, c: g))


# No false alarm: the right layers, over drawn geometries.

FLAT = st.tuples(st.integers(1, 4), st.integers(1, 5))
IMAGES = st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))


def normal(draw, shape):
    """Standard normal, and the generator it came from, for the weights."""
    rng = np.random.default_rng(draw(drawn.seeds()))
    return rng.standard_normal(shape), rng


def convolutions(draw):
    small = {"max_kernel": 2, "max_stride": 2, "max_dilation": 2, "max_groups": 2, "max_padding": 1}
    g = draw(drawn.conv_geometries(max_batch=2, **small))
    x, rng = normal(draw, g.input_shape)
    options = (g.kernel, g.stride, g.padding, g.dilation, g.groups, g.bias)
    return layers.Conv2D(g.channels, g.filters, *options, rng=rng), x


def pools(draw):
    g = draw(drawn.pool_geometries(max_batch=2, max_pool=3, max_stride=3))
    window = (g.pool_size, g.stride, g.padding)
    kinds = [kind(*window, dilation=g.dilation) for kind in (layers.MaxPool2D, layers.SumPool2D)]
    kinds += [layers.AvgPool2D(*window, counted, g.dilation) for counted in (True, False)]
    return draw(st.sampled_from(kinds)), draw(drawn.tie_free_arrays(g.input_shape))


def simple(draw):
    x = draw(drawn.tie_free_arrays(draw(IMAGES)))  # half a step off every kink below
    c = x.shape[-1]
    dense = Dense(c, c, rng=np.random.default_rng(0))
    kinds = [layers.ReLU(threshold) for threshold in (0.0, 0.5, -0.5)]
    kinds += [Sequential(layers.Scale(20.0), layers.ReLU6()), Sigmoid(), layers.Softmax()]
    kinds += [layers.LeakyReLU(), layers.Tanh(), layers.GELU(), layers.GlobalMaxPool2D()]
    kinds += [layers.Softmax(1), layers.GroupNorm(c, c), layers.LayerNorm(c), dense]
    kinds += [layers.GlobalAvgPool2D(), layers.Flatten(), layers.AdaptiveAvgPool2D(2)]
    kinds += [layers.ChannelShuffle(c), layers.ChannelSlice(c - 1, c), layers.Scale(-3.0)]
    kinds += [layers.LocalResponseNorm(size, 0.5) for size in (1, 3, 5)]
    excited = Sequential(layers.GlobalAvgPool2D(), dense, Sigmoid())
    kinds += [layers.Gate(Sigmoid()), layers.Gate(excited)]
    return draw(st.sampled_from(kinds)), x


def dropout(draw):
    x, rng = normal(draw, draw(FLAT | IMAGES))
    layer = Dropout(draw(st.floats(0.1, 1.0)), draw(st.sampled_from(["train", "test"])))
    return layer, x, Mode(train=draw(st.booleans()), rng=rng)


def batch_norm(draw):
    x, rng = normal(draw, draw(FLAT | IMAGES))
    layer = BatchNorm(x.shape[-1], dtype="float64", scale=draw(st.booleans()))
    layer.frozen_statistics = draw(st.booleans())
    for array in layer.state().values():
        array += rng.random(array.shape)
    return layer, x, Mode(train=draw(st.booleans()))


def networks(draw):
    x, rng = normal(draw, draw(st.tuples(st.integers(2, 4), st.integers(1, 3))))
    return network(x, rng, draw(st.booleans()))


def network(x, rng, projected):
    def dense():
        return Dense(x.shape[1], x.shape[1], rng=rng)

    def path():
        return Sequential(dense(), BatchNorm(x.shape[1]), Sigmoid(), Dropout(0.5))

    shared, skip = dense(), dense() if projected else None
    model = Sequential(shared, Residual(path(), skip), Concat(path(), shared))
    return model, x, Mode(train=True, rng=rng)


def losses(draw):
    n, k = draw(st.integers(1, 5)), draw(st.integers(2, 4))
    z, rng = normal(draw, (n, k))
    weight = 0.5 + rng.random(k) if draw(st.booleans()) else None
    options = {"mean_over": draw(st.sampled_from(["batch", "weights"]))}
    kind = draw(st.sampled_from([SoftmaxCrossEntropy, CrossEntropy]))
    z = draw(drawn.probabilities(n, k, minimum=0.01)) if kind is CrossEntropy else z
    y = draw(drawn.labels(n, k, one_hot=draw(st.booleans())))
    return kind(weight, draw(st.sampled_from([0.0, 0.1])), **options), z, y


GEOMETRIES = {
    convolutions: 400, pools: 500, simple: 600, dropout: 100, batch_norm: 250, networks: 100,
    losses: 250,
}  # fmt: skip


def passes(layer, x, *rest):
    check = check_loss if isinstance(layer, Loss) else check_gradients
    report = check(layer, x, *rest)
    assert report.undecidable == 0
    assert report.arrays[0].name in ("x", "z")


@pytest.mark.parametrize("share", [0.05, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", GEOMETRIES, ids=lambda kind: kind.__name__)
def test_no_alarm_on_right_layers(kind, share):
    @settings(max_examples=int(share * GEOMETRIES[kind]))
    @given(st.data())
    def run(data):
        passes(*kind(data.draw))

    run()
    assert sum(GEOMETRIES.values()) > 2000


def test_no_alarm_on_the_rounding_of_a_bias_before_a_batch_norm():
    rng = np.random.default_rng(519)
    passes(*network(rng.standard_normal((2, 1)), rng, projected=True))


# The page.


def test_the_page_names_exactly_the_planted_bugs():
    """Run python -m tinynet.testing.planted after planting one."""
    text = PAGE.read_text(encoding="utf-8")
    said, side_by_side = text.split("## What tinynet says")[1].split("## Side by side")
    for section, cell in ((said, r"\| \*\*(.*?)\*\*:"), (side_by_side, r"\| (?!bug)(\w[^|]*?) \|")):
        names, layer = [], ""
        for line in section.splitlines():
            if line.startswith("### "):
                layer = line.removeprefix("### ")
            elif found := re.match(cell, line):
                names.append(f"{layer}: {found[1]}")
        assert names == list(BY_NAME)
    assert f"catches **{len(PLANTED)} of {len(PLANTED)}**" in text
    assert "raises no alarm" in text


class NotSpoilt:
    """A case whose "wrong" code is the right one."""

    right = BY_NAME["dense: dw transposed"].case()

    def check(self, *, wrong=True):
        return self.right.check(wrong=False)

    def subject(self, *, wrong=True, dtype="float64"):
        return self.right.subject(wrong=False, dtype=dtype)


def test_a_bug_that_is_let_through_is_shown(monkeypatch):
    monkeypatch.setattr(table, "growth", str)
    none = Planted("dense: none", "dense", "None.", "", (1, 2), lambda rng, shape: NotSpoilt())
    outcome = try_out(none)
    assert (outcome.said, outcome.smallest) == ("", None)
    assert outcome.caught == outcome.alarms
    text = page([outcome], "today")
    assert "catches **0 of 1**" in text
    assert "| **none**: None. | nothing |  |" in text
    marks = text.splitlines()[-1].split(" | ")
    assert (marks[0], marks[1], marks[-1]) == ("| none", "○", "○ |")
    assert len(marks) == len(USUAL_CHECKS) + 2
    assert "None is caught by tinynet alone." in text


def test_the_smallest_input_is_the_smallest():
    assert smallest(BY_NAME["dense: dw transposed"]) == (1, 2)  # 1×1 is its own transpose
    assert smallest(BY_NAME["dense: db averaged"]) == (2, 1)
    assert smallest(BY_NAME["sum pool: remainder column first"]) == (1, 2, 3, 1)
    assert smallest(BY_NAME["softmax cross-entropy: target minus prediction"]) == (1, 2)


def test_what_is_said_is_shortened_to_what_does_not_depend_on_the_numbers():
    long = "the gradient of w is wrong in 2 of 9 elements; at (0, 1) got 1.5, want -2e-5: its sign"
    assert shortened(long) == "dw wrong in 2 of 9 elements: its sign"
    assert shortened("backward modifies dy: copy it") == "backward modifies dy: copy it"


def test_the_command_writes_the_page(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(table, "PLANTED", PLANTED[:2])
    monkeypatch.setattr("sys.argv", ["planted", str(tmp_path / "page.md")])
    table.main()
    assert "2 of 2 caught, 0 false alarms" in capsys.readouterr().out
    text = (tmp_path / "page.md").read_text(encoding="utf-8")
    for planted in PLANTED[:2]:
        assert planted.bug in text
        rows = [line for line in text.splitlines() if planted.name.split(": ")[1] in line]
        assert len(rows) == 2
    assert f"Each ran {DRAWS} times" in text
