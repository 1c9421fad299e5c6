"""What the commands print for people: tables and pages for the console. Scripts take `--json`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

from ganzoo.plugins import SINGULAR, Kind, Offer, Registry
from ganzoo.terminal import (
    missing,
    safe,
    show_duration,
    show_memory,
    show_plain,
    show_rate,
    show_score,
)
from ganzoo.types import Penalty

if TYPE_CHECKING:
    import pandas

    from ganzoo.testing import CheckResult

UNITS = {"fid": "FID", "is": "IS", "kid": "KID"}

EXTRAS: dict[str, tuple[str, Callable[[float], str]]] = {
    "mfu": ("MFU", lambda share: "–" if missing(share) else f"{share:.0%}"),
    "energy_joules_per_kimg": ("J/kimg", show_rate),
}
"""Columns that are shown where some row has a value, each with its head and how it reads."""

SETTINGS = ("dataset", "image_size", "kimg", "batch_size", "precision", "hardware")
"""What stands above a comparison where all rows agree in it, and in a column of its own where they do not."""


def simple_table(columns: Sequence[str], rows: Sequence[Sequence[object]], title: str | None = None) -> Table:
    """A plain table of text from strangers."""
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(safe(cell) for cell in row))
    return table


# --- bench and compare ------------------------------------------------------------------------------------------------


def comparison_table(summary: pandas.DataFrame, protocols: Mapping[str, Mapping[str, Any]]) -> Table:
    """A comparison as a table, with its protocols and any failures underneath."""
    scores: list[str] = summary.attrs["scores"]
    varying = _varying(summary)
    shared = [name for name in SETTINGS if name not in varying]
    title = ", ".join(f"{name.replace('_', ' ')} {show_plain(summary[name].iloc[0])}" for name in shared)
    table = Table(box=box.SIMPLE_HEAD, title=safe(title), title_justify="left", caption_justify="left")
    table.add_column("variant", style="bold", no_wrap=True)
    for name in varying:
        table.add_column(name.replace("_", " "), overflow="fold")
    for name in scores:
        head, _, protocol = name.partition(" ")
        table.add_column(safe(f"{UNITS.get(head, head)} {protocol}".strip()), justify="right", overflow="fold")
    extra = [name for name in EXTRAS if summary[name].notna().any()]
    heads = (
        "images/s",
        "samples/s",
        "memory",
        *(EXTRAS[name][0] for name in extra),
        "updates D/G",
        "train time",
        "seeds",
    )
    for head in heads:
        table.add_column(head, justify="right", no_wrap=head == "images/s")
    for _, row in summary.iterrows():
        cells = [safe(row["variant"]), *(safe(show_plain(row[name])) for name in varying)]
        if not row["n"]:
            cells += [f"[red]{safe(row['failed'])}[/red]", *[""] * (len(scores) + len(heads) - 2)]
        else:
            cells += [_score_over_seeds(row, name) for name in scores]
            cells.append(_rate_with_error(row))
            cells.append(show_rate(row["sample_images_per_second"]))
            cells.append(show_memory(row["peak_memory_bytes"]))
            cells += [EXTRAS[name][1](row[name]) for name in extra]
            cells.append(_updates(row["discriminator_updates"], row["generator_updates"]))
            cells.append(show_duration(row["train_seconds"]))
        cells.append(f"{row['n']}" + (f" [red]({safe(row['failed'])})[/red]" if row["failed"] and row["n"] else ""))
        table.add_row(*cells)
    lines = [_protocol_line(identity, content) for identity, content in protocols.items()]
    lines += [f"{row['variant']}: {row['error']}" for _, row in summary.iterrows() if isinstance(row["error"], str)]
    lines += [f"* {row['variant']}: {row['flags']}" for _, row in summary.iterrows() if row["flags"]]
    table.caption = "\n".join(safe(line) for line in lines)
    return table


def _varying(summary: pandas.DataFrame) -> list[str]:
    """The columns that tell the rows apart. Devices and threads go with the hardware, unless one has several."""
    varying = [name for name in SETTINGS if summary[name].nunique() > 1]
    varying += [name for name in ("device", "threads") if (summary.groupby("hardware")[name].nunique() > 1).any()]
    return varying + ["differs"] * bool((summary["differs"] != "").any())


def _protocol_line(identity: str, content: Mapping[str, Any]) -> str:
    settings = ", ".join(f"{name} {value}" for name, value in (content.get("settings") or {}).items())
    weights = {True: "EMA generator", False: "raw generator", None: "images"}[content.get("ema")]
    return (
        f"{identity}: {content.get('extractor')} features, {content.get('n_real')} real ({content.get('real_split')}) "
        f"against {content.get('n_fake')} fakes, {weights}" + (f", {settings}" if settings else "")
    )


def _score_over_seeds(row: Mapping[str, Any], name: str) -> str:
    """A mean with its deviation, and of how many of the finished seeds where the score is missing in some."""
    count, finished = row[f"{name}_n"], row["n"]
    text = _with_deviation(row[name], row[f"{name}_sd"], show_score)
    return f"{text} ({count}/{finished})" if 0 < count < finished else text


def _rate_with_error(row: Mapping[str, Any]) -> str:
    """A rate with its deviation over seeds, or for a single one with its own interval; starred where it is doubtful."""
    rate, deviation = row["train_images_per_second"], row["train_images_per_second_sd"]
    error = row["train_images_per_second_error"] if missing(deviation) else deviation
    text = _with_deviation(rate, error, show_rate)
    return f"{text} *" if row["flags"] else text


def _with_deviation(value: float, deviation: float, show: Callable[[float], str]) -> str:
    return show(value) if missing(deviation) or missing(value) else f"{show(value)} ± {show(deviation)}"


def _updates(discriminator: float, generator: float) -> str:
    return "–" if missing(discriminator) else f"{discriminator:,.0f}/{generator:,.0f}"


def dry_run_page(entries: Sequence[Mapping[str, Any]], rate: float) -> Iterator[Table | str]:
    """What would run: a row for each variant and batch, its time, and every value of its first seed's spec."""
    variants: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    for entry in entries:
        variants.setdefault((entry["spec"]["variant"], entry["spec"]["batch_size"]), []).append(entry)
    rows = []
    for (name, _), runs in variants.items():
        spec, parameters = runs[0]["spec"], runs[0]["parameters"]
        rows.append(
            (
                name,
                _seeds(runs),
                f"{spec['architecture']} + {spec['loss']}",
                f"{spec['dataset']} {'x'.join(str(side) for side in spec['image_shape'])}",
                f"{spec['kimg']:g}",
                spec["batch_size"],
                f"{parameters['generator']:,}",
                f"{parameters['discriminator']:,}",
                (_estimate(runs[0]["estimated_train_seconds"]) if spec["kimg"] else "–")
                + (" each" if len(runs) > 1 else ""),
            )
        )
    columns = ("variant", "seed", "architecture + loss", "dataset", "kimg", "batch", "params G", "params D", "estimate")
    yield simple_table(columns, rows)
    first = entries[0]["spec"]
    yield (
        f"on {safe(first['device'])} ({safe(first['hardware'])}), {safe(first['precision'])}; the estimate of the "
        f"training time takes half of this machine's {rate / 1e9:,.0f} GFLOP/s matrix-product rate, and small networks "
        "reach less"
    )
    for (name, _), runs in variants.items():
        spec = runs[0]["spec"]
        seeds = f", seeds {_seeds(runs)}, of which this is the first" if len(runs) > 1 else ""
        yield f"\n[bold]{safe(name)}[/bold]{seeds}"
        yield from (f"  {field} = {safe(json.dumps(value))}" for field, value in spec.items())


