"""Every planted bug is caught, the same code without it passes, and so do drawn geometries."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import tinynet.layers
import tinynet.losses
from tinynet.gradient_check import GradientError, check_gradients, check_loss
from tinynet.layer import EVAL, Mode
from tinynet.layers import (
    AvgPool2D,
    BatchNorm,
    ChannelShuffle,
    ChannelSlice,
    Concat,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    Gate,
    GlobalAvgPool2D,
    LocalResponseNorm,
    MaxPool2D,
    ReLU,
    ReLU6,
    Residual,
    Scale,
    Sequential,
    Sigmoid,
    Softmax,
    SumPool2D,
)
from tinynet.losses import CrossEntropy, SoftmaxCrossEntropy
from tinynet.testing.planted import BENCHES, PLANTED, LayerBench, Planted
from tinynet.testing.planted import __main__ as command
from tinynet.testing.planted.table import DRAWS, page, shortened, smallest, try_out
from tinynet.testing.strategies import (
    conv_geometries,
    labels,
    pool_geometries,
    probabilities,
    seeds,
    tie_free_arrays,
)
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
    assert len(BY_NAME) == len(PLANTED) >= 60
    for planted in PLANTED:
        assert planted.bug.endswith("."), planted.name
        assert len(planted.bug) < 100, planted.name
        assert planted.name.startswith(planted.breaks + ": ")


def test_every_layer_and_every_loss_has_planted_bugs():
    """A new layer in tinynet.layers, or loss, fails here until it has a bench with bugs."""
    spoilt = set()
    for bench in BENCHES:
        assert bench.bugs, bench.layer
        right = bench.right if isinstance(bench.right, type) else bench.forward
        spoilt.add(right.__name__)
    functions = {name for name in tinynet.layers.__all__ if name.endswith("_forward")}
    layers = {"BatchNorm", "Dense", "Dropout", "ReLU", "Concat", "Residual", "Sequential"}
    assert functions <= spoilt
    assert layers | {"SoftmaxCrossEntropy", "CrossEntropy"} <= spoilt
    classes = {n for n in tinynet.layers.__all__ if isinstance(getattr(tinynet.layers, n), type)}
    pairs = {name.removesuffix("_forward").replace("_", "") for name in functions}
    assert {c for c in classes if c.lower() not in pairs} <= layers


def test_a_wrong_layer_differs_from_the_right_one_in_its_methods_only():
    for bench in BENCHES:
        if isinstance(bench, LayerBench):
            for planted in bench.bugs:
                case = planted.case()
                right, wrong = case.right.state(), case.wrong.state()
                assert right.keys() == wrong.keys()
                assert all(np.array_equal(right[name], wrong[name]) for name in right)


# No false alarm: the right layers, over drawn geometries. ``geometries`` counts them.

COUNTS = []


def geometries(count):
    COUNTS.append(count)
    return settings(max_examples=count)


SMALL_CONVOLUTIONS = conv_geometries(
    max_batch=2, max_kernel=2, max_stride=2, max_dilation=2, max_groups=2, max_padding=1
)
SMALL_POOLINGS = pool_geometries(max_batch=2, max_pool=3, max_stride=3)
FLAT = st.tuples(st.integers(1, 4), st.integers(1, 5))
IMAGES = st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))


def normal(seed, shape):
    """Standard normal, and the generator it came from, for the weights."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal(shape), rng


def passes(layer, x, mode=EVAL):
    report = check_gradients(layer, x, mode)
    assert report.undecidable == 0
    assert report.arrays[0].name == "x"


@geometries(400)
@given(g=SMALL_CONVOLUTIONS, seed=seeds())
def test_no_alarm_on_convolutions(g, seed):
    x, rng = normal(seed, g.input_shape)
    settings = (g.kernel, g.stride, g.padding, g.dilation, g.groups, g.bias)
    passes(Conv2D(g.channels, g.filters, *settings, rng=rng), x)


@geometries(300)
@given(g=SMALL_POOLINGS, data=st.data())
def test_no_alarm_on_max_pools(g, data):
    x = data.draw(tie_free_arrays(g.input_shape))
    passes(MaxPool2D(g.pool_size, g.stride, g.padding), x)


