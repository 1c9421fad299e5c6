"""`--kimg auto:LIMIT`: rounds of a plan with budgets that double, until no row is still improving."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from ganzoo.planning.budgets import auto_limit
from ganzoo.planning.continuation import next_round
from ganzoo.planning.plan import PlannedRun, ResolvedPlan
from ganzoo.records.course import Course, course_of
from ganzoo.records.points import final_scores
from ganzoo.records.protocols import direction_of
from ganzoo.registry.registry import Registry
from ganzoo.running.events import OnEvent, OnNote
from ganzoo.running.options import RunOptions
from ganzoo.running.runner import run_plan
from ganzoo.runs import BenchInterrupted, RunRecord
from ganzoo.util.text import printable


def run_growing(
    plan: ResolvedPlan, registry: Registry, results: Path, options: RunOptions, *, on_event: OnEvent, on_note: OnNote
) -> list[RunRecord]:
    """Do the plan, whose budgets are those of the first round; then, up to the limit, the rows that still improve.

    All seeds of a row go to the next round or none does, by the first metric under the first extractor over all of
    them: by the same rule by which tables mark a row as still improving. Returns the last round's record of each run,
    in the order of the plan. Raises what `run_plan` raises; `BenchInterrupted` has the last record of every run then.
    """
    limit = auto_limit(plan.asked.kimg)
    assert limit is not None
    latest: dict[tuple[str, int], RunRecord] = {}
    trained_before: dict[str, float] = {}
    order = [_key(run) for run in plan.runs]
    while True:
        try:
            records = run_plan(plan, registry, results, options, on_event=on_event, on_note=on_note)
        except BenchInterrupted as interrupt:
            latest |= _by_run(interrupt.records)
            raise BenchInterrupted([latest[key] for key in order if key in latest]) from interrupt
        latest |= _by_run(records)
        if not options.keep_going and not all(record.ok for record in records):
            break
        on: list[PlannedRun] = []
        for variant in dict.fromkeys(run.spec.variant for run in plan.runs):
            row = [run for run in plan.runs if run.spec.variant == variant]
            if _goes_on(variant, row, latest, limit, on_note):
                if row[0].preflight.follows_budget:
                    trained_before[variant] = trained_before.get(variant, 0.0) + row[0].spec.kimg
                on += [next_round(plan.asked, run, latest[_key(run)]) for run in row]
        if not on:
            break
        names = ", ".join(dict.fromkeys(printable(run.spec.variant) for run in on))
        on_note(f"still improving, so trained to {on[0].spec.kimg:g} kimg: {names}")
        plan = replace(plan, runs=tuple(on))
    for variant, kimg in trained_before.items():
        on_note(
            f"{printable(variant)}: its schedules follow the budget, so each round began anew; the rounds before the "
            f"last cost {kimg:g} kimg a seed"
        )
    return [latest[key] for key in order if key in latest]


def _goes_on(
    variant: str, row: Sequence[PlannedRun], latest: dict[tuple[str, int], RunRecord], limit: float, on_note: OnNote
) -> bool:
    """Whether a row is to be trained on; why it is not, where that is not plain, is said."""
    name = printable(variant)
    records = [latest[_key(run)] for run in row if _key(run) in latest]
    if len(records) < len(row) or not all(record.ok for record in records):
        return False
    final = final_scores(records[0])
    if not final:
        return False
    score, entry = next(iter(final.items()))
    better = direction_of(score.name, records[0].protocols.get(score.protocol, {})) or "lower"
    course = course_of(records, score, better)
    kimg = row[0].spec.kimg
    if course.best_kimg is not None:
        on_note(f"{name}: past its best, which was at {course.best_kimg:g} kimg; stops at {kimg:g}")
    if course.gain is not None and 2 * kimg > limit:
        on_note(f"{name}: still improving at the limit of {limit:g} kimg")
        return False
    if course == Course() and len(records) == 1 and "sample_low" not in entry:
        on_note(f"{name}: {score.name} of one seed has no interval, so nothing says if it improves; give --seeds 2")
    return course.gain is not None


def _key(run: PlannedRun) -> tuple[str, int]:
    return run.spec.variant, run.spec.seed


def _by_run(records: Iterable[RunRecord]) -> dict[tuple[str, int], RunRecord]:
    return {(record.spec["variant"], record.spec["seed"]): record for record in records}
