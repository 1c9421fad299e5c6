"""From a loss and a recipe's options to the phases of a step.

Here the functions of logits become phases, penalties join the discriminator's phase or get a lazy one, and label
smoothing, feature matching and weight penalties are added. After this, training knows nothing but phases.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ganzoo.errors import PluginError, UsageError
from ganzoo.registry.signatures import by_name
from ganzoo.runs import PhaseFrequency
from ganzoo.training.phase_update import StepPhase, Values
from ganzoo.training.players import DiscriminatorPlayer as Discriminator
from ganzoo.training.players import Generator, StandIn
from ganzoo.types import Batch, Loss, Penalty, Phase, Recipe, Terms
from ganzoo.util.text import printable


class StepPhases(NamedTuple):
    """The phases of one step, in order, and the names of those that share the fakes of one forward pass.

    The first of these makes the fakes and the second takes them. Where none share, each phase makes its own.
    """

    phases: tuple[StepPhase, ...]
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
        homes = [(penalty, _home_of(penalty, loss)) for penalty in joined]
        phases = []
        for phase in loss.phases:
            plain = _by_name(phase, loss)
            whole = _with_penalties(plain, [penalty for penalty, home in homes if home is phase], loss)
            if recipe.label_smoothing and phase.targets == ("discriminator",):
                whole = _with_label_smoothing(whole, plain, loss, recipe.label_smoothing)
            phases.append(whole)
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
    frequency_of = {frequency.name: frequency for frequency in frequencies}
    phases = [
        replace(phase, repeats=frequency_of[phase.name].repeats, every=frequency_of[phase.name].every)
        if phase.name in frequency_of
        else phase
        for phase in phases
    ]
    if any((phase.repeats, phase.every) != (1, 1) for phase in phases if phase.name in sharing):
        sharing = ()
    return StepPhases(tuple(phases), sharing)


def _by_name(phase: Phase, loss: Loss) -> StepPhase:
    """A phase of a plugin with functions that are given everything, and pass on what the plugin's ask for."""
    function = by_name(phase, "function", _names(loss))

    def phase_by_name(generator: Generator, discriminator: Discriminator, batch: Batch, values: Values) -> Terms:
        given = {"generator": generator, "discriminator": discriminator, "batch": batch}
        return _terms_of(function({**given, **_own(values, loss)}), loss, f"phase '{phase.name}'")

    return StepPhase(phase.name, phase_by_name, phase.updates, phase.repeats, phase.every, _after_by_name(phase, loss))


def _after_by_name(record: Phase | Loss, loss: Loss) -> Callable[[Sequence[Tensor], Values], None] | None:
    if record.after is None:
        return None
    after = by_name(record, "after", _names(loss))
    return lambda parameters, values: after({"parameters": parameters, **_own(values, loss)})


def _own(values: Values, record: Loss | Penalty) -> dict[str, Any]:
    """What a function of a loss or a penalty may name of its own: each coefficient and state, and all as mappings."""
    prefix = _prefix(record)
    hyper = {name: values.hyper[prefix + name] for name in record.hyper}
    state = {name: values.state[prefix + name] for name in record.state}
    return {**hyper, **state, "hyper": hyper, "state": state}


def _names(record: Loss | Penalty) -> tuple[str, ...]:
    """The names of its coefficients and its state."""
    return (*record.hyper, *record.state)


def _prefix(record: Loss | Penalty) -> str:
    """What is `gamma` to the penalty r1 is `r1.gamma` to the recipe; a loss's own names are the recipe's too."""
    return f"{record.name}." if isinstance(record, Penalty) else ""


def initial_state(loss: Loss, penalties: Sequence[Penalty]) -> dict[str, Tensor]:
    """The state of a loss and its penalties before the first step, float32, on the current default device."""
    records: tuple[Loss | Penalty, ...] = (loss, *penalties)
    return {
        _prefix(record) + name: torch.tensor(value, dtype=torch.float32)
        for record in records
        for name, value in record.state.items()
    }


def _terms_of(result: Any, record: Loss | Penalty, what: str) -> Terms:
    """What a plugin's function gave as `Terms`, with the recipe's names for its state.

    Raises `PluginError` where it is neither terms nor a mapping, or has a state that nobody declared.
    """
    if isinstance(result, Mapping):
        result = Terms(result)
    if not isinstance(result, Terms):
        raise PluginError(f"{what} gave {type(result).__name__}; it must give {{name: 0-dim tensor}} or ganzoo.Terms")
    for name in result.state:
        if name not in record.state:
            raise PluginError(
                f"{what} gives the state '{printable(name)}', which it does not declare; write it as "
                f"`state={{'{printable(name)}': START}}`"
            )
    return replace(result, state={_prefix(record) + name: value for name, value in result.state.items()})


