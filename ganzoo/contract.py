"""Names, and fields of the declared types: what records must be made of when a plugin yields them or a file holds them.

So a batch size given as text is an error of the plugin that gave it, with a reason, and not a traceback later.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from types import SimpleNamespace, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

from ganzoo.errors import PluginError
from ganzoo.text import NAME, printable
from ganzoo.types import Loss

LARGEST = 2**128
"""Whole numbers stay below it: room for any seed, and none for a thousand digits, which no float can hold."""


def check_record(record: Any, path: str = "") -> None:
    """Check `record`, a dataclass of `ganzoo.types`, and the records inside it. Raises `PluginError`."""
    type_: Any = type(record)
    if "name" in _hints(type_):
        name = record.name
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise PluginError(
                f"a {type_.__name__} has the name {printable(repr(name), 80)}; "
                "a name is up to 64 letters, digits, '.', '_' and '-', and starts with a letter or digit"
            )
        path = f"{path}{type_.__name__} '{name}'."
    for field in fields(record):
        value = getattr(record, field.name)
        if not _fits(value, _hints(type_)[field.name]):
            raise PluginError(f"{path}{field.name} is {printable(repr(value), 80)}; it must be {field.type}")
        for part in _parts(value):
            check_record(part, f"{path}{field.name}.")
    if isinstance(record, Loss) and not record.phases and not (record.discriminator and record.generator):
        raise PluginError(f"loss '{record.name}' has neither phases nor functions of logits; use Loss.of_logits(…)")


def check_parts(values: Mapping[str, Any], types: Mapping[str, Any]) -> None:
    """Check those of the `values` that have a type in `types`, which may be typed dicts. Raises `PluginError`."""
    for name, hint in types.items():
        if name in values:
            _check_part(values[name], hint, name)


def _check_part(value: Any, hint: Any, path: str) -> None:
    """Raises `PluginError` with the dotted path of the first thing that is not of the type `hint`."""
    if is_typeddict(hint) and isinstance(value, Mapping):
        for name, inner in _hints(hint).items():
            if name in value:
                _check_part(value[name], inner, f"{path}.{name}")
            elif name in hint.__required_keys__:
                raise PluginError(f"{path} lacks its {name}")
    elif get_origin(hint) is Mapping and isinstance(value, Mapping):
        for name, item in value.items():
            _check_part(item, get_args(hint)[1], f"{path}.{printable(name, 40)}")
    elif get_origin(hint) is Sequence and isinstance(value, (tuple, list)):
        for index, item in enumerate(value):
            _check_part(item, get_args(hint)[0], f"{path}[{index}]")
    elif not _fits(value, hint):
        raise PluginError(f"{path} is {printable(repr(value), 80)}; it must be {_named(hint)}")


def _named(hint: Any) -> str:
    """A type in words that are no longer than they must be."""
    if is_typeddict(hint):
        return "an object"
    return hint.__name__ if isinstance(hint, type) and not get_args(hint) else re.sub(r"[\w.]+\.", "", str(hint))


@cache
def _hints(type_: type) -> dict[str, Any]:
    """The types of a record's fields; torch's stand for anything, because nothing here may import it."""
    return get_type_hints(type_, localns={"Tensor": Any, "nn": SimpleNamespace(Module=Any)})


def _parts(value: Any) -> Iterator[Any]:
    """The records in a field: itself, or what it holds."""
    held = value.values() if isinstance(value, Mapping) else value if isinstance(value, (tuple, list)) else (value,)
    for part in held:
        if is_dataclass(part) and not isinstance(part, type):
            yield part


def _fits(value: Any, hint: Any) -> bool:
    """Whether `value` is of the type `hint`, as far as the declarations of `ganzoo.types` go."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, UnionType):
        return any(_fits(value, choice) for choice in arguments)
    if origin is Literal:
        return value in arguments
    if origin is Mapping:
        return isinstance(value, Mapping) and all(_fits(item, arguments[1]) for item in value.values())
    if origin is Sequence:
        return isinstance(value, (tuple, list)) and all(_fits(item, arguments[0]) for item in value)
    if origin is tuple:
        if not isinstance(value, (tuple, list)):
            return False
        wanted = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else arguments
        return len(value) == len(wanted) and all(map(_fits, value, wanted))
    if origin is Callable:
        return callable(value)
    if hint in (int, float):
        if isinstance(value, int):
            return not isinstance(value, bool) and abs(value) < LARGEST
        return isinstance(value, hint)
    if is_typeddict(hint):
        return isinstance(value, Mapping)
    return isinstance(value, hint)
