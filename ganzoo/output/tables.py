"""What the commands print for people: tables and pages for the console. Scripts take `--json`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

from ganzoo.comparing.figures import figure_of
from ganzoo.output.console import safe, show_duration, show_memory, show_rate, show_score, sparkline, stdout
from ganzoo.output.fitting import Field, in_pieces, table_of
from ganzoo.records.points import final_scores
from ganzoo.records.protocols import title_of
from ganzoo.records.settings import setting, whole_spec
from ganzoo.registry.registry import SINGULAR, Kind, Offer, Registry
from ganzoo.runs import RunRecord
from ganzoo.types import Augmentation, FeatureExtractor, Penalty

if TYPE_CHECKING:
    from ganzoo.testing import CheckResult


def simple_table(columns: Sequence[str], rows: Sequence[Sequence[object]], title: str | None = None) -> Table:
    """A plain table of text from strangers."""
    return table_of(_fields(columns, rows), stdout().width, title=title, title_style="bold")


def _fields(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> list[Field]:
    return [Field(head, [safe(row[place]) for row in rows]) for place, head in enumerate(columns)]


# --- bench ------------------------------------------------------------------------------------------------------------


def dry_run_page(entries: Sequence[Mapping[str, Any]], rate: float) -> Iterator[Table | str]:
    """What would run: a row for each variant and batch, its time, and every value of its first seed's spec."""
    variants: dict[tuple[object, ...], list[Mapping[str, Any]]] = {}
    for entry in entries:
        apart = (setting(entry["spec"], name) for name in ("variant", "batch_size", "dataset", "image_shape"))
        variants.setdefault(tuple(map(str, apart)), []).append(entry)
    rows = [_dry_run_cells(runs) for runs in variants.values()]
    columns = ("variant", "seed", "architecture + loss", "dataset", "kimg", "batch", "estimate")
    lead, *rest = _fields(columns, rows)
    width = stdout().width
    yield from (table_of(piece, width) for piece in in_pieces([lead], rest, width))
    first = entries[0]["spec"]
    device, hardware, precision = (safe(setting(first, name)) for name in ("device", "hardware", "precision"))
    yield (
        f"on {device} ({hardware}), {precision}; the estimate of the training time takes half of this machine's "
        f"{rate / 1e9:,.0f} GFLOP/s matrix-product rate, and small networks reach less"
    )
    for runs in variants.values():
        if reason := runs[0]["unknown_because"]:
            variant = safe(setting(runs[0]["spec"], "variant"))
            yield f"? for {variant}: its FLOPs cannot be counted without memory, {safe(reason)}"
    for runs in variants.values():
        variant = safe(setting(runs[0]["spec"], "variant"))
        parameters = " and ".join(f"{name} {count:,}" for name, count in runs[0]["parameters"].items())
        yield f"{variant}: {safe(parameters)} parameters"
        yield f"{variant}: {safe('; '.join(runs[0]['phases']))}"
    for runs in variants.values():
        spec = runs[0]["spec"]
        seeds = f", seeds {_seeds(runs)}, of which this is the first" if len(runs) > 1 else ""
        yield f"\n[bold]{safe(setting(spec, 'variant'))}[/bold]{seeds}"
        yield from (f"  {field} = {safe(json.dumps(value))}" for field, value in whole_spec(spec).items())


def _dry_run_cells(runs: Sequence[Mapping[str, Any]]) -> tuple[object, ...]:
    spec = runs[0]["spec"]
    variant, architecture, loss, dataset, image_shape, kimg, batch = (
        setting(spec, name)
        for name in ("variant", "architecture", "loss", "dataset", "image_shape", "kimg", "batch_size")
    )
    seconds = runs[0]["estimated_train_seconds"]
    estimate = "–" if not kimg else "?" if seconds is None else f"{seconds:.0f} s"
    return (
        variant,
        _seeds(runs),
        f"{architecture} + {loss}",
        f"{dataset} {'x'.join(map(str, image_shape))}",
        f"{kimg:g}",
        batch,
        estimate + " each" * (len(runs) > 1),
    )


