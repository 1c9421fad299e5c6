"""The command line: arguments only. What a command does is in `ganzoo.commands`, loaded when it is asked for."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from ganzoo import __version__
from ganzoo.errors import GanzooError
from ganzoo.streams import print_note, reader_may_leave, settle_stdout
from ganzoo.text import did_you_mean, printable

KINDS = ("variants", "architectures", "losses", "datasets", "features", "metrics", "reporters")


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        sys.stderr.write(f"{self.prog}: {printable(message)} (see `{self.prog} --help`)\n")
        raise SystemExit(2)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, run, and turn what goes wrong into one line on stderr and an exit code."""
    try:
        return _run(sys.argv[1:] if arguments is None else arguments)
    finally:
        settle_stdout()


def _run(arguments: Sequence[str]) -> int:
    parser, commands_known = build_parser()
    command = next((argument for argument in arguments if not argument.startswith("-")), None)
    if command is not None and command not in commands_known:
        parser.error(f"no command is called '{command}'{did_you_mean(command, commands_known)}")
    known = parser.parse_args(arguments)
    if not known.command:
        parser.print_help()
        return 0
    try:
        from ganzoo.commands import COMMANDS

        code = 0
        with reader_may_leave():
            code = COMMANDS[known.command](known)
        return code
    except KeyboardInterrupt:
        print_note("interrupted; run the same command again to go on")
        return 130
    except Exception as error:
        if getattr(known, "debug", False):
            import traceback

            traceback.print_exc()
        line, code = _explain(error)
        print_note(line)
        return code


def _explain(error: Exception) -> tuple[str, int]:
    """One line for the user, and the exit code."""
    if isinstance(error, GanzooError):
        return printable(error, 2000), error.exit_code
    if isinstance(error, OSError):
        place = f"{printable(error.filename)}: " if error.filename else ""
        return f"{place}{printable(error.strerror or error)}", 2
    return f"failed unexpectedly with {type(error).__name__}: {printable(error)}; --debug shows where", 1


def build_parser() -> tuple[argparse.ArgumentParser, list[str]]:
    """The whole grammar of the command line, and the names of the commands."""
    parser = _Parser(
        prog="ganzoo",
        description="Which GAN, at what quality, how fast, on which hardware?",
        epilog="Start with: ganzoo bench --models dcgan,mlp",
    )
    parser.add_argument("--version", action="version", version=f"ganzoo {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)

    plugins = _Parser(add_help=False)
    plugins.add_argument(
        "--plugin", action="append", default=[], metavar="PATH", help="load a .py file or module too (repeatable)"
    )
    plugins.add_argument("--strict", action="store_true", help="a broken plugin is an error")
    plugins.add_argument("--debug", action="store_true", help="show a traceback when something goes wrong")

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
        "--metrics", default="fid,is", metavar="LIST", help="of fid,is,kid,prc,modes (default: fid,is)"
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
        required=True,
        metavar="LIST",
        help="names, globs (wgan*), all, !exclude, architecture+loss (dcgan+hinge)",
    )
    bench.add_argument(
        "--kimg", metavar="N", help="budget in thousands of real images (default: the dataset's), or full"
    )
    bench.add_argument("--seeds", type=int, default=1, metavar="N", help="how many seeds (default: 1)")
    bench.add_argument("--seed", type=int, default=0, metavar="S", help="the first seed (default: 0)")
    bench.add_argument("--precision", default="fp32", help="fp32, tf32, bf16 (default: fp32)")
    bench.add_argument("--batch-size", type=int, metavar="N", help="for all variants (default: each one's own)")
    bench.add_argument("--loss", metavar="NAME", help="for all variants, in place of their own")
    bench.add_argument(
        "--set", action="append", default=[], metavar="VARIANT.FIELD=VALUE", help="change a recipe (repeatable)"
    )
    bench.add_argument(
        "--fakes", type=int, metavar="N", help="generated images that are scored (default: the dataset's)"
    )
    bench.add_argument("--eval-every", type=float, metavar="KIMG", help="score along the way (default: every quarter)")
    bench.add_argument("--results", default="runs", metavar="DIR", help="where records go (default: ./runs)")
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
    bench.add_argument("--dry-run", action="store_true", help="print what would run, with an estimate")
    bench.add_argument("--force", action="store_true", help="do finished runs again")
    bench.add_argument("--json", action="store_true", help="print the records instead of the table")
    bench.add_argument("--quiet", action="store_true", help="no progress")

    listing = commands.add_parser("list", parents=[plugins], help="list what the plugins offer")
    listing.add_argument("kind", nargs="?", choices=KINDS, metavar="KIND", help=", ".join(KINDS))
    listing.add_argument("--json", action="store_true")

    show = commands.add_parser("show", parents=[plugins], help="show one variant, architecture, loss, …")
    show.add_argument("name", metavar="NAME")
    show.add_argument("--json", action="store_true")

    compare = commands.add_parser("compare", parents=[plugins], help="compare records, across variants and hardware")
    compare.add_argument("folders", nargs="*", default=["runs"], metavar="DIR", help="default: ./runs")
    compare.add_argument("--format", default="table", metavar="NAME", help="table, or a reporter: csv, json, md")

    sample = commands.add_parser("sample", parents=[plugins], help="draw images from a run's generator")
    sample.add_argument("run", metavar="RUN", help="a run's folder, or the beginning of its name or id in ./runs")
    sample.add_argument("-n", type=int, default=64, metavar="N", help="how many (default: 64)")
    sample.add_argument("--label", type=int, metavar="L", help="the class, for a conditional generator")
    sample.add_argument("--seed", type=int, default=0, metavar="S")
    sample.add_argument("-o", "--output", default="grid.png", metavar="FILE", help="default: grid.png")
    sample.add_argument("--force", action="store_true", help="overwrite FILE")

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

    return parser, list(commands.choices)
