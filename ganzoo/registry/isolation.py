"""Restores the process state that a plugin's import may change: folder, streams, environment, Ctrl-C, torch's defaults.

It guards against carelessness, not malice: a plugin is code that runs with the user's rights.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Restore, when the block ends, the process state that plugins are known to change in imports and hooks."""
    folder = os.getcwd()
    streams = (sys.stdin, sys.stdout, sys.stderr)
    environment = dict(os.environ)
    search_path, recursion_limit = list(sys.path), sys.getrecursionlimit()
    # Python allows signal handlers to be set in the main thread only.
    in_main = threading.current_thread() is threading.main_thread()
    on_interrupt = signal.getsignal(signal.SIGINT)
    defaults = _torch_defaults()
    try:
        with _stdout_to_stderr():
            yield
    finally:
        os.chdir(folder)
        sys.stdin, sys.stdout, sys.stderr = streams
        _restore_environment(environment)
        # Added entries stay, because lazy imports may need them; removed ones come back.
        sys.path[:] = [*search_path, *(entry for entry in sys.path if entry not in search_path)]
        sys.setrecursionlimit(max(recursion_limit, sys.getrecursionlimit()))
        if in_main and signal.getsignal(signal.SIGINT) is not on_interrupt:
            signal.signal(signal.SIGINT, on_interrupt or signal.default_int_handler)
        _restore_torch(defaults)


@contextlib.contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Redirect file descriptor 1 to stderr, for output of C code too: stdout is for data."""
    try:
        kept = os.dup(1)
        os.dup2(2, 1)
    except OSError:  # One of the two is closed: nothing to redirect.
        yield
        return
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _restore_environment(before: dict[str, str]) -> None:
    """Set only variables that differ: setting one is not safe while another thread reads the environment."""
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    for name, value in before.items():
        if os.environ.get(name) != value:
            os.environ[name] = value


def _torch_defaults() -> dict[str, Any]:
    """torch's global defaults; nothing but `threads` if torch is not imported, for importing it takes a second."""
    torch = sys.modules.get("torch")
    if torch is None:
        return {"threads": None}
    return {
        "threads": torch.get_num_threads(),
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "grad": torch.is_grad_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "rng": torch.get_rng_state(),
    }


def _restore_torch(before: dict[str, Any]) -> None:
    torch = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "set_default_dtype"):
        return
    torch.set_default_dtype(before.get("dtype", torch.float32))
    if torch.get_default_device() != before.get("device", torch.device("cpu")):
        torch.set_default_device(before.get("device"))
    torch.set_grad_enabled(before.get("grad", True))
    if torch.are_deterministic_algorithms_enabled() != before.get("deterministic", False):
        torch.use_deterministic_algorithms(before.get("deterministic", False))
    if before["threads"] is not None and torch.get_num_threads() != before["threads"]:
        torch.set_num_threads(before["threads"])
    if "rng" in before:
        torch.set_rng_state(before["rng"])
