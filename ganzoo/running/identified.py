"""The runs of a plan with their ids: each has its folder in the results, and a record that may be there already."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ganzoo.planning.plan import ResolvedPlan
from ganzoo.planning.provenance import code_of
from ganzoo.records.folder import refuse_links, stamp_of
from ganzoo.records.store import BEFORE, RECORD, run_folder, run_id_of, versions_in_id
from ganzoo.registry.registry import Registry
from ganzoo.runs import Environment, RunRecord, RunSpec

SMALLEST_BATCH = 2
"""BatchNorm in training mode needs two images."""


@dataclass(frozen=True)
class IdentifiedRun:
    """One run of a plan, counted from 1, and where its results go.

    `continues` is the checkpoint of another run to start from, `code` what its record says of its code, `stamp` which
    record was in its folder when the bench began.
    """

    index: int
    spec: RunSpec
    run_id: str
    folder: Path
    continues: str | None
    code: Environment
    stamp: tuple[int, int] | None


@dataclass(frozen=True)
class RunsOfPlan:
    """The runs of a plan in order; `half_of` gives those that stand in for a run whose batch did not fit.

    Raises `RecordError` where a symbolic link would have a run write outside of `results`.
    """

    plan: ResolvedPlan
    registry: Registry
    results: Path

    def __iter__(self) -> Iterator[IdentifiedRun]:
        for index, planned in enumerate(self.plan.runs, 1):
            yield self._identify(index, planned.spec, planned.checkpoint)

    def half_of(self, run: IdentifiedRun) -> IdentifiedRun | None:
        """The same run with half the batch; None where the plan does not ask for it, or no smaller batch can be."""
        spec = run.spec
        if not self.plan.shrinks_to_fit or spec.recipe.batch_size < 2 * SMALLEST_BATCH:
            return None
        requested = spec.requested_batch_size or spec.recipe.batch_size
        smaller = replace(
            spec, recipe=replace(spec.recipe, batch_size=spec.recipe.batch_size // 2), requested_batch_size=requested
        )
        return self._identify(run.index, smaller, run.continues)

    def with_smaller(self) -> Iterator[IdentifiedRun]:
        """Every run, each with those of smaller batches that may stand in for it."""
        for run in self:
            each: IdentifiedRun | None = run
            while each is not None:
                yield each
                each = self.half_of(each)

    def counts(self, record: RunRecord, run: IdentifiedRun) -> bool:
        """Whether a record settles its run: it is done, or is known not to fit where the plan asks for that."""
        done = record.ok or (self.plan.shrinks_to_fit and record.status == "oom")
        return done and record.run_id == run.run_id

    def _identify(self, index: int, spec: RunSpec, continues: str | None) -> IdentifiedRun:
        code = code_of(spec, self.registry)
        hashes = {name: facts["source_sha256"] for name, facts in code["plugins"].items()}
        run_id = run_id_of(spec, hashes, versions_in_id(code))
        folder = run_folder(self.results, spec, run_id)
        refuse_links(self.results, folder, folder.with_name(folder.name + BEFORE))
        return IdentifiedRun(index, spec, run_id, folder, continues, code, stamp_of(folder / RECORD))


def is_done_by_another(record: RunRecord, run: IdentifiedRun) -> bool:
    """Whether another process has written this record since the bench began; one that was stopped left its run."""
    return record.status != "interrupted" and stamp_of(run.folder / RECORD) != run.stamp
