"""One phase as a callable: freeze, forward, backward, update."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ganzoo.errors import PluginError
from ganzoo.players import Players
from ganzoo.types import Batch, Phase


class EagerPhase:
    """Runs one update of a phase and returns its detached terms; no host synchronization.

    What the phase does not update is frozen while it runs, so its gradients stay None and are never computed.
    """

    def __init__(
        self,
        phase: Phase,
        players: Players,
        optimizers: Mapping[str, torch.optim.Optimizer],
        hyper: Mapping[str, Tensor],
        precision: str,
    ) -> None:
        self.phase = phase
        self.players = players
        self.hyper = hyper
        self.updated = players.updated_by(phase)
        updated = {id(parameter) for parameter in self.updated}
        everything = players.parameters(("generator", "discriminator"))
        self.frozen = [parameter for parameter in everything if id(parameter) not in updated]
        self.optimizers = [optimizers[player] for player in sorted({target.split(".")[0] for target in phase.targets})]
        self.device_type = everything[0].device.type
        self.autocast = precision == "bf16"

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        for parameter in self.frozen:
            parameter.requires_grad_(False)
        for parameter in self.updated:
            parameter.requires_grad_(True)
        with torch.autocast(self.device_type, dtype=torch.bfloat16, enabled=self.autocast, cache_enabled=False):
            terms = self.phase.function(self.players.generator, self.players.discriminator, batch, self.hyper)
        total_of(terms, self.phase).backward()
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if self.phase.after is not None:
            with torch.no_grad():
                self.phase.after(self.updated, self.hyper)
        return {name: term.detach() for name, term in terms.items()}


def total_of(terms: Any, phase: Phase) -> Tensor:
    """The sum of a phase's terms; raises `PluginError` where they are not named 0-dim tensors."""
    if not isinstance(terms, Mapping) or not terms:
        raise PluginError(f"phase '{phase.name}' gave {type(terms).__name__}; it must give {{name: 0-dim tensor}}")
    for name, term in terms.items():
        if not isinstance(term, Tensor) or term.dim() != 0:
            shape = tuple(term.shape) if isinstance(term, Tensor) else type(term).__name__
            raise PluginError(f"phase '{phase.name}' gave a term '{name}' of shape {shape}; it must be a 0-dim tensor")
    return torch.stack(list(terms.values())).sum()


def make_optimizer(parameters: Sequence[Tensor], settings: Mapping[str, Any]) -> torch.optim.Optimizer:
    """The optimizer of one player, fused where torch has a fused kernel for the device."""
    rate = settings["learning_rate"]
    fused = {"fused": True} if parameters[0].device.type in ("cpu", "cuda") else {}
    match settings["kind"]:
        case "adam":
            return torch.optim.Adam(parameters, lr=rate, betas=tuple(settings["betas"]), **fused)
        case "sgd":
            return torch.optim.SGD(parameters, lr=rate, momentum=settings["momentum"], **fused)
        case "rmsprop":
            return torch.optim.RMSprop(parameters, lr=rate, momentum=settings["momentum"])
        case kind:
            raise ValueError(f"unknown optimizer {kind}")
