"""Penalties: terms that join the phase of any loss that updates their player, or lazy phases of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from ganzoo.errors import PluginError, UsageError
from ganzoo.registry.signatures import ByName, by_name
from ganzoo.training.augmenting import Augmenting
from ganzoo.training.judging import Presenter, as_value, as_vector, watched
from ganzoo.training.phase_update import Given, StepPhase, beside_shared_fakes
from ganzoo.training.players import Judge, Logits, PhaseTrace, StandIn, unpacked
from ganzoo.training.terms import joined, names_of, of_batch, own_values, terms_of
from ganzoo.types import Inputs, Loss, Penalty, Phase, Terms
from ganzoo.util.text import printable

OF_SIDE = {side: frozenset((side, f"{side}_logits", f"{side}_heads")) for side in ("real", "fake")}
"""What a penalty may name of real images and of fakes."""


@dataclass(frozen=True)
class NamedPenalty:
    """A penalty, the player whose term it is, the judge whose inputs it sees, and its function by name."""

    record: Penalty
    player: str
    judge: str
    function: ByName

    @classmethod
    def of(cls, record: Penalty, presenter: Presenter) -> NamedPenalty:
        """Build from a record, in an architecture. Raises `UsageError` where its player is none."""
        player = record.player or presenter.judge
        if player not in presenter.players:
            raise UsageError(
                f"penalty '{record.name}' is a term of '{printable(player)}', and the players are "
                f"{', '.join(presenter.players)}"
            )
        judge = player if player in presenter.judges else (presenter.judges or (player,))[0]
        return cls(record, player, judge, by_name(record, "function", names_of(record), presenter.players))

    @property
    def of_judge(self) -> bool:
        """Whether it is the term of a judge: then it must not push who makes the fakes."""
        return self.player == self.judge

    def asks_for(self, side: str) -> bool:
        """Whether it names anything of this side."""
        return bool(OF_SIDE[side] & set(self.function.names))

    def terms(self, given: Given, more: Mapping[str, Any], augmenting: Augmenting) -> Terms:
        """Its terms, given what it names."""
        named = {**of_batch(given), "augment": augmenting.of_phase, **more, **own_values(given.values, self.record)}
        return _penalty_terms(self.function(named), self.record)


def home_of(penalty: NamedPenalty, phases: Sequence[StepPhase], declared: Mapping[str, Phase], loss: Loss) -> str:
    """The name of the phase that a penalty joins: the only one that updates its player as a whole.

    Raises `UsageError` where there is none or several, unless one says so by `Phase.penalties`.
    """
    says = {name: phase.penalties for name, phase in declared.items()}
    updating = [phase.name for phase in phases if penalty.player in phase.targets and says.get(phase.name) is not False]
    homes = [name for name in updating if says.get(name)] or updating
    if len(homes) != 1:
        found = f"in {' and '.join(homes)}" if homes else "in none"
        raise UsageError(
            f"penalty '{penalty.record.name}' joins the phase that updates the {penalty.player} as a whole, and loss "
            f"'{loss.name}' does so {found}; say which by Phase(…, penalties=True), or make it lazy, as in --set "
            f"'VARIANT.lazy.{penalty.record.name}.every=16'"
        )
    return homes[0]


def with_penalties(
    phase: StepPhase, penalties: Sequence[NamedPenalty], presenter: Presenter, augmenting: Augmenting, loss: Loss
) -> StepPhase:
    """Adds the terms of penalties, which see what the phase itself gives the judge, and adapts the augmentation.

    Fakes are detached for a judge's penalty, and where a phase updates others too, judged anew: a penalty of the
    discriminator must not push the generator.
    """
    adapts = augmenting.adapting is not None and phase.judges and presenter.judge in phase.targets
    asks_for_sides = augmenting.asks_for_sides
    if not penalties and not adapts and not asks_for_sides:
        return phase

    def with_their_terms(given: Given) -> Terms:
        trace = PhaseTrace(given.batch.real)
        beside = beside_shared_fakes(given)
        with watched(given, presenter.judges, trace) as watching:
            if augmenting.asks_for_fakes:
                # Where the phase is the harness's own, it makes fakes before it judges.
                augmenting.fakes = [_fakes_apart(beside)] if loss.phases else trace.made
            terms = phase.function(watching)
            trace.closed = True
            for penalty in penalties:
                joint = penalty.of_judge and any(name != penalty.player for name in phase.updated_players)
                more = {
                    name: value
                    for side, index in (("real", 0), ("fake", 1))
                    if penalty.asks_for(side)
                    for name, value in _of_side(side, index, penalty, phase, terms, given, trace, joint).items()
                }
                alone = _without_generator(given) if joint else beside
                terms = _with_terms(terms, penalty.terms(alone, more, augmenting), loss)
        augmenting.fakes = ()
        if adapts:
            calls = [call for call in trace.calls if call.judge == presenter.judge]
            terms = replace(terms, state={**terms.state, **augmenting.adapted(given, calls, trace)})
        return terms

    return replace(phase, function=with_their_terms)


def _fakes_apart(given: Given) -> Tensor:
    """A detached batch of fakes, before anything is judged."""
    batch = given.batch
    images: Tensor = given.players["generator"](batch.latent, batch.fake_labels).detach()
    return images


def _without_generator(given: Given) -> Given:
    """The generator gives images without their graph."""
    generator = given.players["generator"]
    apart = StandIn(generator, lambda *inputs: generator(*inputs).detach())
    return given._replace(players={**given.players, "generator": apart})


def _of_side(
    side: str,
    index: int,
    penalty: NamedPenalty,
    phase: StepPhase,
    terms: Terms,
    given: Given,
    trace: PhaseTrace,
    joint: bool,
) -> dict[str, Any]:
    """The inputs, logits and heads of one side that a penalty names, from the judge's calls in a phase.

    Raises `PluginError` where the phase judges none, or several batches of them, and does not say which.
    """
    names = OF_SIDE[side] & set(penalty.function.names)
    judge = given.players[penalty.judge]
    calls = [call for call in trace.calls if call.judge == penalty.judge]
    if terms.judged is not None:
        wanted = unpacked((terms.judged[index],))
        found = [call for call in calls if call.inputs[0] is wanted[0]]
        inputs = found[0].inputs if found else judge.room.fitting(wanted, penalty.judge)
    else:
        sources = [given.batch.real] if side == "real" else trace.made
        found = [call for call in calls if any(value is source for value in call.inputs for source in sources)]
        if len(found) == 1:
            inputs = found[0].inputs
        elif not found and names == {"real"}:
            # The real images are there, judged or not.
            inputs = judge.room.fitting((given.batch.real, given.batch.labels), penalty.judge)
        else:
            what = "batch.real" if side == "real" else "what the generator gave"
            raise PluginError(
                f"penalty '{penalty.record.name}' needs one call {penalty.judge}({what}) in phase "
                f"'{phase.name}', found {len(found)}; "
                "return Terms(…, judged=(real, fake))" + (_NO_COPY if side == "fake" and not found else "")
            )
    value = as_value(
        [trace.note_side(judge.packed(part), trace.is_real(part)) if _is_tensor(part) else part for part in inputs]
    )
    if penalty.of_judge:
        value = _detached(value, trace)
    result: dict[str, Any] = {side: value}
    if names - {side}:
        call = found[0] if found and not joint else None
        logits: Logits
        if call is not None:
            logits, heads = call.logits, call.heads
        else:
            answer = dict(judge.heads(*unpacked((value,))))
            logits, heads = answer.pop("logits"), answer
        result |= {f"{side}_logits": as_vector(logits), f"{side}_heads": heads}
    return result


_NO_COPY = "; a detached, augmented or joined copy is another tensor, and no detach is needed"


def _is_tensor(value: object) -> bool:
    return isinstance(value, Tensor)


def _detached(value: Any, trace: PhaseTrace) -> Any:
    if isinstance(value, Inputs):
        return Inputs(_detached(part, trace) for part in value)
    if not isinstance(value, Tensor) or not value.requires_grad:
        return value
    return trace.note_side(value.detach(), trace.is_real(value))


def _with_terms(terms: Terms, more: Terms, loss: Loss) -> Terms:
    """Raises `PluginError` where a penalty has a term of the loss's name."""
    if twice := more.losses.keys() & terms.losses.keys():
        raise PluginError(f"loss '{loss.name}' has a term '{min(twice)}' already; rename the penalty")
    return joined(terms, more)


