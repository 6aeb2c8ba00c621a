"""tinynet/models/googlenet.py, against torchvision's network and the paper's, both in torch."""

import math
from functools import partial
from importlib import import_module

import numpy as np
import pytest

from tests.models.dense_heads import he_normal, livened, on_no_device, without_dropout
from tests.oracles import (
    from_torch,
    randomise,
    to_torch,
    torch_arrays,
    torch_gradients,
    torch_or_skip,
    torchvision_or_skip,
)
from tinynet.gradient_check import check_gradients
from tinynet.interop.convert import converted, settings_mismatch, slots
from tinynet.interop.names import names_of
from tinynet.layer import EVAL, Layer, Mode
from tinynet.layers import BatchNorm, Concat, Conv2D, Dropout, LocalResponseNorm, Sequential
from tinynet.losses import SoftmaxCrossEntropy, WithAuxiliary
from tinynet.models import Classifier, GoogLeNet, googlenet
from tinynet.optimizers import SGD
from tinynet.train import TrainStep, evaluate, fit
from tinynet.train.checkpoint import load_checkpoint, save_checkpoint

TRAIN = Mode(train=True, rng=np.random.default_rng(1))
CLASSES = 7
PAPER = {
    "batch_norm": False,
    "five_by_five": True,
    "local_response_norm": True,
    "paper_pools": True,
    "keep_prob": 0.6,
}
SMALL = {"width": 1 / 64, "keep_prob": 1.0, "auxiliary_keep_prob": 1.0}


def build(*args, **settings):
    return googlenet(*args, rng=np.random.default_rng(0), **settings)


def images(shape, count=2):
    return np.random.default_rng(1).standard_normal((count, *shape))


def learned(model):
    return sum(p.value.size for p in model.parameters().values())


def assert_close(ours, theirs, name=""):
    assert ours.shape == theirs.shape
    assert abs(ours - theirs).max() <= 1e-8 * abs(theirs).max(), name


def test_parameters_and_multiply_adds_are_as_many_as_published():
    """torchvision's counts of what is learned, batch norm's scales and shifts included."""
    shape = (224, 224, 3)
    assert learned(build(1000, shape)) == 13_004_888
    plain = build(1000, shape, auxiliary=False)
    assert learned(plain) == 6_624_904
    assert round(plain.multiply_adds(shape) / 1e9, 3) == 1.498


def test_parameters_of_the_papers_form_counted_by_hand():
    model = build(1000, (224, 224, 3), **PAPER)
    # n1, n3 reduce, n3, n5 reduce, n5, pool of module 3a, each filter with a bias
    module = 193 * 64 + 193 * 96 + (9 * 96 + 1) * 128 + 193 * 16 + (25 * 16 + 1) * 32 + 193 * 32
    assert learned(model.base.children()["inception3a"]) == module
    aux = (512 + 1) * 128 + (4 * 4 * 128 + 1) * 1024 + (1024 + 1) * 1000
    assert learned(model.aux1) == aux
    assert learned(model.aux2) == aux + 16 * 128  # 528 channels


@pytest.mark.parametrize("settings", [{}, PAPER])
def test_sizes_are_those_of_the_papers_table(settings):
    model = build(10, (224, 224, 3), **settings)
    shape, shapes = (224, 224, 3), {}
    for name, layer in model.base.children().items():
        shape = shapes[name] = layer.output_shape(shape)
    assert shapes["conv1"] == (112, 112, 64)
    assert shapes["maxpool1"] == (56, 56, 64)
    assert shapes["maxpool2"] == (28, 28, 192)
    assert shapes["inception3b"] == (28, 28, 480)
    assert shapes["inception4a"] == (14, 14, 512)
    assert shapes["inception4d"] == (14, 14, 528)
    assert shapes["inception4e"] == (14, 14, 832)
    assert shapes["inception5b"] == (7, 7, 1024)
    for branch, channels in ((model.aux1, 512), (model.aux2, 528)):
        assert branch.layers[0].output_shape((14, 14, channels)) == (4, 4, channels)


