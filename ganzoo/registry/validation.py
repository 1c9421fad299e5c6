"""Names, and fields of the declared types: what records must be made of when a plugin yields them.

So a batch size given as text is an error of the plugin that gave it, with a reason, and not a traceback later. What a
file holds is checked by `ganzoo.util.conversion`; msgspec, which does that, checks neither functions nor torch's types.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from functools import cache
from types import SimpleNamespace, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ganzoo.errors import GanzooError, PluginError
from ganzoo.registry.signatures import check_functions
from ganzoo.types import Architecture, Loss, Metric, Reported
from ganzoo.util.text import NAME, printable

LONGEST_REPORTED = 200
"""Characters in each text of a published figure, which is shown as one cell of a table."""

LARGEST = 2**128
"""Whole numbers stay below it: room for any seed, and none for a thousand digits, which no float can hold."""


def check_record(record: Any, path: str = "") -> None:
    """Check `record`, a dataclass of `ganzoo.types`, and the records inside it. Raises `PluginError`."""
    type_: Any = type(record)
    hints = _hints(type_)
    if "name" in hints:
        name = record.name
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise PluginError(
                f"a {type_.__name__} has the name {printable(repr(name), 80)}; "
                "a name is up to 64 letters, digits, '.', '_' and '-', and starts with a letter or digit"
            )
        path = f"{path}{type_.__name__} '{name}'."
    for field in fields(type_):
        value, hint = getattr(record, field.name), hints[field.name]
        if not _fits(value, hint):
            raise PluginError(f"{path}{field.name} is {printable(repr(value), 80)}; it must be {_words(hint)}")
        if _may_hold_records(hint):
            for part in _records_in(value):
                check_record(part, f"{path}{field.name}.")
    if isinstance(record, Architecture):
        _check_options(record)
    if isinstance(record, Loss) and not record.phases and not (record.discriminator and record.generator):
        raise PluginError(f"loss '{record.name}' has neither phases nor functions of logits; use Loss.of_logits(…)")
    if isinstance(record, Reported):
        _check_reported(record, path)
    check_functions(record)
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
    for field in ("title", "bounds", "log", "title_by_other"):
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


def _check_reported(figure: Reported, path: str) -> None:
    """Raises `PluginError` for a published figure that is no number, or whose texts are empty or do not fit a table."""
    if not math.isfinite(figure.value):
        raise PluginError(f"{path}value is {figure.value}; give the published number")
    for field in ("metric", "dataset", "protocol", "source", "budget", "differs"):
        text = getattr(figure, field)
        needed = field not in ("budget", "differs")
        if len(text) > LONGEST_REPORTED or (needed and not text.strip()):
            wanted = f"{'1' if needed else '0'} to {LONGEST_REPORTED} characters"
            raise PluginError(f"{path}{field} is {printable(repr(text), 80)}; give {wanted}")


@cache
def _hints(type_: type) -> dict[str, Any]:
    """The types of a record's fields; torch's stand for anything, because nothing here may import it."""
    return get_type_hints(type_, localns={"Tensor": Any, "nn": SimpleNamespace(Module=Any)})


def _words(hint: Any) -> str:
    """A type as its declaration has it, without the modules of its parts."""
    return hint.__name__ if isinstance(hint, type) and not get_args(hint) else re.sub(r"[\w.]+\.(?=\w)", "", str(hint))


def _may_hold_records(hint: object) -> bool:
    return is_dataclass(hint) or any(map(_may_hold_records, get_args(hint)))


def _records_in(value: Any) -> Iterator[Any]:
    """The records in a field: itself, or what it holds."""
    held = value.values() if isinstance(value, Mapping) else value if isinstance(value, (tuple, list)) else (value,)
    for part in held:
        if is_dataclass(part) and not isinstance(part, type):
            yield part


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of the type `hint`, as far as the declarations of `ganzoo.types` go."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, UnionType):
        return any(_fits(value, choice) for choice in arguments)
    if origin is Literal:
        return value in arguments
    if origin is Mapping:
        return isinstance(value, Mapping) and all(
            isinstance(name, str) and _fits(item, arguments[1]) for name, item in value.items()
        )
    if origin is Sequence or (origin is tuple and arguments[-1] is Ellipsis):
        return isinstance(value, (tuple, list)) and all(_fits(item, arguments[0]) for item in value)
    if origin is tuple:
        return isinstance(value, (tuple, list)) and len(value) == len(arguments) and all(map(_fits, value, arguments))
    if origin is Callable:
        return callable(value)
    if hint in (int, float) and isinstance(value, int):
        return not isinstance(value, bool) and abs(value) < LARGEST
    return isinstance(value, hint)
