"""Before training: build a run's networks without memory, put every phase through once, count parameters and FLOPs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from ganzoo.assemble import Materials, latent_drawer, materials_of, spec_phases, spec_players
from ganzoo.errors import GanzooError, PluginError
from ganzoo.players import Players
from ganzoo.plugins import Registry
from ganzoo.step import total_of
from ganzoo.text import printable
from ganzoo.types import Batch, RunSpec


@dataclass(frozen=True)
class Preflight:
    """`parameters` of each player; `flops_per_image` of training, for each real image shown, or None if unknown."""

    parameters: Mapping[str, int]
    flops_per_image: float | None


def preflight(spec: RunSpec, registry: Registry) -> Preflight:
    """Check what a run will do, on the meta device: shapes, names of terms, what each phase updates.

    Raises `GanzooError` where the contract is broken or the combination is refused. Whatever else goes wrong here is
    left to the run itself, since an operator may merely lack a meta implementation; the FLOPs are unknown then.
    """
    materials = materials_of(spec, registry)
    try:
        players = _meta_players(spec, materials)
        phases = spec_phases(spec, materials)
        drawn = latent_drawer(spec, materials.architecture)(2, torch.Generator().manual_seed(0))
    except GanzooError:
        raise
    except Exception as error:
        raise PluginError(f"its plugin raised {type(error).__name__}: {printable(error)}") from error
    parameters = {
        name: sum(parameter.numel() for parameter in players.parameters((name,)))
        for name in ("generator", "discriminator")
    }
    for phase in phases:
        players.updated_by(phase)
    try:
        flops = 0.0
        for phase in phases:
            flops += _phase_flops(phase, players, spec, drawn) * phase.repeats / phase.every
    except GanzooError:
        raise
    except Exception:
        return Preflight(parameters, None)
    draws = 1 + sum((phase.repeats - 1) / phase.every for phase in phases if phase.updates_discriminator)
    return Preflight(parameters, flops / draws / spec.batch_size)


def _meta_players(spec: RunSpec, materials: Materials) -> Players:
    """The players without memory; built with it first where an architecture reads a tensor's values meanwhile."""
    try:
        with torch.device("meta"):
            return spec_players(spec, materials)
    except Exception:
        players = spec_players(spec, materials)
        for player in (players.generator, players.discriminator):
            player.to("meta")
        return players


def _phase_flops(phase: Any, players: Any, spec: RunSpec, drawn: torch.Tensor) -> int:
    """FLOPs of one forward and backward of a phase at the run's batch size."""
    size = spec.batch_size
    with torch.device("meta"):
        real = torch.empty(size, *spec.image_shape)
        labels = torch.empty(size, dtype=torch.int64) if spec.classes else None
        latent = torch.empty(size, *drawn.shape[1:])
        hyper = {name: torch.empty(()) for name in spec.hyper}
        updated = {id(parameter) for parameter in players.updated_by(phase)}
        for parameter in players.parameters(("generator", "discriminator")):
            parameter.requires_grad_(id(parameter) in updated)
        with FlopCount() as count:
            terms = phase.function(players.generator, players.discriminator, Batch(real, labels, latent), hyper)
            total_of(terms, phase).backward()
    for parameter in players.parameters(("generator", "discriminator")):
        parameter.grad = None
    return count.total


class FlopCount(TorchDispatchMode):
    """Counts with torch's own formulas, two FLOPs for a multiply-add.

    torch's `FlopCounterMode` also tracks modules, and that tracker raises on input gradients and parametrizations.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.total += formula(*args, **kwargs, out_val=out)
        return out