def test_the_auxiliary_pools_of_paper_and_torchvision_differ_even_at_14_by_14():
    pools = [build(2, (224, 224, 1), width=0.01, paper_pools=p).aux1.layers[0] for p in (0, 1)]
    x = images((14, 14, 1))
    ours, papers = (pool.forward(x)[0] for pool in pools)
    assert ours.shape == papers.shape == (2, 4, 4, 1)
    assert not np.allclose(ours, papers)
    assert ours[0, 0, 1, 0] == pytest.approx(x[0, :4, 3:7, 0].mean())
    assert papers[0, 0, 1, 0] == pytest.approx(x[0, :5, 3:8, 0].mean())


@pytest.mark.parametrize("auxiliary", [True, False])
def test_every_weight_has_its_place_in_torchvisions_file(auxiliary):
    model = build(1000, (224, 224, 3), auxiliary=auxiliary)
    peer = on_no_device("GoogLeNet", aux_logits=auxiliary, init_weights=False)
    theirs = {n: tuple(x.shape) for n, x in peer.state_dict().items() if "num_batches" not in n}
    names = names_of("googlenet", "torch")
    assert settings_mismatch(model.architecture.settings, names) is None
    ours = slots(model, names, (224, 224, 3)).values()
    assert {slot.name: slot.there for slot in ours} == theirs
    paper = build(2, (79, 79, 1), **PAPER | SMALL)
    message = settings_mismatch(paper.architecture.settings, names)
    assert message == (
        "build it with batch_norm=True, five_by_five=False, local_response_norm=False, "
        "paper_pools=False"
    )


def torchvisions():
    """(network, image shape, our settings): the 6 × 5 cells before aux1 are parted unevenly."""
    torchvision = torchvision_or_skip()
    return torchvision.models.GoogLeNet(CLASSES, init_weights=False), (96, 80, 3), {}


def papers():
    """torchvision's blocks put together as the paper has them."""
    torch, _ = torch_or_skip(), torchvision_or_skip()
    nn, source = torch.nn, import_module("torchvision.models.googlenet")

    class Unit(nn.Module):
        def __init__(self, channels, filters, **kwargs):
            super().__init__()
            self.conv = nn.Conv2d(channels, filters, **kwargs)

        def forward(self, x):
            return torch.relu(self.conv(x))

    class Auxiliary(source.InceptionAux):
        def __init__(self, channels, classes, **kwargs):
            super().__init__(channels, classes, Unit, **kwargs)
            self.fc1 = nn.Linear(2 * 2 * 128, 1024)

        def forward(self, x):
            x = self.conv(torch.nn.functional.avg_pool2d(x, 5, 3)).flatten(1)
            return self.fc2(self.dropout(torch.relu(self.fc1(x))))

    class Module(source.Inception):
        def __init__(self, *channels):
            super().__init__(*channels, Unit)
            self.branch3[1] = Unit(channels[4], channels[5], kernel_size=5, padding=2)

    theirs = source.GoogLeNet(CLASSES, init_weights=False, blocks=[Unit, Module, Auxiliary])
    norm = partial(nn.LocalResponseNorm, 5, alpha=5e-4, beta=0.75, k=2)
    theirs.maxpool1 = nn.Sequential(theirs.maxpool1, norm())
    theirs.maxpool2 = nn.Sequential(norm(), theirs.maxpool2)
    theirs.maxpool4 = nn.MaxPool2d(3, 2, ceil_mode=True)
    return theirs, (128, 128, 3), PAPER


@pytest.fixture(scope="module", params=["torchvision", "paper"])
def pair(request):
    """Our network and its peer with the same random weights and statistics, float64."""
    torch_or_skip().manual_seed(0)
    theirs, shape, settings = {"torchvision": torchvisions, "paper": papers}[request.param]()
    theirs = he_normal(without_dropout(randomise(theirs)))
    ours = build(CLASSES, shape, **settings).to(dtype="float64")
    ours.freeze(parameters=False, statistics=False)
    ours.load_state(converted(ours, torch_arrays(theirs), names_of("googlenet", "torch"), shape))
    return ours, theirs, shape


