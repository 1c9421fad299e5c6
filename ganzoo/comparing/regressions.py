"""Has anything become worse? Records against those of an earlier state, figure by figure, each in its direction."""

from __future__ import annotations

import math
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ganzoo.comparing.baseline import difference_in_words, difference_of
from ganzoo.comparing.differences import differences, differing_settings, disagreements
from ganzoo.comparing.figures import FIGURES, figure_called, is_speed
from ganzoo.comparing.rows import Difference, Row, Runs, as_key, same_settings
from ganzoo.comparing.scores import scores_of
from ganzoo.errors import RecordError, UnknownName, UsageError
from ganzoo.records.points import final_scores
from ganzoo.records.settings import setting, spec_over_seeds
from ganzoo.runs import RunRecord
from ganzoo.util.significance import Direction
from ganzoo.util.text import did_you_mean, printable

JUDGED = tuple(figure for figure in FIGURES if figure.better)
"""The figures that `--fail-on` takes beside scores."""

TOLERANCE = re.compile(r"([A-Za-z0-9][\w./ -]*):(\d+(?:\.\d*)?|\.\d+)%")

Verdict = Literal["ok", "regression"]


@dataclass(frozen=True)
class Tolerance:
    """One `--fail-on`: a figure, in which direction it is better, and by which share it may be worse."""

    figure: str
    better: Direction
    share: float


@dataclass(frozen=True)
class Change:
    """A figure of a row before and now, means over seeds; `now` is None where it is gone.

    `row` names it among all rows, `settings` are those that tables show. `share` is how much worse it is, as a share of
    what it was: negative where it is better, infinite where it was zero. `difference` says whether the seeds tell it
    from chance, `seeds` how many had the figure before and have it now. `reason` is why the figure, or a seed of it, is
    gone. Where `lost` too few seeds have it for the row to pass.
    """

    row: str
    settings: Mapping[str, Any]
    tolerance: Tolerance
    protocol: str
    before: float
    now: float | None = None
    share: float | None = None
    difference: Difference | None = None
    seeds: tuple[int, int] = (0, 0)
    reason: str = ""
    lost: bool = False

    @property
    def too_much(self) -> bool:
        """Whether it is worse than allowed, or gone in a seed or in all."""
        return self.share is None or self.lost or self.share > self.tolerance.share

    @property
    def verdict(self) -> Verdict:
        """What follows from it for the exit code."""
        return "regression" if self.too_much else "ok"

    def to_json(self) -> dict[str, Any]:
        """The verdict and what it rests on, for programs; an infinite share is null, as is all that is missing."""
        difference = asdict(self.difference) if self.difference else {}
        share = self.share if self.share is not None and math.isfinite(self.share) else None
        return {
            "verdict": self.verdict,
            "row": self.row,
            **self.settings,
            "figure": self.tolerance.figure,
            "protocol": self.protocol or None,
            "better": self.tolerance.better,
            "before": self.before,
            "now": self.now,
            "worse_by": share,
            "allowed": self.tolerance.share,
            "difference": difference.get("value"),
            "difference_low": difference.get("low"),
            "difference_high": difference.get("high"),
            "difference_p": difference.get("p"),
            "seeds_before": self.seeds[0],
            "seeds_now": self.seeds[1],
            "reason": self.reason.removeprefix(": ").strip() or None,
        }

    def __str__(self) -> str:
        figure = self.tolerance.figure
        if self.now is None or self.share is None:
            return f"{self.row}: {figure} was {self.before:.4g}, and there is none now{self.reason}"
        moved = f"{abs(self.share):.1%} {'worse' if self.share > 0 else 'better'}" if self.share else "the same"
        before, now = self.seeds
        few = f"; {before} seeds had it, {now} now{self.reason}" if now < before else ""
        difference = difference_in_words(self.difference, now, before)
        return (
            f"{self.row}: {figure} {self.before:.4g} -> {self.now:.4g}, {moved} "
            f"(allowed {self.tolerance.share * 100:.4g}%); difference {difference}{few}"
        )


