"""Notes below a comparison: whether differences are real, why rows were not merged, which rates to doubt."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from ganzoo.comparing.baseline import pair_lines
from ganzoo.comparing.comparison import Comparison
from ganzoo.comparing.diff import mixed_states
from ganzoo.comparing.differences import BROUGHT_ALONG, disagreements_of_rows
from ganzoo.comparing.order import in_words, listed
from ganzoo.comparing.rows import Row
from ganzoo.comparing.yardsticks import in_words as name_of
from ganzoo.output.columns import MARK
from ganzoo.output.console import show_plain, show_score
from ganzoo.output.tables import batch_size_used
from ganzoo.records.points import ScoreKey
from ganzoo.records.protocols import foreign_images
from ganzoo.records.settings import setting
from ganzoo.runs import RunRecord

ORDER = (
    "the best mean first, with its 95 % interval over seeds; rows on one hardware are told apart by Welch's test "
    "(5 % false discoveries)"
)

DOUBTFUL = "no ratio of a rate with a star, nor to one: it is doubtful; --doubtful shows it all the same"

IN_TURN = (
    "of {}: measured in turn with the baseline; the ratio is the median over pairs of windows of one round, with its "
    "bootstrap 95 % interval"
)

MOST_ALIKE = 20
"""Lines of a table that say which rows are not told apart."""

MOST_APART = 5
"""Lines of a table that say what keeps rows of one variant apart."""


def notes_of(comparison: Comparison) -> list[str]:
    """Whether the differences of a comparison's rows are real, and why some rows were not merged."""
    return [
        *_courses(comparison),
        *_how_sure(comparison),
        *_foreign_extractors(comparison),
        *_own_teachers(comparison),
        *_shrunk_batches(comparison.rows),
        *_kept_apart([row.runs[0] for row in comparison.rows])[:MOST_APART],
        *_mixed_rows(comparison.rows)[:MOST_APART],
    ]


def _how_sure(comparison: Comparison) -> list[str]:
    lines, rows = [], comparison.rows
    scores = [score for score in comparison.scores if comparison.has(score)]
    tested = [score for score in scores if any(row.scores[score].not_told_apart is not None for row in rows)]
    if tested:
        alike = [line for score in tested if score.name == comparison.leading for line in _alike(comparison, score)]
        more = [f"and {len(alike) - MOST_ALIKE} more rows"] if len(alike) > MOST_ALIKE else []
        lines += [ORDER, *alike[:MOST_ALIKE], *more]
    elif scores and len(rows) > 1 and all(row.scores[score].count <= 1 for row in rows for score in scores):
        lines.append("one seed each: no test of which score is better; run with --seeds 3 or more")
    if comparison.baseline is None:
        return [*lines, *pair_lines(comparison)]
    if in_turn := [row.label for row in rows if row.ratio and row.ratio.in_turn]:
        lines.append(IN_TURN.format(listed(in_turn)))
    doubted = any(row.speed_is_doubtful and row.finished for row in rows)
    return [*lines, DOUBTFUL] if doubted and not comparison.baseline.doubtful else lines


def _courses(comparison: Comparison) -> Iterator[str]:
    """Which rows had too short a budget for the score that decides the order, or too long a one."""
    for score in (score for score in comparison.scores if score.name == comparison.leading):
        title = comparison.title(score)
        courses = [(in_words(row.label), row.scores[score].course) for row in comparison.rows]
        improving = [f"{label} by {show_score(course.gain)}" for label, course in courses if course.gain is not None]
        past = [
            f"{label} ({show_score(course.best)} at {show_plain(course.best_kimg)} kimg)"
            for label, course in courses
            if course.best_kimg is not None and course.best is not None
        ]
        untrained = [
            f"{in_words(row.label)} ({show_score(found.value)}, {name_of(found.than)} {show_score(found.than_value)}, "
            f"{found.images} images each)"
            for row in comparison.rows
            if (found := row.scores[score].not_trained)
        ]
        if untrained:
            yield (
                f"{MARK} not trained, {title} that is not better by more than its interval than without training: "
                f"{', '.join(untrained)}"
            )
        if improving:
            yield (
                f"{MARK} still improving, {title} in the last quarter of the budget by more than its interval: "
                f"{', '.join(improving)}; a larger --kimg tells"
            )
        if past:
            yield f"{MARK} past its best, {title} by more than the interval of the difference: {', '.join(past)}"


def _alike(comparison: Comparison, score: ScoreKey) -> Iterator[str]:
    """Which rows are not told apart by a score; each pair once, at the better of the two."""
    title = comparison.title(score)
    said: set[str] = set()
    for row in comparison.rows:
        said.add(row.label)
        if others := [label for label in row.scores[score].not_told_apart or () if label not in said]:
            yield f"{title}: {in_words(row.label)} is not told apart from {listed(others)}"


def _foreign_extractors(comparison: Comparison) -> Iterator[str]:
    """The scores by an extractor that was made for other images than those of the dataset."""
    titles: dict[str, list[str]] = defaultdict(list)
    for score in comparison.scores:
        if fact := foreign_images(comparison.protocols.get(score.protocol, {})):
            titles[fact].append(comparison.title(score))
    yield from (f"{', '.join(of_fact)}: {fact}" for fact, of_fact in titles.items())


def _own_teachers(comparison: Comparison) -> Iterator[str]:
    """The rows that were trained against the network which scores them."""
    titles: dict[str, list[str]] = defaultdict(list)
    for score in comparison.scores:
        entries = [(row.label, row.scores[score]) for row in comparison.rows]
        if labels := [label for label, entry in entries if entry.values and entry.by_teacher]:
            titles[listed(labels)].append(comparison.title(score))
    for taught, of_rows in titles.items():
        yield f"{', '.join(of_rows)}: {taught} is judged by its own teacher, and left out of the order"


def _shrunk_batches(rows: Sequence[Row]) -> list[str]:
    """With `--batch-size auto`, the variants whose batch did not fit."""
    shrunk = [row for row in rows if row.finished and row.spec.get("requested_batch_size") is not None]
    return list(dict.fromkeys(f"{row.settings['variant']}: batch size {batch_size_used(row.spec)}" for row in shrunk))


def _kept_apart(examples: Sequence[RunRecord]) -> list[str]:
    """Why a variant has several rows: in what those on one machine disagree, then those on all machines.

    Speeds at several batch sizes are a sweep, whose rows nobody takes for one.
    """
    variants: dict[str, dict[str, list[RunRecord]]] = defaultdict(lambda: defaultdict(list))
    swept = all(not setting(run.spec, "kimg") for run in examples)
    ignored = ("seed", "batch_size") if swept else ("seed",)
    for run in examples:
        variants[setting(run.spec, "variant")][setting(run.spec, "hardware")].append(run)
    lines = []
    for variant, machines in variants.items():
        apart = [disagreements_of_rows(runs, ignored) for runs in machines.values()]
        if len(machines) > 1:
            apart.append(
                disagreements_of_rows([run for runs in machines.values() for run in runs], (*ignored, *BROUGHT_ALONG))
            )
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
    reasons = doubted((row.label, row) for row in rows)
    return [f"* {listed(labels)}: {reason}" for reason, labels in reasons.items()]


def doubted(rows: Iterable[tuple[str, Row]]) -> dict[str, list[str]]:
    """Each reason to doubt a rate, with the labels of the rows it is of; `rows` are pairs of a label and a row."""
    reasons: dict[str, list[str]] = defaultdict(list)
    for label, row in rows:
        if row.flags:
            reasons[row.flags].append(label)
    return reasons
