"""From a variant's parts to the phases of a step.

Here the functions of logits become phases, penalties join a phase or get a lazy one, augmentations adapt, and what the
recipe adds (label smoothing, feature matching, weight penalties) is added. After this, training knows nothing but
phases.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from ganzoo.errors import PluginError, UsageError
from ganzoo.registry.signatures import by_name
from ganzoo.runs import PhaseFrequency
from ganzoo.training.augmenting import Augmenting
from ganzoo.training.judging import Presenter
from ganzoo.training.of_logits import NOT_SMOOTHED, judge_phase, opponents_phase
from ganzoo.training.penalties import NamedPenalty, home_of, lazy_phase, with_penalties
from ganzoo.training.phase_update import Given, StepPhase, Values
from ganzoo.training.players import StandIn
from ganzoo.training.terms import initial_state, joined, names_of, of_batch, own_values, terms_of
from ganzoo.types import Architecture, Augmentation, Loss, Penalty, Phase, Recipe, Terms


@dataclass(frozen=True)
class Objective:
    """What a variant trains its players for: the records behind the names of its recipe."""

    architecture: Architecture
    loss: Loss
    penalties: tuple[Penalty, ...] = ()
    augmentations: tuple[Augmentation, ...] = ()

    def initial_state(self) -> dict[str, Tensor]:
        """The state before the first step, on the current default device."""
        return initial_state([self.loss, *self.penalties, *self.augmentations])


class StepPhases(NamedTuple):
    """The phases of one step, in order, the names of those that share the fakes of one forward pass, and what augments.

    The first of these makes the fakes and the second takes them. Where none share, each phase makes its own, and
    `own_fakes_because` says why.
    """

    phases: tuple[StepPhase, ...]
    augmenting: Augmenting
    sharing_fakes: tuple[str, ...] = ()
    own_fakes_because: str = ""
    follows_progress: bool = False
    """Whether a function asks for `progress`."""


def phases_of(objective: Objective, recipe: Recipe, frequencies: Sequence[PhaseFrequency] = ()) -> StepPhases:
    """The phases of one step; `frequencies` give a phase by name other `repeats` and `every`.

    Raises `UsageError` where the parts do not go together, or where the loss cannot take an option.
    """
    loss = objective.loss
    _check_needs(loss, objective.architecture)
    presenter = Presenter.of(objective.architecture)
    augmenting = Augmenting(objective.augmentations)
    penalties = [NamedPenalty.of(penalty, presenter) for penalty in objective.penalties]
    if recipe.pack > 1:
        _refuse_labels_of_packs(penalties)
    if loss.phases:
        phases = [_phase_of_plugin(phase, loss, presenter, augmenting) for phase in loss.phases]
    else:
        phases = [judge_phase(loss, presenter, recipe.label_smoothing), opponents_phase(loss, presenter)]
        after = _after_by_name(loss, loss)
        phases[0] = replace(phases[0], after=after)
    declared = {phase.name: phase for phase in loss.phases}
    joining = [
        (penalty, home_of(penalty, phases, declared, loss)) for penalty in penalties if penalty.record.every == 1
    ]
    phases = [
        _smoothed_phase(
            with_penalties(
                phase, [penalty for penalty, home in joining if home == phase.name], presenter, augmenting, loss
            ),
            phase,
            loss,
            presenter,
            recipe,
        )
        for phase in phases
    ]
    if recipe.generator_first:
        phases.sort(key=lambda phase: phase.judges)
    if recipe.feature_matching:
        phases = _with_feature_matching(phases, loss, presenter, recipe.feature_matching)
    if recipe.l1 or recipe.l2:
        phases = [_with_weight_penalty(phase, recipe) for phase in phases]
    lazy = [lazy_phase(penalty, presenter, augmenting) for penalty in penalties if penalty.record.every > 1]
    names = [phase.name for phase in (*phases, *lazy)]
    for name in names:
        if names.count(name) > 1:
            raise PluginError(f"loss '{loss.name}' with its penalties has two phases called '{name}'; rename one")
    # A lazy penalty's phase has its frequency from the penalty.
    frequency_of = {frequency.name: frequency for frequency in frequencies}
    phases = [
        replace(phase, repeats=frequency_of[phase.name].repeats, every=frequency_of[phase.name].every)
        if phase.name in frequency_of
        else phase
        for phase in phases
    ]
    sharing, because = _sharing(phases, loss, presenter)
    functions = (
        *(by_name(phase, "function", names_of(loss), presenter.players) for phase in loss.phases),
        *(penalty.function for penalty in penalties),
    )
    follows_progress = any("progress" in function.names for function in functions)
    return StepPhases((*phases, *lazy), augmenting, sharing, because, follows_progress)


def _refuse_labels_of_packs(penalties: Sequence[NamedPenalty]) -> None:
    """Raise `UsageError` for a penalty that asks for labels: a pack of images has none."""
    for penalty in penalties:
        if {"labels", "fake_labels"} & set(penalty.function.names):
            raise UsageError(
                f"penalty '{penalty.record.name}' asks for labels, and packs of images have none; leave pack at 1"
            )


def _check_needs(loss: Loss, architecture: Architecture) -> None:
    """Raise `UsageError` where a loss asks for what the architecture's judge does not give."""
    taken = ("logits", "patches") if loss.needs == "logits" else (loss.needs,)
    if architecture.judges and architecture.gives not in taken:
        raise UsageError(
            f"loss '{loss.name}' needs a judge that gives {' or '.join(taken)}, and that of architecture "
            f"'{architecture.name}' gives {architecture.gives}"
        )