def _joined(first: Terms, second: Terms) -> Terms:
    return Terms(
        {**first.losses, **second.losses}, {**first.monitors, **second.monitors}, {**first.state, **second.state}
    )


def _home_of(penalty: Penalty, loss: Loss) -> Phase:
    """The phase of a loss of phases that a penalty joins: the only one that updates the discriminator as a whole.

    Raises `UsageError` where there is none or several, unless one says so by `Phase.penalties`.
    """
    updating = [phase for phase in loss.phases if "discriminator" in phase.targets and phase.penalties is not False]
    homes = [phase for phase in updating if phase.penalties] or updating
    if len(homes) != 1:
        found = f"in {' and '.join(phase.name for phase in homes)}" if homes else "in none"
        raise UsageError(
            f"penalty '{penalty.name}' joins the phase that updates the discriminator as a whole, and loss "
            f"'{loss.name}' does so {found}; say which by Phase(…, penalties=True), or make it lazy, as in --set "
            f"'VARIANT.lazy.{penalty.name}.every=16'"
        )
    return homes[0]


def _with_penalties(phase: StepPhase, penalties: Sequence[Penalty], loss: Loss) -> StepPhase:
    """Adds the terms of penalties, which see what the phase itself gives the discriminator: its real images and fakes.

    Fakes are detached, and where a phase updates the generator too, judged anew for the penalty: a penalty of the
    discriminator must not push the generator.
    """
    if not penalties:
        return phase
    joint = any(target.partition(".")[0] == "generator" for target in phase.targets)
    functions = [(penalty, by_name(penalty, "function", _names(penalty))) for penalty in penalties]

    def with_penalties(generator: Generator, discriminator: Discriminator, batch: Batch, values: Values) -> Terms:
        made: list[Tensor] = []
        judged: list[tuple[Tensor, Tensor]] = []
        with discriminator.watched(judged):
            terms = phase.function(_keeping(generator, made), discriminator, batch, values)
        for penalty, function in functions:
            given = {**_of_batch(generator, discriminator, batch), **_own(values, penalty)}
            given |= _judged_in(phase, penalty, function.names, batch.real, made, judged)
            if joint:
                given["generator"] = StandIn(generator, lambda *inputs: generator(*inputs).detach())
                if "fake_logits" in function.names:
                    given["fake_logits"] = discriminator(given["fake"], batch.labels)
            terms = _with_penalty(terms, _penalty_terms(function(given), penalty), loss)
        return terms

    return replace(phase, function=with_penalties)


def _keeping(generator: Generator, made: list[Tensor]) -> StandIn:
    """The generator, which adds the images that it makes to `made`."""

    def make(latent: Tensor, labels: Tensor | None) -> Tensor:
        made.append(generator(latent, labels))
        return made[-1]

    return StandIn(generator, make)


def _judged_in(
    phase: Phase,
    penalty: Penalty,
    names: Collection[str],
    real: Tensor,
    made: Sequence[Tensor],
    judged: Sequence[tuple[Tensor, Tensor]],
) -> dict[str, Tensor]:
    """The fakes and logits that a penalty names, from the calls of the discriminator in a phase.

    Raises `PluginError` where the phase judges none, or several batches of them.
    """
    found: dict[str, Tensor] = {}
    for side, sources in (("real", [real]), ("fake", made)):
        # The real images are there, judged or not.
        if f"{side}_logits" not in names and not (side == "fake" and "fake" in names):
            continue
        calls = [(images, logits) for images, logits in judged if any(images is source for source in sources)]
        if len(calls) != 1:
            what = "batch.real" if side == "real" else "what the generator gave"
            raise PluginError(
                f"penalty '{penalty.name}' names what phase '{phase.name}' has in one call discriminator({what}), and "
                f"there are {len(calls)} such calls" + (_NO_COPY if side == "fake" and not calls else "")
            )
        ((images, logits),) = calls
        found |= {side: images.detach(), f"{side}_logits": logits}
    return found


_NO_COPY = "; a detached, augmented or joined copy is another tensor, and no detach is needed"