def players_table(architectures: Sequence[Offer]) -> Table:
    """The players of each architecture; judges tell real from fake."""
    rows = [
        (
            offer.record.name,
            ", ".join(offer.record.players),
            ", ".join(offer.record.judges),
            offer.record.gives,
            offer.plugin,
        )
        for offer in architectures
    ]
    return simple_table(("architecture", "players", "judges", "what judges give", "plugin"), sorted(rows))


def _seeds(runs: Sequence[Mapping[str, Any]]) -> str:
    first, last = (setting(run["spec"], "seed") for run in (runs[0], runs[-1]))
    return f"{first} to {last}" if first != last else str(first)


# --- list, show, score, check, plugins, env ---------------------------------------------------------------------------


_PREFIXES = {Penalty: "penalty: ", Augmentation: "augmentation: "}


def offers_table(kind: Kind, offers: Sequence[Offer], titled: bool) -> Table:
    """The offers of one kind by name; losses, penalties and augmentations share one list, and the last two say so."""
    rows = [
        (
            offer.record.name,
            _PREFIXES.get(type(offer.record), "") + offer.record.summary + _licence(offer.record),
            offer.record.reference,
            offer.plugin,
        )
        for offer in offers
    ]
    return simple_table(("name", "summary", "reference", "plugin"), sorted(rows), kind if titled else None)


def _licence(record: Any) -> str:
    """That of an extractor's weights, to stand after its summary."""
    return f"; weights: {record.licence}" if isinstance(record, FeatureExtractor) and record.licence else ""


def description_lines(description: Mapping[str, Any]) -> Iterator[str]:
    """What is known of one name, a line for each field that says anything."""
    name, kind, plugin = (description[key] for key in ("name", "kind", "plugin"))
    yield f"[bold]{safe(name)}[/bold] ({kind}, plugin {safe(plugin)})"
    for field, value in description.items():
        text = value if isinstance(value, str) else json.dumps(value)
        if text and field not in ("name", "kind", "plugin"):
            yield f"  {field.replace('_', ' ')}: {safe(text, 5000)}"


def run_page(record: RunRecord) -> Iterator[Table | str]:
    """What a run was and how it went, with a sparkline for each term of its loss and each of its scores."""
    spec, training = record.spec, record.training
    variant, dataset, hardware = (safe(setting(spec, name)) for name in ("variant", "dataset", "hardware"))
    yield f"[bold]{variant}[/bold] on {dataset}, seed {setting(spec, 'seed')}: {safe(record.status)}, on {hardware}"
    if record.error:
        yield f"  {safe(record.error.get('type'))}: {safe(record.error.get('message'))}"
    facts = {
        "run id": record.run_id,
        "folder": record.path.parent if record.path else None,
        "kimg": f"{training.get('kimg', 0):g} of {setting(spec, 'kimg'):g}",
        "batch size": batch_size_used(spec),
        "training time": show_duration(figure_of(record, "train_seconds")),
        "images/s": show_rate(figure_of(record, "train_images_per_second")),
        "memory": show_memory(figure_of(record, "peak_memory_bytes")),
    }
    yield from (f"  {name}: {safe(value)}" for name, value in facts.items())
    for key, entry in final_scores(record).items():
        title = safe(title_of(key.name, record.protocols.get(key.protocol, {})))
        interval = sample_interval(entry)
        yield f"  {title}: {show_score(entry['value'])}{f', {SAMPLE_INTERVAL} {interval}' if interval else ''}"
    curves = dict(_curves(record))
    if not curves:
        yield "  no curves: it was not trained, or not to its first point"
        return
    table = Table(box=box.SIMPLE_HEAD)
    for head in ("curve", "over kimg"):
        table.add_column(head, no_wrap=True)
    for head in ("last", "least", "most"):
        table.add_column(head, justify="right", no_wrap=True)
    for name, values in curves.items():
        known = [value for value in values if value is not None]
        ends = (known[-1], min(known), max(known)) if known else (None,) * 3
        table.add_row(safe(name, 60), sparkline(values), *(show_score(value) for value in ends))
    yield table


