"""The command line: arguments only. What a command does is in `ganzoo.cli.commands`, loaded when it is asked for."""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import NoReturn

from ganzoo import __version__
from ganzoo.errors import GanzooError
from ganzoo.util.streams import print_note, reader_may_leave, say, settle
from ganzoo.util.text import did_you_mean, printable

PATIENCE_SECONDS = 10.0
"""How long the end waits for threads: an observer may have something to send yet."""

KINDS = ("variants", "architectures", "losses", "datasets", "features", "metrics", "reporters")


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        say(f"{self.prog}: {printable(message)} (see `{self.prog} --help`)")
        raise SystemExit(2)


def run() -> NoReturn:
    """The command as a program: `main`, and an end that a plugin's stray thread cannot put off for ever."""
    try:
        code = main()
        stray = _thread_that_does_not_end()
    except KeyboardInterrupt:
        # Another end would wait for the very thread that the user is tired of.
        os._exit(130)
    if stray is None:
        sys.exit(code)
    print_note(f"a plugin's thread '{printable(stray.name, 80)}' does not end; it is left behind")
    os._exit(code)


def _thread_that_does_not_end() -> threading.Thread | None:
    """The first that is still alive after `PATIENCE_SECONDS` for all; None as soon as all have ended."""
    until = time.monotonic() + PATIENCE_SECONDS
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and not thread.daemon:
            thread.join(max(0.0, until - time.monotonic()))
            if thread.is_alive():
                return thread
    return None


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, run, and turn what goes wrong into one line on stderr and an exit code."""
    try:
        return _run(sys.argv[1:] if arguments is None else arguments)
    finally:
        settle()


def _run(arguments: Sequence[str]) -> int:
    parser, commands_known = build_parser()
    command = next((argument for argument in arguments if not argument.startswith("-")), None)
    if command is not None and command not in commands_known:
        parser.error(f"no command is called '{command}'{did_you_mean(command, commands_known)}")
    known = parser.parse_args(_with_signs(arguments))
    if not known.command:
        parser.print_help()
        return 0
    try:
        from ganzoo.cli.commands import COMMANDS

        if known.command == "bench":
            known.given = _given(arguments, known)
        code = 0
        with reader_may_leave():
            code = COMMANDS[known.command](known)
        return code
    except KeyboardInterrupt as interrupt:
        print_note(" ".join(("interrupted; run the same command again", *map(str, interrupt.args), "to go on")))
        return 130
    except BaseException as error:  # A plugin may raise anything; where it ends the program, the command has failed.
        if getattr(known, "debug", False):
            import traceback

            traceback.print_exc()
        line, code = _explain(error)
        print_note(line)
        return code


def _given(arguments: Sequence[str], known: argparse.Namespace) -> list[str]:
    """The options of a bench that were really given, whatever their value: a suite, or a run, has others of its own."""
    parser, _ = build_parser(dict.fromkeys(vars(known)))
    return [name for name, value in vars(parser.parse_args(arguments)).items() if value is not None]


def _with_signs(arguments: Sequence[str]) -> list[str]:
    """`--sort -fid` as `--sort=-fid`: argparse takes what begins with a dash for an option."""
    joined: list[str] = []
    for argument in arguments:
        if joined and joined[-1] == "--sort" and argument.startswith("-") and not argument.startswith("--"):
            joined[-1] = f"--sort={argument}"
        else:
            joined.append(argument)
    return joined


def _explain(error: BaseException) -> tuple[str, int]:
    """One line for the user, and the exit code."""
    if isinstance(error, GanzooError):
        return printable(error, 2000), error.exit_code
    if isinstance(error, OSError):
        place = f"{printable(error.filename)}: " if error.filename else ""
        return f"{place}{printable(error.strerror or error)}", 2
    from ganzoo.util.text import error_line

    return f"failed unexpectedly with {error_line(error)}; --debug shows where", 1


def build_parser(bench_defaults: Mapping[str, None] | None = None) -> tuple[argparse.ArgumentParser, list[str]]:
    """The whole grammar of the command line, and the names of the commands.

    `bench_defaults` takes the place of the defaults of `bench`: with None for each, what is not None was given.
    """
    parser = _Parser(
        prog="ganzoo",
        description="Which GAN, at what quality, how fast, on which hardware?",
        epilog="Start with: ganzoo bench --models dcgan,mlp",
    )
    parser.add_argument("--version", action="version", version=f"ganzoo {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)

    debug = _Parser(add_help=False)
    debug.add_argument("--debug", action="store_true", help="show a traceback when something goes wrong")

    plugins = _Parser(add_help=False, parents=[debug])
    plugins.add_argument(
        "--plugin", action="append", default=[], metavar="PATH", help="load a .py file or module too (repeatable)"
    )
    plugins.add_argument("--strict", action="store_true", help="a broken plugin is an error")

    machine = _Parser(add_help=False)
    machine.add_argument("--device", default="auto", help="auto, cpu, cuda:0, mps, xpu (default: auto)")
    machine.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: $OMP_NUM_THREADS, else all)")

    data = _Parser(add_help=False)
    data.add_argument(
        "--dataset", default="digits", metavar="NAME", help="default: digits (see `ganzoo list datasets`)"
    )
    data.add_argument("--image-size", type=int, metavar="N", help="pixels (default: the dataset's)")
    data.add_argument("--data-root", metavar="DIR", help="where datasets lie (default: $GANZOO_DATA, else ./data)")
    data.add_argument("--skip-bad-images", action="store_true", help="leave unreadable images out and count them")

    scoring = _Parser(add_help=False)
    scoring.add_argument(
        "--metrics", default="fid,is", metavar="LIST", help="default: fid,is (see `ganzoo list metrics`)"
    )
    scoring.add_argument(
        "--features", default="auto", metavar="NAME", help="feature extractor (default: the dataset's)"
    )
    scoring.add_argument("--weights", metavar="FILE", help="the extractor's weights, in place of the cached file")
    scoring.add_argument("--weights-sha256", metavar="HASH", help="accept --weights with this hash")

    bench = commands.add_parser(
        "bench",
        parents=[plugins, machine, data, scoring],
        help="train variants, score them, measure their speed",
        description="Train each variant on the same data with the same budget; print one table of quality and speed.",
    )
    bench.add_argument(
        "--models",
        action="append",
        default=[],
        metavar="LIST",
        help="names, globs (wgan*), all, !exclude, architecture+loss (dcgan+hinge)",
    )
    bench.add_argument(
        "--suite",
        metavar="NAME",
        help="quick, standard, full, or a .toml file; options given beside it win",
    )
    bench.add_argument(
        "--kimg", metavar="N", help="budget in thousands of real images (default: the dataset's), or full"
    )
    bench.add_argument("--seeds", type=int, default=1, metavar="N", help="how many seeds (default: 1)")
    bench.add_argument("--seed", type=int, default=0, metavar="S", help="the first seed (default: 0)")
    bench.add_argument("--precision", default="fp32", help="fp32, tf32, bf16 (default: fp32)")
    bench.add_argument(
        "--batch-size",
        metavar="N",
        help="for all variants (default: each one's own); auto: its own, halved while it does not fit into memory",
    )
    bench.add_argument("--loss", metavar="NAME", help="for all variants, in place of their own")
    bench.add_argument(
        "--set", action="append", default=[], metavar="VARIANT.FIELD=VALUE", help="change a recipe (repeatable)"
    )
    bench.add_argument(
        "--fakes", type=int, metavar="N", help="generated images that are scored (default: the dataset's)"
    )
    bench.add_argument("--eval-every", type=float, metavar="KIMG", help="score along the way (default: every quarter)")
    bench.add_argument("--results", default="runs", metavar="DIR", help="where records go (default: ./runs)")
    bench.add_argument(
        "--log", action="append", default=[], metavar="NAME", help="send curves to tensorboard too (repeatable)"
    )
    bench.add_argument("--throughput-only", action="store_true", help="measure speed; train and score nothing")
    bench.add_argument("--throughput-seconds", type=float, default=5.0, metavar="S", help="measured time (default: 5)")
    bench.add_argument(
        "--sweep-batch",
        metavar="LIST",
        help="measure speed and memory at 16,32,64 or, with auto, at doubling batches until one does not fit",
    )
    bench.add_argument(
        "--step-mode", metavar="MODE", help="eager, graph (CUDA graphs), compile (default: graph on CUDA, else eager)"
    )
    bench.add_argument(
        "--deterministic", action="store_true", help="algorithms that repeat bit for bit, on a GPU too; slower there"
    )
    bench.add_argument("--resume", metavar="RUN", help="train a run on, up to the new --kimg in all")
    bench.add_argument("--timeout", type=float, metavar="S", help="stop a run that takes longer, in seconds")
    bench.add_argument(
        "--retry", default="", metavar="LIST", help="try again, twice, what ends so: of oom,crashed,timeout"
    )
    bench.add_argument(
        "--keep-going",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="do the other runs when one fails (default)",
    )
    bench.add_argument(
        "--checkpoint-seconds", type=float, default=60.0, metavar="S", help="save a run this often (default: 60)"
    )
    bench.add_argument(
        "--discard-checkpoints", action="store_true", help="throw a run's checkpoint away when it is done"
    )
    bench.add_argument("--dry-run", action="store_true", help="print what would run, with an estimate")
    bench.add_argument("--force", action="store_true", help="do finished runs again")
    bench.add_argument("--json", action="store_true", help="print the records instead of the table")
    bench.add_argument("--quiet", action="store_true", help="no progress")
    bench.set_defaults(**(bench_defaults or {}))

    listing = commands.add_parser("list", parents=[plugins], help="list what the plugins offer")
    kinds = (*KINDS, "suites")
    listing.add_argument("kind", nargs="?", choices=kinds, metavar="KIND", help=", ".join(kinds))
    listing.add_argument("--json", action="store_true")

    show = commands.add_parser("show", parents=[plugins], help="show one variant, architecture, loss, …, or a run")
    show.add_argument(
        "name", metavar="NAME", help="a name, a run's folder, or the beginning of its name or id in ./runs"
    )
    show.add_argument("--json", action="store_true")

    compare = commands.add_parser("compare", parents=[plugins], help="compare records, across variants and hardware")
    compare.add_argument("folders", nargs="*", default=["runs"], metavar="DIR", help="default: ./runs")
    compare.add_argument(
        "--by", choices=("variant", "hardware"), default="variant", help="hardware: what ran alike on several machines"
    )
    compare.add_argument("--baseline", metavar="ID", help="set the others against this variant, or hardware")
    compare.add_argument("--target-fid", type=float, metavar="FID", help="add what it took to come to this FID")
    compare.add_argument(
        "--where", action="append", default=[], metavar="CONDITION", help="dataset=mnist, kimg>=100 (repeatable)"
    )
    compare.add_argument("--sort", metavar="COLUMN", help="a column of --format json; -COLUMN: descending")
    compare.add_argument("--format", default="table", metavar="NAME", help="table, or a reporter: csv, json, md")
    compare.add_argument("--against", action="append", default=[], metavar="DIR", help="earlier records (repeatable)")
    compare.add_argument(
        "--fail-on", action="append", default=[], metavar="FIGURE:N%", help="exit 3 where it is worse by more than that"
    )
    compare.add_argument(
        "--allow-missing",
        action="store_true",
        help="with --fail-on: rows, protocols and seeds that only --against has are no failure",
    )
    compare.add_argument("-o", "--output", metavar="FILE", help="write there, and not to stdout")
    compare.add_argument("--force", action="store_true", help="overwrite FILE")

    diff = commands.add_parser("diff", parents=[plugins], help="what changed between two runs, and how figures moved")
    diff.add_argument("first", metavar="A", help="a run's folder, or the beginning of its name or id in ./runs")
    diff.add_argument("second", metavar="B")
    diff.add_argument("--json", action="store_true")

    board = commands.add_parser("leaderboard", parents=[plugins], help="write the tables of DIR/README.md from records")
    board.add_argument("folder", nargs="?", default="results", metavar="DIR", help="default: ./results")
    board.add_argument("--check", action="store_true", help="write nothing; exit 1 where the page is not up to date")

    report = commands.add_parser("report", parents=[plugins], help="make one HTML page of records")
    report.add_argument("folders", nargs="*", default=["runs"], metavar="DIR", help="default: ./runs")
    report.add_argument("-o", "--output", default="report.html", metavar="FILE", help="default: report.html")
    report.add_argument(
        "--neighbours", action="store_true", help="under samples, the training images that are nearest in pixels"
    )
    report.add_argument("--force", action="store_true", help="overwrite FILE")

    sample = commands.add_parser("sample", parents=[plugins], help="draw images from a run's generator")
    sample.add_argument("run", metavar="RUN", help="a run's folder, or the beginning of its name or id in ./runs")
    sample.add_argument("-n", type=int, default=64, metavar="N", help="how many (default: 64)")
    sample.add_argument("--label", type=int, metavar="L", help="the class, for a conditional generator")
    sample.add_argument("--seed", type=int, default=0, metavar="S")
    sample.add_argument("--interpolate", action="store_true", help="each row a walk from one latent to another")
    sample.add_argument(
        "-o", "--output", default="grid.png", metavar="PATH", help="a PNG, or with a / at its end a folder of PNGs"
    )
    sample.add_argument("--force", action="store_true", help="overwrite PATH")

    score = commands.add_parser(
        "score", parents=[plugins, machine, data, scoring], help="score any folder of images by the same protocol"
    )
    score.add_argument("folder", metavar="DIR")
    score.add_argument("--json", action="store_true")

    check = commands.add_parser("check", parents=[plugins], help="check that a plugin keeps the contract")
    check.add_argument("target", metavar="NAME|PATH", help="a variant, architecture, loss or metric; or a .py file")
    check.add_argument("--device", default="cpu", help="auto, cpu, cuda:0, … (default: cpu)")
    check.add_argument("--json", action="store_true")

    new = commands.add_parser("new", parents=[plugins], help="write a plugin to start from: ./NAME/, ready to install")
    new.add_argument("name", metavar="NAME", help="of the package and of the variant that it offers, as in my-gan")
    new.add_argument("--single-file", action="store_true", help="one file in place of a package")

    installed = commands.add_parser("plugins", parents=[plugins], help="list plugins, the broken ones with the reason")
    installed.add_argument("--json", action="store_true")

    environment = commands.add_parser("env", parents=[plugins, machine], help="show hardware, software and folders")
    environment.add_argument("--json", action="store_true")
    environment.add_argument("--clear-cache", action="store_true", help="empty ganzoo's cache folder, and say how much")

    doctor = commands.add_parser("doctor", parents=[debug], help="check records, pictures, weights and checkpoints")
    doctor.add_argument("folder", nargs="?", default="runs", metavar="DIR", help="default: ./runs")
    doctor.add_argument("--fix", action="store_true", help="move what is broken to DIR/quarantine; delete nothing")
    doctor.add_argument("--json", action="store_true")

    return parser, list(commands.choices)