def lazy_phase(penalty: NamedPenalty, presenter: Presenter, augmenting: Augmenting) -> StepPhase:
    """A lazy penalty: every k-th step, multiplied by k."""
    function = penalty_alone(penalty, presenter, augmenting)
    every = penalty.record.every

    def penalty_phase(given: Given) -> Terms:
        terms = function(given)
        return replace(terms, losses={name: every * term for name, term in terms.losses.items()})

    return StepPhase(
        penalty.record.name, penalty_phase, penalty.player, every=every, judges=penalty.player in presenter.judges
    )


def penalty_alone(penalty: NamedPenalty, presenter: Presenter, augmenting: Augmenting) -> Callable[[Given], Terms]:
    """A penalty with forward passes of its own, as many as what it names asks for."""
    names = set(penalty.function.names)

    def terms(given: Given) -> Terms:
        judge = given.players.get(penalty.judge)
        trace = PhaseTrace(given.batch.real)
        trace.closed = True
        sides: dict[str, tuple[Any, ...]] = {}
        if penalty.asks_for("real") and penalty.asks_for("fake"):
            sides["real"], sides["fake"] = presenter.pair(given)
        elif penalty.asks_for("real"):
            sides["real"] = presenter.real(given)
        elif penalty.asks_for("fake"):
            sides["fake"] = presenter.fake(given)
        more: dict[str, Any] = {}
        with watched(given, presenter.judges, trace):
            if augmenting.asks_for_fakes:
                augmenting.fakes = [_fakes_apart(given)]
            for side, inputs in sides.items():
                assert isinstance(judge, (Judge, StandIn))
                for value in inputs:
                    if isinstance(value, Tensor) and value is not given.batch.real:
                        trace.note_side(value, side == "real")
                fitting = [
                    trace.note_side(judge.packed(part), side == "real") if _is_tensor(part) else part
                    for part in judge.room.fitting(inputs, penalty.judge)
                ]
                more[side] = _detached(as_value(fitting), trace) if penalty.of_judge else as_value(fitting)
                if names & {f"{side}_logits", f"{side}_heads"}:
                    answer = dict(judge.heads(*unpacked((more[side],))))
                    more[f"{side}_logits"] = as_vector(answer.pop("logits"))
                    more[f"{side}_heads"] = answer
            result = penalty.terms(given, more, augmenting)
        augmenting.fakes = ()
        return result

    return terms


def _penalty_terms(result: Any, penalty: Penalty) -> Terms:
    """A penalty's tensor as the term of its name; if it gives several, each is called `PENALTY.TERM`."""
    if isinstance(result, Tensor):
        return Terms({penalty.name: result})
    terms = terms_of(result, penalty, f"penalty '{penalty.name}'")
    return replace(
        terms,
        losses={f"{penalty.name}.{name}": term for name, term in terms.losses.items()},
        monitors={f"{penalty.name}.{name}": term for name, term in terms.monitors.items()},
    )
