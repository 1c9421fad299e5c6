"""The tables of the documentation that the code decides: cog writes them into the Markdown, between markers.

    python docs/generated_tables.py             after a change of a hook, a field or a variant
    python docs/generated_tables.py --check     is every page up to date?

What a field means is said in the docstring below it.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import re
import sys
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from importlib.metadata import distribution
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

from cogapp import Cog

from ganzoo.cli.parser import COMMANDS, BenchOutput, build_parser
from ganzoo.comparing.table import meanings
from ganzoo.planning.request import BenchPlan
from ganzoo.registry import hookspecs
from ganzoo.registry.discovery import discover
from ganzoo.registry.registry import Registry
from ganzoo.registry.signatures import TABLE, WITH_PLAYERS
from ganzoo.running.options import RunOptions
from ganzoo.runs import RunRecord, Summary, Training
from ganzoo.training.loop import TrainResult
from ganzoo.types import OptimizerKind
from ganzoo.util.options import options_of

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PROLOGUE = "import cog, ganzoo, generated_tables as tables; from ganzoo import runs, types"

JSON_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null", Any: "any"}


def main(arguments: Sequence[str]) -> int:
    """Run cog over these pages, or all; its exit code, with `--check` 5 where a page is not up to date."""
    task = ["--check", "--diff"] if "--check" in arguments else ["-r"]
    pages = [argument for argument in arguments if argument != "--check"] or PAGES
    code: int = Cog().main(["cog", "-I", str(ROOT / "docs"), "-p", PROLOGUE, *task, *map(str, pages)])
    return code


def hooks() -> str:
    """The signature of every hook, as a block of code."""
    names = [name for name in vars(hookspecs) if name.startswith("ganzoo_")]
    return fenced("\n".join(f"{signature_of_hook(name)}: ..." for name in names), "python")


def hook(name: str) -> str:
    """The signature of one hook."""
    return f"\n`{signature_of_hook(name)}`\n\n"


def signature_of_hook(name: str) -> str:
    """`def ganzoo_losses() -> Iterable[Loss | Penalty | Augmentation]`."""
    function = getattr(hookspecs, name)
    arguments = (f"{argument}: {parameter.annotation}" for argument, parameter in parameters_of(function).items())
    return f"def {name}({', '.join(arguments)}) -> {inspect.signature(function).return_annotation}"


def call(name: str, function: Any) -> str:
    """How `function` is called: the names of its arguments, with the mark after which they need their names."""
    parameters = parameters_of(function)
    positional = [name for name, parameter in parameters.items() if parameter.kind is not parameter.KEYWORD_ONLY]
    keywords = [name for name in parameters if name not in positional]
    return f"\n`{name}({', '.join([*positional, *['*'] * bool(keywords), *keywords])})`\n\n"


def named_arguments() -> str:
    """What each function of a plugin may name, beside its own coefficients."""
    held: dict[str, list[str]] = {}
    for (record, field), names in TABLE.items():
        players = ["any player"] if (record, field) in WITH_PLAYERS else []
        held.setdefault(", ".join([*players, *map(code, names)]), []).append(f"{record.__name__}.{field}")
    rows = ((", ".join(map(code, functions)), names) for names, functions in held.items())
    return table(("function", "may name"), rows)


def field_table(record: type) -> str:
    """What a plugin fills in: field, default and meaning. What a record inherits stands in a table of its own."""
    meanings = meanings_of(record)
    inherited = {field.name for base in record.__bases__ if is_dataclass(base) for field in fields(base)}
    own = [field for field in fields(record) if field.name not in inherited]
    rows = ((code(field.name), default_of(field), meanings.get(field.name, "")) for field in own)
    return table(("field", "default", "meaning"), rows)


def optimizers() -> str:
    """The names of optimizers."""
    names = ", ".join(map(code, get_args(OptimizerKind)))
    return f"\n`kind` is one of {names}: the classes of `torch.optim` in lower case.\n\n"


def record_table() -> str:
    """The top level of a record."""
    return key_table(RunRecord, [field.name for field in fields(RunRecord) if field.name != "path"])


def training_table() -> str:
    """What a record says of the training."""
    scores = "`METRIC/ema` and `METRIC/raw` to `{value, kimg}`: "
    best, final = scores + "the best of the evaluations.", scores + "the last evaluation."
    more = {"best": ("object", best), "final": ("object", final)}
    more["teachers"] = ("array of strings", meanings_of(Training)["teachers"])
    return key_table(TrainResult, more=more)


def key_table(
    record: type, keys: Sequence[str] | None = None, more: Mapping[str, tuple[str, str]] | None = None
) -> str:
    """What lies in a JSON file: key, type and content. `keys` are all fields; `more` are keys that have none."""
    meanings, hints = meanings_of(record), get_type_hints(record)
    keys = list(hints) if keys is None else keys
    rows = [(code(key), json_type(hints[key]), meanings.get(key, "")) for key in keys]
    return table(("key", "type", "content"), [*rows, *((code(key), *row) for key, row in (more or {}).items())])


def event_table(event: Any) -> str:
    """The events that an observer may meet."""
    return table(
        ("event", "fields", "when"),
        (
            (code(kind.__name__), ", ".join(code(field.name) for field in fields(kind)), prose(inspect.getdoc(kind)))
            for kind in get_args(event)
        ),
    )


def command_table() -> str:
    """The commands, with links to their sections."""
    return table(("command", "what it does"), ((f"[{code(c.name)}](#ganzoo-{c.name})", c.help) for c in COMMANDS))


def option_table(name: str) -> str:
    """The options that belong to one command only, as `--help` has them."""
    command = next(command for command in COMMANDS if command.name == name)
    shared = {option.flag for option in options_of(BenchPlan) if option.group in command.shared} | {"--help", "--debug"}
    actions = build_parser()[0].commands[name]._actions
    return rows_of_options(action for action in actions if not shared & {*action.option_strings})


def shared_option_table(*groups: str) -> str:
    """The options of these groups, which several commands share; `debug` is the group of `--debug`."""
    flags = {option.flag for option in options_of(BenchPlan) if option.group in groups}
    flags |= {"--debug"} if "debug" in groups else set()
    actions = build_parser()[0].commands["bench"]._actions
    return rows_of_options(action for action in actions if flags & {*action.option_strings})


def rows_of_options(actions: Iterable[argparse.Action]) -> str:
    """A row for each option: how it is written, its default, what it does."""
    rows = []
    for action in actions:
        if action.option_strings:
            value = "" if action.nargs == 0 else f" {action.metavar or action.dest.upper()}"
            spellings = ", ".join(code(f"{spelling}{value}") for spelling in action.option_strings)
            rows.append((spellings, *default_and_meaning(action)))
    return table(("option", "default", "meaning"), rows)


def default_and_meaning(action: argparse.Action) -> tuple[str, str]:
    """The help without its `(default: …)`, and that; of a switch whether it is on, of any other the value in code."""
    declared = (option for plan in (BenchPlan, RunOptions, BenchOutput) for option in options_of(plan))
    default = action.default
    if default is argparse.SUPPRESS:
        default = next(each.default for each in declared if each.flag in action.option_strings)
    text = re.sub(r"(?<!\w)(--[a-z-]+|\$\w+|\./\w+)", r"`\1`", action.help or "")
    said = re.search(r" ?\(default(?:: ([^()]*))?\)|^default: \S+ ?", text)
    meaning = text.replace(said[0], "", 1) if said else text
    meaning = meaning.removeprefix("(").removesuffix(")") if meaning.startswith("(") else meaning
    if action.nargs == 0:
        return "on" if isinstance(action, argparse.BooleanOptionalAction) and default else "off", meaning
    value = ",".join(default) if isinstance(default, tuple | list) else "" if default is None else str(default)
    return code(value.removesuffix(".0")) if value else (said[1] or "") if said else "", meaning


def column_table(group: str) -> str:
    """The columns of a comparison's DataFrame that are there `always`, or for something that was asked for."""
    held = meanings()[group]
    together = ((", ".join(map(code, columns)), meaning) for meaning, columns in groupby(held, held.__getitem__))
    return table(("column", "content"), together)