def parse_tolerance(text: str, better: Mapping[str, Direction]) -> Tolerance:
    """`fid:5%`, or `images/s:20%` as tables call it. `better` has the directions of the scores.

    Raises `UsageError` for another form, and `UnknownName` for a figure without a known direction.
    """
    match = TOLERANCE.fullmatch(text)
    if match is None:
        raise UsageError(f"--fail-on {printable(text)}: write FIGURE:SHARE%, as in fid:5%")
    directions = {**{each.name: each.better for each in JUDGED if each.better}, **better}
    figure = figure_called(match[1])
    figure = next((name for name in directions if name.lower() == figure.lower()), figure)
    if figure not in directions:
        known = did_you_mean(match[1], [*directions, *(each.head for each in JUDGED)])
        raise UnknownName(
            f"--fail-on {printable(text)}: no metric says in which direction '{printable(match[1])}' is better{known}; "
            "a score of a plugin's needs its --plugin"
        )
    return Tolerance(figure, directions[figure], float(match[2]) / 100)


def changes(
    before: Sequence[RunRecord],
    now: Sequence[RunRecord],
    tolerances: Sequence[Tolerance],
    *,
    allow_missing: bool = False,
    doubtful: bool = False,
) -> tuple[list[Change], list[str]]:
    """`(changes, notes)`: each figure of each row of `before`, and what could not be compared, by name.

    Rows match if they have the same spec except for the seed; the versions of the code may differ. A row without a
    match has lost its figures, as has one that is scored by another protocol now or in fewer seeds. Raises `UsageError`
    if a spec has several rows on one side. With `allow_missing` all these are only notes; a figure that no seed of a
    row has any more still counts as gone. A speed that is doubtful on either side is compared with `doubtful` only.
    Raises `RecordError` if nothing at all can be compared.
    """
    return _Changes(_rows(before), _rows(now), tolerances, allow_missing, doubtful).found()


@dataclass
class _Changes:
    """Two sides, their rows by spec, and what has been found between them."""

    before: Mapping[bytes, list[Runs]]
    now: Mapping[bytes, list[Runs]]
    tolerances: Sequence[Tolerance]
    allow_missing: bool
    doubtful: bool
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.names = _names([rows[0] for rows in {**self.now, **self.before}.values()])

    def found(self) -> tuple[list[Change], list[str]]:
        """See `changes`."""
        changed: list[Change] = []
        gone: list[Change] = []
        for key, rows in self.before.items():
            self._refuse_several(key)
            if len(rows) > 1 or len(self.now.get(key, ())) > 1:
                continue
            if key in self.now:
                changed += self._of_row(key, rows[0], self.now[key][0])
                continue
            nearest = _nearest(rows[0], self.now)
            if self.allow_missing:
                self.notes.append(f"{self.names[key]}: not in these records, only in --against{nearest}")
            else:
                gone += self._gone(key, rows[0], f": the row is not in these records{nearest}")
        for key, rows in self.now.items():
            if key not in self.before:
                nearest = _nearest(rows[0], self.before)
                self.notes.append(f"{self.names[key]}: only in these records, not in --against{nearest}")
        if not changed:
            reasons = [*map(str, gone), *self.notes]
            raise RecordError(f"--against: nothing could be compared: {'; '.join(reasons[:5]) or 'no record'}")
        return changed + gone, self.notes

    def _refuse_several(self, key: bytes) -> None:
        several = next((rows for rows in (self.before[key], self.now.get(key, [])) if len(rows) > 1), None)
        if several is None:
            return
        apart = ", ".join(disagreements([runs[0] for runs in several]))
        note = f"{self.names[key]}: has several rows on one side ({apart}); keep one"
        if not self.allow_missing:
            raise UsageError(f"--against: {note}")
        self.notes.append(note)

    def _gone(self, key: bytes, runs: Runs, reason: str) -> list[Change]:
        """What a row that has no counterpart has lost."""
        return [
            self._change(key, runs, tolerance, protocol, values, [], reason)
            for tolerance in self.tolerances
            for (figure, protocol), values in _figures(runs).items()
            if figure == tolerance.figure
        ]

    def _of_row(self, key: bytes, before: Runs, now: Runs) -> list[Change]:
        old, new = _figures(before), _figures(now)
        name = self.names[key]
        doubt = "" if self.doubtful else next(filter(None, (Row(tuple(runs)).flags for runs in (now, before))), "")
        changed = []
        for tolerance in self.tolerances:
            figures = [figure for figure in old if figure[0] == tolerance.figure]
            if not figures:
                self.notes.append(f"{name}: --against has no {tolerance.figure}")
            elif doubt and is_speed(tolerance.figure) and new.get(figures[0]):
                self.notes.append(f"{name}: {tolerance.figure} is doubtful ({doubt}); --doubtful compares it")
                continue
            for figure in figures:
                others = [other[1] for other in new if other[0] == figure[0]]
                reason = f" by that protocol: {figure[1]} there, {others[0]} here" if others else _ended_as(now)
                if self.allow_missing and others and figure not in new:
                    self.notes.append(f"{name}: there is no {tolerance.figure}{reason}")
                    continue
                values = new.get(figure, [])
                reason = reason if not values else _ended_as(now) if len(values) < len(old[figure]) else ""
                changed.append(self._change(key, now, tolerance, figure[1], old[figure], values, reason))
        return changed

    def _change(
        self,
        key: bytes,
        runs: Runs,
        tolerance: Tolerance,
        protocol: str,
        old: Sequence[float],
        new: Sequence[float],
        reason: str,
    ) -> Change:
        row, settings, before = self.names[key], Row(tuple(runs)).settings, statistics.fmean(old)
        seeds = len(old), len(new)
        if not new:
            return Change(row, settings, tolerance, protocol, before, seeds=seeds, reason=reason)
        now = statistics.fmean(new)
        worse = now - before if tolerance.better == "lower" else before - now
        share = worse / abs(before) if before else math.copysign(math.inf, worse) if worse else 0.0
        difference, lost = difference_of(new, old), len(new) < len(old)
        few = lost and not self.allow_missing
        return Change(row, settings, tolerance, protocol, before, now, share, difference, seeds, reason, few)