def test_logits_equal_torchs(pair):
    ours, theirs, shape = pair
    x = images(shape)
    with torch_or_skip().no_grad():
        want = theirs.eval()(to_torch(x)).numpy()
    y, _ = ours.forward(x, EVAL)
    assert_close(y, want)
    assert abs(y[0] - y[1]).max() > 0.01 * abs(y).max()  # the images are told apart


def test_all_three_outputs_and_all_gradients_equal_torchs_in_training(pair):
    ours, theirs, shape = pair
    torch = torch_or_skip()
    x, dy = images(shape), np.random.default_rng(2).standard_normal((3, 2, CLASSES))
    before, t_x = torch_arrays(theirs), to_torch(x)
    t_y = theirs.train()(t_x)
    wanted = [t_y.logits, t_y.aux_logits1, t_y.aux_logits2]
    torch.autograd.backward(wanted, list(torch.from_numpy(dy)))

    y, cache = ours.forward(x, TRAIN)
    dx = ours.backward(tuple(dy), cache)
    assert isinstance(y, tuple)
    for z, want in zip(y, wanted, strict=True):
        assert_close(z, want.detach().numpy())
    assert_close(dx, from_torch(t_x.grad))
    names = names_of("googlenet", "torch")
    gradients = converted(ours, before | torch_gradients(theirs), names, shape)
    for name, p in ours.parameters().items():
        assert_close(p.grad, gradients[name], name)


class SideBySide(Layer):
    """Three outputs as one array, for the gradient checker, which wants one."""

    def __init__(self, model):
        self.model = model

    def forward(self, x, mode):
        outputs, cache = self.model.forward(x, mode)
        return np.concatenate(outputs, axis=1), cache

    def backward(self, dy, cache):
        return self.model.backward(tuple(np.split(dy, 3, axis=1)), cache)

    def output_shape(self, input_shape):
        return (3 * self.model.output_shape(input_shape)[0],)


def unrolled(model):
    """The same layers as one nest of containers, which the checker takes apart."""
    stages = list(model.base.children().items())
    names = [name for name, _ in stages]
    after_1, after_2 = names.index("inception4a") + 1, names.index("inception4d") + 1

    def part(*cut):
        return Sequential(**dict(stages[slice(*cut)]))

    last = Sequential(rest=part(after_2, None), head=model.head)
    middle = Sequential(stages=part(after_1, after_2), out=Concat(main=last, aux2=model.aux2))
    return Sequential(stages=part(after_1), out=Concat(main=middle, aux1=model.aux1))


@pytest.mark.parametrize("settings", [{}, PAPER | SMALL])
def test_backward_adds_up_where_the_classifiers_branch_off(settings):
    """Against the nest of containers, each of which is checked by itself."""
    model = livened(build(3, (79, 79, 1), **SMALL | settings))
    nest = unrolled(model)
    x, dy = images((79, 79, 1)), np.random.default_rng(2).standard_normal((3, 2, 3))
    y, cache = model.forward(x, TRAIN)
    dx = model.backward(tuple(dy), cache)
    got = {name: p.grad.copy() for name, p in model.parameters().items()}
    model.zero_grad()
    nested, cache = nest.forward(x, TRAIN)
    nested_dx = nest.backward(np.concatenate([dy[0], dy[2], dy[1]], axis=1), cache)
    assert np.array_equal(nested, np.concatenate([y[0], y[2], y[1]], axis=1))
    np.testing.assert_allclose(dx, nested_dx, rtol=1e-12, atol=1e-15)
    for name, p in model.parameters().items():
        np.testing.assert_allclose(got[name], p.grad, rtol=1e-12, atol=1e-13, err_msg=name)
    alive = {name for name, p in model.parameters().items() if p.grad.any()}
    assert "base.conv1.conv.weight" in alive
    assert len(alive) > 0.8 * len(model.parameters())


@pytest.mark.parametrize("settings", [{}, PAPER])
@pytest.mark.parametrize("mode", [TRAIN, EVAL])
def test_gradients_of_a_module(settings, mode):
    model = livened(build(3, (79, 79, 1), **SMALL | settings))
    module = model.base.children()["inception3b"]
    x = np.random.default_rng(1).standard_normal((2, 4, 3, 5))
    report = check_gradients(module, x, mode)
    assert report.undecidable == 0
    assert {check.name for check in report.arrays} == {"x", *module.parameters()}


