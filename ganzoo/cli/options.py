"""Parts that several commands share: reading options, discovering plugins."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from typing import TypeVar

from ganzoo.planning.request import BenchPlan
from ganzoo.registry.registry import Registry
from ganzoo.util.options import options_of, read_options
from ganzoo.util.streams import print_note

Asked = TypeVar("Asked")


def asked_for(type_: Callable[..., Asked], arguments: Namespace) -> Asked:
    """A dataclass of options, such as `BenchPlan`, with the values of the command line and defaults for the rest.

    Raises `UsageError` for an invalid value.
    """
    return type_(**read_options(options_of(type_), vars(arguments)))


def discover_asked(arguments: Namespace) -> Registry:
    """Discover the plugins, including those of `--plugin`, and note each broken one on stderr."""
    from ganzoo.running.bench import discover_noting

    asked = asked_for(BenchPlan, arguments)
    return discover_noting(asked.plugins, asked.strict, print_note)