@geometries(300)
@given(g=SMALL_POOLINGS, seed=seeds(), count_padding=st.sampled_from([None, True, False]))
def test_no_alarm_on_sum_and_average_pools(g, seed, count_padding):
    x, _ = normal(seed, g.input_shape)
    window = (g.pool_size, g.stride, g.padding)
    passes(SumPool2D(*window) if count_padding is None else AvgPool2D(*window, count_padding), x)


@geometries(150)
@given(shape=IMAGES, seed=seeds(), layer=st.sampled_from([GlobalAvgPool2D(), Flatten()]))
def test_no_alarm_on_global_pools_and_flattening(shape, seed, layer):
    passes(layer, normal(seed, shape)[0])


@geometries(200)
@given(shape=FLAT, neurons=st.integers(1, 4), bias=st.booleans(), seed=seeds())
def test_no_alarm_on_dense_layers(shape, neurons, bias, seed):
    x, rng = normal(seed, shape)
    passes(Dense(shape[1], neurons, bias, rng=rng), x)


@geometries(150)
@given(data=st.data(), shape=FLAT | IMAGES, threshold=st.sampled_from([0.0, 0.5, -0.5]))
def test_no_alarm_on_relu(data, shape, threshold):
    passes(ReLU(threshold), data.draw(tie_free_arrays(shape)))


@geometries(50)
@given(data=st.data(), shape=FLAT | IMAGES)
def test_no_alarm_on_relu6(data, shape):
    passes(ReLU6(), 3.5 + 20 * data.draw(tie_free_arrays(shape)))


@geometries(100)
@given(leading=FLAT, groups=st.tuples(st.integers(1, 3), st.integers(1, 3)), seed=seeds())
def test_no_alarm_on_layers_that_move_channels(leading, groups, seed):
    channels = groups[0] * groups[1]
    x, _ = normal(seed, (*leading, channels))
    passes(ChannelShuffle(groups[0]), x)
    passes(ChannelSlice(groups[1] - 1, channels), x)


@geometries(100)
@given(
    shape=FLAT | IMAGES,
    size=st.sampled_from([1, 3, 5]),
    alpha=st.sampled_from([1e-4, 0.5]),
    factor=st.sampled_from([0.1, -3.0]),
    seed=seeds(),
)
def test_no_alarm_on_local_response_norm_and_scale(shape, size, alpha, factor, seed):
    x, _ = normal(seed, shape)
    passes(Sequential(LocalResponseNorm(size, alpha), Scale(factor)), x)


@geometries(60)
@given(shape=IMAGES, seed=seeds(), a_channel=st.booleans())
def test_no_alarm_on_gates(shape, seed, a_channel):
    x, rng = normal(seed, shape)
    dense = Dense(shape[-1], shape[-1], rng=rng)
    passes(Gate(Sequential(GlobalAvgPool2D(), dense, Sigmoid()) if a_channel else Sigmoid()), x)


@geometries(200)
@given(shape=FLAT | IMAGES, seed=seeds(), layer=st.sampled_from([Sigmoid(), Softmax()]))
def test_no_alarm_on_smooth_activations(shape, seed, layer):
    passes(layer, 3 * normal(seed, shape)[0])


@geometries(150)
@given(
    shape=FLAT | IMAGES,
    seed=seeds(),
    keep=st.floats(0.1, 1.0),
    scale_at=st.sampled_from(["train", "test"]),
    train=st.booleans(),
)
def test_no_alarm_on_dropout(shape, seed, keep, scale_at, train):
    x, rng = normal(seed, shape)
    passes(Dropout(keep, scale_at), x, Mode(train=train, rng=rng))


@geometries(250)
@given(
    shape=FLAT | IMAGES,
    seed=seeds(),
    train=st.booleans(),
    frozen=st.booleans(),
    scale=st.booleans(),
)
def test_no_alarm_on_batch_norm(shape, seed, train, frozen, scale):
    x, rng = normal(seed, shape)
    layer = BatchNorm(shape[-1], dtype="float64", scale=scale)
    layer.frozen_statistics = frozen
    for array in layer.state().values():
        array += rng.random(array.shape)
    passes(layer, x, Mode(train=train))


