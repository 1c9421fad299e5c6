"""The grammar of the command line: commands and their options, for argparse.

The options of `ganzoo bench` come from the fields of dataclasses (`ganzoo.util.options`), which have their defaults: a
parsed command line holds only those that were given.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NoReturn

from ganzoo import __version__
from ganzoo.planning.request import BenchPlan
from ganzoo.registry.registry import KINDS
from ganzoo.running.options import RunOptions
from ganzoo.util.options import Option, option, options_of
from ganzoo.util.streams import say
from ganzoo.util.text import did_you_mean, printable


@dataclass(frozen=True)
class BenchOutput:
    """The options of `ganzoo bench` besides its plan: a suite, folders, forms of output."""

    suite: str | None = option(
        "--suite",
        default=None,
        metavar="NAME",
        help="quick, standard, full, or a .toml file; options on the command line win",
        after="models",
    )
    results: str = option(
        "--results", default="runs", metavar="DIR", help="where records go (default: ./{default})", after="eval_every"
    )
    log: tuple[str, ...] = option(
        "--log", default=(), metavar="NAME", help="send curves to tensorboard too (repeatable)", after="results"
    )
    dry_run: bool = option(
        "--dry-run", default=False, help="print what would run, with an estimate", after="keep_checkpoints"
    )
    json: bool = option("--json", default=False, help="print the records instead of the table")
    quiet: bool = option("--quiet", default=False, help="no progress")


class Parser(argparse.ArgumentParser):
    """Reports an error in one line, without the usage. An option is given by its whole name."""

    def __init__(self, *args: Any, **more: Any) -> None:
        # What is an abbreviation today may be two options tomorrow.
        super().__init__(*args, **{"allow_abbrev": False, **more})

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does; an option that there is not gets the one that may be meant."""
        known, unknown = self.parse_known_args(args, namespace)
        if unknown:
            parser = self.commands[known.command] if known.command else self
            parser.refuse(unknown)
        return known

    @cached_property
    def commands(self) -> dict[str, Parser]:
        """The parsers of the commands, by name."""
        (commands,) = (action for action in self._actions if isinstance(action, argparse._SubParsersAction))
        return dict(commands.choices)

    def refuse(self, unknown: Sequence[str]) -> NoReturn:
        """An error for arguments that nothing takes."""
        first = next((word for word in unknown if word.startswith("-")), unknown[0]).partition("=")[0]
        options = [name for action in self._actions for name in action.option_strings if name.startswith("--")]
        hint = did_you_mean(first, options) if first.startswith("-") else ""
        self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")

    def error(self, message: str) -> NoReturn:
        say(f"{self.prog}: {printable(message)} (see `{self.prog} --help`)")
        raise SystemExit(2)


def join_signs(arguments: Sequence[str]) -> list[str]:
    """`--sort -fid` as `--sort=-fid`: argparse takes what begins with a dash for an option."""
    joined: list[str] = []
    for argument in arguments:
        if joined and joined[-1] == "--sort" and argument.startswith("-") and not argument.startswith("--"):
            joined[-1] = f"--sort={argument}"
        else:
            joined.append(argument)
    return joined


