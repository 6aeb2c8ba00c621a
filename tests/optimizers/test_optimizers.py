"""Optimisers against the report's recurrences and against torch's, over 100 steps in float64."""

import math

import numpy as np
import pytest

from tests.layers import loops
from tinynet.backend import use_kernels
from tinynet.layer import Parameter
from tinynet.optimizers import SGD, Adagrad, Adam, AdamW, GradientDescent, RMSProp
from tinynet.regularizers import is_weight

STEPS = 100
SHAPES = {"0.weight": (5, 3), "0.bias": (3,)}


def make_parameters(dtype="float64"):
    rng = np.random.default_rng(0)
    return {name: Parameter(rng.normal(size=s).astype(dtype)) for name, s in SHAPES.items()}


def set_gradients(parameters, step):
    """A different gradient at each step, that depends on the weights too and varies in size."""
    for i, parameter in enumerate(parameters.values()):
        rng = np.random.default_rng([step, i])
        noise = rng.normal(scale=rng.uniform(0.01, 3), size=parameter.shape)
        parameter.grad[...] = noise + np.sin(3 * parameter.value)


def run(optimizer, parameters, steps=STEPS, first=0):
    for step in range(first, first + steps):
        set_gradients(parameters, step)
        optimizer.step(parameters)


def values(parameters):
    return {name: p.value.copy() for name, p in parameters.items()}


def check_same(got, expected, rtol=1e-12):
    for name, value in expected.items():
        np.testing.assert_allclose(got[name], value, rtol=rtol, atol=rtol)


# optimiser, how many arrays its rule changes, and the rule: (arrays, gradient, step from 1)
RECURRENCES = {
    "gradient descent": (
        lambda: GradientDescent(0.25),
        1,
        lambda a, g, t: loops.gradient_descent_update(*a, g, 0.25),
    ),
    "momentum": (
        lambda: SGD(0.1, 0.9),
        2,
        lambda a, g, t: loops.momentum_update(*a, g, 0.1, 0.9, False),
    ),
    "nesterov": (
        lambda: SGD(0.1, 0.8, nesterov=True),
        2,
        lambda a, g, t: loops.momentum_update(*a, g, 0.1, 0.8, True),
    ),
    "decay": (
        lambda: SGD(0.05, 0.9, weight_decay=0.1),
        2,
        lambda a, g, t: loops.momentum_update(*a, g + 0.1 * a[0], 0.05, 0.9, False),
    ),
    "decoupled decay": (
        lambda: SGD(0.05, weight_decay=0.1, decoupled=True),
        1,
        lambda a, g, t: loops.gradient_descent_update(a[0] * (1 - 0.05 * 0.1), g, 0.05),
    ),
    "rmsprop": (
        lambda: RMSProp(0.02, alpha=0.15, epsilon=1e-6),
        2,
        lambda a, g, t: loops.rmsprop_update(*a, g, 0.02, 0.15, 1e-6),
    ),
    "adam of the report": (
        lambda: Adam(0.02, beta=0.2, alpha=0.01, epsilon=1e-6, bias_correction=False),
        3,
        lambda a, g, t: loops.adam_update(*a, g, 0.02, 0.2, 0.01, 1e-6, (1, 1)),
    ),
    "adam": (
        lambda: Adam(0.02, 0.8, 0.95, 1e-7),
        3,
        lambda a, g, t: loops.adam_update(*a, g, 0.02, 0.2, 0.05, 1e-7, (1 - 0.8**t, 1 - 0.95**t)),
    ),
}


@pytest.mark.parametrize("name", RECURRENCES)
def test_is_the_report_s_recurrence(name):
    make, slots, rule = RECURRENCES[name]
    optimizer, parameters = make(), make_parameters()
    arrays = {n: [p.value.copy()] + [0 * p.value] * (slots - 1) for n, p in parameters.items()}
    for t in range(1, STEPS + 1):
        set_gradients(parameters, t)
        arrays = {n: rule(arrays[n], p.grad, t) for n, p in parameters.items()}
        optimizer.step(parameters)
    check_same(values(parameters), {n: w for n, (w, *_) in arrays.items()})


@pytest.mark.parametrize(
    ("field", "report"),
    [
        (RMSProp(0.1, rho=0.75), RMSProp(0.1, alpha=0.25)),
        (Adam(0.1, beta_1=0.75, beta_2=0.5), Adam(0.1, beta=0.25, alpha=0.5)),
    ],
)
def test_the_field_form_weights_the_old_term_and_the_report_form_the_new(field, report):
    by_field, by_report = make_parameters(), make_parameters()
    run(field, by_field, 5)
    run(report, by_report, 5)
    check_same(values(by_field), values(by_report), rtol=0)


