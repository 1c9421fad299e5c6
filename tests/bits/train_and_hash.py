"""Train every variant of the zoo for 100 steps on seeded random images and print a hash of its weights, as JSON.

Runs as a script in a separate process, against the `ganzoo` that Python finds: the present one, and the one of
commit ab3026a. So it uses only what both have; `_train` makes the one import whose place differs.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import ganzoo

# `ganzoo.testing` is public and imports these names, so they are there wherever the files lie.
from ganzoo.testing import Selection, Trial, discover, select

STEPS, BATCH_SIZE, IMAGE_SHAPE, CLASSES = 100, 8, (1, 8, 8), 10


class RandomImages:
    """Batches of noise in [-1, 1] with labels, from a separate generator: independent of datasets and loaders."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.drawn = 0
        self._rng = torch.Generator().manual_seed(2024)

    def __next__(self) -> tuple[Tensor, Tensor]:
        self.drawn += BATCH_SIZE
        images = torch.rand(BATCH_SIZE, *IMAGE_SHAPE, generator=self._rng) * 2 - 1
        return images, torch.randint(CLASSES, (BATCH_SIZE,), generator=self._rng)


def zoo_variants(registry: Any) -> Iterator[Selection]:
    """The variants of the zoo, whatever other plugins are installed."""
    for selection in select(registry, ["all"]):
        if registry.status_of(selection.plugin).source.startswith("ganzoo_plugins."):
            yield selection


def discriminator_of(players: Any) -> nn.Module:
    """The discriminator, which the commit has as an attribute."""
    return players["discriminator"] if hasattr(players, "keys") else players.discriminator


def train_for_100_steps(registry: Any, selection: Selection) -> Any:
    """Train by the loop of `bench`; return the run (players and moving average) after its last step."""
    trial = Trial(registry, selection)
    run = trial.assemble(trial.spec_at(IMAGE_SHAPE, BATCH_SIZE), seed=0)
    run.batches = RandomImages()
    repeats = sum(update.phase.repeats - 1 for update in run.updates if "discriminator" in update.phase.targets)
    _train()(run, STEPS * BATCH_SIZE * (1 + repeats) / 1000)
    assert run.step == STEPS, f"{selection.label}: {run.step} steps"
    return run


def _train() -> Any:
    try:
        from ganzoo.training import loop
    except ModuleNotFoundError:
        from ganzoo import train as loop
    return loop.train


def hash_of(*networks: nn.Module) -> str:
    """Hash of all parameters and buffers: types, shapes and bytes, in the order of the modules."""
    digest = hashlib.sha256()
    for network in networks:
        for tensor in (*network.parameters(), *network.buffers()):
            digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def main() -> None:
    """Print the hashes of the variants that are named, or of all."""
    torch.set_num_threads(1)
    registry = discover()
    names = sys.argv[1:]
    hashes = {}
    for selection in zoo_variants(registry):
        if names and selection.label not in names:
            continue
        run = train_for_100_steps(registry, selection)
        networks = (run.players.generator, discriminator_of(run.players), run.average.average)
        hashes[selection.label] = hash_of(*networks)
    json.dump({"ganzoo": str(Path(ganzoo.__file__).parent), "hashes": hashes}, sys.stdout)


if __name__ == "__main__":
    main()