def build_parser() -> tuple[argparse.ArgumentParser, list[str]]:
    """The whole grammar of the command line, and the names of the commands."""
    parser = Parser(
        prog="ganzoo",
        description="Which GAN, at what quality, how fast, on which hardware?",
        epilog="Start with: ganzoo bench --models dcgan,mlp",
    )
    parser.add_argument("--version", action="version", version=f"ganzoo {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)

    debug = Parser(add_help=False)
    debug.add_argument("--debug", action="store_true", help="show a traceback when something goes wrong")
    plugins = _shared_options("plugins", debug)
    machine, data, scoring = map(_shared_options, ("machine", "data", "scoring"))

    bench = commands.add_parser(
        "bench",
        parents=[plugins, machine, data, scoring],
        help="train variants, score them, measure their speed",
        description="Train each variant on the same data with the same budget; print one table of quality and speed.",
    )
    _add_options(bench, _options_of_bench())

    listing = commands.add_parser("list", parents=[plugins], help="list what the plugins offer")
    kinds = (*KINDS, "suites")
    listing.add_argument("kind", nargs="?", choices=kinds, metavar="KIND", help=", ".join(kinds))
    listing.add_argument("--json", action="store_true", help="print JSON instead of text")

    show = commands.add_parser("show", parents=[plugins], help="show one variant, architecture, loss, …, or a run")
    show.add_argument(
        "name", metavar="NAME", help="a name, a run's folder, or the beginning of its name or id in ./runs"
    )
    show.add_argument("--json", action="store_true", help="print JSON instead of text")

    compare = commands.add_parser("compare", parents=[plugins], help="compare records, across variants and hardware")
    compare.add_argument("folders", nargs="*", default=["runs"], metavar="DIR", help="default: ./runs")
    compare.add_argument(
        "--by",
        choices=("variant", "hardware"),
        default="variant",
        help="hardware: the same work on several machines",
    )
    compare.add_argument("--baseline", metavar="ID", help="compare the others with this variant, or hardware")
    compare.add_argument("--target-fid", type=float, metavar="FID", help="add the kimg, time and energy until this FID")
    compare.add_argument(
        "--where", action="append", default=[], metavar="CONDITION", help="dataset=mnist, kimg>=100 (repeatable)"
    )
    compare.add_argument("--sort", metavar="COLUMN", help="a column of --format json; -COLUMN: descending")
    compare.add_argument("--format", default="table", metavar="NAME", help="table, or a reporter: csv, json, md")
    compare.add_argument("--against", action="append", default=[], metavar="DIR", help="earlier records (repeatable)")
    compare.add_argument(
        "--fail-on",
        action="append",
        default=[],
        metavar="FIGURE:N%",
        help="exit 3 if FIGURE is worse by more than that",
    )
    compare.add_argument(
        "--allow-missing",
        action="store_true",
        help="with --fail-on: allow rows, protocols and seeds that only --against has",
    )
    compare.add_argument(
        "--verdicts", metavar="FILE", help="with --fail-on: write what was found to FILE, as JSON; overwrites it"
    )
    _add_doubtful(compare)
    compare.add_argument("-o", "--output", metavar="FILE", help="write to FILE instead of stdout")
    compare.add_argument("--force", action="store_true", help="overwrite FILE")

    diff = commands.add_parser("diff", parents=[plugins], help="what changed between two runs, and how figures moved")
    diff.add_argument("first", metavar="A", help="a run's folder, or the beginning of its name or id in ./runs")
    diff.add_argument("second", metavar="B", help="the other run")
    diff.add_argument("--json", action="store_true", help="print JSON instead of text")

    board = commands.add_parser("leaderboard", parents=[debug], help="write the tables of DIR/README.md from records")
    board.add_argument("folder", nargs="?", default="results", metavar="DIR", help="default: ./results")
    board.add_argument("--check", action="store_true", help="write nothing; exit 1 if the page is out of date")

    report = commands.add_parser("report", parents=[debug], help="make one HTML page of records")
    report.add_argument("folders", nargs="*", default=["runs"], metavar="DIR", help="default: ./runs")
    report.add_argument("-o", "--output", default="report.html", metavar="FILE", help="default: report.html")
    report.add_argument(
        "--neighbours", action="store_true", help="below samples, show the training images nearest in pixels"
    )
    _add_doubtful(report)
    report.add_argument("--force", action="store_true", help="overwrite FILE")

    sample = commands.add_parser("sample", parents=[plugins], help="draw images from a run's generator")
    sample.add_argument("run", metavar="RUN", help="a run's folder, or the beginning of its name or id in ./runs")
    sample.add_argument("-n", type=int, default=64, metavar="N", help="how many (default: 64)")
    sample.add_argument("--label", type=int, metavar="L", help="the class, for a conditional generator")
    sample.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the latents (default: 0)")
    sample.add_argument("--interpolate", action="store_true", help="make each row a walk from one latent to another")
    sample.add_argument(
        "-o",
        "--output",
        default="grid.png",
        metavar="PATH",
        help="a PNG, or a folder of PNGs if it ends with / (default: grid.png)",
    )
    sample.add_argument("--force", action="store_true", help="overwrite PATH")

    score = commands.add_parser(
        "score", parents=[plugins, machine, data, scoring], help="score any folder of images by the same protocol"
    )
    score.add_argument("folder", metavar="DIR", help="a folder of images")
    score.add_argument("--json", action="store_true", help="print JSON instead of text")

    check = commands.add_parser("check", parents=[plugins], help="check that a plugin keeps the contract")
    check.add_argument("target", metavar="NAME|PATH", help="a variant, architecture, loss or metric; or a .py file")
    check.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="only this check, such as same-bits (repeatable)"
    )
    check.add_argument("--device", default="cpu", help="auto, cpu, cuda:0, … (default: cpu)")
    check.add_argument("--json", action="store_true", help="print JSON instead of text")

    new = commands.add_parser("new", parents=[plugins], help="write a plugin to start from: ./NAME/, ready to install")
    new.add_argument("name", metavar="NAME", help="name of the package and of its variant, such as my-gan")
    new.add_argument("--single-file", action="store_true", help="write one file instead of a package")

    installed = commands.add_parser("plugins", parents=[plugins], help="list plugins, the broken ones with the reason")
    installed.add_argument("--json", action="store_true", help="print JSON instead of text")

    environment = commands.add_parser("env", parents=[plugins, machine], help="show hardware, software and folders")
    environment.add_argument("--json", action="store_true", help="print JSON instead of text")
    environment.add_argument(
        "--clear-cache", action="store_true", help="empty ganzoo's cache folder and print its size"
    )

    doctor = commands.add_parser("doctor", parents=[debug], help="check records, pictures, weights and checkpoints")
    doctor.add_argument("folder", nargs="?", default="runs", metavar="DIR", help="default: ./runs")
    doctor.add_argument("--fix", action="store_true", help="move what is broken to DIR/quarantine; delete nothing")
    doctor.add_argument("--json", action="store_true", help="print JSON instead of text")

    return parser, list(commands.choices)


