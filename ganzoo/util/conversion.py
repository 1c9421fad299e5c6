"""Data from outside this process, as JSON or TOML gave it, held against declared types by msgspec.

The types are dataclasses, typed dicts and what they are made of, with a `Range` or `MaxLength` in the annotations of
those that have limits. Whole numbers pass for real ones; text never passes for a number.
"""

from __future__ import annotations

import math
import re
import types
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass, make_dataclass
from functools import cache
from itertools import islice
from reprlib import Repr
from typing import Annotated, Any, NotRequired, TypedDict, TypeVar, Union, get_args, get_origin, get_type_hints
from typing import is_typeddict as is_typed_dict

import msgspec

from ganzoo.types import MaxLength, Range
from ganzoo.util.text import printable

T = TypeVar("T")

PATH_STEP = re.compile(r"\.(\w+)|\[(\d+|\.\.\.)\]")
"""A step of a path in an error of msgspec: `.key`, `[0]`, or `[...]` for some key of a mapping."""

WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "object": "an object",
    "array": "an array",
}
"""What an error calls the types of msgspec's errors."""

UNITS_OF_LENGTH = {"array": "items", "object": "keys", "str": "characters"}
COMPARISONS = {">=": "from", ">": "above", "<=": "up to", "<": "below"}
"""What an error calls the comparisons of msgspec's errors."""

LONGEST_TEXT, MOST_ITEMS, MOST_KEYS = 100_000, 200_000, 10_000
DEEPEST = 10
"""Limits of JSON from files: characters of a text, items of an array, keys of an object, levels of nesting."""

BRIEF = Repr()
BRIEF.maxlevel, BRIEF.maxlist, BRIEF.maxtuple, BRIEF.maxdict, BRIEF.maxstring, BRIEF.maxlong = 3, 40, 40, 40, 200, 200
"""Shows the beginning of a value that may have millions of parts."""


def convert(content: Any, type_: type[T]) -> T:
    """`content` as `type_`. Raises `ValueError` with one line, such as `spec.kimg is 'lots'; it must be a number`."""
    try:
        return msgspec.convert(content, type_)
    except msgspec.ValidationError as error:
        raise ValueError(_explained(str(error), content, type_)) from error
    except UnicodeEncodeError as error:
        raise ValueError(_no_text(error)) from error


def fault_of(content: Any, type_: Any, path: str = "") -> str | None:
    """Why `content`, which stands under `path`, is not of `type_` or not within its limits, in one line, or None."""
    limited = _limited(type_)
    try:
        msgspec.convert(content, limited)
    except msgspec.ValidationError as error:
        return _explained(str(error), content, limited, path)
    except UnicodeEncodeError as error:
        return _no_text(error, path)
    return None


def fault_of_json(content: Mapping[str, Any]) -> str | None:
    """Which part of a JSON object is beyond the limits that hold for all of it, in one line; None where none is."""
    try:
        msgspec.convert({"content": content}, _holder())
    except msgspec.ValidationError as error:
        if re.search(r"null`, got `(array|object)`", str(error)):
            return f"nests deeper than {DEEPEST} levels"
        fault = _explained(str(error), {"content": content}, _holder()).removeprefix("content.")
        # What it is for is not known here: it need not be a number at all.
        return re.sub(r"it must be ((?:a whole|an?) \w+|text) ", r"\1 must be ", fault)
    except UnicodeEncodeError as error:
        return _no_text(error)
    return None


@cache
def _holder() -> Any:
    """A typed dict around JSON within the limits: msgspec prepares the types in one once, and others each time."""
    whole = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
    text = Annotated[str, msgspec.Meta(max_length=LONGEST_TEXT)]
    items, keys = msgspec.Meta(max_length=MOST_ITEMS), msgspec.Meta(max_length=MOST_KEYS)
    level: Any = Union[None, bool, whole, float, text]  # noqa: UP007
    for _ in range(DEEPEST - 1):
        level = Union[None, bool, whole, float, text, Annotated[list[level], items], Annotated[dict[str, level], keys]]  # noqa: UP007
    return TypedDict("Holder", {"content": dict[str, level]})  # type: ignore[operator]