TORCH_PAIRS = {
    "sgd, decay": (
        lambda: SGD(0.05, weight_decay=0.1),
        ("SGD", {"lr": 0.05, "weight_decay": 0.1}),
    ),
    "momentum": (
        lambda: SGD(0.01, momentum=0.9, weight_decay=0.01),
        ("SGD", {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.01}),
    ),
    "nesterov": (
        lambda: SGD(0.01, momentum=0.8, nesterov=True, weight_decay=0.05),
        ("SGD", {"lr": 0.01, "momentum": 0.8, "nesterov": True, "weight_decay": 0.05}),
    ),
    "rmsprop": (
        lambda: RMSProp(0.01, rho=0.95, epsilon=1e-6, weight_decay=0.1),
        ("RMSprop", {"lr": 0.01, "alpha": 0.95, "eps": 1e-6, "weight_decay": 0.1}),
    ),
    "adam, defaults": (Adam, ("Adam", {})),
    "adam": (
        lambda: Adam(0.02, 0.8, 0.95, 1e-7, weight_decay=0.1),
        ("Adam", {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-7, "weight_decay": 0.1}),
    ),
    "adamw": (
        lambda: Adam(0.02, weight_decay=0.3, decoupled=True),
        ("AdamW", {"lr": 0.02, "weight_decay": 0.3}),
    ),
}


@pytest.mark.parametrize("name", TORCH_PAIRS)
def test_equals_torch_over_100_steps(torch, name):
    make, (oracle_name, options) = TORCH_PAIRS[name]
    parameters = make_parameters()
    twins = {n: torch.tensor(p.value, requires_grad=True) for n, p in parameters.items()}
    oracle = getattr(torch.optim, oracle_name)(twins.values(), **options)
    optimizer = make()
    for step in range(STEPS):
        set_gradients(parameters, step)
        for n, p in parameters.items():
            twins[n].grad = torch.tensor(p.grad)
        optimizer.step(parameters)
        oracle.step()
    check_same(values(parameters), {n: t.detach().numpy() for n, t in twins.items()})


def test_decays_selects_parameters():
    parameters = {name: Parameter(np.ones(2)) for name in ("0.weight", "0.bias")}
    SGD(0.5, weight_decay=0.1, decays=is_weight).step(parameters)
    np.testing.assert_allclose(parameters["0.weight"].value, 0.95)
    np.testing.assert_array_equal(parameters["0.bias"].value, 1.0)


GROUPS = {"0": 0.5, "0.bias": 0.0, "1": 2.0}
GROUP_SHAPES = {"0.weight": (5, 3), "0.bias": (3,), "1.weight": (3, 2), "2.weight": (2, 2)}
FACTORS = dict(zip(GROUP_SHAPES, (0.5, 0.0, 2.0, 1.0), strict=True))


def grouped(rates, make=SGD, **more):
    """The parameters after some steps, and those that each had an optimiser to itself."""
    rng = np.random.default_rng(2)
    start = {name: rng.normal(size=shape) for name, shape in GROUP_SHAPES.items()}
    made, alone = ({n: Parameter(w.copy()) for n, w in start.items()} for _ in range(2))
    optimizer = make(0.1, rates=rates, **more)
    each = {name: make(0.1 * factor, **more) for name, factor in FACTORS.items()}
    for step in range(5):
        for parameters in (made, alone):
            set_gradients(parameters, step)
        optimizer.step(made)
        for name, p in alone.items():
            each[name].step({name: p})
    return values(made), values(alone)


@pytest.mark.parametrize("kernels", ["reference", "numpy", "numba"])
@pytest.mark.parametrize("make", [SGD, RMSProp, Adam, Adagrad, AdamW])
def test_rates_are_factors_of_the_learning_rate_layer_by_layer(make, kernels):
    with use_kernels(kernels):
        for rates in (GROUPS, FACTORS.get):
            check_same(*grouped(rates, make), rtol=0)
        check_same(*grouped(GROUPS, make, weight_decay=0.1), rtol=0)


def test_groups_equal_torch_s(torch):
    """Another rate for the base, and decay for weights alone."""
    parameters = make_parameters() | {"1.weight": Parameter(np.ones((2, 2)))}
    twins = {n: torch.tensor(p.value, requires_grad=True) for n, p in parameters.items()}
    groups = {"0.weight": (0.002, 0.1), "0.bias": (0.002, 0.0), "1.weight": (0.02, 0.1)}
    oracle = torch.optim.AdamW(
        [{"params": [twins[n]], "lr": r, "weight_decay": d} for n, (r, d) in groups.items()]
    )
    optimizer = AdamW(0.02, weight_decay=0.1, decays=is_weight, rates={"0": 0.1})
    for step in range(STEPS):
        set_gradients(parameters, step)
        for n, p in parameters.items():
            twins[n].grad = torch.tensor(p.grad)
        optimizer.step(parameters)
        oracle.step()
    check_same(values(parameters), {n: t.detach().numpy() for n, t in twins.items()})


