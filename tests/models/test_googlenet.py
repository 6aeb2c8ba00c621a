"""GoogLeNet's three outputs: their gradients, training, and what is there outside training."""

import numpy as np
import pytest

from benchmarks.zoo.gradients import as_containers
from tests.models.peers import TRAIN, build, images, layers_of, learned, stirred
from tinynet.layers import BatchNorm, Conv2D, LocalResponseNorm
from tinynet.losses import SoftmaxCrossEntropy, WithAuxiliary
from tinynet.models import Classifier, GoogLeNet
from tinynet.optimizers import SGD
from tinynet.train import TrainStep, evaluate, fit

PAPER = {
    "batch_norm": False,
    "five_by_five": True,
    "local_response_norm": True,
    "paper_pools": True,
}
SMALL = {"width": 1 / 64, "keep_prob": 1.0, "auxiliary_keep_prob": 1.0}


def small(side=17, classes=3, **settings):
    return build("googlenet", classes, (side, side, 1), **SMALL | settings)


def test_the_auxiliary_pools_of_paper_and_torchvision_differ_even_at_14_by_14():
    pools = [small(224, paper_pools=p).aux1.layers[0] for p in (False, True)]
    x = images((14, 14, 1))
    ours, papers = (pool.forward(x)[0] for pool in pools)
    assert ours.shape == papers.shape == (2, 4, 4, 1)
    assert not np.allclose(ours, papers)
    assert ours[0, 0, 1, 0] == pytest.approx(x[0, :4, 3:7, 0].mean())
    assert papers[0, 0, 1, 0] == pytest.approx(x[0, :5, 3:8, 0].mean())


def test_the_papers_form_has_5x5_filters_and_response_norms_in_place_of_batch_norms():
    paper = small(79, **PAPER)
    assert not layers_of(paper, BatchNorm)
    assert list(layers_of(paper, LocalResponseNorm)) == ["base.norm1", "base.norm2"]
    kernels = [part.kernel_size for part in layers_of(paper, Conv2D).values()]
    assert kernels.count((5, 5)) == 9
    assert layers_of(small(), LocalResponseNorm) == {}


@pytest.mark.parametrize("settings", [{}, PAPER])
def test_backward_adds_up_where_the_classifiers_branch_off(settings):
    """Against the nest of containers, each of which is checked by itself."""
    model = stirred(small(79, **settings), 0.1, 0.5).to(dtype="float64")
    nest = as_containers(model)
    x, dy = images((79, 79, 1)), np.random.default_rng(2).standard_normal((3, 2, 3))
    y, cache = model.forward(x, TRAIN)
    dx = model.backward(tuple(dy), cache)
    got = {name: p.grad.copy() for name, p in model.parameters().items()}
    model.zero_grad()
    nested, cache = nest.forward(x, TRAIN)
    nested_dx = nest.backward(np.concatenate([dy[1], dy[2], dy[0]], axis=1), cache)
    assert np.array_equal(nested, np.concatenate([y[1], y[2], y[0]], axis=1))
    np.testing.assert_allclose(dx, nested_dx, rtol=1e-12, atol=1e-15)
    for name, p in model.parameters().items():
        np.testing.assert_allclose(got[name], p.grad, rtol=1e-12, atol=1e-13, err_msg=name)
    alive = {name for name, p in model.parameters().items() if p.grad.any()}
    assert "base.conv1.conv.weight" in alive
    assert len(alive) > 0.8 * len(model.parameters())


def test_outside_training_there_is_one_output_and_auxiliary_classifiers_do_not_matter():
    model, plain = small(33), small(33, auxiliary=False)
    x = images((33, 33, 1)).astype(np.float32)
    y, cache = model.forward(x)
    assert y.shape == (2, *model.output_shape((33, 33, 1))) == (2, 3)
    assert cache.auxiliary == {}
    assert model.backward(np.ones_like(y), cache).shape == x.shape
    assert not any(p.grad.any() for n, p in model.parameters().items() if n.startswith("aux"))
    assert isinstance(plain, Classifier)
    plain.load_state({n: a for n, a in model.state().items() if n in plain.state()})
    assert np.array_equal(plain.forward(x)[0], y)
    assert not isinstance(plain.forward(x, TRAIN)[0], tuple)


