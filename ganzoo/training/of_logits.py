"""The two phases of a loss that is written as functions of logits: the judge's, and that of its opponents."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ganzoo.errors import PluginError, UsageError
from ganzoo.registry.signatures import ByName, by_name
from ganzoo.training.judging import Presenter, as_value, by_leaf, leaves
from ganzoo.training.phase_update import Given, StepPhase, Values
from ganzoo.training.players import Logits
from ganzoo.training.terms import initial_state, joined, names_of, own_values, terms_of
from ganzoo.types import Loss, Terms
from ganzoo.util.text import printable

OfLogits = Callable[[Mapping[str, Any]], Terms]
"""A function of logits, given all that it may name."""

JUDGED_HEADS = ("real_heads", "fake_heads")


def judge_phase(loss: Loss, presenter: Presenter, label_smoothing: float) -> StepPhase:
    """The phase `discriminator`, which updates the judge."""
    judge = presenter.judge
    asked = by_name(loss, "discriminator", names_of(loss))
    function = _smoothed_function(loss, asked, label_smoothing)

    def discriminator_phase(given: Given) -> Terms:
        real, fake = presenter.pair(given)
        logits, heads = {}, {}
        for side, inputs in (("real", real), ("fake", fake)):
            logits[side], heads[f"{side}_heads"] = _judged(given, judge, inputs, asked)
        terms = _of_leaves(function, given, loss, asked, logits, heads)
        return replace(terms, judged=(as_value(real), as_value(fake)))

    return StepPhase("discriminator", discriminator_phase, judge, repeats=loss.repeats, judges=True)


def opponents_phase(loss: Loss, presenter: Presenter) -> StepPhase:
    """The phase `generator`, which updates every player that makes what is judged.

    Where what is judged as real is made too (by BiGAN's encoder), its maker is trained by the loss's `real_side`;
    without it, by the generator's function of −real, unless that function's own terms depend on `real`.
    """
    judge = presenter.judge
    if "generator" not in presenter.opponents:
        raise UsageError(
            f"loss '{loss.name}' would never update the generator, which `present` of its architecture does not call; "
            "choose a loss of phases that does"
        )
    asked = by_name(loss, "generator", names_of(loss))
    function = _function_of_logits(loss, asked)
    real_side = by_name(loss, "real_side", names_of(loss)) if loss.real_side is not None else None
    own_side = (
        not presenter.real_is_given and real_side is None and "real" in asked.names and _depends_on_real(loss, function)
    )

    def generator_phase(given: Given) -> Terms:
        logits: dict[str, Logits] = {}
        heads: dict[str, Any] = {}
        # Only where a player makes what is judged as real are both sides wanted in every case.
        real, fake = (None, presenter.fake(given)) if presenter.real_is_given else presenter.pair(given)
        logits["fake"], heads["fake_heads"] = _judged(given, judge, fake, asked)
        if "real" in asked.names or "real_heads" in asked.names:
            real = presenter.real(given) if real is None else real
            logits["real"], heads["real_heads"] = _judged(given, judge, real, asked)
        terms = _of_leaves(function, given, loss, asked, logits, heads)
        if real is not None and not own_side and _is_made(real):
            real_logits = logits.get("real")
            if real_logits is None:
                real_logits, heads["real_heads"] = _judged(given, judge, real, real_side or asked)
            terms = joined(terms, _of_real_side(given, loss, asked, function, real_side, real_logits, heads))
        judged = (given.batch.real if real is None else as_value(real), as_value(fake))
        return replace(terms, judged=judged)

    return StepPhase("generator", generator_phase, presenter.opponents)


def _of_real_side(
    given: Given,
    loss: Loss,
    asked: ByName,
    function: OfLogits,
    real_side: ByName | None,
    real_logits: Logits,
    heads: Mapping[str, Any],
) -> Terms:
    """The terms that train who makes what is judged as real, each called `real_NAME`."""
    if real_side is not None:
        terms = _of_leaves(_function_of_logits(loss, real_side), given, loss, real_side, {"real": real_logits}, heads)
    else:
        negative = [-logits for logits in leaves(real_logits)]
        turned: Logits = negative[0] if isinstance(real_logits, Tensor) else negative
        terms = _of_leaves(
            function, given, loss, asked, {"real": turned, "fake": turned}, {"fake_heads": heads.get("real_heads", {})}
        )
    return Terms(
        {f"real_{name}": term for name, term in terms.losses.items()},
        {f"real_{name}": term for name, term in terms.monitors.items()},
    )


def _judged(given: Given, judge: str, inputs: tuple[Any, ...], asked: ByName) -> tuple[Logits, Mapping[str, Tensor]]:
    """The judge's logits, and its heads where a function asks for some."""
    player = given.players[judge]
    if not set(JUDGED_HEADS) & set(asked.names):
        return _as_vectors(player, player(*inputs)), {}
    heads = dict(player.heads(*inputs))
    return _as_vectors(player, heads.pop("logits")), heads


def _as_vectors(judge: Any, logits: Logits) -> Logits:
    """Each map of patches as one vector, of two logits for each patch where the loss wants two; others as they are."""
    if judge.gives != "patches":
        return logits
    vectors = [leaf.flatten() for leaf in leaves(logits)]
    if judge.wanted == 2:
        return [torch.stack([torch.zeros_like(vector), vector], 1) for vector in vectors]
    return vectors


def _is_made(inputs: tuple[Any, ...]) -> bool:
    """Whether a player that is being updated has made any of these inputs."""
    return any(isinstance(value, Tensor) and value.requires_grad for value in inputs)


def _function_of_logits(loss: Loss, asked: ByName) -> OfLogits:
    return lambda given: terms_of(asked(given), loss, f"loss '{loss.name}'")


def _of_leaves(
    function: OfLogits,
    given: Given,
    loss: Loss,
    asked: ByName,
    logits: Mapping[str, Logits],
    heads: Mapping[str, Any],
) -> Terms:
    """The terms of a function, over all maps that the judge gave. Raises `PluginError` where labels do not fit them."""
    batch = given.batch
    if {"labels", "fake_labels"} & set(asked.names):
        for part in (part for side in logits.values() for part in leaves(side)):
            if len(part) != len(batch.real) or part.dim() > 2:
                raise PluginError(
                    f"loss '{printable(loss.name)}' asks for labels, which need one logit for each image; the judge "
                    f"gives {tuple(part.shape)} for {len(batch.real)} images"
                )
    others = {
        "labels": batch.labels,
        "fake_labels": batch.fake_labels,
        "real_heads": {},
        "fake_heads": {},
        **heads,
        **own_values(given.values, loss),
    }
    return by_leaf(function, others, logits)


def _depends_on_real(loss: Loss, function: OfLogits) -> bool:
    """Whether the generator's terms change with the real logits, told by a gradient and not by the name."""
    probe = _probe(loss)
    real = probe["real"].clone().requires_grad_()
    terms = function({**probe, "real": real})
    return any(term.requires_grad for term in terms.losses.values())


def _smoothed_function(loss: Loss, asked: ByName, smoothing: float) -> OfLogits:
    """One-sided label smoothing: the real term is mixed with what the same logits cost as fakes.

    For BCE this is exactly the target 1 - s, because BCE is linear in its target. A loss of one term compares real with
    fake, and its label says which is which: there the mixture is with the two exchanged.
    """
    function = _function_of_logits(loss, asked)
    if not smoothing:
        return function
    names = set(function(_probe(loss)).losses)
    if len(names) != 1 and names != {"real", "fake"}:
        raise UsageError(NOT_SMOOTHED.format(loss.name))

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


NOT_SMOOTHED = (
    "label_smoothing needs a loss whose discriminator gives one term, or the two terms 'real' and 'fake'; '{}' does not"
)


def _probe(loss: Loss) -> dict[str, Any]:
    """Two images' logits and what else a function of logits may name, to learn what it does with them."""
    logits = torch.zeros((2,) if loss.logits == 1 else (2, 2))
    labels = torch.zeros(2, dtype=torch.int64)
    hyper = {name: torch.tensor(float(value)) for name, value in loss.hyper.items()}
    own = own_values(Values(hyper, initial_state([loss])), loss)
    return {
        "real": logits,
        "fake": logits,
        "labels": labels,
        "fake_labels": labels,
        "real_heads": {},
        "fake_heads": {},
        **own,
    }
