"""Options of the command line, each said once: in the field of the dataclass that holds its value.

    seeds: int = option("--seeds", default=1, metavar="N", help="how many seeds (default: {default})")

The parser, the command that does a run again, the keys of a suite and the arguments from Python follow from the fields.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

METADATA = "option"


@dataclass(frozen=True)
class Option:
    """How the command line gives the field `name`.

    `convert` is how argparse converts its text; `read` makes the value of a text that argparse takes as it is.
    `switch` is an option without a value that gives the opposite of `default`, `negatable` one with a `--no-` form.
    `repeatable` options collect their values. `group` names options that several commands share; `after` is the field
    behind which `--help` shows this one. `fixed_on_resume` holds for what a run that is trained on keeps.
    """

    name: str
    flag: str
    default: Any
    metavar: str | None
    help: str
    convert: Callable[[str], Any]
    read: Callable[[str], Any] | None
    switch: bool
    negatable: bool
    repeatable: bool
    group: str
    after: str
    fixed_on_resume: bool

    def words(self, value: Any) -> list[str]:
        """The words of a command that give `value`; none for the default."""
        if value == self.default:
            return []
        if self.switch:
            return [self.flag]
        if self.repeatable:
            return [word for item in value for word in (self.flag, item)]
        if isinstance(value, tuple):
            return [self.flag, ",".join(value)]
        # Every digit of a number counts: another one makes another run.
        return [self.flag, repr(float(value)).removesuffix(".0") if isinstance(value, float) else str(value)]


def option(
    flag: str,
    *,
    default: Any,
    help: str,
    metavar: str | None = None,
    read: Callable[[str], Any] | None = None,
    negatable: bool = False,
    group: str = "",
    after: str = "",
    fixed_on_resume: bool = False,
) -> Any:
    """A field of a dataclass that the option `flag` gives; see `Option`.

    In `help` stands `{default}` for the default. A number, text or truth value is converted as the field's type says, a
    tuple is repeatable; any other type, or a tuple in one text, needs `read`.
    """
    metadata = {
        "flag": flag,
        "help": help.replace("{default}", _default_text(default)),
        "metavar": metavar,
        "read": read,
        "negatable": negatable,
        "group": group,
        "after": after,
        "fixed_on_resume": fixed_on_resume,
    }
    return dataclasses.field(default=default, metadata={METADATA: metadata})


@cache
def options_of(type_: Any) -> tuple[Option, ...]:
    """The options of a dataclass, in the order of its fields."""
    hints = get_type_hints(type_)
    return tuple(
        _option_of(field, hints[field.name]) for field in dataclasses.fields(type_) if METADATA in field.metadata
    )


def read_options(options: Iterable[Option], given: Mapping[str, Any]) -> dict[str, Any]:
    """The values, by field, of those options that `given` holds as argparse leaves them. Raises what `read` raises."""
    return {option.name: _read_value(option, given[option.name]) for option in options if option.name in given}


def _read_value(option: Option, given: Any) -> Any:
    if option.read is not None:
        return option.read(given)
    return tuple(given) if option.repeatable else given


def _option_of(field: dataclasses.Field[Any], hint: Any) -> Option:
    said = field.metadata[METADATA]
    kinds = [kind for kind in (get_args(hint) or (hint,)) if kind is not NoneType]
    plain = kinds[0] if len(kinds) == 1 and kinds[0] in (int, float) else str
    return Option(
        name=field.name,
        default=field.default,
        convert=plain,
        switch=hint is bool,
        repeatable=get_origin(hint) is tuple and said["read"] is None,
        **said,
    )


def _default_text(default: object) -> str:
    if isinstance(default, tuple):
        return ",".join(default)
    return f"{default:g}" if isinstance(default, float) else str(default)
