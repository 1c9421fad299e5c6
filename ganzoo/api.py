"""The Python API: bench, load, compare_records, load_generator, sample."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganzoo.errors import UsageError
from ganzoo.runs import Event, RunRecord
from ganzoo.util.text import printable

if TYPE_CHECKING:
    import pandas
    from torch import Tensor

    from ganzoo.training.players import GeneratorPlayer


def bench(
    models: Sequence[str] | str,
    dataset: str = "digits",
    *,
    plugins: Sequence[str | Path] = (),
    log: Sequence[str] | str = (),
    results: str | Path = "runs",
    on_event: Callable[[Event], None] | None = None,
    **options: Any,
) -> list[RunRecord]:
    """Train and score `models`, and return a record for each run, failed and skipped ones included.

    `options` are those of `ganzoo bench`, with underscores: what to run (`kimg=`, `seeds=`, `set=`, …; see `BenchPlan`)
    and how (`force=`, `timeout=`, `retry=`, …; see `ganzoo.running.options.RunOptions`). Give models, like everything
    else, by name: an object from a notebook cannot reach a run's fresh process, a plugin's path in `plugins` can. `log`
    names further destinations of the curves, such as `"tensorboard"`. Nothing is printed: `on_event` gets each `Event`
    as it happens, and an exception that it raises ends the bench; broken plugins and variants that are left out are
    warnings.

    Raises a `GanzooError`, such as `UsageError`, before anything is trained. On Ctrl-C the run in progress saves
    itself, then `ganzoo.runs.BenchInterrupted` is raised, a `KeyboardInterrupt` that has the `records` so far.
    """
    from ganzoo.planning.request import BenchPlan
    from ganzoo.running.bench import ignore, prepare_bench
    from ganzoo.running.options import RunOptions
    from ganzoo.util.options import options_of

    names = [models] if isinstance(models, str) else list(models)
    if not all(isinstance(name, str) for name in names):
        raise UsageError("models: give names; put your own variant in a file and pass plugins=['file.py']")
    if on_event is not None and not callable(on_event):
        raise UsageError("on_event: give a function of one event")
    for each in (*options_of(BenchPlan), *options_of(RunOptions)):
        if isinstance(each.default, tuple) and each.name in options:
            value = options[each.name]
            options[each.name] = (value,) if isinstance(value, str) else tuple(value)
    paths = tuple(str(plugin) for plugin in plugins)
    try:
        how = RunOptions(
            **{each.name: options.pop(each.name) for each in options_of(RunOptions) if each.name in options}
        )
        plan = BenchPlan(models=tuple(names), dataset=dataset, plugins=paths, **options)
    except TypeError as error:
        raise UsageError(f"ganzoo.bench: {printable(error).removeprefix('BenchPlan.__init__() ')}") from None
    logs = (log,) if isinstance(log, str) else tuple(log)
    # Absolute, because a plugin may change the working directory.
    place = Path(results).absolute()
    prepared = prepare_bench(plan, _warn, options=how, results=Path(results), logs=logs, given=options)
    return prepared.run(place, how, on_event=on_event or ignore, on_note=_warn)


def load(*folders: str | Path) -> pandas.DataFrame:
    """Every record below `folders` (default `runs`) as one row of a table; see `ganzoo.comparing.table.records_table`.

    Each record that cannot be read is left out with a warning. Raises `RecordError` for a folder that does not exist.
    """
    from ganzoo.comparing.table import records_table
    from ganzoo.records.store import find_records

    records, complaints = find_records([Path(folder) for folder in folders or ("runs",)])
    for complaint in complaints:
        _warn(complaint)
    return records_table(records)


def compare_records(
    *folders: str | Path,
    where: Sequence[str] | str = (),
    target: str | None = None,
    target_fid: float | None = None,
) -> pandas.DataFrame:
    """One row for each variant × dataset × settings × hardware of the records below `folders` (default `runs`).

    The table that `ganzoo compare --format json` prints; the columns are in docs/comparing.md. `where` takes conditions
    such as `"kimg>=100"`, `target` a score with the value to reach, such as `"fid:30"`; `target_fid=30` is short for
    that. Records that cannot be read are warnings. Raises `RecordError` for a folder that does not exist, and
    `UsageError` for a condition that holds for no record or a target of another form.
    """
    from ganzoo.comparing.comparison import compare
    from ganzoo.comparing.filters import keep, parse_condition
    from ganzoo.comparing.table import comparison_table
    from ganzoo.comparing.targets import Goal, parse_goal
    from ganzoo.records.store import find_records

    goal = Goal("fid", target_fid) if target_fid is not None else None
    goal = parse_goal(target) if target is not None else goal
    conditions = [parse_condition(text) for text in ([where] if isinstance(where, str) else where)]
    records, complaints = find_records([Path(folder) for folder in folders or ("runs",)])
    for complaint in complaints:
        _warn(complaint)
    return comparison_table(compare(keep(records, conditions), goal))


def load_generator(
    run: str | Path, plugins: Sequence[str | Path] = (), device: str = "cpu", at: str = "final"
) -> GeneratorPlayer:
    """The averaged generator of a run, in eval mode: `generator(latent, labels=None) -> images` in [-1, 1].

    Latents are (N, `spec.latent`) as in the run's record; an unconditional generator ignores labels. Broken
    plugins are warnings. `at` is `final`, `best` or the kimg of a generator that `--keep` has kept. Raises
    `RecordError` if the run kept no weights, `UnknownName` if the plugin that built the generator is not installed.
    """
    from ganzoo.evaluation.sampling import generator_of
    from ganzoo.records.store import find_run
    from ganzoo.running.bench import discover_noting

    registry = discover_noting([str(plugin) for plugin in plugins], strict=False, on_note=_warn)
    return generator_of(find_run(run), registry, device, at)[0]


def sample(
    run: str | Path,
    n: int = 64,
    *,
    label: int | None = None,
    seed: int = 0,
    interpolate: bool = False,
    drawing: Mapping[str, Any] | None = None,
    plugins: Sequence[str | Path] = (),
    device: str = "cpu",
    at: str = "final",
) -> Tensor:
    """`n` images of a run's averaged generator: uint8 (n, C, H, W) on the CPU; the same for the same `seed`.

    `label` picks the class of a conditional generator; without it the classes take turns. With `interpolate` the
    images are complete walks of ⌈√n⌉ images from one latent to another, so there may be a few more than `n`.
    `drawing` has options of drawing, such as `{"truncation": 0.7}`; `at` is as in `load_generator`. Broken plugins
    are warnings. Raises `UsageError` for a label or an option that the generator does not have.
    """
    import torch

    from ganzoo.evaluation.sampling import image_batches
    from ganzoo.running.bench import discover_noting

    registry = discover_noting([str(plugin) for plugin in plugins], strict=False, on_note=_warn)
    batches = image_batches(
        run, registry, n, label=label, seed=seed, interpolate=interpolate, device=device, drawing=drawing, at=at
    )
    return torch.cat(list(batches))


def _warn(line: str) -> None:
    """Warn at the line of the user's code that called ganzoo, from any depth of ganzoo."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == __package__:
        level, frame = level + 1, frame.f_back
    warnings.warn(line, stacklevel=level)
