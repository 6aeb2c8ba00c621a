"""Schedules against values worked out by hand, and the plateau rule against torch's."""

import math

import numpy as np
import pytest

from tinynet.schedules import (
    Constant,
    Cosine,
    CosineRestarts,
    MultiStep,
    OneCycle,
    ReduceOnPlateau,
    StepDecay,
    WarmUp,
)


def rates(schedule, epochs):
    return [schedule(epoch, []) for epoch in range(epochs)]


def rows(values, column="validation_loss"):
    return [{"epoch": i + 1, column: value} for i, value in enumerate(values)]


def test_constant():
    assert rates(Constant(0.1), 3) == [0.1, 0.1, 0.1]


def test_step_decay():
    schedule = StepDecay(0.8, factor=0.5, every=2)
    assert rates(schedule, 7) == pytest.approx([0.8, 0.8, 0.4, 0.4, 0.2, 0.2, 0.1])


def test_multi_step():
    schedule = MultiStep(0.8, [2, 3, 5], factor=0.5)
    assert rates(schedule, 6) == pytest.approx([0.8, 0.8, 0.4, 0.2, 0.2, 0.1])


def test_cosine_restarts_take_longer_and_longer():
    half = math.sqrt(0.5)
    once = [1.0, 0.6, 1.0, 0.6 + 0.4 * half, 0.6, 0.6 - 0.4 * half, 1.0]
    assert rates(CosineRestarts(1.0, 2, 2, final=0.2), 7) == pytest.approx(once)
    assert rates(CosineRestarts(1.0, 2), 5) == pytest.approx([1, 0.5, 1, 0.5, 1])


def test_one_cycle_climbs_and_falls_and_stays():
    schedule = OneCycle(1.0, 10, warm_up=0.5, div_factor=5, final_div_factor=20, linear=True)
    up, down = np.linspace(0.2, 1, 5), np.linspace(1, 0.01, 6)[1:]
    assert rates(schedule, 12) == pytest.approx([*up, *down, 0.01, 0.01])
    assert rates(OneCycle(2.0, 8, warm_up=0.0), 3)[0] < 2
    assert rates(OneCycle(2.0, 1), 3) == pytest.approx([8e-6] * 3)


TORCH = {
    "multi-step": (
        lambda: MultiStep(0.3, [3, 7, 8], 0.2),
        ("MultiStepLR", {"milestones": [3, 7, 8], "gamma": 0.2}),
    ),
    "step": (lambda: StepDecay(0.3, 0.7, 4), ("StepLR", {"step_size": 4, "gamma": 0.7})),
    "one cycle": (lambda: OneCycle(0.3, 40), ("OneCycleLR", {"max_lr": 0.3, "total_steps": 40})),
    "one cycle, linear": (
        lambda: OneCycle(0.3, 40, 0.12, 10, 50, linear=True),
        (
            "OneCycleLR",
            {
                **{"max_lr": 0.3, "total_steps": 40, "pct_start": 0.12, "div_factor": 10},
                **{"final_div_factor": 50, "anneal_strategy": "linear"},
            },
        ),
    ),
    "one cycle, hardly up": (
        lambda: OneCycle(0.3, 40, 0.01),
        ("OneCycleLR", {"max_lr": 0.3, "total_steps": 40, "pct_start": 0.01}),
    ),
    "restarts": (
        lambda: CosineRestarts(0.3, 7, final=0.01),
        ("CosineAnnealingWarmRestarts", {"T_0": 7, "eta_min": 0.01}),
    ),
    "longer restarts": (
        lambda: CosineRestarts(0.3, 3, 2),
        ("CosineAnnealingWarmRestarts", {"T_0": 3, "T_mult": 2}),
    ),
    "cosine": (
        lambda: Cosine(0.3, 39, 0.01),
        ("CosineAnnealingLR", {"T_max": 39, "eta_min": 0.01}),
    ),
}


@pytest.mark.filterwarnings("ignore:.*lr_scheduler.step.*before:UserWarning")
@pytest.mark.parametrize("name", TORCH)
def test_equals_torch(torch, name):
    make, (oracle_name, options) = TORCH[name]
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    oracle = getattr(torch.optim.lr_scheduler, oracle_name)(optimizer, **options)
    expected = [optimizer.param_groups[0]["lr"]]
    for _ in range(39):
        oracle.step()
        expected.append(optimizer.param_groups[0]["lr"])
    assert rates(make(), 40) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    "make",
    [
        *(make for make, _ in TORCH.values()),
        lambda: Cosine(0.0, 7, final=0.1),
        lambda: Cosine(1e-300, 7, final=0.1),
        lambda: CosineRestarts(0.3, 7, 3),
        lambda: WarmUp(OneCycle(0.1, 5), 3),
    ],
)
def test_no_rate_is_ever_below_zero(make):
    found = rates(make(), 400)
    assert min(found) >= 0
    assert all(map(math.isfinite, found))


def test_cosine_ends_at_final_and_stays_there():
    schedule = Cosine(1.0, epochs=4, final=0.2)
    half = math.sqrt(0.5)
    expected = [1.0, 0.6 + 0.4 * half, 0.6, 0.6 - 0.4 * half, 0.2, 0.2, 0.2]
    assert rates(schedule, 7) == pytest.approx(expected)


def test_warm_up_climbs_to_the_inner_schedule():
    schedule = WarmUp(StepDecay(1.0, factor=0.1, every=4), epochs=4)
    assert rates(schedule, 6) == pytest.approx([0.25, 0.5, 0.75, 1.0, 0.1, 0.1])


