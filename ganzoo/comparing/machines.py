"""The same work on several machines: cells that were run on each, with their speed as a ratio to one machine's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import islice

from ganzoo.comparing.baseline import speed_ratio
from ganzoo.comparing.comparison import Baseline, Comparison, compare_rows
from ganzoo.comparing.differences import OF_THE_MACHINE, disagreements, versions_of
from ganzoo.comparing.rows import Ratio, Row, Runs, as_key, same_settings
from ganzoo.comparing.targets import Goal
from ganzoo.errors import RecordError, UnknownName
from ganzoo.records.settings import setting, spec_over_seeds
from ganzoo.runs import RunRecord
from ganzoo.util.text import did_you_mean, printable

MAX_CANDIDATES = 20
"""Among so many runs of the same variant and dataset the nearest one is looked for, to say why a cell is left out."""


def by_hardware(
    records: Sequence[RunRecord],
    baseline: str | None = None,
    goal: Goal | None = None,
    *,
    doubtful: bool = False,
) -> tuple[Comparison, list[str]]:
    """`(comparison, notes)` of the cells that ran both on the machine `baseline` and on another one.

    The baseline's row is the first of each cell. `ratio` is that of the training rate to the baseline's, and
    `ratio_per_peak` the same with each run's rate divided by its measured peak; where a speed is doubtful, with
    `doubtful` only. Runs of a cell agree in all but the
    seed and what `OF_THE_MACHINE` names. The notes say of each cell that is left out why. The baseline is the machine
    of the first record where none is named. Raises `UnknownName` for a machine that no record is of and `RecordError`
    where no cell matches.
    """
    machines = list(dict.fromkeys(setting(record.spec, "hardware") for record in records))
    baseline = machines[0] if baseline is None else baseline
    if baseline not in machines:
        known = did_you_mean(baseline, machines)
        raise UnknownName(f"--baseline {printable(baseline)}: no record is of that hardware{known}")
    if len(machines) == 1:
        raise RecordError(f"--by hardware: every record is of {printable(baseline)}; name a folder of another machine")
    matched, notes = _matched_cells(records, baseline)
    if not matched:
        raise RecordError(f"--by hardware: nothing ran alike on {printable(baseline)} and another: {'; '.join(notes)}")
    comparison = compare_rows([runs for cell in matched for runs in cell], goal, keep_order=True)
    rows = iter(comparison.rows)
    compared = [row for cell in matched for row in _with_ratios([next(rows) for _ in cell], doubtful)]
    return replace(comparison, rows=tuple(compared), baseline=Baseline(baseline, "hardware", doubtful)), notes


def _matched_cells(records: Sequence[RunRecord], baseline: str) -> tuple[list[list[Runs]], list[str]]:
    """The rows of each cell that can be compared, the baseline's first; and of each other cell why it cannot."""
    cells: dict[bytes, list[Runs]] = defaultdict(list)
    for runs in same_settings(records):
        cells[_cell_key(runs[0])].append(runs)
    matched: list[list[Runs]] = []
    notes: list[str] = []
    for rows in cells.values():
        of_baseline = [runs for runs in rows if _hardware_of(runs) == baseline]
        others = [runs for runs in rows if _hardware_of(runs) != baseline]
        if len(of_baseline) == 1 and others:
            matched.append([*of_baseline, *others])
        else:
            notes.append(_why_unmatched(rows, of_baseline, cells.values(), baseline))
    # Two cells that differ from each other give one and the same reason.
    return matched, list(dict.fromkeys(notes))


def _with_ratios(rows: Sequence[Row], doubtful: bool) -> list[Row]:
    """The rows of a cell, set against the first; its ratio to itself is 1 without an interval, if it has a rate."""
    first = rows[0]

    def ratio(row: Row, per_peak: bool) -> Ratio | None:
        measured = speed_ratio(row, first, per_peak=per_peak, doubtful=doubtful)
        return Ratio(1.0) if measured and row is first else measured

    return [replace(row, ratio=ratio(row, False), ratio_per_peak=ratio(row, True)) for row in rows]


def _cell_key(record: RunRecord) -> bytes:
    spec = {name: value for name, value in spec_over_seeds(record.spec).items() if name not in OF_THE_MACHINE}
    versions = {name: value for name, value in versions_of(record).items() if name not in OF_THE_MACHINE}
    return as_key([spec, versions])


def _hardware_of(runs: Runs) -> str:
    return str(setting(runs[0].spec, "hardware"))


def _why_unmatched(
    rows: Sequence[Runs], of_baseline: Sequence[Runs], cells: Iterable[Sequence[Runs]], baseline: str
) -> str:
    """Why a cell has no match: what the nearest one differs in, or that there is none."""
    example = rows[0][0]
    work = [setting(example.spec, name) for name in ("variant", "dataset")]
    name = printable(" on ".join(work))
    if len(of_baseline) > 1:
        apart = ", ".join(disagreements([runs[0] for runs in of_baseline]))
        return f"{name}: {len(of_baseline)} rows on {printable(baseline)} ({apart}); choose one with --where"
    wanted = _hardware_of(rows[0]) != baseline
    alike = (
        runs[0]
        for cell in cells
        for runs in cell
        if [setting(runs[0].spec, key) for key in ("variant", "dataset")] == work
        and (_hardware_of(runs) == baseline) == wanted
    )
    near = [
        disagreements([other, example] if wanted else [example, other], ("seed", *OF_THE_MACHINE))
        for other in islice(alike, MAX_CANDIDATES)
    ]
    if not near:
        return f"{name}: only on {', '.join(dict.fromkeys(printable(_hardware_of(runs)) for runs in rows))}"
    closest = min(near, key=len)
    return f"{name}: {', '.join(closest[:4])}{', …' if len(closest) > 4 else ''}"
