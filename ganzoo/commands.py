"""What each command does: ask the library, print data on stdout and everything else on stderr, return the exit code."""

from __future__ import annotations

import json
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping
from contextlib import nullcontext, redirect_stdout
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

from ganzoo.errors import RecordError, UsageError
from ganzoo.plugins import KINDS, SINGULAR, Kind, Offer, Registry, discover
from ganzoo.select import select
from ganzoo.terminal import print_note, safe, simple_table, stdout
from ganzoo.text import did_you_mean, printable
from ganzoo.types import Penalty


def bench(arguments: Namespace) -> int:
    """`ganzoo bench`."""
    from ganzoo.api import absolute_plugins
    from ganzoo.compare import comparison
    from ganzoo.plan import resolve
    from ganzoo.runner import run_plan
    from ganzoo.terminal import ProgressDisplay, comparison_table

    plugins = absolute_plugins(arguments.plugin)
    plan = _plan(arguments, plugins)
    registry = _discover(plugins, strict=arguments.strict)
    with redirect_stdout(sys.stderr):
        resolved = resolve(plan, registry, _preparing(arguments.quiet))
    for note in resolved.notes:
        print_note(note)
    if arguments.dry_run:
        return _dry_run(resolved, arguments.json)
    display: Any = nullcontext(lambda event: None) if arguments.quiet else ProgressDisplay()
    interrupted = False
    try:
        with display as on_event:
            records = run_plan(
                resolved,
                registry,
                Path(arguments.results),
                plugins=plugins,
                weights=plan.weights,
                weights_sha256=plan.weights_sha256,
                force=arguments.force,
                on_event=on_event,
                on_note=print_note,
            )
    except KeyboardInterrupt as interrupt:
        records, interrupted = getattr(interrupt, "records", []), True
    if arguments.json:
        print(json.dumps([record.to_json() for record in records], indent=1))
    elif records:
        stdout().print(comparison_table(comparison(records), _protocols(records)))
        _say_where(records)
    if interrupted:
        raise KeyboardInterrupt
    return 0 if all(record.ok for record in records) else 1


def _plan(arguments: Namespace, plugins: tuple[str, ...]) -> Any:
    from ganzoo.plan import BenchPlan

    kimg: float | str | None = arguments.kimg
    if kimg is not None and kimg != "full":
        try:
            kimg = float(kimg)
        except ValueError:
            raise UsageError(f"--kimg {printable(kimg)}: give thousands of images, or 'full'") from None
    return BenchPlan(
        models=tuple(arguments.models),
        kimg=kimg,
        metrics=_listed(arguments.metrics),
        set=tuple(arguments.set),
        plugins=plugins,
        **{
            name: getattr(arguments, name)
            for name in (
                "dataset",
                "image_size",
                "seeds",
                "seed",
                "device",
                "precision",
                "threads",
                "batch_size",
                "features",
                "weights",
                "weights_sha256",
                "fakes",
                "eval_every",
                "loss",
                "strict",
                "data_root",
                "skip_bad_images",
                "throughput_only",
                "throughput_seconds",
            )
        },
    )


