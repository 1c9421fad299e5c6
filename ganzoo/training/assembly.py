"""From a run's spec to everything its loop turns on: players, optimizers, phases, batches, latents."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ganzoo.data.batches import Batches
from ganzoo.data.prepared import PreparedDataset
from ganzoo.errors import UsageError
from ganzoo.machine.onednn import use_onednn
from ganzoo.machine.settings import TORCH_FORMATS
from ganzoo.registry.registry import Registry
from ganzoo.runs import RunSpec
from ganzoo.training.average import MovingAverage
from ganzoo.training.cuda_graph import CudaCapture, GraphedStep
from ganzoo.training.objective import Options, StepPhases, phases_of
from ganzoo.training.phase_update import Call, PhaseUpdate, SharedFakes, eager_step, make_optimizer
from ganzoo.training.players import Players, build_players
from ganzoo.training.schedules import Schedules
from ganzoo.types import Architecture, Loss, Penalty, Schedule
from ganzoo.util.seeds import stream, stream_seed

DrawLatent = Callable[[int, torch.Generator], Tensor]


@dataclass
class Assembly:
    """One run, ready to be stepped. `draw_latent(n, rng)` gives (n, latent) on `rng.device`; `step` counts from 0.

    `perform` makes the updates of a step and gives their terms: `eager_step`, or a `GraphedStep`.
    """

    players: Players
    optimizers: dict[str, torch.optim.Optimizer]
    updates: list[PhaseUpdate]
    perform: Callable[[Sequence[Call]], list[dict[str, Tensor]]]
    schedules: Schedules
    average: MovingAverage
    batches: Batches
    draw_latent: DrawLatent
    latent_rng: torch.Generator
    step: int = 0


@dataclass(frozen=True)
class Materials:
    """The registered objects that a spec names."""

    architecture: Architecture
    loss: Loss
    penalties: tuple[Penalty, ...]


def materials_of(spec: RunSpec, registry: Registry) -> Materials:
    """Look up the objects that a spec names. Raises `UnknownName` where their plugin is not loaded."""
    architecture = registry.get("architectures", spec.architecture).record
    loss = registry.get("losses", spec.loss, Loss).record
    penalties = tuple(
        replace(registry.get("losses", entry["name"], Penalty).record, every=entry["every"]) for entry in spec.penalties
    )
    return Materials(architecture, loss, penalties)


def spec_phases(spec: RunSpec, materials: Materials) -> StepPhases:
    """The phases of a spec, with its frequencies."""
    # A lazy penalty's phase has its frequency from the penalty.
    frequencies = {entry["name"]: {"repeats": entry["repeats"], "every": entry["every"]} for entry in spec.phases}
    return phases_of(materials.loss, materials.penalties, Options.of(spec), frequencies)


def spec_players(spec: RunSpec, materials: Materials) -> Players:
    """The two players of a spec, on the current default device."""
    return build_players(
        materials.architecture,
        spec.image_shape,
        spec.latent,
        spec.classes,
        dict(spec.options),
        materials.loss.logits,
    )


def phase_updates(
    spec: RunSpec,
    materials: Materials,
    players: Players,
    optimizers: Mapping[str, torch.optim.Optimizer],
    hyper: Mapping[str, Tensor],
    *,
    compiled: bool,
    share_fakes: bool = True,
) -> list[PhaseUpdate]:
    """The updates of a step, in order, for players on any device."""
    phases, sharing = spec_phases(spec, materials)
    # torch.compile frees a graph that spans two compiled functions after the first (PyTorch issue 91542).
    fakes = SharedFakes(players.generator) if share_fakes and spec.step_mode != "compile" else None
    return [
        PhaseUpdate(
            phase, players, optimizers, hyper, spec.precision, fakes if phase.name in sharing else None, compiled
        )
        for phase in phases
    ]


def latent_drawer(spec: RunSpec, architecture: Architecture) -> DrawLatent:
    """The prior: the architecture's `draw_latent`, else standard normal."""
    prior = architecture.draw_latent

    def draw(count: int, rng: torch.Generator) -> Tensor:
        if prior is None:
            return torch.randn(count, spec.latent, generator=rng, device=rng.device)
        latent = prior(count, spec.latent, rng, **spec.options)
        if latent.shape != (count, spec.latent):
            raise UsageError(
                f"architecture '{architecture.name}' draws latents of shape {tuple(latent.shape)}, "
                f"not {(count, spec.latent)}"
            )
        return latent

    return draw


def assemble(
    spec: RunSpec, registry: Registry, dataset: PreparedDataset, purpose: str = "train", *, share_fakes: bool = True
) -> Assembly:
    """Build a run on its device. Runs of different `purpose` share no network, optimizer or random number.

    The weights are drawn on the CPU, so that one seed starts from the same weights on all hardware. With
    `share_fakes=False` every phase makes its own fakes, so that each can be called alone.
    """
    materials = materials_of(spec, registry)
    torch.manual_seed(stream_seed(spec.seed, f"{purpose}/weights"))
    players = spec_players(spec, materials)
    channels_last = spec.memory_format == "channels_last"
    layout = getattr(torch, TORCH_FORMATS[spec.memory_format])
    for player in (players.generator, players.discriminator):
        player.to(device=spec.device, memory_format=layout).train()  # type: ignore[call-overload]
        if spec.linear_backend == "onednn":
            use_onednn(player)
    torch.manual_seed(stream_seed(spec.seed, f"{purpose}/phases"))
    settings: dict[str, Any] = {"generator": spec.optimizer, "discriminator": spec.discriminator_optimizer}
    graphed = spec.step_mode == "graph"
    optimizers = {name: make_optimizer(players.parameters((name,)), settings[name], graphed) for name in settings}
    hyper = {name: torch.tensor(float(value), device=spec.device) for name, value in spec.hyper.items()}
    return Assembly(
        players=players,
        optimizers=optimizers,
        updates=phase_updates(
            spec,
            materials,
            players,
            optimizers,
            hyper,
            compiled=spec.step_mode == "compile",
            share_fakes=share_fakes,
        ),
        perform=GraphedStep(CudaCapture()) if graphed else eager_step,
        schedules=Schedules(
            Schedule(**spec.rate_decay),
            {name: Schedule(**schedule) for name, schedule in spec.schedules.items()},
            optimizers,
            hyper,
        ),
        average=MovingAverage(players.generator, spec.ema_half_life_kimg, spec.ema_rampup),
        batches=Batches(
            dataset,
            spec.batch_size,
            stream_seed(spec.seed, purpose),
            spec.device,
            spec.flips,
            channels_last=channels_last,
        ),
        draw_latent=latent_drawer(spec, materials.architecture),
        latent_rng=stream(spec.seed, f"{purpose}/latents", spec.device),
    )
