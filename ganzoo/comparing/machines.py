"""The same work on several machines: cells that were run on each, with their speed as a ratio to one machine's."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import orjson

from ganzoo.comparing.baseline import Runs, compared_speed
from ganzoo.comparing.differences import OF_THE_MACHINE, disagreements, versions_of
from ganzoo.comparing.rows import comparison, same_settings
from ganzoo.errors import RecordError, UnknownName
from ganzoo.records.settings import spec_over_seeds
from ganzoo.runs import RunRecord
from ganzoo.util.significance import Direction
from ganzoo.util.text import did_you_mean, printable

if TYPE_CHECKING:
    import pandas

MOST_ALIKE = 20
"""Among so many runs of the same variant and dataset the nearest one is looked for, to say why a cell is left out."""

RATIOS = ("ratio", "ratio_low", "ratio_high")


def by_hardware(
    records: Sequence[RunRecord],
    baseline: str | None = None,
    better: Mapping[str, Direction] | None = None,
    target_fid: float | None = None,
) -> tuple[pandas.DataFrame, list[RunRecord], list[str]]:
    """`(comparison, records, notes)` of the cells that ran both on the machine `baseline` and on another one.

    A comparison with the baseline's row first in each cell, and more columns: `ratio` of the training rate to the
    baseline's with its bootstrap 95 % interval over runs and windows (`ratio_low`, `ratio_high`); `normalized_ratio`,
    `_low` and `_high`, the same with each run's rate divided by its own `peak_flops`; the version of `torch`, and the
    commits of ganzoo as `git`. Runs of a cell agree in all but the seed and what `OF_THE_MACHINE` names. The notes say
    of each cell that is left out why. The baseline is the machine of the first record where none is named. Raises
    `UnknownName` for a machine that no record is of and `RecordError` where no cell matches.
    """
    machines = list(dict.fromkeys(record.spec["hardware"] for record in records))
    baseline = machines[0] if baseline is None else baseline
    if baseline not in machines:
        known = did_you_mean(baseline, machines)
        raise UnknownName(f"--baseline {printable(baseline)}: no record is of that hardware{known}")
    if len(machines) == 1:
        raise RecordError(f"--by hardware: every record is of {printable(baseline)}; name a folder of another machine")
    cells: dict[bytes, list[Runs]] = defaultdict(list)
    for runs in same_settings(records):
        cells[_cell(runs[0])].append(runs)
    pairs: list[tuple[Runs, Runs]] = []
    notes: list[str] = []
    for rows in cells.values():
        own = [runs for runs in rows if _machine(runs) == baseline]
        others = [runs for runs in rows if _machine(runs) != baseline]
        if len(own) == 1 and others:
            pairs += [(own[0], own[0]), *((runs, own[0]) for runs in others)]
        else:
            notes.append(_why_unmatched(rows, own, cells.values(), baseline))
    # Two cells that differ from each other give one and the same reason.
    notes = list(dict.fromkeys(notes))
    if not pairs:
        raise RecordError(f"--by hardware: nothing ran alike on {printable(baseline)} and another: {'; '.join(notes)}")
    matched = [record for runs, _ in pairs for record in runs]
    summary = comparison(matched, better, target_fid)
    versions = {name: [_known(runs, name) for runs, _ in pairs] for name in ("torch", "git")}
    columns = {**versions, **_ratio_columns(pairs)}
    import pandas

    joined = pandas.concat([summary, pandas.DataFrame(columns)], axis=1)
    joined.attrs |= summary.attrs | {"baseline": baseline}
    return joined, matched, notes


def _ratio_columns(pairs: Sequence[tuple[Runs, Runs]]) -> dict[str, list[float]]:
    plain = [_ratio(runs, own) for runs, own in pairs]
    normal = [_ratio(runs, own, per_peak=True) for runs, own in pairs]
    columns = {name: [found.get(name, math.nan) for found in plain] for name in RATIOS}
    return columns | {f"normalized_{name}": [found.get(name, math.nan) for found in normal] for name in RATIOS}


def _ratio(runs: Runs, own: Runs, per_peak: bool = False) -> dict[str, float]:
    """The baseline's own is 1 without an interval, where there is a rate at all."""
    found = compared_speed(runs, own, per_peak)
    return {"ratio": 1.0} if found and runs is own else found


def _known(runs: Runs, name: str) -> str | None:
    """What the environments of the runs have under a name."""
    environments: list[Mapping[str, Any]] = [run.environment or {} for run in runs]
    found = dict.fromkeys(value for environment in environments if (value := environment.get(name)))
    return ", ".join(found) or None


def _cell(record: RunRecord) -> bytes:
    spec = {name: value for name, value in spec_over_seeds(record.spec).items() if name not in OF_THE_MACHINE}
    versions = {name: value for name, value in versions_of(record).items() if name not in OF_THE_MACHINE}
    return orjson.dumps([spec, versions], option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)


def _machine(runs: Runs) -> str:
    return str(runs[0].spec["hardware"])


def _why_unmatched(rows: Sequence[Runs], own: Sequence[Runs], cells: Any, baseline: str) -> str:
    """Why a cell has no match: what the nearest one differs in, or that there is none."""
    example = rows[0][0]
    name = printable(f"{example.spec['variant']} on {example.spec['dataset']}")
    if len(own) > 1:
        apart = ", ".join(disagreements([runs[0] for runs in own]))
        return f"{name}: {len(own)} rows on {printable(baseline)} ({apart}); choose one with --where"
    wanted = _machine(rows[0]) != baseline
    alike = (
        runs[0]
        for cell in cells
        for runs in cell
        if all(runs[0].spec[key] == example.spec[key] for key in ("variant", "dataset"))
        and (_machine(runs) == baseline) == wanted
    )
    near = [
        disagreements([other, example] if wanted else [example, other], ("seed", *OF_THE_MACHINE))
        for other in islice(alike, MOST_ALIKE)
    ]
    if not near:
        return f"{name}: only on {', '.join(dict.fromkeys(printable(_machine(runs)) for runs in rows))}"
    closest = min(near, key=len)
    return f"{name}: {', '.join(closest[:4])}{', …' if len(closest) > 4 else ''}"
