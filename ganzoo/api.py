"""The same from Python and in a notebook: bench, load, load_generator, sample."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganzoo.errors import RecordError, UsageError
from ganzoo.text import printable
from ganzoo.types import RunRecord, RunSpec

if TYPE_CHECKING:
    import pandas
    from torch import Tensor

    from ganzoo.players import GeneratorPlayer
    from ganzoo.plugins import Registry


def bench(
    models: Sequence[str] | str,
    dataset: str = "digits",
    *,
    plugins: Sequence[str | Path] = (),
    results: str | Path = "runs",
    force: bool = False,
    **options: Any,
) -> list[RunRecord]:
    """Train and score `models`, and return a record for each run, failed and skipped ones included.

    `options` are those of `ganzoo bench` under their own names (`kimg=`, `seeds=`, `set=`, …; see `BenchPlan`).
    Models, like everything else, are named: an object from a notebook cannot reach a run's fresh process, a plugin's
    path in `plugins` can. Raises `UsageError` and its kin before anything is trained.
    """
    from ganzoo.plan import BenchPlan, resolve
    from ganzoo.plugins import discover
    from ganzoo.runner import run_plan

    names = [models] if isinstance(models, str) else list(models)
    if not all(isinstance(name, str) for name in names):
        raise UsageError("models: give names; put your own variant in a file and pass plugins=['file.py']")
    paths = absolute_plugins([str(plugin) for plugin in plugins])
    for name in ("metrics", "set"):
        if name in options:
            options[name] = (options[name],) if isinstance(options[name], str) else tuple(options[name])
    try:
        plan = BenchPlan(models=tuple(names), dataset=dataset, plugins=paths, **options)
    except TypeError as error:
        raise UsageError(f"ganzoo.bench: {printable(error).removeprefix('BenchPlan.__init__() ')}") from None
    registry = discover(paths, strict=plan.strict)
    return run_plan(
        resolve(plan, registry),
        registry,
        Path(results),
        plugins=paths,
        weights=plan.weights,
        weights_sha256=plan.weights_sha256,
        force=force,
    )


def absolute_plugins(plugins: Sequence[str]) -> tuple[str, ...]:
    """Paths of plugins made absolute, so that a run's process finds them; modules as they are."""
    return tuple(str(Path(plugin).resolve()) if Path(plugin).is_file() else plugin for plugin in plugins)


def load(*folders: str | Path) -> pandas.DataFrame:
    """Every record below `folders` (default `runs`) as one row of a table; see `ganzoo.compare.records_table`.

    Records that cannot be read are left out with a warning each. Raises `RecordError` for a folder that is not there.
    """
    import warnings

    from ganzoo.compare import records_table
    from ganzoo.records import find_records

    records, complaints = find_records([Path(folder) for folder in folders or ("runs",)])
    for complaint in complaints:
        warnings.warn(complaint, stacklevel=2)
    return records_table(records)


def find_run(run: str | Path, results: Path = Path("runs")) -> RunRecord:
    """A record by its folder, by its file, or by the beginning of its id or folder's name below `results`.

    Raises `RecordError` where none or several fit.
    """
    from ganzoo.records import find_records, read_record

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


def load_generator(run: str | Path, plugins: Sequence[str | Path] = (), device: str = "cpu") -> GeneratorPlayer:
    """The averaged generator of a run, in eval mode: `generator(latent, labels=None) -> images` in [-1, 1].

    Latents are (N, `spec.latent`) as in the run's record; labels are ignored by an unconditional one. Raises
    `RecordError` where the run kept no weights, `UnknownName` where the plugin that built it is not there.
    """
    from ganzoo.plugins import discover

    record = find_run(run)
    return _generator(record, discover([str(plugin) for plugin in plugins]), device)[0]


def _generator(record: RunRecord, registry: Registry, device: str) -> tuple[GeneratorPlayer, RunSpec]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from ganzoo.assemble import materials_of, spec_players
    from ganzoo.records import GENERATOR, read_spec

    assert record.path is not None
    weights = record.path.parent / GENERATOR
    spec = read_spec(record.spec)
    if not weights.exists():
        raise RecordError(f"{printable(weights)}: not there; the weights are kept where the run was made, run it again")
    generator = spec_players(spec, materials_of(spec, registry)).generator
    try:
        generator.network.load_state_dict(load_file(weights))
    except (SafetensorError, RuntimeError) as error:
        raise RecordError(f"{printable(weights)}: does not fit architecture '{spec.architecture}'") from error
    return generator.to(device).eval().requires_grad_(False), spec


def sample(
    run: str | Path,
    n: int = 64,
    *,
    label: int | None = None,
    seed: int = 0,
    plugins: Sequence[str | Path] = (),
    device: str = "cpu",
) -> Tensor:
    """`n` images of a run's averaged generator: uint8 (n, C, H, W) on the CPU; the same for the same `seed`.

    `label` picks the class of a conditional generator; without it the classes take turns. Raises `UsageError` for a
    label that the generator does not have.
    """
    import torch

    from ganzoo.assemble import latent_drawer, materials_of
    from ganzoo.images import to_uint8
    from ganzoo.plugins import discover
    from ganzoo.randomness import stream

    if n < 1:
        raise UsageError(f"n is {n}; ask for at least 1 image")
    registry = discover([str(plugin) for plugin in plugins])
    generator, spec = _generator(find_run(run), registry, device)
    if label is not None and not generator.conditional:
        raise UsageError(f"--label {label}: variant '{spec.variant}' is unconditional; leave --label out")
    if label is not None and not 0 <= label < spec.classes:
        raise UsageError(f"--label {label}: the labels of '{spec.dataset}' are 0 to {spec.classes - 1}")
    draw, rng = latent_drawer(spec, materials_of(spec, registry).architecture), stream(seed, "samples")
    images = []
    with torch.inference_mode():
        for start in range(0, n, 256):
            size = min(256, n - start)
            labels = torch.arange(start, start + size) % spec.classes if generator.conditional else None
            if labels is not None and label is not None:
                labels = torch.full_like(labels, label)
            latent = draw(size, rng).to(device)
            images.append(to_uint8(generator(latent, None if labels is None else labels.to(device))).cpu())
    return torch.cat(images)
