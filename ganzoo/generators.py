"""The generator of a finished run: found, built again, drawn from."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ganzoo.assemble import latent_drawer, materials_of, spec_players
from ganzoo.errors import RecordError, UsageError
from ganzoo.images import to_uint8
from ganzoo.players import GeneratorPlayer
from ganzoo.plugins import Registry
from ganzoo.randomness import stream
from ganzoo.records import GENERATOR, find_records, read_record, read_spec
from ganzoo.text import printable
from ganzoo.types import RunRecord, RunSpec

BATCH = 256


def find_run(run: str | Path, results: Path = Path("runs")) -> RunRecord:
    """A record by its folder, by its file, or by the beginning of its id or folder's name below `results`.

    Raises `RecordError` where none or several fit.
    """
    if Path(run).exists():
        return read_record(Path(run))
    records, _ = find_records([results]) if results.exists() else ([], [])
    fitting = [
        record
        for record in records
        if record.path and (record.run_id.startswith(str(run)) or record.path.parent.name.startswith(str(run)))
    ]
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


def draw_images(
    run: str | Path, registry: Registry, n: int, *, label: int | None, seed: int, device: str = "cpu"
) -> Tensor:
    """`n` images of a run's generator: uint8 (n, C, H, W) on the CPU; without `label` the classes take turns.

    Raises `UsageError` for a number or a label that cannot be, and what `find_run` and `generator_of` raise.
    """
    if n < 1:
        raise UsageError(f"n is {n}; ask for at least 1 image")
    generator, spec = generator_of(find_run(run), registry, device)
    if label is not None and not generator.conditional:
        raise UsageError(f"--label {label}: variant '{spec.variant}' is unconditional; leave --label out")
    if label is not None and not 0 <= label < spec.classes:
        raise UsageError(f"--label {label}: the labels of '{spec.dataset}' are 0 to {spec.classes - 1}")
    draw, rng = latent_drawer(spec, materials_of(spec, registry).architecture), stream(seed, "samples")
    images = []
    with torch.inference_mode():
        for start in range(0, n, BATCH):
            size = min(BATCH, n - start)
            labels = torch.arange(start, start + size) % spec.classes if generator.conditional else None
            if labels is not None and label is not None:
                labels = torch.full_like(labels, label)
            latent = draw(size, rng).to(device)
            images.append(to_uint8(generator(latent, None if labels is None else labels.to(device))).cpu())
    return torch.cat(images)
