"""From a loss and a recipe's options to the phases of a step.

Here the functions of logits become phases, penalties join the discriminator's phase or get a lazy one, and label
smoothing, feature matching and weight penalties are added. After this, training knows nothing but phases.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ganzoo.errors import PluginError, UsageError
from ganzoo.registry.signatures import by_name
from ganzoo.runs import PhaseFrequency
from ganzoo.training.players import DiscriminatorPlayer as Discriminator
from ganzoo.training.players import Generator, StandIn
from ganzoo.types import Batch, Loss, Penalty, Phase, Recipe, Terms

Hyper = Mapping[str, Tensor]


class StepPhases(NamedTuple):
    """The phases of one step, in order, and the names of those that share the fakes of one forward pass.

    The first of these makes the fakes and the second takes them. Where none share, each phase makes its own.
    """

    phases: tuple[Phase, ...]
    sharing_fakes: tuple[str, ...] = ()


def phases_of(
    loss: Loss, penalties: Sequence[Penalty], recipe: Recipe, frequencies: Sequence[PhaseFrequency] = ()
) -> StepPhases:
    """The phases of one step; `frequencies` give a phase by name other `repeats` and `every`.

    The phases of a loss of logits share fakes, for their forward passes are the harness's, if each runs once in a step
    and the discriminator's comes first: then nothing updates the generator between the two. A loss of phases is
    promised a fresh latent for each call. Raises `UsageError` where the loss cannot take an option.
    """
    sharing: tuple[str, ...] = ()
    lazy = [penalty for penalty in penalties if penalty.every > 1]
    joined = [penalty for penalty in penalties if penalty.every == 1]
    if loss.phases:
        if joined:
            raise UsageError(_NOT_JOINED.format(loss=loss.name, penalty=joined[0].name))
        phases = [_by_name(phase, loss) for phase in loss.phases]
        if recipe.label_smoothing:
            phases = _with_label_smoothing(phases, loss, recipe.label_smoothing)
    else:
        phases = [_discriminator_phase(loss, joined, recipe), _generator_phase(loss)]
        sharing = () if recipe.generator_first else tuple(phase.name for phase in phases)
    if recipe.generator_first:
        phases.sort(key=lambda phase: phase.updates_discriminator)
    if recipe.feature_matching:
        phases = _with_feature_matching(phases, loss, recipe.feature_matching)
    if recipe.l1 or recipe.l2:
        phases = [_with_weight_penalty(phase, recipe) for phase in phases]
    phases += [_penalty_phase(penalty) for penalty in lazy]
    names = [phase.name for phase in phases]
    for name in names:
        if names.count(name) > 1:
            raise PluginError(f"loss '{loss.name}' with its penalties has two phases called '{name}'; rename one")
    # A lazy penalty's phase has its frequency from the penalty.
    by_name = {frequency.name: frequency for frequency in frequencies}
    phases = [
        replace(phase, repeats=by_name[phase.name].repeats, every=by_name[phase.name].every)
        if phase.name in by_name
        else phase
        for phase in phases
    ]
    if any((phase.repeats, phase.every) != (1, 1) for phase in phases if phase.name in sharing):
        sharing = ()
    return StepPhases(tuple(phases), sharing)


def _by_name(phase: Phase, loss: Loss) -> Phase:
    """A phase of a plugin with functions that are given everything, and pass on what the plugin's ask for."""
    function = by_name(phase, "function", loss.hyper)

    def phase_by_name(generator: Generator, discriminator: Discriminator, batch: Batch, hyper: Hyper) -> Terms:
        given = {"generator": generator, "discriminator": discriminator, "batch": batch}
        terms: Terms = function({**given, **_coefficients(hyper, loss)})
        return terms

    return replace(phase, function=phase_by_name, after=_after_by_name(phase, loss))


def _after_by_name(record: Phase | Loss, loss: Loss) -> Callable[[Sequence[Tensor], Hyper], None] | None:
    if record.after is None:
        return None
    after = by_name(record, "after", loss.hyper)
    return lambda parameters, hyper: after({"parameters": parameters, **_coefficients(hyper, loss)})


def _coefficients(hyper: Hyper, record: Loss | Penalty) -> dict[str, Any]:
    """What a function of a loss or a penalty may name of its coefficients: all of them as `hyper`, and each alone.

    The coefficients of a penalty are called `r1.gamma` in the recipe, and `gamma` by the penalty.
    """
    prefix = f"{record.name}." if isinstance(record, Penalty) else ""
    own = {name: hyper[prefix + name] for name in record.hyper}
    return {**own, "hyper": own}