@pytest.mark.parametrize(
    ("settings", "error", "match"),
    [
        ({"rates": {"base": 0.1}}, ValueError, "rates has 'base', and no parameter is inside"),
        ({"rates": {"0.weigh": 0.1}}, ValueError, "want the beginning of one of 0.weight, 0.bias"),
        ({"rates": lambda name: -1.0}, ValueError, r"rates\('0.weight'\) is -1.0, want a number"),
        ({"rates": lambda name: None}, TypeError, r"rates\('0.weight'\) is None, want a number"),
        ({"decays": str.isdigit, "weight_decay": 0.1}, ValueError, "decays chooses none of 0.wei"),
        ({"rates": {"0": -0.1}}, ValueError, r"rates\['0'\] is -0.1, want a number from 0"),
        ({"rates": {0: 0.1}}, TypeError, "a layer in rates is 0, want a name"),
        ({"rates": 0.1}, TypeError, "rates is 0.1, want factors by layer"),
        ({"decays": "weight"}, TypeError, "decays is 'weight', want a function"),
    ],
)
def test_groups_that_fit_nothing_or_make_no_sense_change_nothing(settings, error, match):
    parameters = make_parameters()
    with pytest.raises(error, match=match):
        run(SGD(0.1, **settings), parameters)
    check_same(values(parameters), values(make_parameters()), rtol=0)


MAKERS = {
    "sgd": lambda: SGD(0.05),
    "momentum": lambda: SGD(0.05, momentum=0.9, nesterov=True),
    "rmsprop": lambda: RMSProp(0.01),
    "adam": lambda: Adam(0.01, weight_decay=0.1, rates={"0.bias": 0.1}),
}
each_kind = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


@each_kind
def test_state_round_trip_goes_on_bit_for_bit(make):
    straight, optimizer = make_parameters(), make()
    run(optimizer, straight, 12)

    parameters, first = make_parameters(), make()
    run(first, parameters, 5)
    second = make()
    second.load_state(first.state())
    saved = {key: x.copy() for key, x in first.state().items()}
    run(first, make_parameters(), 1, first=99)  # the state was copied: this changes first alone
    assert set(second.state()) == set(saved)
    for key, x in second.state().items():
        np.testing.assert_array_equal(x, saved[key])
        assert x.dtype == saved[key].dtype
    run(second, parameters, 7, first=5)
    check_same(values(parameters), values(straight), rtol=0)
    assert int(second.state()["step"]) == 12
    assert second.state()["step"].dtype == np.int64


@each_kind
def test_frozen_parameters_keep_value_and_state(make):
    parameters, optimizer = make_parameters(), make()
    run(optimizer, parameters, 3)
    frozen = parameters["0.bias"]
    frozen.trainable = False
    before = frozen.value.copy()
    kept = {k: x.copy() for k, x in optimizer.state().items() if k.endswith("0.bias")}
    run(optimizer, parameters, 3)
    np.testing.assert_array_equal(frozen.value, before)
    check_same(optimizer.state(), kept, rtol=0)
    frozen.trainable = True
    run(optimizer, parameters, 1)
    assert not np.array_equal(frozen.value, before)


def test_a_parameter_unfrozen_late_starts_as_all_the_others_did():
    late, early = make_parameters(), make_parameters()
    optimizer = Adam(0.01)
    late["0.bias"].trainable = False
    run(optimizer, late, 50)
    assert not any(key.endswith("0.bias") for key in optimizer.state())
    late["0.bias"].trainable = True
    for parameters, by in ((late, optimizer), (early, Adam(0.01))):
        for parameter in parameters.values():
            parameter.grad[...] = 0.3
        by.step(parameters)
    # Adam's first step has the length η whatever the gradient
    np.testing.assert_allclose(late["0.bias"].value, early["0.bias"].value)


@each_kind
def test_updates_in_place_and_leaves_the_gradient(make):
    parameters = make_parameters()
    arrays = {name: (p.value, p.grad) for name, p in parameters.items()}
    set_gradients(parameters, 0)
    gradients = {name: p.grad.copy() for name, p in parameters.items()}
    make().step(parameters)
    for name, p in parameters.items():
        assert (p.value is arrays[name][0], p.grad is arrays[name][1]) == (True, True)
        assert not np.array_equal(p.value, make_parameters()[name].value)
        np.testing.assert_array_equal(p.grad, gradients[name])
    SGD(0.1).zero_grad(parameters)
    assert not any(p.grad.any() for p in parameters.values())


