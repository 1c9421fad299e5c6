"""Puts back what a plugin's import, hook or network may change of the process: see the tables of settings.

It guards against carelessness, not malice: a plugin is code that runs with the user's rights.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from ganzoo.errors import PluginError
from ganzoo.registry.library_state import LIBRARIES
from ganzoo.registry.process_state import PYTHON, UNKNOWN, Setting
from ganzoo.util.streams import (
    STDERR,
    STDOUT,
    STREAMS,
    is_open,
    open_descriptors,
    print_note,
    reopen_closed_streams,
)
from ganzoo.util.text import printable

PROCESS_SETTINGS: Mapping[str, Setting] = {**PYTHON, **LIBRARIES}


STEADY = (
    *("threads", "float32", "dtype", "device", "denormals", "deterministic", "anomaly detection"),
    *("cuDNN", "CUDA products", "oneDNN"),
)
"""The settings by which speed or bits may differ, and which nothing changes in a run that goes as it should."""


@contextlib.contextmanager
def undisturbed(but: Collection[str] = (), whose: str = "a plugin") -> Iterator[None]:
    """Put back, when the block ends, the settings of the process that plugins are known to change, `but` these.

    What they print meanwhile, and what they have left to be done at exit prints, goes to stderr: stdout is for data. A
    copy of the process, by `os.fork`, ends with the block, with a line that says `whose` it is. Raises `PluginError`
    where the block has closed one of the standard streams, after opening it again.
    """
    before = dict(_settings_now())
    process = os.getpid()
    closed: list[str] = []
    try:
        with _atexit_to_stderr(), _streams_kept(closed):
            yield
    finally:
        if os.getpid() != process:
            print_note(f"{whose} has forked the process and let the copy run on; the copy ends here")
            os._exit(1)
        for name, now in _settings_now():
            wanted = before.get(name, PROCESS_SETTINGS[name].fresh)
            if name not in but and wanted is not UNKNOWN and now != wanted:
                PROCESS_SETTINGS[name].put_back(wanted)
        closed += reopen_closed_streams()
    if closed:
        names = " and ".join(dict.fromkeys(closed))
        raise PluginError(f"{names} closed: a plugin has to leave the standard streams open")


def settings_in_force() -> dict[str, Any]:
    """The settings of `STEADY` as they are now."""
    return {name: value for name, value in _settings_now() if name in STEADY}


def check_settings(before: Mapping[str, Any]) -> None:
    """Check that the settings are still those of `before`, an answer of `settings_in_force`.

    Raises `PluginError` where they are not: what is recorded of them would not be what was in force.
    """
    for name, now in settings_in_force().items():
        if name in before and now != before[name]:
            change = printable(f"from {before[name]} to {now}", 200)
            raise PluginError(f"a network or a phase has changed a setting of the process: {name}, {change}; leave it")


def _settings_now() -> Iterator[tuple[str, Any]]:
    for name, setting in PROCESS_SETTINGS.items():
        if setting.library in sys.modules:
            # A library whose import has failed is only partly initialized, and the working folder may be gone.
            with contextlib.suppress(AttributeError, ImportError, FileNotFoundError):
                yield name, setting.read()


@contextlib.contextmanager
def _streams_kept(closed: list[str]) -> Iterator[None]:
    """Redirect file descriptor 1 to stderr, for output of C code too, and put the first three back at the end.

    Appends the names of those that the block has closed.
    """
    kept = {number: os.dup(number) for number in STREAMS if is_open(number)}
    if {STDOUT, STDERR} <= kept.keys():
        os.dup2(STDERR, STDOUT)
    try:
        yield
    finally:
        closed += [STREAMS[number] for number in kept if not is_open(number)]
        for number, copy in kept.items():
            # Where all descriptors were closed the copies are gone too: it becomes the null device.
            with contextlib.suppress(OSError):
                os.dup2(copy, number)
                os.close(copy)
        open_descriptors()


def _redirect_stdout() -> Callable[[], None]:
    """Send what is written to file descriptor 1 to stderr; gives the function that ends it."""
    try:
        kept = os.dup(1)
        os.dup2(2, 1)
    except OSError:  # One of the two is closed: nothing to redirect.
        return lambda: None

    def restore() -> None:
        os.dup2(kept, 1)
        os.close(kept)

    return restore


@contextlib.contextmanager
def _atexit_to_stderr() -> Iterator[None]:
    """Let the functions that the block registers with `atexit` print to stderr.

    They are called in the reverse of the order in which they were registered: so between these two.
    """
    end: list[Callable[[], None]] = []

    def begin() -> None:
        stdout = sys.stdout
        with contextlib.suppress(Exception):
            stdout.flush()
        sys.stdout = sys.stderr
        restore = _redirect_stdout()
        end.append(lambda: _end_redirection(stdout, restore))

    def finish() -> None:
        for each in end:
            each()

    atexit.register(finish)
    registered = atexit._ncallbacks()
    try:
        yield
    finally:
        if atexit._ncallbacks() > registered:
            atexit.register(begin)
        else:
            atexit.unregister(finish)


def _end_redirection(stdout: Any, restore: Callable[[], None]) -> None:
    with contextlib.suppress(Exception):
        stdout.flush()
    restore()
    sys.stdout = stdout
