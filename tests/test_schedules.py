"""Schedules: what they come to at a share of the budget, and all that they reach."""

from __future__ import annotations

import math

import pytest
import torch
from trials import run_with, stepped

from ganzoo.training.loop import train
from ganzoo.training.schedules import multiplier
from ganzoo.types import Optimizer, Schedule

VALUES = {
    "points": (
        Schedule("points", points=((0.25, 2.0), (0.5, 1.0), (0.75, 0.0))),
        {0.0: 2.0, 0.25: 2.0, 0.375: 1.5, 0.5: 1.0, 0.7: 0.2, 1.0: 0.0},
    ),
    "a jump": (Schedule("points", points=((0.5, 1.0), (0.5, 3.0))), {0.0: 1.0, 0.5: 1.0, 0.51: 3.0}),
    "warm-up": (Schedule("linear", initial=0.0, to=1.0, end=0.1), {0.0: 0.0, 0.05: 0.5, 0.1: 1.0, 0.9: 1.0}),
    "a ramp in the middle": (
        Schedule("linear", initial=2.0, to=0.0, start=0.4, end=0.8),
        {0.0: 2.0, 0.4: 2.0, 0.5: 1.5, 0.8: 0.0, 1.0: 0.0},
    ),
    "cosine": (
        Schedule("cosine", to=0.1, end=0.5),
        {0.0: 1.0, 0.25: 0.55, 0.125: 0.1 + 0.9 * (1 + math.cos(math.pi / 4)) / 2, 0.5: 0.1, 1.0: 0.1},
    ),
    "a function": (Schedule.of(lambda share: share**2), {0.0: 0.0, 0.5: 0.25, 0.3: 0.09, 1.0: 1.0}),
}


@pytest.mark.parametrize("name", VALUES)
def test_the_multiplier_at_a_share_of_the_budget(name):
    schedule, values = VALUES[name]
    assert [multiplier(schedule, share, 0) for share in values] == pytest.approx(list(values.values()), abs=1e-4)


HALF = Schedule("points", points=((0.0, 1.0), (1.0, 0.5)))


def test_schedules_reach_rates_betas_coefficients_half_life_and_progress():
    run = run_with(
        "plain",
        "hinge",
        penalties=("path",),
        optimizer=Optimizer("adam", 0.01, betas=(0.4, 0.8)),
        rate_decay=HALF,
        ema_half_life_kimg=2.0,
        schedules={
            "generator.learning_rate": Schedule("linear", initial=0.0, to=1.0, end=1.0),
            "discriminator.beta1": HALF,
            "generator.beta2": Schedule("linear", to=0.0),
            "path.weight": HALF,
            "ema_half_life_kimg": HALF,
        },
    )
    run.schedules.apply(0.5, 7)
    generator, judge = (run.optimizers[name].param_groups[0] for name in ("generator", "discriminator"))
    # rate_decay and the player's own schedule are multiplied.
    assert (generator["lr"], judge["lr"]) == pytest.approx((0.01 * 0.75 * 0.5, 0.01 * 0.75))
    assert generator["betas"] == pytest.approx((0.4, 0.4))
    assert judge["betas"] == pytest.approx((0.3, 0.8))
    assert float(run.values.hyper["path.weight"]) == pytest.approx(0.075)
    assert run.averages["generator"].half_life_kimg == pytest.approx(1.5)
    run.schedules.apply(1.0, 14)
    assert generator["betas"] == pytest.approx((0.4, 0.0))
    assert run.averages["generator"].half_life_kimg == pytest.approx(1.0)
    stepped(run)


def test_a_beta_never_reaches_one():
    run = run_with(
        "plain", "hinge", optimizer=Optimizer(betas=(0.0, 0.9)), schedules={"generator.beta2": Schedule("linear", to=2)}
    )
    run.schedules.apply(1.0, 1)
    assert run.optimizers["generator"].param_groups[0]["betas"] == (0.0, 1 - 1e-6)
    stepped(run)


def test_adam_follows_a_scheduled_beta_as_torch_does():
    run = run_with(
        "plain",
        "hinge",
        optimizer=Optimizer("adam", 0.01, betas=(0.0, 0.9)),
        schedules={"generator.beta2": Schedule("linear", to=0.5)},
    )
    weights = list(run.players.generator.network.parameters())
    copies = [torch.nn.Parameter(weight.detach().clone()) for weight in weights]
    plain = torch.optim.Adam(copies, 0.01, betas=(0.0, 0.9))
    optimizer = run.optimizers["generator"]
    for step in range(4):
        run.schedules.apply(step / 4, step)
        plain.param_groups[0]["betas"] = (0.0, 0.9 * (1 - 0.5 * step / 4))
        for weight, copied in zip(weights, copies, strict=True):
            weight.grad = torch.full_like(weight, 1.0 + step)
            copied.grad = weight.grad.clone()
        optimizer.step()
        plain.step()
    for weight, copied in zip(weights, copies, strict=True):
        torch.testing.assert_close(weight.detach(), copied.detach(), rtol=1e-5, atol=1e-7)


def test_the_half_life_of_the_average_follows_its_schedule():
    """By hand, over a run whose half-life goes from 0.02 to 0.04 kimg."""
    run = run_with(
        "plain",
        "hinge",
        ema_half_life_kimg=0.02,
        ema_rampup=1e6,
        schedules={"ema_half_life_kimg": Schedule("linear", to=2.0)},
    )
    network, average = run.players.generator, run.averages["generator"].average
    expected, seen = network.network.first.weight.detach().double(), 0

    def follow():
        nonlocal expected, seen
        if run.batches.drawn > seen:
            half_life = 0.02 * (1 + seen / 40)
            share = 1 - 0.5 ** (0.008 / half_life)
            expected = expected + share * (network.network.first.weight.detach().double() - expected)
            seen = run.batches.drawn
        return False

    train(run, 0.04, pause_due=follow)
    follow()
    assert seen == 40
    torch.testing.assert_close(average.network.first.weight.double(), expected, rtol=1e-5, atol=1e-7)


def test_progress_is_the_share_of_the_budget_that_is_done():
    run = run_with("growing", "three")
    seen = []
    run.players.generator.network.register_forward_pre_hook(
        lambda _, given, named: seen.append(float(named["progress"])), with_kwargs=True
    )
    train(run, 0.032)
    assert sorted(set(seen)) == [0.0, 0.25, 0.5, 0.75]
