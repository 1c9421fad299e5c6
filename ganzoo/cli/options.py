"""What several commands make of their arguments: lists, plugins, a place for the output."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from ganzoo.errors import UsageError
from ganzoo.registry.registry import Registry
from ganzoo.util.streams import print_note
from ganzoo.util.text import printable


def listed(text: str) -> tuple[str, ...]:
    """What stands between commas, each once."""
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def discover_asked(arguments: Namespace) -> Registry:
    """The plugins, those of `--plugin` among them, with a note for each that is broken."""
    from ganzoo.running.bench import discover_noting

    return discover_noting(arguments.plugin, arguments.strict, print_note)


def check_output(arguments: Namespace) -> None:
    """Refuse to overwrite `-o FILE`, before any work."""
    if arguments.output is None:
        return
    output = Path(arguments.output)
    if output.exists() and not arguments.force:
        raise UsageError(f"-o {printable(output)}: exists; choose another file or pass --force")
    if not output.parent.is_dir():
        raise UsageError(f"-o {printable(output)}: the folder {printable(output.parent)} does not exist")
