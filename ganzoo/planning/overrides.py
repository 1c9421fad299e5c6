"""The grammar of `--set VARIANT.FIELD=VALUE`: a value of a recipe by its path or by a unique end of the path."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from ganzoo.errors import UnknownName, UsageError
from ganzoo.util.text import did_you_mean, printable

OPTIMIZERS = ("adam", "sgd", "rmsprop")
SCHEDULES = ("constant", "linear", "cosine", "exponential")


@dataclass(frozen=True)
class Override:
    """One `--set`. `variant` may be a glob."""

    variant: str
    field: str
    value: str

    def __str__(self) -> str:
        return f"--set {printable(self.variant)}.{printable(self.field)}={printable(self.value)}"


def parse_overrides(texts: Sequence[str], labels: Sequence[str]) -> list[Override]:
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
        overrides.append(Override(*matches[0], value))
    return overrides


def apply_overrides(recipe: dict[str, Any], overrides: Sequence[Override]) -> None:
    """Set values in the nested `recipe` in place.

    Raises `UnknownName` for an unknown field, `UsageError` for an ambiguous one or a value of the wrong type.
    """
    leaves = dict(_leaves(recipe))
    for override in overrides:
        path = _find(override, leaves)
        *parents, last = path
        target = recipe
        for parent in parents:
            target = target[parent]
        target[last] = _parsed(override, path, leaves[path])


def _leaves(tree: Mapping[str, Any], prefix: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*prefix, name))
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
    if path[-1] == "kind" and path[0] in ("optimizer", "discriminator_optimizer", "rate_decay", "schedules"):
        choices = SCHEDULES if _is_schedule(path) else OPTIMIZERS
        if text not in choices:
            raise UsageError(f"{override}: choose from {', '.join(choices)}")
        return text
    try:
        if isinstance(current, bool):
            return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[text.lower()]
        if isinstance(current, int):
            return int(text)
        if isinstance(current, float):
            value = float(text)
            if not math.isfinite(value):
                raise ValueError
            return value
        if isinstance(current, (tuple, list)):
            parts = [part.strip() for part in text.split(",") if part.strip()]
            of_numbers = bool(current) and type(current[0]) in (int, float)
            return tuple(type(current[0])(part) for part in parts) if of_numbers else tuple(parts)
    except (ValueError, KeyError):
        wanted = {bool: "true or false", int: "a whole number", float: "a finite number"}.get(
            type(current), "numbers with commas between"
        )
        raise UsageError(f"{override}: give {wanted} (it is {current} now)") from None
    return text
