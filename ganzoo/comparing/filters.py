"""Which records: the grammar of `--where COLUMN=VALUE`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from operator import ge, gt, le, lt
from typing import Any

from ganzoo.comparing.differences import flat, setting_text, versions_of
from ganzoo.comparing.scores import scores_of
from ganzoo.comparing.table import Cells, column_names, record_cells
from ganzoo.errors import UnknownName, UsageError
from ganzoo.records.points import ScoreKey
from ganzoo.records.settings import whole_spec
from ganzoo.runs import RunRecord
from ganzoo.util.text import did_you_mean, printable

CONDITION = re.compile(r"\s*([^=!<>]+?)\s*(>=|<=|!=|==|=|>|<)\s*(.*?)\s*")
ORDERS = {">=": ge, "<=": le, ">": gt, "<": lt}


@dataclass(frozen=True)
class Condition:
    """One `--where`: a column, how it is compared (`=`, `!=`, `>`, `>=`, `<`, `<=`), and with what."""

    column: str
    operator: str
    value: str

    def __str__(self) -> str:
        return f"--where {printable(self.column)}{self.operator}{printable(self.value)}"

    def holds(self, value: Any) -> bool:
        """Whether it holds for a value; never for one that is missing.

        Numbers are compared as numbers. `=` and `!=` take text with the wildcards `*`, `?` and `[…]`.
        """
        if _missing(value):
            return False
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            wanted = self._number()
            if self.operator in ORDERS:
                return bool(ORDERS[self.operator](value, wanted))
            return (value == wanted) == (self.operator == "=")
        if self.operator in ORDERS:
            raise UsageError(f"{self}: '{printable(self.column)}' is text; compare it with = or !=")
        return fnmatchcase(setting_text("", value), self.value) == (self.operator == "=")

    def _number(self) -> float:
        try:
            return float(self.value)
        except ValueError:
            raise UsageError(f"{self}: '{printable(self.column)}' is a number; give one to compare it with") from None


def parse_condition(text: str) -> Condition:
    """`dataset=mnist`, `kimg>=100`, `variant=wgan*`. Raises `UsageError` for anything else."""
    match = CONDITION.fullmatch(text)
    if match is None or not match[3]:
        raise UsageError(f"--where {printable(text)}: write COLUMN=VALUE, as in dataset=mnist or kimg>=100")
    return Condition(match[1], "=" if match[2] == "==" else match[2], match[3])


def keep(records: Sequence[RunRecord], conditions: Sequence[Condition]) -> list[RunRecord]:
    """The records for which every condition holds.

    A column is one of `records_table`, a field of the spec by its dotted name, `torch`, `ganzoo`, `plugin NAME` (the
    beginning of its source's hash), or `git`, the commit. Raises `UnknownName` for one that no record has, and
    `UsageError` where nothing is left.
    """
    if not conditions:
        return list(records)
    columns = column_names(scores_of(records))
    cells = [record_cells(record, columns) for record in records]
    chosen = [True] * len(records)
    for condition in conditions:
        values = _values(condition, cells, columns, records)
        chosen = [kept and condition.holds(value) for kept, value in zip(chosen, values, strict=True)]
    kept = [record for record, wanted in zip(records, chosen, strict=True) if wanted]
    if not kept:
        words = " ".join(map(str, conditions))
        raise UsageError(f"{words}: holds for none of the {len(records)} records; widen it")
    return kept


def _values(
    condition: Condition, cells: Sequence[Cells], columns: Mapping[ScoreKey, str], records: Sequence[RunRecord]
) -> list[Any]:
    """The value of the condition's column for each record."""
    names = list(cells[0]) if cells else []
    if condition.column in names:
        return [row[condition.column] for row in cells]
    several = [column for score, column in columns.items() if score.name == condition.column]
    if several:
        raise UsageError(f"{condition}: there are several protocols; name one of {', '.join(several)}")
    facts = [_facts(record) for record in records]
    known = {name for row in facts for name in row}
    if condition.column not in known:
        near = did_you_mean(condition.column, [*names, *known])
        raise UnknownName(f"{condition}: no column is called '{printable(condition.column)}'{near}")
    return [row.get(condition.column) for row in facts]


def _facts(record: RunRecord) -> dict[str, Any]:
    """The fields of the spec by dotted names, the versions of the code, and the commit as `git`."""
    commit = (record.environment or {}).get("git")
    return {"git": commit} | versions_of(record) | dict(flat("", whole_spec(record.spec)))


def _missing(value: object) -> bool:
    return value is None or value != value