def _seeds(runs: Sequence[Mapping[str, Any]]) -> str:
    first, last = (run["spec"]["seed"] for run in (runs[0], runs[-1]))
    return f"{first} to {last}" if first != last else str(first)


def _estimate(seconds: float | None) -> str:
    return "?" if seconds is None else f"{seconds:.0f} s"


# --- list, show, score, check, plugins, env ---------------------------------------------------------------------------


def offers_table(kind: Kind, offers: Sequence[Offer], titled: bool) -> Table:
    """The offers of one kind by name; losses and penalties share one list, and a penalty says that it is one."""
    rows = [
        (
            offer.record.name,
            ("penalty: " if isinstance(offer.record, Penalty) else "") + offer.record.summary,
            offer.record.reference,
            offer.plugin,
        )
        for offer in offers
    ]
    return simple_table(("name", "summary", "reference", "plugin"), sorted(rows), kind if titled else None)


def description_lines(description: Mapping[str, Any]) -> Iterator[str]:
    """What is known of one name, a line for each field that says anything."""
    name, kind, plugin = (description[key] for key in ("name", "kind", "plugin"))
    yield f"[bold]{safe(name)}[/bold] ({kind}, plugin {safe(plugin)})"
    for field, value in description.items():
        text = value if isinstance(value, str) else json.dumps(value)
        if text and field not in ("name", "kind", "plugin"):
            yield f"  {field.replace('_', ' ')}: {safe(text, 5000)}"


def scores_table(scores: Sequence[Mapping[str, Any]]) -> Table:
    """Scores of a folder, and why one has no value."""
    rows = [
        (
            entry["metric"],
            entry.get("reason", "–") if entry["value"] is None else f"{entry['value']:.6g}",
            "" if entry["std"] is None else f"± {entry['std']:.3g}",
            entry["protocol"],
        )
        for entry in scores
    ]
    return simple_table(("score", "value", "std", "protocol"), rows)


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
    table = simple_table(("check", "result", "seconds", "reason"), [], safe(results[0].subject))
    for result in results:
        status = f"[{colours[result.status]}]{result.status}[/]"
        table.add_row(safe(result.check), status, f"{result.seconds:.1f}", safe(result.reason, 2000))
    return table


def facts_tables(facts: Mapping[str, Mapping[str, Any]]) -> Iterator[Table]:
    """A machine's facts, a table for each group; the plugins have a command of their own."""
    for title, content in facts.items():
        rows = [
            (name, value if isinstance(value, str) else json.dumps(value))
            for name, value in content.items()
            if name != "plugins"
        ]
        yield simple_table(("", ""), rows, title)
