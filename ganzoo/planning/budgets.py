"""`--kimg auto:LIMIT`: budgets that double in rounds, and the runs that go on from one round to the next."""

from __future__ import annotations

from dataclasses import replace

from ganzoo.planning.plan import PlannedRun, evaluation_points
from ganzoo.planning.request import BenchPlan
from ganzoo.records.checkpoint import CHECKPOINT
from ganzoo.records.store import read_spec
from ganzoo.runs import RunRecord


def next_round(plan: BenchPlan, run: PlannedRun, record: RunRecord) -> PlannedRun:
    """What trains on with twice the budget, after `run` was done and its `record` written.

    It goes on from the checkpoint; where what is done in a step depends on the budget (see `Preflight`), it begins
    anew instead, for by the larger budget the steps so far would have been others.
    """
    before = read_spec(record.spec)
    kimg = 2 * before.kimg
    points = evaluation_points(plan.eval_every or kimg / len(before.scoring.evaluate_at_kimg), kimg)
    spec = replace(before, kimg=kimg, scoring=replace(before.scoring, evaluate_at_kimg=points))
    if run.preflight.follows_budget:
        return replace(run, spec=spec)
    assert record.path is not None
    checkpoint = record.path.parent / CHECKPOINT
    return replace(run, spec=replace(spec, continues=record.run_id), checkpoint=str(checkpoint.resolve()))
