"""The command line as a program: parse, run a command, explain what went wrong, exit.

What a command does is in `ganzoo.cli.commands`, loaded when one is run.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections.abc import Sequence
from typing import NoReturn

from ganzoo.cli.interruption import INTERRUPTED, say_interrupted, stopped_by
from ganzoo.cli.parser import build_parser, join_signs
from ganzoo.errors import GanzooError, UsageError
from ganzoo.util.streams import open_streams, print_note, reader_may_leave, settle
from ganzoo.util.text import did_you_mean, printable

PATIENCE_SECONDS = 10.0
"""How long the end waits for threads: an observer may have something to send yet."""


def run() -> NoReturn:
    """The command as a program: `main`, and an end that a plugin's stray thread cannot put off for ever."""
    open_streams()
    try:
        with stopped_by("SIGTERM", "SIGHUP"):
            code = main()
            stray = _thread_that_does_not_end()
    except KeyboardInterrupt:
        # Another end would wait for the very thread that the user is tired of.
        os._exit(INTERRUPTED)
    if stray is None:
        sys.exit(code)
    print_note(f"a plugin's thread '{printable(stray.name, 80)}' does not end; it is left behind")
    os._exit(code)


def _thread_that_does_not_end() -> threading.Thread | None:
    """The first that is still alive after `PATIENCE_SECONDS` for all; None as soon as all have ended."""
    _end_idle_pools()
    until = time.monotonic() + PATIENCE_SECONDS
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and not thread.daemon:
            thread.join(max(0.0, until - time.monotonic()))
            if thread.is_alive():
                return thread
    return None


def _end_idle_pools() -> None:
    """Tell the threads of pools to end when they have nothing left to do, as Python does after this.

    Until then those of torch's compiler wait for work, and no plugin has anything to do with it.
    """
    pools = sys.modules.get("concurrent.futures.thread")
    tell = getattr(pools, "_python_exit", None)
    if tell is not None:
        # It waits for them, and a thread with endless work is not to put off the end.
        threading.Thread(target=tell, daemon=True).start()


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, run, and turn what goes wrong into one line on stderr and an exit code."""
    try:
        return _run(sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt:
        say_interrupted()
        return INTERRUPTED
    finally:
        settle()


def _run(arguments: Sequence[str]) -> int:
    _forget_odd_widths()
    command = next((argument for argument in arguments if not argument.startswith("-")), "")
    parser, commands_known = build_parser(command)
    if command and command not in commands_known:
        parser.error(f"no command is called '{command}'{did_you_mean(command, commands_known)}")
    known = parser.parse_args(join_signs(arguments))
    if not known.command:
        parser.print_help()
        return 0
    try:
        _check_working_folder()
        from ganzoo.cli.commands import FUNCTIONS

        code = 0
        with reader_may_leave():
            code = FUNCTIONS[known.command](known)
        return code
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # A plugin may raise anything; where it ends the program, the command has failed.
        if known.debug:
            import traceback

            traceback.print_exc()
        line, code = _explain(error)
        print_note(line)
        return code


def _forget_odd_widths() -> None:
    """Unset `COLUMNS` and `LINES` where they are no sensible numbers: rich takes any digit of Unicode for one."""
    for name in ("COLUMNS", "LINES"):
        if name in os.environ and not re.fullmatch(r"[0-9]{1,5}", os.environ[name], re.ASCII):
            del os.environ[name]


def _check_working_folder() -> None:
    """Raise `UsageError` where it has been removed: relative paths lead nowhere then."""
    try:
        os.getcwd()
    except OSError as error:
        reason = error.strerror
        raise UsageError(f"the working folder cannot be used ({reason}); cd to one that is there") from error


def _explain(error: BaseException) -> tuple[str, int]:
    """One line for the user, and the exit code."""
    if isinstance(error, GanzooError):
        return printable(error, 2000), error.exit_code
    if isinstance(error, OSError):
        place = f"{printable(error.filename)}: " if error.filename else ""
        return f"{place}{printable(error.strerror or error)}", 2
    from ganzoo.util.text import error_line

    return f"failed unexpectedly with {error_line(error)}; --debug shows where", 1