def _with_penalty(terms: Terms, more: Terms, loss: Loss) -> Terms:
    """Raises `PluginError` where a penalty has a term of the loss's name."""
    if twice := more.losses.keys() & terms.losses.keys():
        raise PluginError(f"loss '{loss.name}' has a term '{min(twice)}' already; rename the penalty")
    return _joined(terms, more)


def _discriminator_phase(loss: Loss, penalties: Sequence[Penalty], recipe: Recipe) -> StepPhase:
    logits_terms = _smoothed(loss, recipe.label_smoothing)
    functions = {penalty.name: by_name(penalty, "function", _names(penalty)) for penalty in penalties}

    def discriminator_phase(generator: Generator, discriminator: Discriminator, batch: Batch, values: Values) -> Terms:
        fake = generator(batch.latent, batch.labels)
        real_logits = discriminator(batch.real, batch.labels)
        fake_logits = discriminator(fake, batch.labels)
        given = {"real": real_logits, "fake": fake_logits, "labels": batch.labels, **_own(values, loss)}
        terms = logits_terms(given)
        judged = {"fake": fake, "real_logits": real_logits, "fake_logits": fake_logits}
        for penalty in penalties:
            given = {**_of_batch(generator, discriminator, batch), **judged, **_own(values, penalty)}
            terms = _with_penalty(terms, _penalty_terms(functions[penalty.name](given), penalty), loss)
        return terms

    return StepPhase(
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


def _generator_phase(loss: Loss) -> StepPhase:
    function = by_name(loss, "generator", _names(loss))

    def generator_phase(generator: Generator, discriminator: Discriminator, batch: Batch, values: Values) -> Terms:
        fake = generator(batch.latent, batch.labels)
        given = {"fake": discriminator(fake, batch.labels), "labels": batch.labels, **_own(values, loss)}
        if "real" in function.names:
            given["real"] = discriminator(batch.real, batch.labels)
        return _terms_of(function(given), loss, f"loss '{loss.name}'")

    return StepPhase("generator", generator_phase, "generator")


def _with_feature_matching(phases: Sequence[StepPhase], loss: Loss, weight: float) -> list[StepPhase]:
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


def _feature_matching(phase: StepPhase, weight: float) -> Callable[..., Terms]:
    def with_matching(generator: Generator, discriminator: Discriminator, batch: Batch, values: Values) -> Terms:
        kept: list[Tensor] = []
        terms = phase.function(_keeping(generator, kept), discriminator, batch, values)
        fake = kept[-1] if kept else generator(batch.latent, batch.labels)
        real_mean = discriminator.features(batch.real, batch.labels).mean(0)
        fake_mean = discriminator.features(fake, batch.labels).mean(0)
        return _joined(terms, Terms({"feature_matching": weight * (real_mean - fake_mean).square().sum()}))

    return with_matching


def _smoothed(loss: Loss, smoothing: float) -> Callable[[Mapping[str, Any]], Terms]:
    """One-sided label smoothing: the real term is mixed with what the same logits cost as fakes.

    For BCE this is exactly the target 1 - s, because BCE is linear in its target. A loss of one term compares real with
    fake, and its label says which is which: there the mixture is with the two exchanged.
    """
    asked = by_name(loss, "discriminator", _names(loss))

    def function(given: Mapping[str, Any]) -> Terms:
        return _terms_of(asked(given), loss, f"loss '{loss.name}'")

    if not smoothing:
        return function
    names = set(function(_probe(loss)).losses)
    if len(names) != 1 and names != {"real", "fake"}:
        raise UsageError(_NOT_SMOOTHED.format(loss.name))

    def smoothed(given: Mapping[str, Any]) -> Terms:
        terms = function(given)
        if len(names) == 1:
            exchanged = function({**given, "real": given["fake"], "fake": given["real"]}).losses
            mixed = {name: (1 - smoothing) * term + smoothing * exchanged[name] for name, term in terms.losses.items()}
        else:
            real_as_fake = function({**given, "fake": given["real"]}).losses["fake"]
            mixed = {
                "real": (1 - smoothing) * terms.losses["real"] + smoothing * real_as_fake,
                "fake": terms.losses["fake"],
            }
        return replace(terms, losses=mixed)

    return smoothed


def _probe(loss: Loss) -> dict[str, Any]:
    """Two images' logits and what else a function of logits may name, to learn the names of its terms."""
    logits = torch.zeros((2,) if loss.logits == 1 else (2, 2))
    hyper = {name: torch.tensor(float(value)) for name, value in loss.hyper.items()}
    labels = torch.zeros(2, dtype=torch.int64)
    return {"real": logits, "fake": logits, "labels": labels, **_own(Values(hyper, initial_state(loss, ())), loss)}


_NOT_SMOOTHED = (
    "label_smoothing needs a loss whose discriminator gives one term, or the two terms 'real' and 'fake'; '{}' does not"
)


def _with_label_smoothing(phase: StepPhase, plain: StepPhase, loss: Loss, smoothing: float) -> StepPhase:
    """The same for a loss of phases: what real images cost as fakes is what the phase gives for a generator of them.

    `plain` is the phase without its penalties, which are no part of that.
    """

    def smoothed(generator: Generator, discriminator: Discriminator, batch: Batch, values: Values) -> Terms:
        terms = phase.function(generator, discriminator, batch, values)
        if not {"real", "fake"} <= set(terms.losses):
            raise UsageError(_NOT_SMOOTHED.format(loss.name))
        reality = StandIn(generator, lambda latent, labels: batch.real)
        real_as_fake = plain.function(reality, discriminator, batch, values).losses["fake"]
        real = (1 - smoothing) * terms.losses["real"] + smoothing * real_as_fake
        return replace(terms, losses={**terms.losses, "real": real})

    return replace(phase, function=smoothed)


def _penalty_phase(penalty: Penalty) -> StepPhase:
    """A lazy penalty: every so many steps, and as many times as strong."""
    function = penalty_alone(penalty)

    def penalty_phase(generator: Generator, discriminator: Discriminator, batch: Batch, values: Values) -> Terms:
        terms = function(generator, discriminator, batch, values)
        return replace(terms, losses={name: penalty.every * term for name, term in terms.losses.items()})

    return StepPhase(penalty.name, penalty_phase, "discriminator", every=penalty.every)


def penalty_alone(penalty: Penalty) -> Callable[[Generator, Discriminator, Batch, Values], Terms]:
    """A penalty with forward passes of its own, as many as what it names asks for."""
    function = by_name(penalty, "function", _names(penalty))
    asks_for = frozenset(function.names)

    def terms(generator: Generator, discriminator: Discriminator, batch: Batch, values: Values) -> Terms:
        given = {**_of_batch(generator, discriminator, batch), **_own(values, penalty)}
        if asks_for & {"fake", "fake_logits"}:
            given["fake"] = generator(batch.latent, batch.labels)
        if "real_logits" in asks_for:
            given["real_logits"] = discriminator(batch.real, batch.labels)
        if "fake_logits" in asks_for:
            given["fake_logits"] = discriminator(given["fake"], batch.labels)
        return _penalty_terms(function(given), penalty)

    return terms


def _penalty_terms(result: Any, penalty: Penalty) -> Terms:
    """A penalty's tensor as the term of its name; if it gives several, each is called `PENALTY.TERM`."""
    if isinstance(result, Tensor):
        return Terms({penalty.name: result})
    terms = _terms_of(result, penalty, f"penalty '{penalty.name}'")
    return replace(
        terms,
        **{
            kind: {f"{penalty.name}.{name}": term for name, term in getattr(terms, kind).items()}
            for kind in ("losses", "monitors")
        },
    )


def _with_weight_penalty(phase: StepPhase, recipe: Recipe) -> StepPhase:
    """Adds l1 · Σ|w| and l2 · Σw² over the weights that the phase updates."""

    def weight_penalty_phase(generator: Generator, discriminator: Discriminator, batch: Batch, values: Values) -> Terms:
        terms = phase.function(generator, discriminator, batch, values)
        players = {"generator": generator, "discriminator": discriminator}
        weights = []
        for target in phase.targets:
            player, _, path = target.partition(".")
            # What `build` froze requires no gradient, as while any phase runs.
            module = players[player].network.get_submodule(path)
            weights += [weight for weight in module.parameters() if weight.requires_grad]
        more = {}
        if recipe.l1:
            more["l1"] = recipe.l1 * torch.stack([weight.abs().sum() for weight in weights]).sum()
        if recipe.l2:
            more["l2"] = recipe.l2 * torch.stack([weight.square().sum() for weight in weights]).sum()
        return _joined(terms, Terms(more))

    return replace(phase, function=weight_penalty_phase)