def batch_size_used(spec: Mapping[str, Any]) -> str:
    """The batch size of a run, and with `--batch-size auto` the one that did not fit."""
    used, requested = setting(spec, "batch_size"), spec.get("requested_batch_size")
    return f"{used}" if requested is None else f"{used} in place of {requested}, which did not fit into memory"


def _curves(record: RunRecord) -> Iterator[tuple[str, list[float | None]]]:
    """Terms of the loss, then scores at each evaluation, of the averaged generator and of the raw one."""
    for name, values in (record.training.get("curves") or {}).items():
        if name != "kimg":
            yield name, list(values)
    scores: dict[tuple[str, str], list[float | None]] = {}
    for score in sorted(record.scores, key=lambda score: score["kimg"]):
        title = title_of(score["metric"], record.protocols.get(score["protocol"], {}))
        name = f"{title}, {'EMA' if score['ema'] else 'raw'}"
        scores.setdefault((name, score["protocol"]), []).append(score["value"])
    yield from ((name, values) for (name, _), values in scores.items())


SAMPLE_INTERVAL = "95 % of samples"
"""Heads the interval of a score over other draws of as many images."""


def sample_interval(entry: Mapping[str, Any]) -> str | None:
    """`12.1 to 12.9`; None where the score has no interval from the sample."""
    low, high = entry.get("sample_low"), entry.get("sample_high")
    return None if low is None or high is None else f"{low:.6g} to {high:.6g}"


def scores_table(scores: Sequence[Mapping[str, Any]], protocols: Mapping[str, Mapping[str, Any]]) -> Table:
    """Scores of a folder, and why one has no value."""
    rows = [
        (
            title_of(entry["metric"], protocols[entry["protocol"]]),
            entry.get("reason", "–") if entry["value"] is None else f"{entry['value']:.6g}",
            "" if entry["std"] is None else f"± {entry['std']:.3g}",
            sample_interval(entry) or "",
            entry["protocol"],
        )
        for entry in scores
    ]
    return simple_table(("score", "value", "std", SAMPLE_INTERVAL, "protocol"), rows)


def plugins_page(registry: Registry) -> Iterator[Table | str]:
    """Plugins, the broken ones with the reason; then each name that several offer, and how to ask for either."""
    rows = [
        (
            status.name,
            status.state,
            status.version or "",
            "" if status.load_seconds is None else f"{status.load_seconds * 1000:.0f} ms",
            status.source,
            ", ".join(hook.removeprefix("ganzoo_") for hook in status.hooks) or status.error or "",
        )
        for status in registry.statuses
    ]
    yield simple_table(("plugin", "state", "version", "load", "source", "hooks, or what is wrong"), rows)
    for kind, rivals in registry.conflicts():
        forms = " or ".join(safe(offer.qualified) for offer in rivals)
        yield f"conflict: {len(rivals)} plugins offer a {SINGULAR[kind]} {safe(rivals[0].record.name)}; ask for {forms}"


def checks_table(results: Sequence[CheckResult]) -> Table:
    """What the checks said of one subject."""
    colours = {"passed": "green", "failed": "red", "skipped": "yellow"}
    fields = [
        Field("check", [safe(result.check) for result in results]),
        Field("result", [f"[{colours[result.status]}]{result.status}[/]" for result in results]),
        Field("seconds", [f"{result.seconds:.1f}" for result in results]),
        Field("reason", [safe(result.reason, 2000) for result in results]),
    ]
    return table_of(fields, stdout().width, title=safe(results[0].subject), title_style="bold")


def facts_tables(facts: Mapping[str, Mapping[str, Any]]) -> Iterator[Table]:
    """A machine's facts, a table for each group; the plugins have a command of their own."""
    for title, content in facts.items():
        rows = [
            (name, value if isinstance(value, str) else json.dumps(value))
            for name, value in content.items()
            if name != "plugins"
        ]
        yield simple_table(("", ""), rows, title)