def _listed(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def _discover(plugins: tuple[str, ...], strict: bool) -> Registry:
    """Discover, and say on stderr which of the plugins named on the command line are broken."""
    registry = discover(plugins, strict=strict)
    broken = [status for status in registry.statuses if status.state == "broken"]
    for status in broken:
        print_note(f"plugin {printable(status.name)} is broken and left out: {status.error}")
    return registry


def _preparing(quiet: bool) -> Callable[[int, int], None]:
    def show(done: int, total: int) -> None:
        if not quiet and total >= 10_000 and done % 10_000 == 0:
            sys.stderr.write(f"preparing the dataset: {done:,} of {total:,} images\n")

    return show


def _say_where(records: Any) -> None:
    from ganzoo.records import SAMPLES

    for record in records:
        if record.path and (picture := record.path.parent / SAMPLES).exists():
            print_note(f"samples of {record.spec['variant']}, seed {record.spec['seed']}: {os.path.relpath(picture)}")


def _dry_run(resolved: Any, as_json: bool) -> int:
    from ganzoo.measure import matrix_product_rate

    first = resolved.runs[0].spec
    rate = matrix_product_rate(first.device, first.precision, first.threads)
    entries = []
    for run in resolved.runs:
        images, flops = run.spec.kimg * 1000, run.preflight.flops_per_image
        seconds = None if flops is None else images * flops / (rate / 2)
        entries.append(
            {
                "spec": run.spec.to_json(),
                "parameters": dict(run.preflight.parameters),
                "flops_per_image": flops,
                "estimated_train_seconds": seconds,
            }
        )
    if as_json:
        print(json.dumps(entries, indent=1))
        return 0
    console = stdout()
    rows = []
    for entry in entries:
        spec, seconds = entry["spec"], entry["estimated_train_seconds"]
        size = "x".join(str(side) for side in spec["image_shape"])
        rows.append(
            (
                spec["variant"],
                spec["seed"],
                f"{spec['architecture']} + {spec['loss']}",
                f"{spec['dataset']} {size}",
                f"{spec['kimg']:g}",
                spec["batch_size"],
                f"{entry['parameters']['generator']:,}",
                f"{entry['parameters']['discriminator']:,}",
                "?" if seconds is None else f"{seconds:.0f} s",
            )
        )
    columns = ("variant", "seed", "architecture + loss", "dataset", "kimg", "batch", "params G", "params D", "estimate")
    console.print(simple_table(columns, rows))
    console.print(
        f"on {safe(first.device)} ({safe(first.hardware)}), {safe(first.precision)}; the estimate of the training time "
        f"takes half of this machine's {rate / 1e9:,.0f} GFLOP/s matrix-product rate, and small networks reach less"
    )
    specs = {entry["spec"]["variant"]: entry["spec"] for entry in entries}
    for name, spec in specs.items():
        console.print(f"\n[bold]{safe(name)}[/bold]")
        for field, value in spec.items():
            console.print(f"  {field} = {safe(json.dumps(value))}")
    return 0


def list(arguments: Namespace) -> int:
    """`ganzoo list`."""
    registry = _discover(tuple(arguments.plugin), strict=arguments.strict)
    kinds: tuple[Kind, ...] = (arguments.kind,) if arguments.kind else KINDS
    offers = [(kind, offer) for kind in kinds for offer in registry.offers[kind] if not offer.inline]
    if arguments.json:
        described = [describe_offer(offer, None if arguments.kind else kind) for kind, offer in offers]
        print(json.dumps(described, indent=1))
        return 0
    console = stdout()
    for kind in kinds:
        rows = [
            (offer.record.name, _type_note(offer) + offer.record.summary, offer.record.reference, offer.plugin)
            for other, offer in offers
            if other == kind
        ]
        title = None if arguments.kind else kind
        console.print(simple_table(("name", "summary", "reference", "plugin"), sorted(rows), title))
    return 0


def _type_note(offer: Offer) -> str:
    """Losses and penalties share one name space and one list; this tells them apart."""
    return "penalty: " if isinstance(offer.record, Penalty) else ""


def describe_offer(offer: Offer, kind: str | None) -> dict[str, Any]:
    """A record as JSON: its name, summary, plugin and reference, then its other fields without the functions."""
    record = offer.record
    head = {"kind": "penalty" if isinstance(record, Penalty) else SINGULAR[kind]} if kind else {}
    description = {
        **head,
        "name": record.name,
        "summary": record.summary,
        "plugin": offer.plugin,
        "reference": record.reference,
    }
    for field in fields(record):
        value = getattr(record, field.name)
        if field.name not in description and not callable(value):
            description[field.name] = _json_safe(value)
    if hasattr(record, "build"):
        description["options"] = _json_safe(record.options)
    return description


def _json_safe(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        if hasattr(value, "name"):
            return value.name
        return _json_safe(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): _json_safe(item) for key, item in value.items()}
    if isinstance(value, (tuple, set, frozenset)) or type(value).__name__ == "list":
        return [_json_safe(item) for item in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else printable(value)


def show(arguments: Namespace) -> int:
    """`ganzoo show NAME`."""
    registry = _discover(tuple(arguments.plugin), strict=arguments.strict)
    found = _find_anywhere(registry, arguments.name)
    descriptions = []
    for kind, offer in found:
        description = describe_offer(offer, kind)
        if kind == "variants":
            with redirect_stdout(sys.stderr):
                description |= _recipe_and_parameters(registry, arguments.name, offer)
        descriptions.append(description)
    if arguments.json:
        print(json.dumps(descriptions, indent=1))
        return 0
    console = stdout()
    for description in descriptions:
        name, kind, plugin = (description.pop(key) for key in ("name", "kind", "plugin"))
        console.print(f"[bold]{safe(name)}[/bold] ({kind}, plugin {safe(plugin)})")
        for name, value in description.items():
            text = value if isinstance(value, str) else json.dumps(value)
            if text:
                console.print(f"  {name.replace('_', ' ')}: {safe(text, 5000)}", soft_wrap=True)
    return 0


def _find_anywhere(registry: Registry, name: str) -> Any:
    kinds = [kind for kind in KINDS if name in registry.names(kind) or (":" in name and _holds(registry, kind, name))]
    if not kinds and "+" in name:
        # A pair of the grid is in no plugin.
        return [("variants", Offer("-", select(registry, [name])[0].variant))]
    if not kinds:
        known = {known for kind in KINDS for known in registry.names(kind)}
        raise UsageError(f"nothing is called '{printable(name)}'{did_you_mean(name, known)}")
    return [(kind, registry.get(kind, name)) for kind in kinds]


def _holds(registry: Registry, kind: Kind, name: str) -> bool:
    return any(offer.qualified == name for offer in registry.offers[kind])


def _recipe_and_parameters(registry: Registry, name: str, offer: Offer) -> dict[str, Any]:
    """The recipe with every default in force, and parameter counts at each size the architecture claims."""
    import torch

    from ganzoo.players import build_players
    from ganzoo.recipe import resolve_recipe
    from ganzoo.select import Selection
    from ganzoo.types import Architecture

    recipe = resolve_recipe(Selection(name, offer.record, offer.plugin), registry, (), None, None)
    architecture = registry.get("architectures", recipe["architecture"], Architecture).record
    parameters = {}
    for size in architecture.image_sizes or (16, 28, 32, 64):
        for channels in architecture.channels:
            with torch.device("meta"):
                players = build_players(
                    architecture, (channels, size, size), recipe["latent"], 10, dict(recipe["options"]), 1
                )
            counts = [
                sum(parameter.numel() for parameter in players.parameters((player,)))
                for player in ("generator", "discriminator")
            ]
            parameters[f"{channels}x{size}x{size}"] = {"generator": counts[0], "discriminator": counts[1]}
    return {"recipe": _json_safe(recipe), "parameters": parameters}


def compare(arguments: Namespace) -> int:
    """`ganzoo compare DIR…`."""
    from ganzoo.compare import comparison
    from ganzoo.records import find_records
    from ganzoo.terminal import comparison_table

    registry = _discover(tuple(arguments.plugin), strict=arguments.strict)
    reporter = None if arguments.format == "table" else registry.get("reporters", arguments.format).record
    records, complaints = find_records([Path(folder) for folder in arguments.folders])
    for complaint in complaints:
        print_note(f"left out: {complaint}")
    if not records:
        where = ", ".join(printable(folder) for folder in arguments.folders)
        raise RecordError(f"{where}: holds no record; run `ganzoo bench` first, or name another folder")
    summary = comparison(records)
    if reporter is not None:
        with redirect_stdout(sys.stderr):
            rendered = str(reporter.render(summary))
        print(rendered.rstrip("\n"))
    else:
        stdout().print(comparison_table(summary, _protocols(records)))
    return 0


def _protocols(records: Any) -> dict[str, Any]:
    """The protocols of the scores that a comparison shows."""
    from ganzoo.compare import score_columns

    shown = {protocol for _, protocol in score_columns(records)}
    protocols = {identity: content for record in records for identity, content in record.protocols.items()}
    return {identity: protocols[identity] for identity in protocols if identity in shown}


def sample(arguments: Namespace) -> int:
    """`ganzoo sample RUN`."""
    from ganzoo.api import absolute_plugins
    from ganzoo.api import sample as draw
    from ganzoo.images import grid, save_png

    output = Path(arguments.output)
    if output.exists() and not arguments.force:
        raise UsageError(f"-o {printable(output)}: exists; choose another file or pass --force")
    if not output.parent.is_dir():
        raise UsageError(f"-o {printable(output)}: the folder {printable(output.parent)} does not exist")
    with redirect_stdout(sys.stderr):
        images = draw(
            arguments.run,
            arguments.n,
            label=arguments.label,
            seed=arguments.seed,
            plugins=absolute_plugins(arguments.plugin),
        )
    save_png(grid(images), output, scale=max(1, 64 // images.shape[2]))
    print_note(f"wrote {len(images)} images to {printable(output)}")
    return 0


def score(arguments: Namespace) -> int:
    """`ganzoo score DIR --dataset NAME`."""
    from ganzoo.scoring import score_folder

    registry = _discover(tuple(arguments.plugin), strict=arguments.strict)
    with redirect_stdout(sys.stderr):
        scores, protocols, notes = score_folder(
            registry,
            Path(arguments.folder),
            dataset=arguments.dataset,
            metrics=_listed(arguments.metrics),
            **{
                name: getattr(arguments, name)
                for name in (
                    "image_size",
                    "data_root",
                    "skip_bad_images",
                    "features",
                    "weights",
                    "weights_sha256",
                    "device",
                    "threads",
                )
            },
        )
    for note in notes:
        print_note(note)
    if arguments.json:
        print(json.dumps({"scores": scores, "protocols": protocols}, indent=1))
        return 0
    rows = [
        (
            entry["metric"],
            entry.get("reason", "–") if entry["value"] is None else f"{entry['value']:.6g}",
            "" if entry["std"] is None else f"± {entry['std']:.3g}",
            entry["protocol"],
        )
        for entry in scores
    ]
    stdout().print(simple_table(("score", "value", "std", "protocol"), rows))
    return 0


def plugins(arguments: Namespace) -> int:
    """`ganzoo plugins`."""
    registry = discover(tuple(arguments.plugin), strict=arguments.strict)
    if arguments.json:
        print(json.dumps([asdict(status) for status in registry.statuses], indent=1))
        return 0
    rows = [
        (
            status.name,
            status.state,
            status.version or "",
            status.source,
            ", ".join(hook.removeprefix("ganzoo_") for hook in status.hooks) or status.error or "",
        )
        for status in registry.statuses
    ]
    stdout().print(simple_table(("plugin", "state", "version", "source", "hooks, or what is wrong"), rows))
    return 0


def env(arguments: Namespace) -> int:
    """`ganzoo env`."""
    from ganzoo.files import cache_folder
    from ganzoo.hardware import environment, hardware_fingerprint, resolve_device, resolve_threads

    registry = discover(tuple(arguments.plugin), strict=arguments.strict)
    device, threads = resolve_device(arguments.device), resolve_threads(arguments.threads)
    used = {
        status.name: {"version": status.version, "source_sha256": status.source_sha256} for status in registry.statuses
    }
    cache = cache_folder()
    facts = {
        "hardware": {"device": device, **hardware_fingerprint(device, threads)},
        "environment": environment(used),
        "folders": {
            "data": str(Path(os.environ.get("GANZOO_DATA") or "data").resolve()),
            "cache": str(cache),
            "cache_bytes": sum(path.stat().st_size for path in cache.rglob("*") if path.is_file()),
        },
    }
    if arguments.json:
        print(json.dumps(facts, indent=1))
        return 0
    console = stdout()
    for title, content in facts.items():
        rows = [(name, value if isinstance(value, str) else json.dumps(value)) for name, value in content.items()]
        console.print(simple_table(("", ""), [row for row in rows if row[0] != "plugins"], title))
    return 0
