"""Names, and fields of the declared types: what records must be made of when a plugin yields them or a file holds them.

So a batch size given as text is an error of the plugin that gave it, with a reason, and not a traceback later.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from functools import cache
from types import NoneType, SimpleNamespace, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

from ganzoo.errors import GanzooError, PluginError
from ganzoo.types import Architecture, Loss, Metric
from ganzoo.util.text import NAME, printable

LARGEST = 2**128
"""Whole numbers stay below it: room for any seed, and none for a thousand digits, which no float can hold."""


def check_record(record: Any, path: str = "") -> None:
    """Check `record`, a dataclass of `ganzoo.types`, and the records inside it. Raises `PluginError`."""
    type_: Any = type(record)
    named, declarations = _declared(type_)
    if named:
        name = record.name
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise PluginError(
                f"a {type_.__name__} has the name {printable(repr(name), 80)}; "
                "a name is up to 64 letters, digits, '.', '_' and '-', and starts with a letter or digit"
            )
        path = f"{path}{type_.__name__} '{name}'."
    for field, text, fits, holds_records in declarations:
        value = getattr(record, field)
        if not fits(value):
            raise PluginError(f"{path}{field} is {printable(repr(value), 80)}; it must be {text}")
        if holds_records:
            for part in _parts(value):
                check_record(part, f"{path}{field}.")
    if isinstance(record, Architecture):
        _check_options(record)
    if isinstance(record, Loss) and not record.phases and not (record.discriminator and record.generator):
        raise PluginError(f"loss '{record.name}' has neither phases nor functions of logits; use Loss.of_logits(…)")
    if isinstance(record, Metric):
        _check_scores(record)


@contextmanager
def blaming(kind: type[GanzooError], fault: str) -> Iterator[None]:
    """Call a plugin inside of it: what that raises becomes a `kind` of one line, `fault: TypeError: …`.

    Errors of ganzoo's own pass, for they say what they are about.
    """
    try:
        yield
    except GanzooError:
        raise
    except (Exception, SystemExit) as error:
        raise kind(f"{fault}: {type(error).__name__}: {printable(error)}") from error


def _check_options(architecture: Architecture) -> None:
    """Raises `PluginError` where Python cannot say what its `build` takes, as of some callables written in C."""
    try:
        inspect.signature(architecture.build)
    except (Exception, SystemExit) as error:
        what = f"{type(error).__name__}: {printable(error)}"
        reason = f"the parameters of its build cannot be read ({what}); give a function"
        raise PluginError(f"architecture '{architecture.name}': {reason}") from error


def _check_scores(metric: Metric) -> None:
    """Raises `PluginError` where a metric says something of a score that it does not yield, or swaps its bounds."""
    for field in ("title", "bounds", "log"):
        if unknown := sorted(set(getattr(metric, field)) - set(metric.better)):
            names = printable(list(metric.better), 80)
            raise PluginError(f"metric '{metric.name}': {field} names {printable(unknown, 80)}; `better` names {names}")
    for score, (low, high) in metric.bounds.items():
        finite = all(bound is None or math.isfinite(bound) for bound in (low, high))
        if not finite or (low is not None and high is not None and low > high):
            raise PluginError(
                f"metric '{metric.name}': bounds of {printable(score, 80)} are {printable((low, high), 80)}; "
                "give the least and the greatest value, None for no limit"
            )


def check_parts(values: Mapping[str, Any], types: Mapping[str, Any]) -> None:
    """Check those of the `values` that have a type in `types`, which may be typed dicts. Raises `PluginError`."""
    for name, hint in types.items():
        if name in values and not _test_of(hint)(values[name]):
            _complain_of_part(values[name], hint, name)


def _complain_of_part(value: Any, hint: Any, path: str) -> None:
    """Raises `PluginError` with the dotted path of the first thing that is not of the type `hint`."""
    if is_typeddict(hint) and isinstance(value, Mapping):
        for name, inner in _hints(hint).items():
            if name in value:
                _complain_of_part(value[name], inner, f"{path}.{name}")
            elif name in hint.__required_keys__:
                raise PluginError(f"{path} lacks its {name}")
    elif get_origin(hint) is Mapping and isinstance(value, Mapping):
        for name, item in value.items():
            _complain_of_part(item, get_args(hint)[1], f"{path}.{printable(name, 40)}")
    elif get_origin(hint) is Sequence and isinstance(value, (tuple, list)):
        for index, item in enumerate(value):
            _complain_of_part(item, get_args(hint)[0], f"{path}[{index}]")
    elif not _test_of(hint)(value):
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


@cache
def _declared(type_: type) -> tuple[bool, list[tuple[str, Any, Callable[[Any], bool], bool]]]:
    """Whether a record has a name, and of each field its name, its type as written, its test, and whether to look in.

    Made once for each type: ten thousand records are checked in a second or so.
    """
    hints = _hints(type_)
    declarations = [
        (field.name, field.type, _test_of(hints[field.name]), _may_hold_records(hints[field.name]))
        for field in fields(type_)
    ]
    return "name" in hints, declarations


def _may_hold_records(hint: Any) -> bool:
    return is_dataclass(hint) or any(map(_may_hold_records, get_args(hint)))


def _parts(value: Any) -> Iterator[Any]:
    """The records in a field: itself, or what it holds."""
    held = value.values() if isinstance(value, Mapping) else value if isinstance(value, (tuple, list)) else (value,)
    for part in held:
        if is_dataclass(part) and not isinstance(part, type):
            yield part


@cache
def _test_of(hint: Any) -> Callable[[Any], bool]:
    """Whether a value is of the type `hint`, as far as the declarations of `ganzoo.types` go, as a function."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return lambda value: True
    if origin in (Union, UnionType):
        choices, plain = [_test_of(choice) for choice in arguments], _plain_types(hint)
        return lambda value: type(value) in plain or any(fits(value) for fits in choices)
    if origin is Literal:
        return lambda value: value in arguments
    if origin is Mapping:
        fits_held = _test_of_held(Mapping, arguments[1], lambda value: value.values())
        return lambda value: fits_held(value) and all(isinstance(name, str) for name in value)
    if origin is Sequence:
        return _test_of_held((tuple, list), arguments[0], lambda value: value)
    if origin is tuple and arguments[-1] is Ellipsis:
        return _test_of_held((tuple, list), arguments[0], lambda value: value)
    if origin is tuple:
        tests = [_test_of(argument) for argument in arguments]
        return lambda value: (
            isinstance(value, (tuple, list))
            and len(value) == len(tests)
            and all(fits(item) for fits, item in zip(tests, value, strict=True))
        )
    if origin is Callable:
        return callable
    if hint in (int, float):
        return lambda value: _is_number(value, hint)
    if is_typeddict(hint):
        return _test_of_typeddict(hint)
    return lambda value: isinstance(value, hint)


