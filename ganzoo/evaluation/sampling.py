"""The generator of a finished run: found, built again, drawn from."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ganzoo.errors import RecordError, UsageError
from ganzoo.evaluation.interpolate import spherical_walks, straight_walks
from ganzoo.records.store import GENERATOR, find_records, read_record, read_spec
from ganzoo.registry.registry import Registry
from ganzoo.training.assembly import latent_drawer, materials_of, spec_players
from ganzoo.training.players import GeneratorPlayer
from ganzoo.types import RunRecord, RunSpec
from ganzoo.util.images import to_uint8
from ganzoo.util.seeds import stream
from ganzoo.util.text import printable

BATCH = 256


def runs_called(beginning: str, results: Path = Path("runs")) -> list[RunRecord]:
    """The records below `results` whose id, or whose folder's name, begins like that."""
    records, _ = find_records([results]) if results.exists() else ([], [])
    return [
        record
        for record in records
        if record.path and (record.run_id.startswith(beginning) or record.path.parent.name.startswith(beginning))
    ]


def find_run(run: str | Path, results: Path = Path("runs")) -> RunRecord:
    """A record by its folder, by its file, or by the beginning of its id or folder's name below `results`.

    Raises `RecordError` where none or several fit.
    """
    if Path(run).exists():
        return read_record(Path(run))
    fitting = runs_called(str(run), results)
    if len(fitting) == 1:
        return fitting[0]
    names = ", ".join(printable(record.path.parent.name) for record in fitting[:5] if record.path)
    reason = f"fits several runs ({names})" if fitting else f"is no folder, and no run in {printable(results)}"
    raise RecordError(f"run '{printable(run)}' {reason}; give the folder that holds its record.json")


def generator_of(record: RunRecord, registry: Registry, device: str) -> tuple[GeneratorPlayer, RunSpec]:
    """The generator of a run with its weights, in eval mode, and the run's spec.

    Raises `RecordError` where the run kept no weights or those of another network, `UnknownName` where the plugin
    that built it is not there.
    """
    assert record.path is not None
    weights = record.path.parent / GENERATOR
    spec = read_spec(record.spec)
    if not weights.is_file():
        raise RecordError(f"{printable(weights)}: not there; the weights are kept where the run was made, run it again")
    generator = spec_players(spec, materials_of(spec, registry)).generator
    try:
        generator.network.load_state_dict(load_file(weights))
    except (SafetensorError, RuntimeError) as error:
        raise RecordError(f"{printable(weights)}: does not fit architecture '{spec.architecture}'") from error
    return generator.to(device).eval().requires_grad_(False), spec


def image_batches(
    run: str | Path,
    registry: Registry,
    n: int,
    *,
    label: int | None,
    seed: int,
    interpolate: bool = False,
    device: str = "cpu",
) -> Iterator[Tensor]:
    """`n` images of a run's generator, drawn as they are asked for: batches of uint8 (N, C, H, W) on the CPU.

    Without `label` the classes take turns. With `interpolate` they are walks from one latent to another: ⌈√n⌉ walks at
    most, of ⌈√n⌉ images each, whole ones only, so there may be a few more than `n`; a walk keeps its class. Raises at
    once `UsageError` for a number or a label that cannot be, and what `find_run` and `generator_of` raise.
    """
    if n < 1 + interpolate:
        raise UsageError(f"n is {n}; ask for at least {'2 images' if interpolate else '1 image'}")
    generator, spec = generator_of(find_run(run), registry, device)
    if label is not None and not generator.conditional:
        raise UsageError(f"--label {label}: variant '{spec.variant}' is unconditional; leave --label out")
    if label is not None and not 0 <= label < spec.classes:
        raise UsageError(f"--label {label}: the labels of '{spec.dataset}' are 0 to {spec.classes - 1}")
    architecture = materials_of(spec, registry).architecture
    draw, rng = latent_drawer(spec, architecture), stream(seed, "samples")
    steps = math.ceil(math.sqrt(n)) if interpolate else 1
    walks = straight_walks if architecture.draw_latent else spherical_walks

    def latents(count: int) -> Tensor:
        return walks(draw(count, rng), draw(count, rng), steps) if interpolate else draw(count, rng)

    def batches() -> Iterator[Tensor]:
        drawn, in_all, at_once = 0, math.ceil(n / steps), max(1, BATCH // steps)
        while drawn < in_all:
            count = min(at_once, in_all - drawn)
            labels = None
            if generator.conditional:
                turns = torch.arange(drawn, drawn + count) % spec.classes
                labels = (turns if label is None else torch.full_like(turns, label)).repeat_interleave(steps).to(device)
            with torch.inference_mode():
                images = to_uint8(generator(latents(count).to(device), labels)).cpu()
            drawn += count
            yield images

    return batches()


def draw_images(
    run: str | Path,
    registry: Registry,
    n: int,
    *,
    label: int | None,
    seed: int,
    interpolate: bool = False,
    device: str = "cpu",
) -> Tensor:
    """The images of `image_batches` in one: uint8 (n, C, H, W) on the CPU."""
    batches = image_batches(run, registry, n, label=label, seed=seed, interpolate=interpolate, device=device)
    return torch.cat(list(batches))
