"""The optimizer of a player: any of `torch.optim` by name, with rates for parts, and corrected for lazy phases."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ganzoo.errors import UsageError
from ganzoo.training.phase_update import StepPhase
from ganzoo.training.players import Player
from ganzoo.types import Optimizer
from ganzoo.util.text import printable

OPTIMIZER_CLASSES: Mapping[str, Any] = {
    name.lower(): value for name, value in vars(torch.optim).items() if isinstance(value, type)
}
"""Those of torch, by the names that `Optimizer.kind` has for them."""

FUSED = ("adam", "adamw", "sgd")
"""Those of which torch's fused kernel is used where it has one for the device and for the kinds of numbers."""


def optimizer_of(
    player: Player, settings: Optimizer, phases: Sequence[StepPhase], *, capturable: bool, moving_betas: bool = False
) -> torch.optim.Optimizer | None:
    """The optimizer of a player, or None where it has no weight to train.

    `phases` are those of a step: with `lazy_correction` the lazy ones that update this player shorten its steps.
    `moving_betas` says that a schedule changes them. Raises `UsageError` where the player lacks a part that has a rate
    of its own, and where torch refuses an argument.
    """
    weights = player.trained_weights()
    if not weights:
        return None
    groups: list[dict[str, Any]] = []
    for path, scale in settings.parts.items():
        try:
            own = {id(weight) for weight in player.trained_weights(path)}
        except AttributeError:
            raise UsageError(
                f"the {player.player_name}'s optimizer has a rate for its part '{printable(path)}', which it lacks"
            ) from None
        groups.append({"params": [weight for weight in weights if id(weight) in own], "scale": scale})
        weights = [weight for weight in weights if id(weight) not in own]
    groups.insert(0, {"params": weights, "scale": 1.0})
    corrected = lazily_corrected(settings, phases, player.player_name) if settings.lazy_correction else settings
    return make_optimizer(
        [group for group in groups if group["params"]], corrected, capturable=capturable, moving_betas=moving_betas
    )


def lazily_corrected(settings: Optimizer, phases: Sequence[StepPhase], player: str) -> Optimizer:
    """Rate and moments for a player that lazy phases update too, in between its usual updates.

    A phase in every k-th step makes k + 1 updates of k, so c = k / (k + 1): the rate is multiplied by c, and each beta
    is raised to the power c (Karras et al. 2020, arXiv:1912.04958, appendix B, "lazy regularization"). Usual are the
    phases that run most often; c is their share of all updates.
    """
    own = [phase for phase in phases if player in phase.targets]
    often = min((phase.every for phase in own), default=1)
    usual = sum(phase.repeats / phase.every for phase in own if phase.every == often)
    lazy = sum(phase.repeats / phase.every for phase in own if phase.every > often)
    c = usual / (usual + lazy) if own else 1.0
    first, second = settings.betas
    return replace(settings, learning_rate=settings.learning_rate * c, betas=(first**c, second**c))


def make_optimizer(
    groups: Sequence[Mapping[str, Any]], settings: Optimizer, *, capturable: bool = False, moving_betas: bool = False
) -> torch.optim.Optimizer:
    """An optimizer of groups of `params`, each at `scale` times the rate.

    With `capturable` its counters, its learning rate and betas that move are tensors on the device, so that a captured
    step follows their schedules under replay. Raises `UsageError` where torch refuses an argument.
    """
    class_ = OPTIMIZER_CLASSES[settings.kind]
    takes = inspect.signature(class_).parameters
    every = [weight for group in groups for weight in group["params"]]
    device = every[0].device
    arguments: dict[str, Any] = dict(settings.options)
    if "betas" in takes:
        arguments.setdefault("betas", settings.betas)
    if "momentum" in takes:
        arguments.setdefault("momentum", settings.momentum)
    if capturable and "capturable" in takes and settings.kind != "sgd":
        arguments["capturable"] = True
    elif capturable and settings.kind != "sgd":
        raise UsageError(f"optimizer '{settings.kind}' cannot be captured as a CUDA graph; pass --step-mode eager")
    real = not any(weight.is_complex() for weight in every)
    if moving_betas and capturable:
        # Neither the fused kernels nor those of many tensors take betas that are tensors.
        arguments["betas"] = tuple(torch.tensor(beta, device=device) for beta in arguments["betas"])
        arguments["foreach"] = False
    elif settings.kind in FUSED and real and device.type in ("cpu", "cuda"):
        arguments["fused"] = True

    def rate(scale: float) -> Tensor | float:
        value = settings.learning_rate * scale
        return torch.tensor(value, device=device) if capturable else value

    given = [{"params": list(group["params"]), "lr": rate(group["scale"])} for group in groups]
    first = given[0]["lr"]
    try:
        optimizer: torch.optim.Optimizer = class_(
            given if len(given) > 1 else given[0]["params"], lr=first, **arguments
        )
    except (TypeError, ValueError) as error:
        known = ", ".join(name for name in takes if name not in ("params", "lr", "betas", "momentum"))
        raise UsageError(f"optimizer '{settings.kind}': {printable(error)} (its options: {known})") from None
    return optimizer
