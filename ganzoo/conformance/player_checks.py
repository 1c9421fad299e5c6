"""Checks of what becomes of each player's weights: updated or frozen, averaged, and by corrected optimizers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from math import isclose, lcm
from typing import Any

import torch
from torch import Tensor, nn

from ganzoo.conformance.trial import Trial, through_stages
from ganzoo.conformance.verdicts import Failed, Skipped
from ganzoo.errors import Diverged
from ganzoo.training.assembly import Assembly
from ganzoo.training.loop import run_step, train
from ganzoo.types import SCHEDULED_OF_RUN, Average, Optimizer, Phase

HALF_LIFE_KIMG, AVERAGED_KIMG = 0.05, 0.04
"""The half-life of the averages that are checked, and how long they are: some steps, of which each counts."""


def updated_or_frozen(trial: Trial) -> None:
    """Every weight of every player is updated by some phase, or frozen by `build`.

    Name in a phase's `updates` what is left out, or freeze it by `requires_grad_(False)`.
    """
    run = trial.assemble()
    updated = {id(weight) for update in run.updates for weight in update.updated}
    for player, network in run.players.items():
        trained = {id(weight) for weight in network.trained_weights()}
        for name, weight in network.network.named_parameters():
            if id(weight) in trained - updated:
                raise Failed(
                    f"no phase updates '{player}.{name}', and `build` does not freeze it; name it in a phase's "
                    "`updates`, or freeze it by requires_grad_(False)"
                )


def frozen_weights(trial: Trial) -> None:
    """What `build` freezes stays as it was made: weights, and the buffers of parts that are frozen as a whole.

    Change neither in a phase or in `forward`. A frozen part with BatchNorm stays in eval mode: override its `train`.
    """
    run = trial.assemble()
    frozen = dict(_frozen_tensors(run))
    if not frozen:
        raise Skipped("`build` freezes nothing")
    before = {name: tensor.detach().clone() for name, tensor in frozen.items()}
    for _ in through_stages(run):
        for _ in range(3):
            run_step(run)
    for name, tensor in frozen.items():
        if not torch.equal(tensor, before[name]):
            fix = "change it nowhere" if isinstance(tensor, nn.Parameter) else "keep that part in eval mode"
            raise Failed(f"'{name}', which `build` has frozen, changes in training; {fix}")


def _frozen_tensors(run: Assembly) -> Iterator[tuple[str, Tensor]]:
    """What `build` froze, by name: weights, and the buffers below a module all of whose weights are frozen."""
    for player, wrapped in run.players.items():
        frozen = wrapped.frozen_weights
        yield from (
            (f"{player}.{name}", weight) for name, weight in wrapped.network.named_parameters() if name in frozen
        )
        for path, module in wrapped.network.named_modules():
            prefix = f"{path}." if path else ""
            weights = [prefix + name for name, _ in module.named_parameters()]
            if weights and frozen.issuperset(weights):
                yield from ((f"{player}.{prefix}{name}", buffer) for name, buffer in module.named_buffers())


def averages(trial: Trial) -> None:
    """Each averaged player is the average of its weights that its half-life calls for, computed anew.

    A part that a deep copy shares with the original follows at once: let `copy.deepcopy` copy it.
    """
    recipe = trial.spec.recipe
    kept = [name for name, average in recipe.averages.items() if average.half_life_kimg]
    if not kept:
        raise Skipped("the recipe keeps no average")
    # Of a half-life that lets some steps count alike, whatever that of the recipe is.
    recipe = replace(
        recipe,
        averages={name: Average(HALF_LIFE_KIMG, rampup=1e6) for name in kept},
        schedules={name: given for name, given in recipe.schedules.items() if name not in SCHEDULED_OF_RUN},
    )
    run = trial.assemble(recipe=recipe)
    networks = {name: run.players[name] for name in kept}
    start = _in_double(networks)
    expected, images = dict(start), 0

    def follow() -> bool:
        nonlocal images
        if (drawn := run.batches.drawn) > images:
            share = 1 - 2 ** (-(drawn - images) / 1000 / HALF_LIFE_KIMG)
            for name, weight in _in_double(networks).items():
                expected[name] = (1 - share) * expected[name] + share * weight
            images = drawn
        return False

    try:
        train(run, AVERAGED_KIMG, pause_due=follow)
    except Diverged as error:
        raise Skipped(f"a run has no course: {error}") from error
    follow()
    actual = _in_double({name: run.averages[name].average for name in kept})
    for name, weight in _in_double(networks).items():
        moved, size = (weight - start[name]).abs().max(), weight.abs().max()
        if (actual[name] - expected[name]).abs().max() > 0.01 * moved + 1e-6 * size:
            raise Failed(
                f"the average of '{name}' is not that of its values; let a deep copy of the network share nothing "
                "with it"
            )


def _in_double(networks: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Copies of the weights by name, in float64, complex ones in complex128."""
    return {
        f"{player}.{name.removeprefix('network.')}": weight.detach().to(
            torch.promote_types(weight.dtype, torch.float64), copy=True
        )
        for player, network in networks.items()
        for name, weight in network.named_parameters()
    }


def lazy_correction(trial: Trial) -> None:
    """Where an optimizer says `lazy_correction`, rate and betas are those that its player's lazy phases call for.

    With a share c of usual updates among all, c times the rate, and each beta to the power c (Karras et al. 2020,
    appendix B). One that has nothing to correct is a mistake: make a penalty of its player lazy, or take it out.
    """
    settings = {name: given for name, given in trial.spec.recipe.optimizers.items() if given.lazy_correction}
    if not settings:
        raise Skipped("no optimizer of the recipe says lazy_correction")
    run = trial.assemble()
    for player, given in settings.items():
        share = _share_of_usual_updates([update.phase for update in run.updates if player in update.phase.targets])
        if share == 1:
            raise Failed(
                f"the {player}'s optimizer says lazy_correction, and no lazy phase updates the {player}; take it out"
            )
        for group in run.optimizers[player].param_groups if player in run.optimizers else ():
            _check_corrected(player, given, group, float(share))


def _share_of_usual_updates(phases: list[Phase]) -> Fraction:
    """How many of a player's updates are of the phases that run most often, counted over one round of all."""
    often = min((phase.every for phase in phases), default=1)
    usual, every = 0, 0
    for step in range(lcm(*(phase.every for phase in phases))):
        for phase in phases:
            if step % phase.every == 0:
                every += phase.repeats
                usual += phase.repeats * (phase.every == often)
    return Fraction(usual, every) if every else Fraction(1)


def _check_corrected(player: str, given: Optimizer, group: Mapping[str, Any], share: float) -> None:
    rates = [scale * share * given.learning_rate for scale in (1.0, *given.parts.values())]
    if not any(isclose(float(group["lr"]), rate, rel_tol=1e-6) for rate in rates):
        raise Failed(f"the {player}'s learning rate is {float(group['lr']):g}, not {share:g} times the recipe's")
    for actual, beta in zip(group.get("betas", ()), given.betas, strict=False):
        if not isclose(float(actual), beta**share, rel_tol=1e-6):
            raise Failed(
                f"a beta of the {player}'s optimizer is {float(actual):g}, not {beta:g} to the power {share:g}"
            )
