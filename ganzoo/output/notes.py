"""Notes below a comparison: whether differences are real, why rows were not merged, which rates to doubt."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from ganzoo.comparing.baseline import pair_lines
from ganzoo.comparing.comparison import Comparison
from ganzoo.comparing.diff import mixed_states
from ganzoo.comparing.differences import BROUGHT_ALONG, disagreements
from ganzoo.comparing.rows import Row
from ganzoo.output.tables import batch_size_used
from ganzoo.records.settings import setting
from ganzoo.runs import RunRecord

RANK = "rank, on each hardware: 1 + the rows that are better beyond chance (Welch's test; 5 % false discoveries)"

MOST_APART = 5
"""Lines of a table that say what keeps rows of one variant apart."""


def notes_of(comparison: Comparison) -> list[str]:
    """Whether the differences of a comparison's rows are real, and why some rows were not merged."""
    return [
        *_how_sure(comparison),
        *_shrunk_batches(comparison.rows),
        *_kept_apart([row.runs[0] for row in comparison.rows])[:MOST_APART],
        *_mixed_rows(comparison.rows)[:MOST_APART],
    ]


def _how_sure(comparison: Comparison) -> list[str]:
    lines, rows = [], comparison.rows
    scores = [score for score in comparison.scores if comparison.has(score)]
    if any(row.scores[score].rank for row in rows for score in scores):
        lines.append(RANK)
    elif scores and len(rows) > 1 and all(row.scores[score].count <= 1 for row in rows for score in scores):
        lines.append("one seed each: nothing can be said of which of two scores is better; run more with --seeds")
    return lines if comparison.baseline else [*lines, *pair_lines(comparison)]


def _shrunk_batches(rows: Sequence[Row]) -> list[str]:
    """With `--batch-size auto`, the variants whose batch did not fit."""
    shrunk = [row for row in rows if row.finished and row.spec.get("requested_batch_size") is not None]
    return list(dict.fromkeys(f"{row.settings['variant']}: batch size {batch_size_used(row.spec)}" for row in shrunk))


def _kept_apart(examples: Sequence[RunRecord]) -> list[str]:
    """Why a variant has several rows: in what those on one machine disagree, then those on all machines."""
    variants: dict[str, dict[str, list[RunRecord]]] = defaultdict(lambda: defaultdict(list))
    for run in examples:
        variants[setting(run.spec, "variant")][setting(run.spec, "hardware")].append(run)
    lines = []
    for variant, machines in variants.items():
        apart = [disagreements(runs) for runs in machines.values()]
        if len(machines) > 1:
            apart.append(disagreements([run for runs in machines.values() for run in runs], ("seed", *BROUGHT_ALONG)))
        lines += [f"not merged: {variant}, {', '.join(settings[:4])}" for settings in apart if settings]
    return list(dict.fromkeys(lines))


def _mixed_rows(rows: Sequence[Row]) -> list[str]:
    """Rows whose seeds were run in several states of the code or the machine; the mean is one over these, too."""
    lines: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        for name, states in mixed_states(row.runs).items():
            lines[f"seeds differ in {name} ({', '.join(states[:4])})"].append(row.settings["variant"])
    return [f"{', '.join(dict.fromkeys(variants))}: {line}" for line, variants in lines.items()]


def flag_lines(rows: Sequence[Row]) -> list[str]:
    """What the stars mean: each reason to doubt a rate, with the rows it is of."""
    several = len({row.settings["hardware"] for row in rows}) > 1
    names = "{variant} ({hardware})" if several else "{variant}"
    reasons = doubted((names.format_map(row.settings), row) for row in rows)
    return [f"* {', '.join(dict.fromkeys(labels))}: {reason}" for reason, labels in reasons.items()]


def doubted(rows: Iterable[tuple[str, Row]]) -> dict[str, list[str]]:
    """Each reason to doubt a rate, with the labels of the rows it is of; `rows` are pairs of a label and a row."""
    reasons: dict[str, list[str]] = defaultdict(list)
    for label, row in rows:
        if row.flags:
            reasons[row.flags].append(label)
    return reasons