@pytest.mark.parametrize("settings", [{}, PAPER])
def test_gradients_of_an_auxiliary_classifier(settings):
    model = livened(build(3, (224, 224, 1), **settings | SMALL))
    x = np.random.default_rng(1).standard_normal((2, 14, 14, 8))
    report = check_gradients(model.aux1, x, TRAIN)
    assert report.undecidable == 0


@pytest.mark.parametrize(("settings", "side"), [({}, 17), (PAPER, 79)])
def test_gradients_of_the_whole_network_with_all_three_outputs_at_reduced_width(settings, side):
    model = livened(build(2, (side, side, 1), **settings | SMALL))
    report = check_gradients(SideBySide(model), images((side, side, 1)), TRAIN, elements=40)
    assert {check.name for check in report.arrays} == {"x"} | {
        f"model.{name}" for name in model.parameters()
    }


def test_outside_training_there_is_one_output_and_auxiliary_classifiers_do_not_matter():
    model = build(3, (33, 33, 1), width=1 / 32)
    x = images((33, 33, 1)).astype(np.float32)
    y, cache = model.forward(x)
    assert y.shape == (2, *model.output_shape((33, 33, 1))) == (2, 3)
    assert cache.auxiliary == {}
    dx = model.backward(np.ones_like(y), cache)
    assert dx.shape == x.shape
    assert not any(p.grad.any() for n, p in model.parameters().items() if n.startswith("aux"))
    plain = build(3, (33, 33, 1), width=1 / 32, auxiliary=False)
    assert isinstance(plain, Classifier)
    plain.load_state({n: a for n, a in model.state().items() if n in plain.state()})
    assert np.array_equal(plain.forward(x)[0], y)
    assert not isinstance(plain.forward(x, TRAIN)[0], tuple)


def test_another_number_of_gradients_than_outputs_is_refused():
    model = build(3, (17, 17, 1), **SMALL)
    y, cache = model.forward(images((17, 17, 1)).astype(np.float32), TRAIN)
    with pytest.raises(ValueError, match="GoogLeNet: got 1 gradients for 3 outputs, .* WithAux"):
        model.backward(y[0], cache)


def data(count=6):
    rng = np.random.default_rng(0)
    return rng.standard_normal((count, 17, 17, 1)).astype(np.float32), rng.integers(0, 3, count)


def test_a_step_trains_on_the_formula_and_a_plain_loss_says_what_is_missing():
    x, y = data()
    model = build(3, (17, 17, 1), **SMALL).to(dtype="float64")
    x = x.astype(np.float64)
    outputs, _ = model.forward(x, TRAIN)
    inner = SoftmaxCrossEntropy()
    main, *auxiliary = [float(inner.forward(z, y)[0]) for z in outputs]
    step = TrainStep(model, WithAuxiliary(inner), SGD(0.1))
    assert step(x, y) == pytest.approx(main + 0.3 * sum(auxiliary), rel=1e-12)
    assert step.last_probabilities().shape == (6, 3)
    with pytest.raises(TypeError, match=r"network gave 3 outputs.*WithAuxiliary"):
        TrainStep(model, inner, SGD(0.1))(x, y)


def test_fits_evaluates_and_goes_on_where_it_stopped(tmp_path):
    train = data()

    def run(epochs, folder=None, resume=False):
        model = build(3, (17, 17, 1), width=1 / 64)
        loss, optimizer = WithAuxiliary(SoftmaxCrossEntropy()), SGD(0.01, momentum=0.9)
        history = fit(
            *[model, loss, optimizer, train, train],
            **{"epochs": epochs, "batch_size": 3, "progress": False},
            **{"folder": folder, "resume": resume},
        )
        return model, history

    model, history = run(2)
    assert all(math.isfinite(row["train_loss"]) for row in history)
    run(1, tmp_path)
    resumed, again = run(2, tmp_path, resume=True)
    assert [row["train_loss"] for row in again] == [row["train_loss"] for row in history]
    assert all(np.array_equal(a, resumed.state()[n]) for n, a in model.state().items())

    value, _, probabilities = evaluate(model, WithAuxiliary(SoftmaxCrossEntropy()), train)
    plain, _, _ = evaluate(model, SoftmaxCrossEntropy(), train)  # one output outside training
    assert value == plain == history[-1]["validation_loss"]
    assert probabilities.shape == (6, 3)
    save_checkpoint(tmp_path / "model.safetensors", model)
    other = model.architecture.build()
    load_checkpoint(tmp_path / "model.safetensors", other)
    assert np.array_equal(other.forward(train[0])[0], model.forward(train[0])[0])


