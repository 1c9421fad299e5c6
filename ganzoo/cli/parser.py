"""The grammar of the command line: commands and their options, for argparse.

The options of `ganzoo bench` come from the fields of dataclasses (`ganzoo.util.options`), which have their defaults: a
parsed command line holds only those that were given.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NoReturn

from ganzoo import __version__
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


@dataclass(frozen=True)
class Command:
    """A command: its line in `ganzoo --help`, and its options. `shared` are groups of `BenchPlan`'s options."""

    name: str
    help: str
    add_options: Callable[[Parser], None]
    shared: tuple[str, ...] = ("plugins",)
    description: str | None = None


def _add_options_of_bench(parser: Parser) -> None:
    _add_options(parser, _options_of_bench())


def _add_options_of_list(parser: Parser) -> None:
    from ganzoo.registry.registry import KINDS

    kinds = (*KINDS, "penalties", "augmentations", "players", "suites")
    parser.add_argument("kind", nargs="?", choices=kinds, metavar="KIND", help=", ".join(kinds))
    _add_json(parser)


def _add_options_of_show(parser: Parser) -> None:
    parser.add_argument(
        "name", metavar="NAME", help="a name, a run's folder, or the beginning of its name or id in ./runs"
    )
    _add_json(parser)


def _add_options_of_compare(parser: Parser) -> None:
    parser.add_argument("folders", nargs="*", default=["runs"], metavar="DIR", help="default: ./runs")
    parser.add_argument(
        "--reported",
        action="store_true",
        help="also show figures that were published of these variants, in a table of their own",
    )
    parser.add_argument(
        "--by",
        choices=("variant", "hardware"),
        default="variant",
        metavar="WHAT",
        help="variant, or hardware: the same work on several machines",
    )
    parser.add_argument("--baseline", metavar="ID", help="compare the others with this variant, or hardware")
    targets = parser.add_mutually_exclusive_group()
    targets.add_argument(
        "--target", metavar="SCORE:VALUE", help="add the kimg, time and energy until SCORE was as good"
    )
    targets.add_argument("--target-fid", type=float, metavar="FID", help="the same as --target fid:FID")
    parser.add_argument(
        "--where", action="append", default=[], metavar="CONDITION", help="dataset=mnist, kimg>=100 (repeatable)"
    )
    parser.add_argument(
        "--sort", metavar="COLUMN", help="a column of the table or of --format json; -COLUMN: descending"
    )
    parser.add_argument("--format", default="table", metavar="NAME", help="table, or a reporter: csv, json, md")
    parser.add_argument("--against", action="append", default=[], metavar="DIR", help="earlier records (repeatable)")
    parser.add_argument(
        "--fail-on",
        action="append",
        default=[],
        metavar="FIGURE:N%",
        help="exit 3 if FIGURE is worse by more than that",
    )
    parser.add_argument(
        "--allow-missing",
        action="store_true",
        help="with --fail-on: allow rows, protocols and seeds that only --against has",
    )
    parser.add_argument(
        "--verdicts", metavar="FILE", help="with --fail-on: write what was found to FILE, as JSON; overwrites it"
    )
    _add_doubtful(parser)
    parser.add_argument("-o", "--output", metavar="FILE", help="write to FILE instead of stdout")
    parser.add_argument("--force", action="store_true", help="overwrite FILE")


def _add_options_of_diff(parser: Parser) -> None:
    parser.add_argument("first", metavar="A", help="a run's folder, or the beginning of its name or id in ./runs")
    parser.add_argument("second", metavar="B", help="the other run")
    _add_doubtful(parser)
    _add_json(parser)


def _add_options_of_leaderboard(parser: Parser) -> None:
    parser.add_argument("folder", nargs="?", default="results", metavar="DIR", help="default: ./results")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the page is out of date")


def _add_options_of_report(parser: Parser) -> None:
    parser.add_argument("folders", nargs="*", default=["runs"], metavar="DIR", help="default: ./runs")
    parser.add_argument("-o", "--output", default="report.html", metavar="FILE", help="the page (default: report.html)")
    parser.add_argument(
        "--neighbours", action="store_true", help="below samples, show the training images nearest in pixels"
    )
    _add_doubtful(parser)
    parser.add_argument("--force", action="store_true", help="overwrite FILE")


