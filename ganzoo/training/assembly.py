"""From a run's spec to everything its loop turns on: players, optimizers, phases, batches, latents."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ganzoo.data.batches import Batches
from ganzoo.data.prepared import PreparedDataset
from ganzoo.errors import UsageError
from ganzoo.machine.onednn import linear_backend, use_onednn
from ganzoo.machine.settings import TORCH_FORMATS
from ganzoo.registry.isolation import undisturbed
from ganzoo.registry.registry import Registry
from ganzoo.runs import RunSpec
from ganzoo.training.average import MovingAverage
from ganzoo.training.cuda_graph import CudaCapture, GraphedStep
from ganzoo.training.objective import Objective, StepPhases, phases_of
from ganzoo.training.optimizers import optimizer_of
from ganzoo.training.phase_update import Call, PhaseUpdate, SharedFakes, Values, eager_step
from ganzoo.training.players import Players, build_players
from ganzoo.training.progressive import Stages, size_at, stages_of
from ganzoo.training.schedules import Schedules, moving_betas
from ganzoo.training.shared_tensors import hold_one_tensor
from ganzoo.types import Architecture, Augmentation, Loss, Penalty
from ganzoo.util.seeds import stream, stream_seed

DrawLatent = Callable[[int, torch.Generator], Tensor]


@dataclass
class Assembly:
    """One run, ready to be stepped. `draw_latent(n, rng)` gives (n, latent) on `rng.device`; `step` counts from 0.
    `label_rng` draws the labels of fakes, where they are not those of the real images.

    `perform` makes the updates of a step and gives their terms: `eager_step`, or a `GraphedStep`.
    """

    players: Players
    optimizers: dict[str, torch.optim.Optimizer]
    updates: list[PhaseUpdate]
    perform: Callable[[Sequence[Call]], list[dict[str, Tensor]]]
    values: Values
    schedules: Schedules
    averages: dict[str, MovingAverage]
    batches: Batches
    draw_latent: DrawLatent
    latent_rng: torch.Generator
    classes: int = 0
    label_rng: torch.Generator | None = None
    stages: Stages = ()
    step: int = 0
    progress: float = 1.0
    """The share of the budget that was used up when the last step began; 1 before this process makes any."""

    def enter_stage(self, progress: float) -> None:
        """Let the players work on images of the size that this share of the budget calls for."""
        self.progress = progress
        if len(self.stages) > 1:
            self.players.at_size(size_at(self.stages, progress))

    @property
    def average(self) -> MovingAverage:
        """That of the generator, from which images are drawn."""
        return self.averages["generator"]


def materials_of(spec: RunSpec, registry: Registry) -> Objective:
    """Look up the objects that a spec names. Raises `UnknownName` where their plugin is not loaded."""
    architecture = registry.get("architectures", spec.recipe.architecture).record
    loss = registry.get("losses", spec.recipe.loss, Loss).record
    penalties = tuple(
        replace(registry.get("losses", penalty.name, Penalty).record, every=penalty.every)
        for penalty in spec.recipe.penalties
    )
    augmentations = tuple(registry.get("losses", name, Augmentation).record for name in spec.recipe.augment)
    return Objective(architecture, loss, penalties, augmentations)


def spec_phases(spec: RunSpec, materials: Objective) -> StepPhases:
    """The phases of a spec, with its frequencies."""
    return phases_of(materials, spec.recipe, spec.recipe.phases)


def follows_progress(plan: StepPhases, players: Players) -> bool:
    """Whether a function of the step or a network asks which share of the budget is done."""
    return plan.follows_progress or any("progress" in player.room.named for player in players.values())


def spec_players(spec: RunSpec, materials: Objective) -> Players:
    """The players of a spec, on the current default device. What `build` changes of the process is put back."""
    with undisturbed(but={"random numbers"}):
        return build_players(
            materials.architecture,
            spec.image_shape,
            spec.recipe.latent,
            spec.classes,
            dict(spec.recipe.options),
            materials.loss.logits,
            spec.recipe.pack,
        )


def spec_values(spec: RunSpec, materials: Objective, device: str | torch.device) -> Values:
    """The coefficients of a spec and the state that its loss and penalties begin with."""
    with torch.device(device):
        hyper = {name: torch.tensor(float(value)) for name, value in spec.recipe.hyper.items()}
        return Values(hyper, materials.initial_state(), torch.tensor(0.0))


def phase_updates(
    spec: RunSpec,
    materials: Objective,
    players: Players,
    optimizers: Mapping[str, torch.optim.Optimizer],
    values: Values,
    *,
    compiled: bool,
    share_fakes: bool = True,
) -> list[PhaseUpdate]:
    """The updates of a step, in order, for players on any device."""
    phases, augmenting, sharing, *_ = spec_phases(spec, materials)
    augmenting.install(players, values)
    for player in players.values():
        player.progress = values.progress
    # torch.compile frees a graph that spans two compiled functions after the first (PyTorch issue 91542). And where the
    # discriminator's update changes a tensor of the generator, the graph of the fakes holds weights that have changed.
    if spec.step_mode == "compile" or any(
        hold_one_tensor(players.generator.network, judge.network) for judge in players.judges
    ):
        share_fakes = False
    fakes = SharedFakes(players.generator) if share_fakes else None
    return [
        PhaseUpdate(
            phase,
            players,
            optimizers,
            values,
            spec.precision,
            fakes if phase.name in sharing else None,
            compiled,
            {name: settings.clip_norm for name, settings in spec.recipe.optimizers.items()},
        )
        for phase in phases
    ]


def latent_drawer(spec: RunSpec, architecture: Architecture) -> DrawLatent:
    """The prior: the architecture's `draw_latent`, else standard normal."""
    prior = architecture.draw_latent

    def draw(count: int, rng: torch.Generator) -> Tensor:
        if prior is None:
            return torch.randn(count, spec.recipe.latent, generator=rng, device=rng.device)
        latent = prior(count, spec.recipe.latent, rng, **spec.recipe.options)
        if latent.shape != (count, spec.recipe.latent):
            raise UsageError(
                f"architecture '{architecture.name}' draws latents of shape {tuple(latent.shape)}, "
                f"not {(count, spec.recipe.latent)}"
            )
        return latent

    return draw


