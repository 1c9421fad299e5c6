"""Two records side by side: what changed between them, and how the figures moved."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ganzoo.comparing.differences import differing_settings
from ganzoo.comparing.figures import FIGURES, is_speed
from ganzoo.comparing.rows import doubts_of_speed
from ganzoo.comparing.scores import scores_of
from ganzoo.comparing.table import column_names
from ganzoo.records.points import final_scores
from ganzoo.runs import RunRecord

Sides = tuple[Any, Any]

ABSENT = "none"
"""Stands for a fact that only the other record has."""


@dataclass(frozen=True)
class RecordDiff:
    """How two runs ended and what differs between them, by dotted names to the two values.

    Only `status` and `figures` have what stayed, too. `figures` are medians and final scores; a score under another
    protocol is another figure. `doubts` has for each run what makes its speed doubtful; `doubtful` asks for the change
    of such speeds too.
    """

    status: Sides
    hardware: Mapping[str, Sides]
    software: Mapping[str, Sides]
    flags: Mapping[str, Sides]
    plugins: Mapping[str, Sides]
    settings: Mapping[str, Sides]
    figures: Mapping[str, Sides]
    doubts: tuple[Sequence[str], Sequence[str]]
    doubtful: bool = False

    def change(self, figure: str) -> float | None:
        """How a figure moved, as a share of what it was; None where nothing can be said, as of a doubtful speed."""
        return None if self.is_doubtful(figure) else change_of(*self.figures[figure])

    def is_doubtful(self, figure: str) -> bool:
        """Whether the figure is a speed, and that of either run is doubtful, which was not asked for."""
        return is_speed(figure) and any(self.doubts) and not self.doubtful

    def to_json(self) -> dict[str, Any]:
        """`{"status": [a, b], "hardware": {name: [a, b]}, …, "figures": {name: {"a", "b", "change"}}, "doubts": […]}`.

        `change` is a share of a; null where it cannot be said, be it that the speeds are doubtful for what `doubts`
        says of a and of b.
        """
        parts = ("hardware", "software", "flags", "plugins", "settings")
        changed = {part: {name: list(sides) for name, sides in getattr(self, part).items()} for part in parts}
        figures = {name: {"a": a, "b": b, "change": self.change(name)} for name, (a, b) in self.figures.items()}
        return {"status": list(self.status), **changed, "figures": figures, "doubts": [*map(list, self.doubts)]}


def diff_records(first: RunRecord, second: RunRecord, *, doubtful: bool = False) -> RecordDiff:
    """What differs between two records; with `doubtful` how doubtful speeds moved, too."""
    environments: list[dict[str, Any]] = [{**(record.environment or {})} for record in (first, second)]
    flags = [environment.pop("flags", None) or {} for environment in environments]
    plugins = [environment.pop("plugins", None) or {} for environment in environments]
    return RecordDiff(
        status=(first.status, second.status),
        hardware=_changed(first.hardware, second.hardware),
        software=_changed(*environments),
        flags=_changed(*flags),
        plugins=_changed(*({name: _source(facts) for name, facts in side.items()} for side in plugins)),
        settings={name: (one, other) for name, (one, other) in differing_settings([first, second]).items()},
        figures=_figures_of_both(first, second),
        doubts=(doubts_of_speed(first), doubts_of_speed(second)),
        doubtful=doubtful,
    )


def mixed_states(runs: Sequence[RunRecord]) -> dict[str, list[str]]:
    """What runs that should share it do not: of the code, the software and the machine, as far as it is known."""
    states = [_state(run) for run in runs]
    names = dict.fromkeys(name for state in states for name in state)
    values = {name: list(dict.fromkeys(state[name] for state in states if name in state)) for name in names}
    return {name: several for name, several in values.items() if len(several) > 1}


def _state(run: RunRecord) -> dict[str, str]:
    """What decides a figure and stands in no spec; memory in whole GiB, for it varies a little from boot to boot.

    A flag, a package or a commit that the record holds as null is known not to be there, and reads `none`. What it does
    not hold is not known, and neither is a fact of the machine that could not be read.
    """
    hardware: Mapping[str, Any] = run.hardware or {}
    environment: Mapping[str, Any] = run.environment or {}
    memory = hardware.get("machine_memory_bytes")
    facts = {
        "python": environment.get("python"),
        "platform": environment.get("platform"),
        "memory": memory and f"{memory / 2**30:.0f} GiB",
        **{name: hardware.get(name) for name in ("driver", "cuda", "cudnn", "power_limit_watts", "cpu_capability")},
    }
    settled = {
        **({"commit": environment["git"]} if "git" in environment else {}),
        **(environment.get("packages") or {}),
        **(environment.get("flags") or {}),
    }
    known = {name: str(value) for name, value in facts.items() if value is not None}
    return {**known, **{name: ABSENT if value is None else str(value) for name, value in settled.items()}}


def change_of(before: float | None, now: float | None) -> float | None:
    """How a figure moved, as a share of what it was; None where it cannot be said."""
    if before is None or now is None or not before:
        return None
    change = float((now - before) / abs(before))
    return change if math.isfinite(change) else None


def _changed(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Sides]:
    sides = [dict(_dotted("", side)) for side in (first, second)]
    names = dict.fromkeys([*sides[0], *sides[1]])
    pairs = {name: (sides[0].get(name, ABSENT), sides[1].get(name, ABSENT)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _dotted(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, held in value.items():
            yield from _dotted(f"{prefix}.{name}" if prefix else str(name), held)
    else:
        yield prefix, value


def _source(facts: Mapping[str, Any]) -> str:
    """A plugin's version with the hash of its source: `0.1.0 2b85338963`."""
    return f"{facts.get('version') or 'file'} {(facts.get('source_sha256') or '?')[:10]}"


def _figures_of_both(first: RunRecord, second: RunRecord) -> dict[str, Sides]:
    columns = column_names(scores_of([first, second]))
    scores = [final_scores(record) for record in (first, second)]
    figures: dict[str, Sides] = {
        column: (_score_value(scores[0].get(score)), _score_value(scores[1].get(score)))
        for score, column in columns.items()
    }
    figures |= {figure.name: (figure.of(first), figure.of(second)) for figure in FIGURES if figure.in_diff}
    return {name: sides for name, sides in figures.items() if sides != (None, None)}


def _score_value(entry: Mapping[str, Any] | None) -> float | None:
    return None if entry is None or entry["value"] is None else float(entry["value"])