def test_walks_in_forward_order_and_sums_up_all_layers():
    model = build(3, (33, 33, 1), width=1 / 32)
    names = [name for name, *_ in model.walk((33, 33, 1), "net")]
    assert names.index("net.base.inception4a.branch4.1.relu") + 1 == names.index("net.aux1.pool")
    assert names.index("net.aux1.classes") + 1 == names.index("net.base.inception4b.branch1.conv")
    assert names[-1] == "net.head.classes"
    plain = build(3, (33, 33, 1), width=1 / 32, auxiliary=False)
    branches = [(model.aux1, (3, 3, 16)), (model.aux2, (3, 3, 17))]
    assert model.multiply_adds((33, 33, 1)) == plain.multiply_adds((33, 33, 1)) + sum(
        branch.multiply_adds(shape) for branch, shape in branches
    )
    assert f"{learned(model):,}" in model.summary((33, 33, 1)).splitlines()[-1]
    assert list(model.children()) == ["base", "head", "aux1", "aux2"]


def test_base_and_head_are_for_transfer_learning():
    model = build(3, (33, 33, 1), width=1 / 32)
    assert isinstance(model, GoogLeNet)
    model.base.freeze()
    model.head = build(5, (33, 33, 1), width=1 / 32).head
    trainable = {n.split(".")[0] for n, p in model.parameters().items() if p.trainable}
    assert trainable == {"head", "aux1", "aux2"}
    assert model.output_shape((33, 33, 1)) == (5,)


def test_settings_reach_the_layers():
    model = build(3, (33, 33, 1), width=1 / 32, epsilon=2e-3, keep_prob=0.9)
    layers = model.named_layers().values()
    norms = {(part.epsilon, part.momentum) for part in layers if isinstance(part, BatchNorm)}
    assert norms == {(2e-3, 0.9)}
    assert sorted(p.keep_prob for p in layers if isinstance(p, Dropout)) == [0.3, 0.3, 0.9]
    assert all(part.bias is None for part in layers if isinstance(part, Conv2D))
    paper = build(3, (79, 79, 1), width=1 / 32, **PAPER).named_layers().values()
    assert not any(isinstance(part, BatchNorm) for part in paper)
    assert sum(isinstance(part, LocalResponseNorm) for part in paper) == 2
    kernels = [part.kernel_size for part in paper if isinstance(part, Conv2D)]
    assert kernels.count((5, 5)) == 9
    assert model.architecture.build().architecture == model.architecture
    with pytest.raises(ValueError, match="googlenet: width is 0, want a number above 0"):
        build(3, (33, 33, 1), width=0)


@pytest.mark.parametrize(
    ("settings", "side", "layer"),
    [
        ({}, 15, r"maxpool3 \(MaxPool2D"),
        ({"paper_pools": True, "auxiliary": False}, 31, r"maxpool4 \(MaxPool2D"),
        ({"paper_pools": True}, 79, r"aux1\.pool \(AvgPool2D"),
    ],
)
def test_grey_images_down_to_the_smallest(settings, side, layer):
    model = build(5, (side, side + 9, 1), **SMALL | settings)
    x = images((side, side + 9, 1)).astype(np.float32)
    assert model.forward(x)[0].shape == (2, 5)
    message = rf"googlenet: an image of {side - 1} × 90 .* at {layer}.* {side} × {side}$"
    with pytest.raises(ValueError, match=message):
        build(5, (side - 1, 90, 1), **SMALL | settings)
