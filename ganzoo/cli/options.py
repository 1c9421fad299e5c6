"""What several commands make of their arguments: a dataclass of options, plugins, a place for the output."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ganzoo.errors import UsageError
from ganzoo.planning.request import BenchPlan
from ganzoo.registry.registry import Registry
from ganzoo.util.options import options_of, read_options
from ganzoo.util.streams import print_note
from ganzoo.util.text import printable

Asked = TypeVar("Asked")


def asked_for(type_: Callable[..., Asked], arguments: Namespace) -> Asked:
    """A dataclass of options, such as `BenchPlan`, with what was given on the command line and defaults for the rest.

    Raises `UsageError` for a value that its option cannot have.
    """
    return type_(**read_options(options_of(type_), vars(arguments)))


def discover_asked(arguments: Namespace) -> Registry:
    """The plugins, those of `--plugin` among them, with a note for each that is broken."""
    from ganzoo.running.bench import discover_noting

    asked = asked_for(BenchPlan, arguments)
    return discover_noting(asked.plugins, asked.strict, print_note)


def check_output(arguments: Namespace) -> None:
    """Refuse to overwrite `-o FILE`, before any work."""
    if arguments.output is None:
        return
    output = Path(arguments.output)
    if output.exists() and not arguments.force:
        raise UsageError(f"-o {printable(output)}: exists; choose another file or pass --force")
    if not output.parent.is_dir():
        raise UsageError(f"-o {printable(output)}: the folder {printable(output.parent)} does not exist")