def _add_options_of_sample(parser: Parser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run's folder, or the beginning of its name or id in ./runs")
    parser.add_argument("-n", type=int, default=64, metavar="N", help="how many (default: 64)")
    parser.add_argument("--label", type=int, metavar="L", help="the class, for a conditional generator")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the latents (default: 0)")
    parser.add_argument(
        "--at",
        default="final",
        metavar="WHICH",
        help="final, best, or the kimg of a generator that --keep all has kept (default: final)",
    )
    parser.add_argument("--interpolate", action="store_true", help="make each row a walk from one latent to another")
    parser.add_argument(
        "--draw", action="append", default=[], metavar="NAME=VALUE", help="an option of drawing, such as truncation=0.7"
    )
    parser.add_argument(
        "-o",
        "--output",
        default="grid.png",
        metavar="PATH",
        help="a PNG, or a folder of PNGs if it ends with / (default: grid.png)",
    )
    parser.add_argument("--force", action="store_true", help="overwrite PATH")


def _add_options_of_score(parser: Parser) -> None:
    parser.add_argument(
        "of",
        nargs="+",
        metavar="RUN|IMAGES",
        help="finished runs: a folder, the beginning of a name or id in ./runs, or a folder of runs; or images: one "
        "folder, .npz or .safetensors",
    )
    _add_json(parser)


def _add_options_of_check(parser: Parser) -> None:
    parser.add_argument("target", metavar="NAME|PATH", help="a variant, architecture, loss or metric; or a .py file")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="NAME[,NAME…]",
        help="only these checks, such as same-bits,resumes (repeatable)",
    )
    parser.add_argument("--device", default="cpu", help="auto, cpu, cuda:0, … (default: cpu)")
    _add_json(parser)


def _add_options_of_new(parser: Parser) -> None:
    from ganzoo.conformance.scaffold import PLUGIN_KINDS

    parser.add_argument("name", metavar="NAME", help="name of the package and of what it offers, such as my-gan")
    parser.add_argument(
        "--kind", choices=PLUGIN_KINDS, default="gan", metavar="KIND", help=f"{', '.join(PLUGIN_KINDS)} (default: gan)"
    )
    parser.add_argument("--single-file", action="store_true", help="write one file instead of a package")


def _add_options_of_plugins(parser: Parser) -> None:
    _add_json(parser)


def _add_options_of_env(parser: Parser) -> None:
    _add_json(parser)
    parser.add_argument(
        "--clear-cache", action="store_true", help="empty ganzoo's cache folder and print the bytes freed"
    )


def _add_options_of_doctor(parser: Parser) -> None:
    parser.add_argument("folder", nargs="?", default="runs", metavar="DIR", help="default: ./runs")
    parser.add_argument("--fix", action="store_true", help="move what is broken to DIR/quarantine; delete nothing")
    _add_json(parser)


COMMANDS = (
    Command(
        "bench",
        "train variants, score them, measure their speed",
        _add_options_of_bench,
        shared=("plugins", "machine", "data", "scoring"),
        description="Train each variant on the same data with the same budget; print one table of quality and speed.",
    ),
    Command("list", "list what the plugins offer", _add_options_of_list),
    Command("show", "show one variant, architecture, loss, …, or a run", _add_options_of_show),
    Command("compare", "compare records, across variants and hardware", _add_options_of_compare),
    Command("diff", "what changed between two runs, and how figures moved", _add_options_of_diff),
    Command(
        "leaderboard", "write the tables in the README of a folder of results", _add_options_of_leaderboard, shared=()
    ),
    Command("report", "make one HTML page of records", _add_options_of_report, shared=()),
    Command("sample", "draw images from a run's generator", _add_options_of_sample),
    Command(
        "score",
        "score what finished runs have kept, or any images",
        _add_options_of_score,
        shared=("plugins", "machine", "data", "scoring"),
    ),
    Command("check", "check that a plugin keeps the contract", _add_options_of_check),
    Command("new", "write a plugin to start from: ./NAME/, ready to install", _add_options_of_new),
    Command("plugins", "list plugins, the broken ones with the reason", _add_options_of_plugins),
    Command(
        "env",
        "show hardware, software and folders; empty the cache",
        _add_options_of_env,
        shared=("plugins", "machine"),
    ),
    Command("doctor", "check records, pictures, weights and checkpoints", _add_options_of_doctor, shared=()),
)


def build_parser(asked: str | None = None) -> tuple[Parser, list[str]]:
    """The grammar of the command line, and the names of the commands.

    With `asked`, which may be no command, only that one has its options: the rest would cost a start its time.
    """
    parser = Parser(
        prog="ganzoo",
        description="Which GAN, at what quality, how fast, on which hardware?",
        epilog="Start with: ganzoo bench --models dcgan,mlp",
    )
    parser.add_argument("--version", action="version", version=f"ganzoo {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    for command in COMMANDS:
        of_command = commands.add_parser(command.name, help=command.help, description=command.description)
        if asked in (None, command.name):
            of_command.add_argument("--debug", action="store_true", help="show a traceback when something goes wrong")
            for group in command.shared:
                _add_shared_options(of_command, group)
            command.add_options(of_command)
    return parser, [command.name for command in COMMANDS]


def _add_json(parser: Parser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def _add_doubtful(parser: Parser) -> None:
    parser.add_argument(
        "--doubtful", action="store_true", help="compare speeds too that other work disturbed while they were measured"
    )


def _add_shared_options(parser: Parser, group: str) -> None:
    """The options of `BenchPlan` that several commands share."""
    from ganzoo.planning.request import BenchPlan

    _add_options(parser, (each for each in options_of(BenchPlan) if each.group == group))


def _options_of_bench() -> list[Option]:
    """The options that only `ganzoo bench` has, in the order of `--help`."""
    from ganzoo.planning.request import BenchPlan
    from ganzoo.running.options import RunOptions

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
