"""Has anything become worse? Records against those of an earlier state, figure by figure, each in its direction."""

from __future__ import annotations

import math
import re
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ganzoo.comparing.baseline import verdict
from ganzoo.comparing.differences import differing_settings, disagreements
from ganzoo.comparing.figures import DIRECTIONS, figure_of
from ganzoo.comparing.rows import Runs, as_key, same_settings
from ganzoo.comparing.scores import final_scores, scores_of
from ganzoo.errors import RecordError, UnknownName, UsageError
from ganzoo.records.settings import setting, spec_over_seeds
from ganzoo.runs import RunRecord
from ganzoo.util.significance import Direction
from ganzoo.util.text import did_you_mean, printable

TOLERANCE = re.compile(r"([A-Za-z0-9][\w.-]*):(\d+(?:\.\d*)?|\.\d+)%")


@dataclass(frozen=True)
class Tolerance:
    """One `--fail-on`: a figure, in which direction it is better, and by which share it may be worse."""

    figure: str
    better: Direction
    share: float


@dataclass(frozen=True)
class Change:
    """A figure of a row before and now, means over seeds; `now` is NaN where it is gone.

    `share` is how much worse it is, as a share of what it was: negative where it is better. `evidence` says whether
    the seeds tell the difference from chance, or why the figure is gone, and how many seeds have lost it. Where `lost`
    these are too few for the row to pass.
    """

    row: str
    figure: str
    before: float
    now: float
    share: float
    allowed: float
    evidence: str
    lost: bool = False

    @property
    def too_much(self) -> bool:
        """Whether it is worse than allowed, or gone in a seed or in all."""
        return math.isnan(self.now) or self.lost or self.share > self.allowed

    def __str__(self) -> str:
        if math.isnan(self.now):
            return f"{self.row}: {self.figure} was {self.before:.4g}, and there is none now{self.evidence}"
        moved = f"{abs(self.share):.1%} {'worse' if self.share > 0 else 'better'}" if self.share else "the same"
        return (
            f"{self.row}: {self.figure} {self.before:.4g} -> {self.now:.4g}, {moved} "
            f"(allowed {self.allowed * 100:.4g}%); difference {self.evidence}"
        )


def parse_tolerance(text: str, better: Mapping[str, Direction]) -> Tolerance:
    """`fid:5%`. `better` has the directions of the scores.

    Raises `UsageError` for another form, and `UnknownName` for a figure without a known direction.
    """
    match = TOLERANCE.fullmatch(text)
    if match is None:
        raise UsageError(f"--fail-on {printable(text)}: write FIGURE:SHARE%, as in fid:5%")
    directions = {**DIRECTIONS, **better}
    if match[1] not in directions:
        known = did_you_mean(match[1], directions)
        raise UnknownName(
            f"--fail-on {printable(text)}: no metric says in which direction '{printable(match[1])}' is better{known}; "
            "a score of a plugin's needs its --plugin"
        )
    return Tolerance(match[1], directions[match[1]], float(match[2]) / 100)


def changes(
    before: Sequence[RunRecord], now: Sequence[RunRecord], tolerances: Sequence[Tolerance], allow_missing: bool = False
) -> tuple[list[Change], list[str]]:
    """`(changes, notes)`: each figure of each row of `before`, and what could not be compared, by name.

    Rows match if they have the same spec except for the seed; the versions of the code may differ. A row without a
    match has lost its figures, as has one that is scored by another protocol now or in fewer seeds. Raises `UsageError`
    if a spec has several rows on one side. With `allow_missing` all these are only notes; a figure that no seed of a
    row has any more still counts as gone. Raises `RecordError` if nothing at all can be compared.
    """
    sides = [_rows(before), _rows(now)]
    changed: list[Change] = []
    gone: list[Change] = []
    notes: list[str] = []
    for key, rows in sides[0].items():
        several = next((some for some in (rows, sides[1].get(key, [])) if len(some) > 1), None)
        if several:
            apart = ", ".join(disagreements([runs[0] for runs in several]))
            note = f"{_row_name(several[0])}: has several rows on one side ({apart}); keep one"
            if not allow_missing:
                raise UsageError(f"--against: {note}")
            notes.append(note)
        elif key in sides[1]:
            changed += _changes_of_row(rows[0], sides[1][key][0], tolerances, notes, allow_missing)
        elif allow_missing:
            notes.append(f"{_row_name(rows[0])}: not in these records, only in --against{_nearest(rows[0], sides[1])}")
        else:
            gone += _gone(rows[0], tolerances, f": the row is not in these records{_nearest(rows[0], sides[1])}")
    for key, rows in sides[1].items():
        if key not in sides[0]:
            notes.append(f"{_row_name(rows[0])}: only in these records, not in --against{_nearest(rows[0], sides[0])}")
    if not changed:
        reasons = [*map(str, gone), *notes]
        raise RecordError(f"--against: nothing could be compared: {'; '.join(reasons[:5]) or 'no record'}")
    return changed + gone, notes


