"""The grammar of `--set VARIANT.FIELD=VALUE`: a value of a recipe by its path or by a unique end of the path."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, get_args, get_type_hints

from ganzoo.errors import UnknownName, UsageError
from ganzoo.types import OptimizerKind, Schedule
from ganzoo.util.text import did_you_mean, printable

SCHEDULES = get_args(get_type_hints(Schedule)["kind"])


@dataclass(frozen=True)
class Override:
    """One `--set`. `variant` may be a glob; `of_suite` says that a suite asks for it."""

    variant: str
    field: str
    value: str
    of_suite: bool = False

    def __str__(self) -> str:
        return f"--set {printable(self.variant)}.{printable(self.field)}={printable(self.value)}"

    @property
    def text(self) -> str:
        """What stands behind `--set`."""
        return f"{self.variant}.{self.field}={self.value}"

    def precedence(self, label: str) -> tuple[bool, bool]:
        """What wins for the variant `label`: the command line over a suite, then a name over a glob."""
        return not self.of_suite, self.variant == label


def parse_overrides(texts: Sequence[str], labels: Sequence[str], of_suite: bool = False) -> list[Override]:
    """Split each `VARIANT.FIELD=VALUE`; raises `UsageError` for another form or if no selected variant matches.

    A label may contain dots, so the longest label that matches wins.
    """
    overrides = []
    for text in texts:
        path, equals, value = text.partition("=")
        matches = [
            (path[:dot], path[dot + 1 :])
            for dot in range(len(path) - 1, 0, -1)
            if path[dot] == "." and any(fnmatchcase(label, path[:dot]) for label in labels)
        ]
        if not equals or "." not in path:
            raise UsageError(f"--set {printable(text)}: write VARIANT.FIELD=VALUE, as in dcgan.batch_size=64")
        if not matches:
            head = path.partition(".")[0]
            raise UnknownName(
                f"--set {printable(text)}: no selected variant is called that{did_you_mean(head, labels)}"
            )
        overrides.append(Override(*matches[0], value, of_suite))
    return overrides


def apply_overrides(recipe: dict[str, Any], overrides: Sequence[Override], label: str) -> list[Override]:
    """Set values in the nested `recipe` of the variant `label` in place, and return the overrides that did.

    Of several for one field the one of the highest precedence wins. Raises `UnknownName` for an unknown field,
    `UsageError` for an ambiguous one, for two of one precedence, and for a value of the wrong type.
    """
    leaves = dict(_leaf_values(recipe))
    winners: dict[tuple[str, ...], Override] = {}
    for override in overrides:
        path = _find(override, leaves)
        value = _parsed(override, path, leaves[path])
        rival = winners.get(path)
        if rival is not None and rival.precedence(label) == override.precedence(label):
            raise UsageError(
                f"{override}: {printable(rival)} sets the same field of {printable(label)}; give one of them"
            )
        if rival is not None and rival.precedence(label) > override.precedence(label):
            continue
        winners[path] = override
        *parents, last = path
        target = recipe
        for parent in parents:
            target = target[parent]
        target[last] = value
    return list(winners.values())


def _leaf_values(tree: Mapping[str, Any], prefix: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaf_values(value, (*prefix, name))
        else:
            yield (*prefix, name), value


def _find(override: Override, leaves: Mapping[tuple[str, ...], Any]) -> tuple[str, ...]:
    fields = {".".join(path): path for path in leaves}
    # The short form of a schedule is its kind: rate_decay=linear.
    schedules = {name.removesuffix(".kind"): path for name, path in fields.items() if _is_schedule(path)}
    names = fields | schedules
    if override.field in names:
        return names[override.field]
    # `r1.gamma` is the coefficient; its schedule, `schedules.r1.gamma`, has the same end.
    matches = {path for name, path in fields.items() if name.endswith(f".{override.field}")}
    if len(matches) == 1:
        return matches.pop()
    if matches:
        choices = " or ".join(sorted(".".join(path) for path in matches))
        raise UsageError(f"{override}: '{printable(override.field)}' is ambiguous; write {choices}")
    known = [*names, *(path[-1] for path in leaves)]
    raise UnknownName(f"{override}: no such field{did_you_mean(override.field, known)} (see `ganzoo show` for all)")


def _is_schedule(path: tuple[str, ...]) -> bool:
    return path[-1] == "kind" and path[0] in ("rate_decay", "schedules")


def _parsed(override: Override, path: tuple[str, ...], current: Any) -> Any:
    text = override.value.strip()
    if path[-1] == "kind" and (path[0].endswith("optimizer") or _is_schedule(path)):
        choices = SCHEDULES if _is_schedule(path) else get_args(OptimizerKind)
        if text not in choices:
            raise UsageError(f"{override}: choose from {', '.join(choices)}")
        return text
    try:
        return _of_type_like(text, current)
    except (ValueError, KeyError):
        wanted = WANTED.get(type(current)) or f"{_kind_of(current)} with commas between"
        raise UsageError(f"{override}: give {wanted} (it is {_shown(current)} now)") from None


WANTED = {bool: "true or false", int: "a whole number", float: "a finite number"}
TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def _of_type_like(text: str, current: Any) -> Any:
    """The text as a value of the type that `current` has; as JSON where that gives none."""
    if isinstance(current, bool):
        return TRUTH[text.lower()]
    if isinstance(current, int):
        return int(text)
    if isinstance(current, float):
        value = float(text)
        if not math.isfinite(value):
            raise ValueError
        return value
    if isinstance(current, (tuple, list)):
        return _list_like(text, current)
    return text if isinstance(current, str) else _json_or_text(text)


def _list_like(text: str, current: Sequence[Any]) -> tuple[Any, ...]:
    """Items with commas between, or a JSON list; each of the type that the items of `current` share."""
    whole = _json_or_text(text) if text.startswith("[") else text
    parts = whole if isinstance(whole, tuple) else tuple(part.strip() for part in text.split(",") if part.strip())
    kinds = {type(item) for item in current}
    if kinds == {int, float}:
        # Some were written without a point: they are numbers all the same.
        return tuple(_number(part) for part in parts)
    if kinds == {float}:
        return tuple(float(part) for part in parts)
    if len(kinds) == 1 and kinds <= {bool, int, str}:
        return tuple(_of_type_like(str(part), current[0]) for part in parts)
    return tuple(_json_or_text(part) if isinstance(part, str) else part for part in parts)


def _number(part: object) -> int | float:
    text = str(part)
    try:
        return int(text)
    except ValueError:
        return float(text)


def _json_or_text(text: str) -> Any:
    """A number, true, false, null, a list; what is no JSON is a text, which then needs no quotes."""
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except ValueError:
        return text
    return _with_tuples(value)


def _refuse_constant(name: str) -> Any:
    """NaN and Infinity are no JSON."""
    raise ValueError(name)


def _with_tuples(value: Any) -> Any:
    """Lists as tuples, as recipes have them."""
    if isinstance(value, dict):
        return {name: _with_tuples(item) for name, item in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value


def _kind_of(current: Sequence[Any]) -> str:
    return "true or false" if current and all(isinstance(item, bool) for item in current) else "numbers"


def _shown(current: object) -> str:
    return printable(",".join(map(str, current)) if isinstance(current, (tuple, list)) else current)