@geometries(250)
@given(
    data=st.data(),
    n=st.integers(1, 5),
    k=st.integers(2, 4),
    seed=seeds(),
    smoothing=st.sampled_from([0.0, 0.1]),
    mean_over=st.sampled_from(["batch", "weights"]),
    weighted=st.booleans(),
    logits=st.booleans(),
)
def test_no_alarm_on_losses(data, n, k, seed, smoothing, mean_over, weighted, logits):
    z, rng = normal(seed, (n, k))
    weight = 0.5 + rng.random(k) if weighted else None
    kind = SoftmaxCrossEntropy if logits else CrossEntropy
    z = z if logits else data.draw(probabilities(n, k, minimum=0.01))
    y = data.draw(labels(n, k, one_hot=data.draw(st.booleans())))
    assert check_loss(kind(weight, smoothing, mean_over=mean_over), z, y).ok


@geometries(100)
@example(n=2, width=1, seed=519, projected=True)  # the rounding of a bias before a batch norm
@given(n=st.integers(2, 4), width=st.integers(1, 3), seed=seeds(), projected=st.booleans())
def test_no_alarm_on_layers_made_of_layers(n, width, seed, projected):
    x, rng = normal(seed, (n, width))

    def path():
        return Sequential(Dense(width, width, rng=rng), BatchNorm(width), Sigmoid(), Dropout(0.5))

    shared = Dense(width, width, rng=rng)
    skip = Dense(width, width, rng=rng) if projected else None
    model = Sequential(shared, Residual(path(), skip), Concat(path(), shared))
    passes(model, x, Mode(train=True, rng=rng))


def test_that_was_at_least_2000_geometries():
    assert sum(COUNTS) >= 2000


# The page.


def test_the_page_names_exactly_the_planted_bugs():
    """Run python -m tinynet.testing.planted after planting one."""
    text = PAGE.read_text(encoding="utf-8")
    said, side_by_side = text.split("## What tinynet says")[1].split("## Side by side")
    for part, cell in ((said, r"\| \*\*(.*?)\*\*:"), (side_by_side, r"\| (?!bug)(\w[^|]*?) \|")):
        names, layer = [], ""
        for line in part.splitlines():
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


def test_a_bug_that_is_let_through_is_shown():
    none = Planted("dense: none", "dense", "None.", "", (1, 2), lambda rng, shape: NotSpoilt())
    outcome = try_out(none)
    assert outcome.said == ""
    assert outcome.smallest is None
    assert outcome.caught == outcome.alarms
    text = page([outcome], "today")
    assert "catches **0 of 1**" in text
    assert "| **none**: None. | nothing |  |" in text
    marks = text.splitlines()[-1].split(" | ")
    assert marks[0] == "| none"
    assert len(marks) == len(USUAL_CHECKS) + 2
    assert marks[1] == "○"
    assert marks[-1] == "○ |"
    assert "None is caught by tinynet alone." in text


def test_the_smallest_input_is_the_smallest():
    assert smallest(BY_NAME["dense: dw transposed"]) == (1, 2)  # 1×1 is its own transpose
    assert smallest(BY_NAME["dense: db averaged"]) == (2, 1)
    assert smallest(BY_NAME["sum pool: remainder column first"]) == (1, 2, 3, 1)
    assert smallest(BY_NAME["softmax cross-entropy: target minus prediction"]) == (1, 2)


def test_what_is_said_is_shortened_to_what_does_not_depend_on_the_numbers():
    long = "the gradient of w is wrong in 2 of 9 elements; at (0, 1) got 1.5, want -2e-5: its sign"
    assert shortened(long) == "dw wrong in 2 of 9 elements: its sign"
    assert (
        shortened("backward modifies dy: work on a copy") == "backward modifies dy: work on a copy"
    )


def test_the_command_writes_the_page(tmp_path, monkeypatch, capsys):
    few = PLANTED[:2]
    monkeypatch.setattr(command, "PLANTED", few)
    monkeypatch.setattr("sys.argv", ["planted", str(tmp_path / "page.md")])
    command.main()
    assert "2 of 2 caught" in capsys.readouterr().out
    text = (tmp_path / "page.md").read_text(encoding="utf-8")
    for planted in few:
        assert planted.bug in text
        rows = [line for line in text.splitlines() if planted.name.split(": ")[1] in line]
        assert len(rows) == 2
    assert f"Each ran {DRAWS} times" in text