def variant_table() -> str:
    """The variants."""
    rows = ((code(v.name), v.summary, objective_of(v), v.reference) for v in of_the_zoo("variants"))
    return table(("variant", "what it is", "loss", "source"), rows)


def extractor_table() -> str:
    """The feature extractors, and which datasets are scored with them unless one asks for another."""
    datasets = of_the_zoo("datasets")
    return table(
        ("extractor", "default for", "made for", "what it is", "licence of the weights", "their sha256"),
        (
            (
                code(extractor.name),
                ", ".join(code(dataset.name) for dataset in datasets if dataset.features == extractor.name),
                extractor.images,
                extractor.summary,
                extractor.licence,
                code(extractor.sha256),
            )
            for extractor in of_the_zoo("features")
        ),
    )


def dataset_table() -> str:
    """The datasets, and how many fakes are scored against them."""
    rows = ((code(d.name), d.summary, str(d.fakes)) for d in of_the_zoo("datasets"))
    return table(("dataset", "what it is", "fakes"), rows)


def metric_table() -> str:
    """The metrics with their scores, and what else decides the values of 10 000 fakes and as many real images."""

    def scores(metric: Any) -> str:
        return ", ".join(f"{code(name)} ({way})" for name, way in metric.better.items())

    def settings(metric: Any) -> str:
        return ", ".join(f"{code(name)} {value}" for name, value in metric.settings(10_000, 10_000).items())

    rows = ((code(m.name), m.summary, scores(m), settings(m)) for m in of_the_zoo("metrics"))
    return table(("`--metrics`", "what it is", "scores, and which way is better", "settings"), rows)