def test_warm_up_hands_the_history_on():
    schedule = WarmUp(ReduceOnPlateau(1.0, patience=1), epochs=2)
    assert schedule(3, rows([5.0, 6.0, 5.5])) == pytest.approx(0.01)


def plateau(values, **settings):
    """The learning rate before each epoch, and after the last, as the history grows."""
    schedule = ReduceOnPlateau(1.0, **settings)
    history = rows(values)
    return [schedule(epoch, history[:epoch]) for epoch in range(len(values) + 1)]


def test_plateau_reduces_after_patience_epochs_without_a_best():
    losses = [3.0, 2.0, 2.0, 2.5, 1.9, 1.95, 1.9, 1.9]
    expected = [1.0, 1.0, 1.0, 1.0, 0.1, 0.1, 0.1, 0.01, 0.01]
    assert plateau(losses, patience=2) == pytest.approx(expected)


def test_plateau_min_delta_minimum_and_cooldown():
    slow = [1.0, 0.99, 0.98, 0.97]
    assert plateau(slow, patience=3) == [1.0] * 5
    assert plateau(slow, patience=3, min_delta=0.05)[-1] == pytest.approx(0.1)
    flat = [1.0] * 7
    assert plateau(flat, patience=1, factor=0.5, minimum=0.2)[-1] == 0.2
    # a best, then reduced, two epochs at rest, reduced, two at rest
    expected = [1.0, 1.0, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25]
    assert plateau(flat, patience=1, factor=0.5, cooldown=2) == pytest.approx(expected)


def test_plateau_where_higher_is_better():
    schedule = ReduceOnPlateau(1.0, patience=2, monitor="validation_kappa", maximise=True)
    rising = rows([0.1, 0.2, 0.3, 0.4], "validation_kappa")
    falling = rows([0.4, 0.3, 0.2], "validation_kappa")
    assert schedule(4, rising) == 1.0
    assert schedule(3, falling) == pytest.approx(0.1)


def test_plateau_counts_nan_as_no_improvement():
    assert plateau([1.0, math.nan, math.nan], patience=2)[-1] == pytest.approx(0.1)


def test_plateau_is_a_function_of_its_arguments():
    schedule = ReduceOnPlateau(1.0, patience=1)
    history = rows([1.0, 1.0, 1.0, 1.0])
    last = schedule(4, history)
    assert schedule(4, history) == last
    assert schedule(2, history) == pytest.approx(0.1)  # later rows are not looked at
    assert ReduceOnPlateau(1.0, patience=1)(4, history) == last


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("patience", "cooldown", "min_delta"), [(1, 0, 0.0), (2, 3, 0.1)])
def test_plateau_equals_torch(seed, patience, cooldown, min_delta):
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install torch==2.13.0")
    losses = np.random.default_rng(seed).uniform(0, 1, 30).round(1).tolist()
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    oracle = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer,
        factor=0.7,
        patience=patience - 1,  # torch waits for one more epoch than its patience
        threshold=min_delta,
        threshold_mode="abs",
        cooldown=cooldown,
        min_lr=0.1,
        eps=0,
    )
    expected = [1.0]
    for loss in losses:
        oracle.step(loss)
        expected.append(optimizer.param_groups[0]["lr"])
    settings = {"factor": 0.7, "patience": patience, "cooldown": cooldown, "minimum": 0.1}
    assert plateau(losses, min_delta=min_delta, **settings) == pytest.approx(expected, rel=1e-12)
    assert len(set(expected)) > 2


def test_plateau_without_the_column_says_what_to_do():
    with pytest.raises(ValueError, match="no 'validation_loss'.*epoch, train_loss.*monitor="):
        ReduceOnPlateau(1.0)(1, rows([1.0], "train_loss"))


@pytest.mark.parametrize(
    "make",
    [
        lambda: StepDecay(1.0, every=0),
        lambda: Cosine(1.0, epochs=0),
        lambda: WarmUp(Constant(1.0), epochs=0),
        lambda: ReduceOnPlateau(1.0, patience=0),
        lambda: ReduceOnPlateau(1.0, factor=1.5),
        lambda: ReduceOnPlateau(1.0, cooldown=-1),
        lambda: ReduceOnPlateau(1.0, minimum=2.0),
        lambda: ReduceOnPlateau(1.0, patience=1.5),
        lambda: MultiStep(1.0, [2, 0]),
        lambda: MultiStep(1.0, [2.5]),
        lambda: CosineRestarts(1.0, 0),
        lambda: CosineRestarts(1.0, 3, factor=1.5),
        lambda: CosineRestarts(1.0, 3, final=-0.1),
        lambda: OneCycle(-1.0, 10),
        lambda: OneCycle(1.0, 10.5),
        lambda: OneCycle(1.0, 10, warm_up=1.0),
        lambda: OneCycle(1.0, 10, div_factor=0.5),
    ],
)
def test_settings_out_of_range_are_errors(make):
    with pytest.raises(ValueError, match="want"):
        make()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Cosine("x", 5),
        lambda: MultiStep(1.0, 5),
        lambda: MultiStep(1.0, "12"),
        lambda: WarmUp(Cosine, 2),
    ],
)
def test_what_is_of_another_type_is_an_error(make):
    with pytest.raises(TypeError, match="want"):
        make()