def _is_number(value: Any, hint: Any) -> bool:
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) < LARGEST
    return isinstance(value, hint)


def _test_of_typeddict(hint: Any) -> Callable[[Any], bool]:
    tests = [(name, _test_of(inner)) for name, inner in _hints(hint).items()]
    required = hint.__required_keys__

    def fits_all(value: Any) -> bool:
        if not isinstance(value, Mapping) or not required <= value.keys():
            return False
        for name, fits in tests:  # noqa: SIM110, a generator is slower
            if name in value and not fits(value[name]):
                return False
        return True

    return fits_all


def _test_of_held(container: Any, hint: Any, held: Callable[[Any], Any]) -> Callable[[Any], bool]:
    """Whether a value is a `container` of things of the type `hint`."""
    if hint is Any:
        return lambda value: isinstance(value, container)
    fits, plain = _test_of(hint), _plain_types(hint)
    # A curve has hundreds of numbers, and a set of their types is made as fast as C can.
    return lambda value: (
        isinstance(value, container) and ({*map(type, held(value))} <= plain or all(map(fits, held(value))))
    )


def _plain_types(hint: Any) -> frozenset[type]:
    """The types of which every value fits `hint`; not int, which has a limit."""
    choices = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    return frozenset(choices) & {float, str, bool, NoneType}
