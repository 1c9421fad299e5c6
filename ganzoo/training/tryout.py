"""Every phase tried once before training, on the CPU, with real tensors of the run's channels and memory format.

The meta device, on which `preflight` counts, shows neither memory formats nor what an operator that it lacks would do.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ganzoo.errors import GanzooError, PluginError
from ganzoo.machine.memory import out_of_memory
from ganzoo.machine.settings import TORCH_FORMATS
from ganzoo.registry.earlier import advice_for
from ganzoo.registry.isolation import undisturbed
from ganzoo.registry.registry import Registry
from ganzoo.runs import RunSpec
from ganzoo.training.assembly import latent_drawer, materials_of, phase_updates, spec_players, spec_values
from ganzoo.training.phase_update import PhaseUpdate
from ganzoo.training.preflight import Preflight
from ganzoo.types import Batch
from ganzoo.util.seeds import random_numbers_untouched
from ganzoo.util.text import error_line, printable

OF_PYTHON = (AttributeError, TypeError, NameError, LookupError)
"""Errors of a phase that another device would not mend."""


@undisturbed()
def workable_format(spec: RunSpec, registry: Registry, checked: Preflight) -> str:
    """The memory format of `checked`, or `contiguous` if a phase fails in it, as a `view` does in channels_last.

    Raises `PluginError` where a phase fails in the ordinary format too, which is tried where one fails in the other or
    on the meta device. What an accelerator may do and the CPU may not is left to the run, and so is a want of memory.
    """
    if checked.memory_format != "contiguous" and _fault(spec, registry, checked.memory_format) is None:
        return checked.memory_format
    if checked.memory_format == "contiguous" and not checked.fault:
        return "contiguous"
    fault = _fault(spec, registry, "contiguous")
    if isinstance(fault, GanzooError):
        raise fault
    if fault is not None and not out_of_memory(fault) and (spec.device == "cpu" or isinstance(fault, OF_PYTHON)):
        raise PluginError(
            f"with architecture '{printable(spec.recipe.architecture)}', loss '{printable(spec.recipe.loss)}' raised "
            f"{error_line(fault)}{advice_for(fault)}"
        ) from fault
    return "contiguous"


def _fault(spec: RunSpec, registry: Registry, layout: str) -> BaseException | None:
    """What a phase raises in this memory format, with two images, and with a whole batch if two may be too few."""
    for images in (2, spec.recipe.batch_size):
        try:
            _try_phases(spec, registry, layout, images)
        except (Exception, SystemExit) as error:
            fault = error
        else:
            return None
    return fault


def _try_phases(spec: RunSpec, registry: Registry, layout: str, images: int) -> None:
    materials = materials_of(spec, registry)
    torch_format = getattr(torch, TORCH_FORMATS[layout])
    with random_numbers_untouched("cpu"):
        players = spec_players(spec, materials)
        for player in players.values():
            player.to(memory_format=torch_format).train()
        updates = phase_updates(spec, materials, players, {}, spec_values(spec, materials, "cpu"), compiled=False)
        real = (2 * torch.rand(images, *spec.image_shape) - 1).to(memory_format=torch_format)
        labels = torch.arange(images) % spec.classes if spec.classes else None
        latent = latent_drawer(spec, materials.architecture)(images, torch.Generator().manual_seed(0))
        put_through(updates, Batch(real, labels, latent, classes=spec.classes))


def put_through(updates: Sequence[PhaseUpdate], batch: Batch) -> None:
    """Each phase forward and backward, and its `after`; no optimizer steps."""
    for update in updates:
        update.gradients(batch)
        for parameter in update.trainable:
            parameter.grad = None
        update.call_after()