@cache
def _limited(type_: Any) -> Any:
    """A type with each `Range` and `MaxLength` in its annotations as msgspec knows them."""
    if is_typed_dict(type_):
        hints = get_type_hints(type_, include_extras=True)
        keys = {name: _limited(hint) for name, hint in hints.items()}
        return TypedDict(type_.__name__, keys, total=type_.__total__)  # type: ignore[operator]
    if isinstance(type_, type) and is_dataclass(type_):
        hints = get_type_hints(type_, include_extras=True)
        declared = [(each.name, _limited(hints[each.name]), *[None] * _has_default(each)) for each in fields(type_)]
        return make_dataclass(type_.__name__, declared, kw_only=True)
    origin, arguments = get_origin(type_), get_args(type_)
    if origin is Annotated:
        base, *notes = arguments
        limits = [_as_meta(note) if isinstance(note, (Range, MaxLength)) else note for note in notes]
        return Annotated[(_limited(base), *limits)]
    if origin in (Union, types.UnionType):
        return Union[tuple(map(_limited, arguments))]  # noqa: UP007, the types are known at run time only
    if origin is NotRequired:
        return NotRequired[_limited(arguments[0])]
    if origin in (Sequence, Mapping, tuple, list, dict):
        return origin[tuple(argument if argument is ... else _limited(argument) for argument in arguments)]
    return type_


def _has_default(field: Any) -> bool:
    return field.default is not MISSING or field.default_factory is not MISSING


def _as_meta(limits: Range | MaxLength) -> msgspec.Meta:
    if isinstance(limits, MaxLength):
        return msgspec.Meta(max_length=limits.count)
    high = None if math.isinf(limits.high) else limits.high
    return msgspec.Meta(gt=limits.low, lt=high) if limits.above_low else msgspec.Meta(ge=limits.low, lt=high)


def _no_text(error: UnicodeEncodeError, path: str = "") -> str:
    """Half of a surrogate pair, which JSON may escape and which is no text: msgspec cannot encode such a key."""
    return f"{path or 'it'} has the key {printable(ascii(error.object), 80)}, which is no valid text"


def _explained(error: str, content: Any, type_: Any, path: str = "") -> str:
    """An error of msgspec with the value that is at fault, and with keys in place of `[...]`."""
    message, _, place = error.partition(" - at `")
    keys: list[Any] = []
    value = content
    for name, index in PATH_STEP.findall(place):
        key = name or (_key_at_fault(error, content, type_, keys, value) if index == "..." else int(index))
        keys.append(key)
        value = value[key]
    path += "".join(f"[{key}]" if isinstance(key, int) else f".{printable(key, 40)}" for key in keys)
    path = path.lstrip(".")
    if lacking := re.match(r"Object missing required field `(\w+)`", message):
        return f"{path} lacks its {lacking[1]}".lstrip()
    return f"{path or 'it'} is {printable(BRIEF.repr(value), 80)}; {_wanted(message)}"


def _wanted(message: str) -> str:
    if size := re.match(r"Expected `(\w+)` of length (>=|<=) (\d+)", message):
        most = "at most" if size[2] == "<=" else "at least"
        return f"it must be {WORDS[size[1]]} of {most} {int(size[3]):,} {UNITS_OF_LENGTH[size[1]]}"
    if limit := re.match(r"Expected `(\w+)` (>=|>|<=|<) (\S+)", message):
        return f"it must be {WORDS[limit[1]]} {COMPARISONS[limit[2]]} {float(limit[3]):g}"
    if expected := re.match(r"Expected `([^`]+)`( of length \d+)?", message):
        names = (WORDS.get(name, name) for name in expected[1].split(" | "))
        return f"it must be {' or '.join(names)}{expected[2] or ''}"
    return "no such value is known" if message.startswith("Invalid enum value") else message.lower()


def _key_at_fault(error: str, content: Any, type_: Any, keys: Sequence[Any], mapping: Mapping[str, Any]) -> str:
    """The first key of a mapping, which lies under `keys` in `content`, whose value makes this error."""

    def fails(count: int) -> bool:
        try:
            msgspec.convert(_with(content, keys, dict(islice(mapping.items(), count))), type_)
        except msgspec.ValidationError as found:
            return str(found) == error
        return False

    # A mapping of thousands of keys is not to take as many conversions.
    place = bisect_left(range(1, len(mapping)), True, key=fails)
    return next(islice(mapping, place, None))


def _with(content: Any, keys: Sequence[Any], value: Any) -> Any:
    """A copy of nested `content` that holds `value` under `keys`."""
    if not keys:
        return value
    changed = dict(content) if isinstance(content, Mapping) else list(content)
    changed[keys[0]] = _with(content[keys[0]], keys[1:], value)
    return changed