def _add_doubtful(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--doubtful", action="store_true", help="compare speeds too that other work disturbed while they were measured"
    )


def _shared_options(group: str, *parents: Parser) -> Parser:
    """A parser to inherit from: the options of `BenchPlan` that several commands share."""
    parser = Parser(add_help=False, parents=list(parents))
    _add_options(parser, (each for each in options_of(BenchPlan) if each.group == group))
    return parser


def _options_of_bench() -> list[Option]:
    """The options that only `ganzoo bench` has, in the order of `--help`."""
    ordered = [each for each in options_of(BenchPlan) if not each.group] + list(options_of(RunOptions))
    for each in options_of(BenchOutput):
        place = next((index for index, before in enumerate(ordered, 1) if before.name == each.after), len(ordered))
        ordered.insert(place, each)
    return ordered


def _add_options(parser: argparse.ArgumentParser, options: Iterable[Option]) -> None:
    for each in options:
        parser.add_argument(each.flag, dest=each.name, default=argparse.SUPPRESS, help=each.help, **_value_of(each))


def _value_of(option: Option) -> dict[str, Any]:
    """The arguments of `add_argument` that parse the words behind an option."""
    if option.negatable:
        return {"action": argparse.BooleanOptionalAction}
    if option.switch:
        return {"action": "store_false" if option.default else "store_true"}
    action = "append" if option.repeatable else "store"
    return {"action": action, "type": option.convert, "metavar": option.metavar}
