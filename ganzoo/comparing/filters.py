"""Which records, and in which order: the grammar of `--where COLUMN=VALUE` and of `--sort COLUMN`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from operator import ge, gt, le, lt
from typing import TYPE_CHECKING, Any

from ganzoo.comparing.differences import flat, setting_text, versions_of
from ganzoo.comparing.rows import records_table, score_of_column
from ganzoo.errors import UnknownName, UsageError
from ganzoo.records.settings import whole_spec
from ganzoo.runs import RunRecord
from ganzoo.util.text import did_you_mean, printable

if TYPE_CHECKING:
    import pandas

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

    def holds(self, found: Any) -> bool:
        """Whether it holds for a value; never for one that is missing.

        Numbers are compared as numbers. `=` and `!=` take text with the wildcards `*`, `?` and `[…]`.
        """
        if found is None or found != found:
            return False
        if isinstance(found, (int, float)) and not isinstance(found, bool):
            wanted = self._number()
            if self.operator in ORDERS:
                return bool(ORDERS[self.operator](found, wanted))
            return (found == wanted) == (self.operator == "=")
        if self.operator in ORDERS:
            raise UsageError(f"{self}: '{printable(self.column)}' is text; compare it with = or !=")
        return fnmatchcase(setting_text("", found), self.value) == (self.operator == "=")

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
    table = records_table(records)
    chosen = [True] * len(records)
    for condition in conditions:
        values = _values(condition, table, records)
        chosen = [kept and condition.holds(value) for kept, value in zip(chosen, values, strict=True)]
    kept = [record for record, wanted in zip(records, chosen, strict=True) if wanted]
    if not kept:
        words = " ".join(map(str, conditions))
        raise UsageError(f"{words}: holds for none of the {len(records)} records; widen it")
    return kept


def _values(condition: Condition, table: pandas.DataFrame, records: Sequence[RunRecord]) -> list[Any]:
    if condition.column in table.columns:
        return list(table[condition.column])
    _refuse_several_protocols(str(condition), condition.column, table)
    facts = [_facts(record) for record in records]
    names = {name for known in facts for name in known}
    if condition.column not in names:
        near = did_you_mean(condition.column, [*map(str, table.columns), *names])
        raise UnknownName(f"{condition}: no column is called '{printable(condition.column)}'{near}")
    return [known.get(condition.column) for known in facts]


def _facts(record: RunRecord) -> dict[str, Any]:
    """The fields of the spec by dotted names, the versions of the code, and the commit as `git`."""
    commit = (record.environment or {}).get("git")
    return {"git": commit} | versions_of(record) | dict(flat("", whole_spec(record.spec)))


def _refuse_several_protocols(option: str, column: str, table: pandas.DataFrame) -> None:
    several = [name for name in table.attrs["scores"] if score_of_column(name) == column]
    if several:
        raise UsageError(f"{option}: there are several protocols; name one of {', '.join(several)}")


def sort_rows(summary: pandas.DataFrame, order: str) -> pandas.DataFrame:
    """The rows by a column, ascending, or descending for `-COLUMN`; those without a value come last.

    A score with several protocols sorts within each of them, one protocol after another. Raises `UnknownName`.
    """
    return sort_each([summary], order)[0]


def sort_each(summaries: Sequence[pandas.DataFrame], order: str) -> list[pandas.DataFrame]:
    """`sort_rows` of each that has the column. Raises `UnknownName` where none has."""
    column = order.removeprefix("-")
    names = [_named(summary, column) for summary in summaries]
    if not any(names):
        known = did_you_mean(column, {str(name) for summary in summaries for name in summary.columns})
        raise UnknownName(f"--sort {printable(order)}: no column is called '{printable(column)}'{known}")
    ascending = not order.startswith("-")
    return [
        summary.sort_values(own, ascending=ascending, kind="stable", na_position="last").reset_index(drop=True)
        if own
        else summary
        for summary, own in zip(summaries, names, strict=True)
    ]


def _named(summary: pandas.DataFrame, column: str) -> list[str]:
    if column in summary.columns:
        return [column]
    return [name for name in summary.attrs["scores"] if score_of_column(name) == column]
