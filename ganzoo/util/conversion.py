"""Data from outside this process, as JSON or TOML gave it, held against declared types by msgspec.

The types are dataclasses, typed dicts and what they are made of. Whole numbers pass for real ones; text never passes
for a number.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

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


def convert(content: Any, type_: type[T]) -> T:
    """`content` as `type_`. Raises `ValueError` with one line, such as `spec.kimg is 'lots'; it must be a number`."""
    try:
        return msgspec.convert(content, type_)
    except msgspec.ValidationError as error:
        raise ValueError(_explained(str(error), content, type_)) from error
    except UnicodeEncodeError as error:
        raise ValueError(_no_text(error)) from error


def fault_of(content: Any, type_: Any, path: str = "") -> str | None:
    """Why `content`, which stands under `path`, is not of `type_`, in one line; None where it is."""
    try:
        msgspec.convert(content, type_)
    except msgspec.ValidationError as error:
        return _explained(str(error), content, type_, path)
    except UnicodeEncodeError as error:
        return _no_text(error, path)
    return None


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
    return f"{path or 'it'} is {printable(repr(value), 80)}; {_wanted(message)}"


def _wanted(message: str) -> str:
    if expected := re.match(r"Expected `([^`]+)`( of length \d+)?", message):
        names = (WORDS.get(name, name) for name in expected[1].split(" | "))
        return f"it must be {' or '.join(names)}{expected[2] or ''}"
    return "no such value is known" if message.startswith("Invalid enum value") else message.lower()


def _key_at_fault(error: str, content: Any, type_: Any, keys: Sequence[Any], mapping: Mapping[str, Any]) -> str:
    """The key of a mapping, which lies under `keys` in `content`, without which the error would be another."""
    for key in mapping:
        try:
            msgspec.convert(_with(content, keys, {key: mapping[key]}), type_)
        except msgspec.ValidationError as alone:
            if str(alone) == error:
                return key
        except UnicodeEncodeError:
            continue
    return "…"


def _with(content: Any, keys: Sequence[Any], value: Any) -> Any:
    """A copy of nested `content` that holds `value` under `keys`."""
    if not keys:
        return value
    changed = dict(content) if isinstance(content, Mapping) else list(content)
    changed[keys[0]] = _with(content[keys[0]], keys[1:], value)
    return changed
