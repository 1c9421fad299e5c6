"""Settings of a Python process that code may change as a side effect: how each is read, and how it is put back."""

from __future__ import annotations

import contextlib
import gc
import locale
import logging
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ganzoo.registry.search_path import search_like

UNKNOWN = object()


@dataclass(frozen=True)
class Setting:
    """One setting. `read` and `put_back` are called only where the module `library` is loaded.

    Where it was loaded meanwhile, the setting is put back to `fresh`, what it is in a process that has just loaded it;
    unless that is unknown.
    """

    read: Callable[[], Any]
    put_back: Callable[[Any], object]
    library: str = "sys"
    fresh: Any = UNKNOWN


def _put_back_environment(before: Mapping[str, str]) -> None:
    """Set only variables that differ: setting one is not safe while another thread reads the environment."""
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    for name, value in before.items():
        if os.environ.get(name) != value:
            os.environ[name] = value


def _put_back_streams(before: tuple[Any, ...]) -> None:
    sys.stdin, sys.stdout, sys.stderr = before


def _hooks() -> tuple[Any, ...]:
    return sys.excepthook, sys.unraisablehook, threading.excepthook, sys.gettrace(), sys.getprofile()


def _put_back_hooks(before: tuple[Any, ...]) -> None:
    sys.excepthook, sys.unraisablehook, threading.excepthook, trace, profile = before
    sys.settrace(trace)
    sys.setprofile(profile)


def _signal_handlers() -> dict[int, Any]:
    """Python allows signal handlers to be set in the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: signal.getsignal(number) for number in signal.valid_signals()}


def _put_back_signal_handlers(before: Mapping[int, Any]) -> None:
    for number, handler in before.items():
        # None is a handler that was set outside of Python, and cannot be set again.
        if handler is not None and signal.getsignal(number) is not handler:
            signal.signal(number, handler)


def _umask() -> int:
    """It can be read only by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


BINDING = ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY")
"""Variables by which a user asks OpenMP to bind threads to cores. It binds this one too, at its first parallel work."""


def _cores() -> Any:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None


def _put_back_cores(before: Any) -> None:
    if any(name in os.environ for name in BINDING):
        return
    # Some of them may have been taken from the process meanwhile.
    with contextlib.suppress(OSError):
        os.sched_setaffinity(0, before)


def _warnings() -> tuple[Any, ...]:
    return list(warnings.filters), warnings.showwarning, warnings.formatwarning


def _put_back_warnings(before: tuple[Any, ...]) -> None:
    filters, warnings.showwarning, warnings.formatwarning = before
    # What was decided by the other filters is forgotten too.
    warnings.resetwarnings()
    warnings.filters[:] = filters  # type: ignore[index]


def _logging() -> dict[str, Any]:
    loggers = [logger for logger in logging.root.manager.loggerDict.values() if isinstance(logger, logging.Logger)]
    return {
        "levels": {logger.name: logger.level for logger in (logging.root, *loggers)},
        "disabled": logging.root.manager.disable,
        "handlers": list(logging.root.handlers),
    }


def _put_back_logging(before: Mapping[str, Any]) -> None:
    logging.disable(before["disabled"])
    logging.root.handlers[:] = before["handlers"]
    for name, level in before["levels"].items():
        logger = logging.getLogger(name)
        if logger.level != level:
            logger.setLevel(level)


def _collector() -> tuple[Any, ...]:
    return gc.isenabled(), gc.get_threshold(), gc.get_debug(), gc.get_freeze_count() > 0


def _put_back_collector(before: tuple[Any, ...]) -> None:
    enabled, thresholds, debug, frozen = before
    (gc.enable if enabled else gc.disable)()
    gc.set_threshold(*thresholds)
    gc.set_debug(debug)
    if not frozen:
        gc.unfreeze()


PYTHON: Mapping[str, Setting] = {
    "folder": Setting(os.getcwd, os.chdir),
    "streams": Setting(lambda: (sys.stdin, sys.stdout, sys.stderr), _put_back_streams),
    "environment": Setting(lambda: dict(os.environ), _put_back_environment),
    # Added entries stay, because lazy imports may need them; removed ones come back.
    "search path": Setting(lambda: tuple(sys.path), search_like),
    "recursion limit": Setting(
        sys.getrecursionlimit, lambda before: sys.setrecursionlimit(max(before, sys.getrecursionlimit()))
    ),
    "switch interval": Setting(sys.getswitchinterval, sys.setswitchinterval),
    "hooks": Setting(_hooks, _put_back_hooks),
    "signal handlers": Setting(_signal_handlers, _put_back_signal_handlers),
    "umask": Setting(_umask, os.umask),
    "cores": Setting(_cores, _put_back_cores),
    "locale": Setting(lambda: locale.setlocale(locale.LC_ALL), lambda before: locale.setlocale(locale.LC_ALL, before)),
    "warnings": Setting(_warnings, _put_back_warnings),
    "logging": Setting(_logging, _put_back_logging),
    "garbage collector": Setting(_collector, _put_back_collector),
    "start method": Setting(
        lambda: multiprocessing.get_start_method(allow_none=True),
        lambda method: multiprocessing.set_start_method(method, force=True),
    ),
}