@each_kind
def test_learning_rate_may_be_set_and_float32_stays_float32(make):
    parameters, optimizer = make_parameters("float32"), make()
    optimizer.learning_rate = np.float64(0.0)  # as a schedule may compute it
    optimizer.weight_decay = 0.0
    before = values(parameters)
    run(optimizer, parameters, 2)
    for name, p in parameters.items():
        np.testing.assert_array_equal(p.value, before[name])
        assert p.value.dtype == np.float32
    for key, x in optimizer.state().items():
        assert x.dtype == (np.int64 if key.startswith(("step", "updates")) else np.float32)
    optimizer.learning_rate = 0.1
    run(optimizer, parameters, 1)
    assert not np.array_equal(parameters["0.bias"].value, before["0.bias"])


def test_the_state_follows_the_dtype_of_the_parameters():
    optimizer = Adam(0.01)
    run(optimizer, make_parameters("float32"), 2)
    run(optimizer, make_parameters("float64"), 1)
    assert optimizer.state()["m.0.weight"].dtype == np.float64


def test_other_parameters_than_before_are_an_error_and_change_nothing():
    parameters, optimizer = make_parameters(), Adam(0.1)
    run(optimizer, parameters, 2)
    before = values(parameters)
    steps = int(optimizer.state()["step"])
    other = {"0.weight": parameters["0.weight"], "1.bias": parameters["0.bias"]}
    with pytest.raises(ValueError, match="0.bias is missing; 1.bias is new. Make a new optimiser"):
        optimizer.step(other)
    resized = {**parameters, "0.bias": Parameter(np.zeros(4))}
    with pytest.raises(ValueError, match=r"0.bias is \(4,\), was \(3,\)"):
        optimizer.step(resized)
    check_same(values(parameters), before, rtol=0)
    assert int(optimizer.state()["step"]) == steps


def state_of_adam():
    adam = Adam(0.1)
    run(adam, make_parameters(), 1)
    return adam.state()


@pytest.mark.parametrize(
    ("optimizer", "left_out", "message"),
    [
        (SGD(0.1, momentum=0.9), "", "has m, v, SGD with its present settings keeps velocity"),
        (SGD(0.1), "", "has m, v, SGD with its present settings keeps nothing"),
        (Adam(0.1), "v.0.bias", "load it into an optimiser of the kind"),
        (Adam(0.1), "step", "no 'step'"),
    ],
)
def test_the_state_of_another_optimiser_is_an_error(optimizer, left_out, message):
    state = {key: x for key, x in state_of_adam().items() if key != left_out}
    with pytest.raises(ValueError, match=message):
        optimizer.load_state(state)


def test_the_state_of_another_model_is_noticed_by_the_next_step():
    other = Adam(0.1)
    other.load_state(state_of_adam())
    with pytest.raises(ValueError, match="0.bias is missing"):
        other.step({"0.weight": make_parameters()["0.weight"]})


@pytest.mark.parametrize(
    "make",
    [
        lambda: SGD(-0.1),
        lambda: SGD(math.nan),
        lambda: SGD(0.1, momentum=1.5),
        lambda: SGD(0.1, nesterov=True),
        lambda: SGD(0.1, weight_decay=-1),
        lambda: RMSProp(0.1, rho=1.0),
        lambda: RMSProp(0.1, alpha=0.0),
        lambda: RMSProp(0.1, epsilon=-1e-8),
        lambda: RMSProp(0.1, epsilon=0),
        lambda: Adam(0.1, epsilon=0),
        lambda: Adagrad(0.1, epsilon=0.0),
        lambda: Adam(0.1, beta_1=1.0),
        lambda: Adam(0.1, beta=2.0),
    ],
)
def test_settings_out_of_range_are_errors(make):
    with pytest.raises(ValueError, match="want|give"):
        make()


def test_full_batch_gradient_descent_is_the_mean_of_the_gradients():
    """On L = (1/n) Σ (w - x_i)² / 2 the step with η = 1 lands on the mean of the x_i."""
    x = np.random.default_rng(4).normal(size=(20, 3))
    parameters = {"weight": Parameter(np.zeros(3))}
    parameters["weight"].grad[...] = (parameters["weight"].value - x).mean(axis=0)
    GradientDescent(1.0).step(parameters)
    np.testing.assert_allclose(parameters["weight"].value, x.mean(axis=0), atol=1e-15)