_NOT_JOINED = (
    "loss '{loss}' is written as phases, which penalty '{penalty}' cannot join, and a phase of its own in every step "
    "would be a second update of the discriminator; give its term in the discriminator's phase, by a function of "
    "ganzoo.losses, or make it lazy, as in --set 'VARIANT.lazy.{penalty}.every=16'"
)


def _discriminator_phase(loss: Loss, penalties: Sequence[Penalty], recipe: Recipe) -> Phase:
    logits_terms = _smoothed(loss, recipe.label_smoothing)
    functions = {penalty.name: by_name(penalty, "function", penalty.hyper) for penalty in penalties}

    def discriminator_phase(generator: Generator, discriminator: Discriminator, batch: Batch, hyper: Hyper) -> Terms:
        fake = generator(batch.latent, batch.labels)
        real_logits = discriminator(batch.real, batch.labels)
        fake_logits = discriminator(fake, batch.labels)
        given = {"real": real_logits, "fake": fake_logits, "labels": batch.labels, **_coefficients(hyper, loss)}
        terms = dict(logits_terms(given))
        judged = {"fake": fake, "real_logits": real_logits, "fake_logits": fake_logits}
        for penalty in penalties:
            if penalty.name in terms:
                raise PluginError(f"loss '{loss.name}' has a term '{penalty.name}' already; rename the penalty")
            terms[penalty.name] = functions[penalty.name](
                {**_of_batch(generator, discriminator, batch), **judged, **_coefficients(hyper, penalty)}
            )
        return terms

    return Phase(
        "discriminator", discriminator_phase, "discriminator", repeats=loss.repeats, after=_after_by_name(loss, loss)
    )


def _of_batch(generator: Generator, discriminator: Discriminator, batch: Batch) -> dict[str, Any]:
    """What a penalty may name in any phase."""
    return {
        "generator": generator,
        "discriminator": discriminator,
        "batch": batch,
        "real": batch.real,
        "labels": batch.labels,
        "latent": batch.latent,
    }


def _generator_phase(loss: Loss) -> Phase:
    function = by_name(loss, "generator", loss.hyper)

    def generator_phase(generator: Generator, discriminator: Discriminator, batch: Batch, hyper: Hyper) -> Terms:
        fake = generator(batch.latent, batch.labels)
        given = {"fake": discriminator(fake, batch.labels), "labels": batch.labels, **_coefficients(hyper, loss)}
        if "real" in function.names:
            given["real"] = discriminator(batch.real, batch.labels)
        terms: Terms = function(given)
        return terms

    return Phase("generator", generator_phase, "generator")


def _with_feature_matching(phases: Sequence[Phase], loss: Loss, weight: float) -> list[Phase]:
    """Adds weight · ‖E f(x) − E f(G(z))‖² to the first phase that updates the generator as a whole.

    f is what the discriminator's head sees (Salimans et al. 2016, section 3.1). The phase's own fakes are kept as it
    makes them, so the generator is not run twice. Raises `UsageError` where no phase updates the generator alone.
    """
    for index, phase in enumerate(phases):
        if phase.targets == ("generator",):
            return [*phases[:index], replace(phase, function=_feature_matching(phase, weight)), *phases[index + 1 :]]
    raise UsageError(
        f"feature_matching needs a phase that updates the generator alone, and loss '{loss.name}' has none"
    )


def _feature_matching(phase: Phase, weight: float) -> Callable[..., Terms]:
    def feature_matching_phase(generator: Generator, discriminator: Discriminator, batch: Batch, hyper: Hyper) -> Terms:
        kept: list[Tensor] = []

        def keep(latent: Tensor, labels: Tensor | None) -> Tensor:
            kept.append(generator(latent, labels))
            return kept[-1]

        terms = dict(phase.function(StandIn(generator, keep), discriminator, batch, hyper))
        fake = kept[-1] if kept else generator(batch.latent, batch.labels)
        real_mean = discriminator.features(batch.real, batch.labels).mean(0)
        fake_mean = discriminator.features(fake, batch.labels).mean(0)
        return terms | {"feature_matching": weight * (real_mean - fake_mean).square().sum()}

    return feature_matching_phase