def place(network: nn.Module, spec: RunSpec, linear: str | None = None) -> None:
    """Put a network on the device of a spec, in its memory format and with its library of linear layers, or `linear`:
    what decides the bits of its outputs beside its weights.
    """
    layout = getattr(torch, TORCH_FORMATS[spec.memory_format])
    network.to(device=spec.device, memory_format=layout)  # type: ignore[call-overload]
    if (linear or linear_backend(spec.device, spec.precision, spec.step_mode)) == "onednn":
        use_onednn(network)


def assemble(
    spec: RunSpec,
    registry: Registry,
    dataset: PreparedDataset,
    purpose: str = "train",
    *,
    share_fakes: bool = True,
    linear: str | None = None,
) -> Assembly:
    """Build a run on its device. Runs of different `purpose` share no network, optimizer or random number.

    The weights are drawn on the CPU, so that one seed starts from the same weights on all hardware. With
    `share_fakes=False` every phase makes its own fakes, so that each can be called alone. `linear` names the library of
    the linear layers, in place of the one that `linear_backend` gives.
    """
    materials = materials_of(spec, registry)
    torch.manual_seed(stream_seed(spec.seed, f"{purpose}/weights"))
    players = spec_players(spec, materials)
    for player in players.values():
        place(player, spec, linear)
        player.train()
    torch.manual_seed(stream_seed(spec.seed, f"{purpose}/phases"))
    graphed = spec.step_mode == "graph"
    plan = spec_phases(spec, materials)
    optimizers = {
        name: optimizer
        for name, settings in spec.recipe.optimizers.items()
        if (
            optimizer := optimizer_of(
                players[name],
                settings,
                plan.phases,
                capturable=graphed,
                moving_betas=moving_betas(spec.recipe.schedules, name),
            )
        )
    }
    averages = {
        name: MovingAverage(players[name], average.half_life_kimg, average.rampup)
        for name, average in spec.recipe.averages.items()
    }
    values = spec_values(spec, materials, spec.device)
    return Assembly(
        players=players,
        optimizers=optimizers,
        updates=phase_updates(
            spec,
            materials,
            players,
            optimizers,
            values,
            compiled=spec.step_mode == "compile",
            share_fakes=share_fakes,
        ),
        perform=GraphedStep(CudaCapture(spec.device)) if graphed else eager_step,
        values=values,
        schedules=Schedules(
            spec.recipe.rate_decay,
            spec.recipe.schedules,
            optimizers,
            values,
            averages,
            follows_progress(plan, players),
        ),
        averages=averages,
        batches=Batches(
            dataset,
            spec.recipe.batch_size,
            stream_seed(spec.seed, purpose),
            spec.device,
            spec.recipe.flips,
            channels_last=spec.memory_format == "channels_last",
        ),
        draw_latent=latent_drawer(spec, materials.architecture),
        latent_rng=stream(spec.seed, f"{purpose}/latents", spec.device),
        classes=spec.classes,
        stages=stages_of(materials.architecture, spec.image_shape),
        label_rng=stream(spec.seed, f"{purpose}/labels", spec.device) if spec.recipe.draw_labels else None,
    )