def _ended_as(runs: Runs) -> str:
    """How the seeds that did not finish ended: `: 2 diverged, 1 oom`."""
    endings = Counter(record.status for record in runs if not record.ok)
    return f": {', '.join(f'{count} {status}' for status, count in endings.items())}" if endings else ""


def _rows(records: Sequence[RunRecord]) -> dict[bytes, list[Runs]]:
    """The rows of a comparison by their spec; where there are several of one spec, the code differs."""
    rows: dict[bytes, list[Runs]] = {}
    for runs in same_settings(records):
        rows.setdefault(_key_of(runs), []).append(runs)
    return rows


def _key_of(runs: Runs) -> bytes:
    return as_key(spec_over_seeds(runs[0].spec))


def _figures(runs: Runs) -> dict[tuple[str, str], list[float]]:
    """The values over seeds of each figure of a row that has any, by name and, for a score, protocol."""
    figures: dict[tuple[str, str], list[float]] = {score: [] for score in scores_of(runs)}
    figures |= {(figure.name, ""): [] for figure in JUDGED}
    for run in runs:
        if run.ok:
            values: dict[tuple[str, str], Any] = {key: entry["value"] for key, entry in final_scores(run).items()}
            values |= {(figure.name, ""): figure.of(run) for figure in JUDGED}
            for key, value in values.items():
                if value is not None:
                    figures[key].append(float(value))
    return {key: values for key, values in figures.items() if values}


def _names(rows: Sequence[Runs]) -> dict[bytes, str]:
    """What each row is called, by its spec; rows that agree in what a name holds are told apart by what differs."""
    alike: dict[str, list[Runs]] = defaultdict(list)
    for runs in rows:
        alike[_row_name(runs)].append(runs)
    names = {}
    for name, some in alike.items():
        apart = differences([runs[0] for runs in some]) if len(some) > 1 else [""]
        for runs, text in zip(some, apart, strict=True):
            names[_key_of(runs)] = f"{name}, {text}" if text else name
    return names


def _row_name(runs: Runs) -> str:
    settings = Row(tuple(runs)).settings
    form = "{variant} on {dataset}, {image_size} px, {kimg:g} kimg, batch {batch_size}, {hardware}"
    return printable(form.format_map(settings))


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
