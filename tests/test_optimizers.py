"""Optimizers of players beside plain torch: any kind with its arguments, parts, clipping, and lazy correction."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn.functional import softplus
from trials import run_with, stepped

from ganzoo.training.loop import due_calls
from ganzoo.training.optimizers import lazily_corrected
from ganzoo.training.phase_update import StepPhase
from ganzoo.types import Optimizer

PLAIN = {
    "adam": (Optimizer("adam", 0.01, betas=(0.3, 0.9)), lambda ws: torch.optim.Adam(ws, 0.01, betas=(0.3, 0.9))),
    "adamw": (
        Optimizer("adamw", 0.01, options={"weight_decay": 0.2, "eps": 1e-4, "amsgrad": True}),
        lambda ws: torch.optim.AdamW(ws, 0.01, betas=(0.5, 0.999), weight_decay=0.2, eps=1e-4, amsgrad=True),
    ),
    "sgd": (
        Optimizer("sgd", 0.1, momentum=0.9, options={"nesterov": True}),
        lambda ws: torch.optim.SGD(ws, 0.1, momentum=0.9, nesterov=True),
    ),
    "rmsprop": (
        Optimizer("rmsprop", 0.01, options={"alpha": 0.5}),
        lambda ws: torch.optim.RMSprop(ws, 0.01, alpha=0.5),
    ),
    "adagrad": (Optimizer("adagrad", 0.05), lambda ws: torch.optim.Adagrad(ws, 0.05)),
    "nadam": (Optimizer("nadam", 0.01), lambda ws: torch.optim.NAdam(ws, 0.01, betas=(0.5, 0.999))),
}


def moved_by_hand(run, make, steps=3, before_step=lambda weights: None):
    """The discriminator's weights after so many steps against a generator that stays, by torch alone.

    `run` is one whose discriminator has such an optimizer; its course is followed, so that both see the same images.
    """
    judge = copy.deepcopy(run.players["discriminator"].network)
    generator = copy.deepcopy(run.players.generator.network)
    optimizer = make(judge)
    for _ in range(steps):
        calls = due_calls(run)
        batch = calls[0][1]
        fake = generator(batch.latent).detach()
        optimizer.zero_grad()
        (softplus(-judge(batch.real)).mean() + softplus(judge(fake)).mean()).backward()
        before_step(list(judge.parameters()))
        optimizer.step()
        run.perform(calls[:1])
        run.step += 1
    ours = dict(run.players["discriminator"].network.named_parameters())
    for name, expected in judge.named_parameters():
        if name == "body.0.bias":
            continue  # BatchNorm takes it away: its gradient is rounding, of which Adam and its kin make full steps.
        torch.testing.assert_close(ours[name], expected, rtol=1e-4, atol=1e-6, msg=lambda text, n=name: f"{n}: {text}")


def with_optimizer(optimizer):
    """A run in which the discriminator has it, and each phase makes fakes of its own: it can be called alone."""
    return run_with("plain", "non-saturating", share_fakes=False, optimizers={"discriminator": optimizer})


@pytest.mark.parametrize("kind", PLAIN)
def test_an_optimizer_is_that_of_torch(kind):
    optimizer, make = PLAIN[kind]
    moved_by_hand(with_optimizer(optimizer), lambda judge: make(judge.parameters()))


def test_a_part_has_a_rate_of_its_own():
    def make(judge):
        first, last = judge.body[0], [*judge.body[1].parameters(), *judge.body[3].parameters()]
        return torch.optim.SGD([{"params": last}, {"params": first.parameters(), "lr": 0.001}], lr=0.1)

    moved_by_hand(with_optimizer(Optimizer("sgd", 0.1, parts={"body.0": 0.01})), make)


def test_a_gradient_is_shortened_to_a_norm():
    norms = []

    def clip(weights):
        total = torch.cat([weight.grad.flatten() for weight in weights]).norm()
        norms.append(float(total))
        for weight in weights:
            weight.grad *= min(1.0, 0.1 / float(total))

    run = with_optimizer(Optimizer("sgd", 0.1, clip_norm=0.1))
    moved_by_hand(run, lambda judge: torch.optim.SGD(judge.parameters(), lr=0.1), before_step=clip)
    assert min(norms) > 0.1
    # A norm that none reaches changes nothing.
    free, wide = (stepped(with_optimizer(Optimizer("sgd", 0.1, clip_norm=norm))) for norm in (0.0, 1e6))
    assert free == wide


@pytest.mark.parametrize("every", [4, 16])
def test_lazy_phases_correct_rate_and_betas(every):
    """With one lazy update in every k-th step c = k / (k + 1) (Karras et al. 2020, appendix B)."""
    optimizer = Optimizer("adam", 0.01, betas=(0.5, 0.99), lazy_correction=True)
    run = run_with("plain", "hinge", penalties=(f"steep-{every}",), optimizer=optimizer)
    (group,) = run.optimizers["discriminator"].param_groups
    c = every / (every + 1)
    assert group["lr"] == pytest.approx(0.01 * c)
    assert group["betas"] == pytest.approx((0.5**c, 0.99**c))
    # The generator has no lazy phase.
    (group,) = run.optimizers["generator"].param_groups
    assert (group["lr"], group["betas"]) == (0.01, (0.5, 0.99))


def test_usual_updates_count_by_their_repeats():
    """Five updates of the discriminator in each step, and a lazy one in every fourth: c = 20 / 21."""

    def phase(name, every, repeats=1):
        return StepPhase(name, lambda given: None, "discriminator", repeats=repeats, every=every)

    optimizer = Optimizer("adam", 0.21, betas=(0.5, 0.9))
    corrected = lazily_corrected(optimizer, [phase("d", 1, 5), phase("r1", 4)], "discriminator")
    assert corrected.learning_rate == pytest.approx(0.2)
    assert corrected.betas == pytest.approx((0.5 ** (20 / 21), 0.9 ** (20 / 21)))
    # One phase alone is usual, however seldom it runs; so are two of one rhythm.
    for phases in ([phase("d", 5)], [phase("d", 1), phase("e", 1)]):
        assert lazily_corrected(optimizer, phases, "discriminator").learning_rate == pytest.approx(0.21)
    assert lazily_corrected(optimizer, [phase("d", 1)], "generator") == optimizer