def _smoothed(loss: Loss, smoothing: float) -> Callable[[Mapping[str, Any]], Terms]:
    """One-sided label smoothing: the real term is mixed with what the same logits cost as fakes.

    For BCE this is exactly the target 1 - s, because BCE is linear in its target. A loss of one term compares real with
    fake, and its label says which is which: there the mixture is with the two exchanged.
    """
    function = by_name(loss, "discriminator", loss.hyper)
    if not smoothing:
        return function
    names = set(function(_probe(loss)))
    if len(names) == 1:
        return lambda given: {
            name: (1 - smoothing) * term
            + smoothing * function({**given, "real": given["fake"], "fake": given["real"]})[name]
            for name, term in function(given).items()
        }
    if names != {"real", "fake"}:
        raise UsageError(_NOT_SMOOTHED.format(loss.name))

    def smoothed(given: Mapping[str, Any]) -> Terms:
        terms = function(given)
        real_as_fake = function({**given, "fake": given["real"]})["fake"]
        return {"real": (1 - smoothing) * terms["real"] + smoothing * real_as_fake, "fake": terms["fake"]}

    return smoothed


def _probe(loss: Loss) -> dict[str, Any]:
    """Two images' logits and what else a function of logits may name, to learn the names of its terms."""
    logits = torch.zeros((2,) if loss.logits == 1 else (2, 2))
    hyper = {name: torch.tensor(float(value)) for name, value in loss.hyper.items()}
    labels = torch.zeros(2, dtype=torch.int64)
    return {"real": logits, "fake": logits, "labels": labels, **_coefficients(hyper, loss)}


_NOT_SMOOTHED = (
    "label_smoothing needs a loss whose discriminator gives one term, or the two terms 'real' and 'fake'; '{}' does not"
)


def _with_label_smoothing(phases: Sequence[Phase], loss: Loss, smoothing: float) -> list[Phase]:
    """The same for a loss of phases: what real images cost as fakes is what the phase gives for a generator of them."""

    def with_smoothing(phase: Phase) -> Phase:
        def smoothed_phase(generator: Generator, discriminator: Discriminator, batch: Batch, hyper: Hyper) -> Terms:
            terms = dict(phase.function(generator, discriminator, batch, hyper))
            if not {"real", "fake"} <= set(terms):
                raise UsageError(_NOT_SMOOTHED.format(loss.name))
            reality = StandIn(generator, lambda latent, labels: batch.real)
            real_as_fake = phase.function(reality, discriminator, batch, hyper)["fake"]
            return terms | {"real": (1 - smoothing) * terms["real"] + smoothing * real_as_fake}

        return replace(phase, function=smoothed_phase)

    return [with_smoothing(phase) if phase.targets == ("discriminator",) else phase for phase in phases]


def _penalty_phase(penalty: Penalty) -> Phase:
    """A lazy penalty: every so many steps, and as many times as strong."""
    function = penalty_alone(penalty)

    def penalty_phase(generator: Generator, discriminator: Discriminator, batch: Batch, hyper: Hyper) -> Terms:
        return {penalty.name: penalty.every * function(generator, discriminator, batch, hyper)}

    return Phase(penalty.name, penalty_phase, "discriminator", every=penalty.every)


def penalty_alone(penalty: Penalty) -> Callable[[Generator, Discriminator, Batch, Hyper], Tensor]:
    """A penalty with forward passes of its own, as many as what it names asks for."""
    function = by_name(penalty, "function", penalty.hyper)
    asks_for = frozenset(function.names)

    def value(generator: Generator, discriminator: Discriminator, batch: Batch, hyper: Hyper) -> Tensor:
        given = {**_of_batch(generator, discriminator, batch), **_coefficients(hyper, penalty)}
        if asks_for & {"fake", "fake_logits"}:
            given["fake"] = generator(batch.latent, batch.labels)
        if "real_logits" in asks_for:
            given["real_logits"] = discriminator(batch.real, batch.labels)
        if "fake_logits" in asks_for:
            given["fake_logits"] = discriminator(given["fake"], batch.labels)
        result: Tensor = function(given)
        return result

    return value


def _with_weight_penalty(phase: Phase, recipe: Recipe) -> Phase:
    """Adds l1 · Σ|w| and l2 · Σw² over the weights that the phase updates."""

    def weight_penalty_phase(generator: Generator, discriminator: Discriminator, batch: Batch, hyper: Hyper) -> Terms:
        terms = dict(phase.function(generator, discriminator, batch, hyper))
        players = {"generator": generator, "discriminator": discriminator}
        weights = []
        for target in phase.targets:
            player, _, path = target.partition(".")
            # What `build` froze requires no gradient, as while any phase runs.
            module = players[player].network.get_submodule(path)
            weights += [weight for weight in module.parameters() if weight.requires_grad]
        if recipe.l1:
            terms["l1"] = recipe.l1 * torch.stack([weight.abs().sum() for weight in weights]).sum()
        if recipe.l2:
            terms["l2"] = recipe.l2 * torch.stack([weight.square().sum() for weight in weights]).sum()
        return terms

    return replace(phase, function=weight_penalty_phase)