def test_another_number_of_gradients_than_outputs_is_refused():
    model = small()
    y, cache = model.forward(images((17, 17, 1)).astype(np.float32), TRAIN)
    with pytest.raises(ValueError, match="GoogLeNet: got 1 gradients for 3 outputs, .* WithAux"):
        model.backward(y[0], cache)


def data(count=6):
    rng = np.random.default_rng(0)
    return rng.standard_normal((count, 17, 17, 1)).astype(np.float32), rng.integers(0, 3, count)


def test_a_step_trains_on_the_formula_and_a_plain_loss_says_what_is_missing():
    x, y = data()
    x, model, inner = x.astype(np.float64), small().to(dtype="float64"), SoftmaxCrossEntropy()
    outputs, _ = model.forward(x, TRAIN)
    main, *auxiliary = [float(inner.forward(z, y)[0]) for z in outputs]
    step = TrainStep(model, WithAuxiliary(inner), SGD(0.1))
    assert step(x, y) == pytest.approx(main + 0.3 * sum(auxiliary), rel=1e-12)
    assert step.last_probabilities().shape == (6, 3)
    with pytest.raises(TypeError, match=r"network gave 3 outputs.*WithAuxiliary"):
        TrainStep(model, inner, SGD(0.1))(x, y)


def test_fits_evaluates_and_goes_on_where_it_stopped(tmp_path):
    train = data()

    def run(epochs, **keywords):
        model = build("googlenet", 3, (17, 17, 1), width=1 / 64)  # with dropout
        loss, optimizer = WithAuxiliary(SoftmaxCrossEntropy()), SGD(0.01, momentum=0.9)
        keywords |= {"epochs": epochs, "batch_size": 3, "progress": False}
        return model, fit(model, loss, optimizer, train, train, **keywords)

    model, history = run(2)
    assert np.isfinite([row["train_loss"] for row in history]).all()
    run(1, folder=tmp_path)
    resumed, again = run(2, folder=tmp_path, resume=True)
    assert [row["train_loss"] for row in again] == [row["train_loss"] for row in history]
    assert all(np.array_equal(a, resumed.state()[n]) for n, a in model.state().items())

    value, _, probabilities = evaluate(model, WithAuxiliary(SoftmaxCrossEntropy()), train)
    plain, _, _ = evaluate(model, SoftmaxCrossEntropy(), train)  # one output outside training
    assert value == plain == history[-1]["validation_loss"]
    assert probabilities.shape == (6, 3)


def test_walks_in_forward_order_and_sums_up_all_layers():
    model, plain = small(33), small(33, auxiliary=False)
    names = [name for name, *_ in model.walk((33, 33, 1), "net")]
    assert names.index("net.base.inception4a.branch4.1.relu") + 1 == names.index("net.aux1.pool")
    assert names.index("net.aux1.classes") + 1 == names.index("net.base.inception4b.branch1.conv")
    assert names[-1] == "net.head.classes"
    branches = [(model.aux1, (3, 3, 8)), (model.aux2, (3, 3, 8))]
    assert model.multiply_adds((33, 33, 1)) == plain.multiply_adds((33, 33, 1)) + sum(
        branch.multiply_adds(shape) for branch, shape in branches
    )
    assert f"{learned(model):,}" in model.summary((33, 33, 1)).splitlines()[-1]
    assert list(model.children()) == ["base", "head", "aux1", "aux2"]


def test_base_and_head_are_for_transfer_learning():
    model = small(33)
    assert isinstance(model, GoogLeNet)
    model.base.freeze()
    model.head = small(33, classes=5).head
    trainable = {n.split(".")[0] for n, p in model.parameters().items() if p.trainable}
    assert trainable == {"head", "aux1", "aux2"}
    assert model.output_shape((33, 33, 1)) == (5,)