def of_the_zoo(kind: Any) -> list[Any]:
    """The zoo's own records by name, whatever else is installed here."""
    zoo = {point.name for point in distribution("ganzoo").entry_points if point.group == hookspecs.PROJECT}
    records = [offer.record for offer in registry().offers[kind] if offer.plugin in zoo and not offer.inline]
    if not records:
        raise SystemExit(f"the zoo offers no {kind}; install this checkout first: pip install -e .")
    return sorted(records, key=lambda record: record.name)


@cache
def registry() -> Registry:
    """All plugins."""
    return discover()


def objective_of(variant: Any) -> str:
    """The loss, its penalties and its augmentations, by name."""
    parts = (variant.loss, *variant.penalties, *variant.augment)
    return " + ".join(code(part if isinstance(part, str) else part.name) for part in parts)


def meanings_of(record: type) -> dict[str, str]:
    """The docstrings that stand below the fields of a class, those of what it inherits included."""
    meanings: dict[str, str] = {}
    for base in record.__bases__:
        meanings |= meanings_of(base) if is_dataclass(base) else {}
    (class_,) = ast.parse(inspect.getsource(record)).body
    assert isinstance(class_, ast.ClassDef)
    for field, following in pairwise(class_.body):
        documented = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
        if documented and isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            meanings[field.target.id] = prose(following.value.value)
    return meanings


def default_of(field: Field[Any]) -> str:
    """The default in code; nothing for a field without one."""
    if field.default is MISSING and field.default_factory is MISSING:
        return ""
    default = field.default if field.default is not MISSING else field.default_factory()  # type: ignore[misc]
    if isinstance(default, types.FunctionType):
        return f"gives {code(repr(default(0, 0)))}"
    # A record among the defaults is spared its fields, which have a table of their own.
    return code(f"{type(default).__name__}()" if is_dataclass(default) else repr(default))


def json_type(hint: Any) -> str:
    """A type as JSON calls it: `array of 3 integers`, `string or null`."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(map(json_type, arguments))
    if origin is Literal:
        return json_type(type(arguments[0]))
    if hint is Summary:
        return "[summary](#summaries)"
    if is_dataclass(hint) or is_typeddict(hint) or (isinstance(origin, type) and issubclass(origin, Mapping)):
        return "object"
    if origin is tuple and arguments[-1] is not ...:
        return f"array of {len(arguments)} {json_type(arguments[0])}s"
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return f"array of {json_type(arguments[0])}s"
    return JSON_TYPES[hint]


def parameters_of(function: Any) -> Mapping[str, inspect.Parameter]:
    """The parameters of a function, those of a class's methods without the class."""
    return inspect.signature(function).parameters


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, with the empty lines around it that Markdown wants after a comment."""

    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |".replace("|  |", "| |")

    return "\n".join(["", line(head), "|---" * len(head) + "|", *map(line, rows), "", ""])


def fenced(text: str, language: str) -> str:
    """A block of code."""
    return f"\n```{language}\n{text}\n```\n\n"


def code(text: str) -> str:
    """Text as code."""
    return f"`{text}`"


def prose(docstring: str | None) -> str:
    """A docstring on one line."""
    return " ".join((docstring or "").split())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