def _sharing(phases: Sequence[StepPhase], loss: Loss, presenter: Presenter) -> tuple[tuple[str, ...], str]:
    """The names of the two phases that share the fakes of one forward pass; else why there are none.

    For functions of logits the forward passes are the harness's. A loss of phases promises what they need by
    `share_fakes`, and is otherwise promised a fresh latent for each call. Nothing may update the generator between the
    two.
    """
    if loss.phases and not loss.share_fakes:
        return (), "the loss does not say share_fakes=True"
    if len(phases) != 2 or [phase.judges for phase in phases] != [True, False]:
        return (), "the discriminator's update must come first and the generator's second, one of each"
    first, second = phases
    if "generator" in first.updated_players or "generator" not in second.updated_players:
        return (), "the first update must leave the generator alone, and the second update it"
    if any((phase.repeats, phase.every) != (1, 1) for phase in phases):
        return (), "a phase does not run exactly once per step"
    return (first.name, second.name), ""


def _phase_of_plugin(phase: Phase, loss: Loss, presenter: Presenter, augmenting: Augmenting) -> StepPhase:
    """A phase of a plugin with functions that are given everything, and pass on what the plugin's ask for."""
    function = by_name(phase, "function", names_of(loss), presenter.players)
    if "augment" in function.names and not augmenting:
        raise UsageError(
            f"phase '{phase.name}' of loss '{loss.name}' asks for 'augment', and the variant has no augmentation; add "
            "one, as in --models ARCHITECTURE+LOSS+diffaug"
        )

    def phase_by_name(given: Given) -> Terms:
        named = {**of_batch(given), "augment": augmenting.of_phase, **own_values(given.values, loss)}
        return terms_of(function(named), loss, f"phase '{phase.name}'")

    return StepPhase(
        phase.name,
        phase_by_name,
        phase.updates,
        phase.repeats,
        phase.every,
        _after_by_name(phase, loss),
        phase.penalties,
        judges=bool(phase.updated_players & set(presenter.judges)),
    )


def _after_by_name(record: Phase | Loss, loss: Loss) -> Callable[[Sequence[Tensor], Values], None] | None:
    if record.after is None:
        return None
    after = by_name(record, "after", names_of(loss))
    return lambda parameters, values: after({"parameters": parameters, **own_values(values, loss)})


def _smoothed_phase(phase: StepPhase, plain: StepPhase, loss: Loss, presenter: Presenter, recipe: Recipe) -> StepPhase:
    """One-sided label smoothing for a loss of phases: what real images cost as fakes is what the phase gives for a
    generator of them. (Functions of logits are smoothed before they become phases.)

    `plain` is the phase without its penalties, which are no part of that.
    """
    smoothing = recipe.label_smoothing
    if not smoothing or not loss.phases or phase.targets != presenter.judges[:1]:
        return phase

    def smoothed(given: Given) -> Terms:
        terms = phase.function(given)
        if not {"real", "fake"} <= set(terms.losses):
            raise UsageError(NOT_SMOOTHED.format(loss.name))
        reality = StandIn(given.players["generator"], lambda *inputs: given.batch.real)
        of_reality = given._replace(players={**given.players, "generator": reality})
        real_as_fake = plain.function(of_reality).losses["fake"]
        real = (1 - smoothing) * terms.losses["real"] + smoothing * real_as_fake
        return replace(terms, losses={**terms.losses, "real": real})

    return replace(phase, function=smoothed)


def _with_feature_matching(
    phases: Sequence[StepPhase], loss: Loss, presenter: Presenter, weight: float
) -> list[StepPhase]:
    """Adds weight · ‖E f(x) − E f(G(z))‖² to the first phase that updates the generator as a whole.

    f is what the discriminator's head sees (Salimans et al. 2016, section 3.1). The phase's own fakes are kept as it
    makes them, so the generator is not run twice. Raises `UsageError` where no phase updates the generator alone.
    """
    for index, phase in enumerate(phases):
        if phase.targets == ("generator",):
            matched = replace(phase, function=_feature_matching(phase, presenter.judge, weight))
            return [*phases[:index], matched, *phases[index + 1 :]]
    raise UsageError(
        f"feature_matching needs a phase that updates the generator alone, and loss '{loss.name}' has none"
    )


def _feature_matching(phase: StepPhase, judge: str, weight: float) -> Callable[[Given], Terms]:
    def with_matching(given: Given) -> Terms:
        kept: list[Tensor] = []
        generator, batch = given.players["generator"], given.batch

        def keep(*inputs: object) -> Tensor:
            kept.append(generator(*inputs))
            return kept[-1]

        terms = phase.function(given._replace(players={**given.players, "generator": StandIn(generator, keep)}))
        fake = kept[-1] if kept else generator(batch.latent, batch.fake_labels)
        real_mean = given.players[judge].features(batch.real, batch.labels).mean(0)
        fake_mean = given.players[judge].features(fake, batch.fake_labels).mean(0)
        return joined(terms, Terms({"feature_matching": weight * (real_mean - fake_mean).square().sum()}))

    return with_matching


def _with_weight_penalty(phase: StepPhase, recipe: Recipe) -> StepPhase:
    """Adds l1 · Σ|w| and l2 · Σw² over the weights that the phase updates."""

    def weight_penalty_phase(given: Given) -> Terms:
        terms = phase.function(given)
        weights = []
        for target in phase.targets:
            player, _, path = target.partition(".")
            # What `build` froze requires no gradient, as while any phase runs.
            module = given.players[player].network.get_submodule(path)
            weights += [weight for weight in module.parameters() if weight.requires_grad]
        more = {}
        if recipe.l1:
            more["l1"] = recipe.l1 * torch.stack([weight.abs().sum() for weight in weights]).sum()
        if recipe.l2:
            more["l2"] = recipe.l2 * torch.stack([weight.square().sum() for weight in weights]).sum()
        return joined(terms, Terms(more))

    return replace(phase, function=weight_penalty_phase)