def _gone(before: Runs, tolerances: Sequence[Tolerance], reason: str) -> list[Change]:
    """What a row that has no counterpart has lost."""
    return [
        Change(_row_name(before), figure, statistics.fmean(values), math.nan, math.nan, tolerance.share, reason)
        for tolerance in tolerances
        for (figure, _), values in _figures(before).items()
        if figure == tolerance.figure
    ]


def _changes_of_row(
    before: Runs, now: Runs, tolerances: Sequence[Tolerance], notes: list[str], allow_missing: bool
) -> list[Change]:
    old, new = _figures(before), _figures(now)
    changed = []
    for tolerance in tolerances:
        keys = [key for key in old if key[0] == tolerance.figure]
        if not keys:
            notes.append(f"{_row_name(before)}: --against has no {tolerance.figure}")
        for key in keys:
            others = [other[1] for other in new if other[0] == key[0]]
            reason = f" by that protocol: {key[1]} there, {others[0]} here" if others else _ended_as(now)
            if allow_missing and others and key not in new:
                notes.append(f"{_row_name(now)}: there is no {tolerance.figure}{reason}")
                continue
            change = _change(_row_name(now), tolerance, old[key], new.get(key, []), reason)
            if 0 < len(new.get(key, [])) < len(old[key]):
                few = f"{change.evidence}; {len(old[key])} seeds had it, {len(new[key])} now{_ended_as(now)}"
                change = replace(change, evidence=few, lost=not allow_missing)
            changed.append(change)
    return changed


def _ended_as(runs: Runs) -> str:
    """How the seeds that did not finish ended: `: 2 diverged, 1 oom`."""
    endings = Counter(record.status for record in runs if not record.ok)
    return f": {', '.join(f'{count} {status}' for status, count in endings.items())}" if endings else ""


def _change(row: str, tolerance: Tolerance, old: Sequence[float], new: Sequence[float], reason: str) -> Change:
    before = statistics.fmean(old)
    if not new:
        return Change(row, tolerance.figure, before, math.nan, math.nan, tolerance.share, reason)
    now = statistics.fmean(new)
    worse = now - before if tolerance.better == "lower" else before - now
    share = worse / abs(before) if before else math.copysign(math.inf, worse) if worse else 0.0
    return Change(row, tolerance.figure, before, now, share, tolerance.share, verdict(new, old))


def _rows(records: Sequence[RunRecord]) -> dict[bytes, list[Runs]]:
    """The rows of a comparison by their spec; where there are several of one spec, the code differs."""
    rows: dict[bytes, list[Runs]] = {}
    for runs in same_settings(records):
        rows.setdefault(as_key(spec_over_seeds(runs[0].spec)), []).append(runs)
    return rows


def _figures(runs: Runs) -> dict[tuple[str, str], list[float]]:
    """The values over seeds of each figure of a row that has any, by name and, for a score, protocol."""
    figures: dict[tuple[str, str], list[float]] = {score: [] for score in scores_of(runs)}
    figures |= {(name, ""): [] for name in DIRECTIONS}
    for run in runs:
        if run.ok:
            values: dict[tuple[str, str], Any] = {key: entry["value"] for key, entry in final_scores(run).items()}
            values |= {(name, ""): figure_of(run, name) for name in DIRECTIONS}
            for key, value in values.items():
                if value is not None:
                    figures[key].append(float(value))
    return {key: values for key, values in figures.items() if values}


def _row_name(runs: Runs) -> str:
    variant, dataset, size, kimg, hardware = (
        setting(runs[0].spec, name) for name in ("variant", "dataset", "image_size", "kimg", "hardware")
    )
    return printable(f"{variant} on {dataset}, {size} px, {kimg:g} kimg, {hardware}")


def _of_one_kind(runs: Runs, others: Runs) -> bool:
    """Whether two rows are of one variant, dataset and hardware."""
    kinds = [[setting(some[0].spec, name) for name in ("variant", "dataset", "hardware")] for some in (runs, others)]
    return kinds[0] == kinds[1]


def _nearest(runs: Runs, others: Mapping[bytes, Sequence[Sequence[RunRecord]]]) -> str:
    """What sets a row apart from the nearest of the same variant, dataset and hardware on the other side."""
    near = [
        differing_settings([runs[0], rows[0][0]], ("seed",)) for rows in others.values() if _of_one_kind(rows[0], runs)
    ]
    if not near:
        return ""
    closest = [f"{name} {' vs '.join(values)}" for name, values in min(near, key=len).items()]
    return f" ({', '.join(closest[:3])})"
