"""A check in a process of its own: for one that may spoil its process, or that needs settings from the very start.

A capture that fails may leave torch's generator and streams in a state that no later check can use.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from ganzoo.conformance.trial import Trial
from ganzoo.conformance.verdicts import Failed, Skipped
from ganzoo.errors import GanzooError
from ganzoo.planning.selection import select
from ganzoo.registry.discovery import discover
from ganzoo.registry.search_path import absolute_search_path, search_like
from ganzoo.util.text import error_line, printable


def check_apart(trial: Trial, check: Callable[[Trial], None], environment: Mapping[str, str] | None = None) -> None:
    """Do `check`, a function of a module, in a new process with these variables; raises what it raises."""
    request = {
        "check": [check.__module__, check.__name__],
        "label": trial.label,
        "device": trial.device,
        "plugins": trial.plugins,
        "path": absolute_search_path(),
    }
    done = subprocess.run(
        [sys.executable, "-P", "-m", "ganzoo.conformance.apart"],
        input=json.dumps(request),
        env=(environment or {}) | os.environ,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )
    sys.stderr.write(done.stderr)
    try:
        verdict, reason = json.loads(done.stdout)
    except ValueError:
        raise Failed(f"its process ended with exit code {done.returncode} and said nothing") from None
    if verdict != "passed":
        raise (Skipped if verdict == "skipped" else Failed)(reason)


def main() -> NoReturn:
    """Answer the request on stdin with a verdict and its reason, and exit at once, whatever threads a plugin has."""
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    # What a plugin prints must not mix with the answer.
    os.dup2(2, 1)
    json.dump(_verdict(json.load(sys.stdin)), answer)
    answer.close()
    sys.stderr.flush()
    os._exit(0)


def _verdict(request: Mapping[str, Any]) -> tuple[str, str]:
    try:
        search_like(request["path"])
        module, name = request["check"]
        registry = discover(request["plugins"])
        (selection,) = select(registry, [request["label"]])
        trial = Trial(registry, selection, request["device"], tuple(request["plugins"]))
        getattr(importlib.import_module(module), name)(trial)
    except Skipped as skipped:
        return "skipped", printable(skipped)
    except (Failed, GanzooError) as failed:
        return "failed", printable(failed)
    except (Exception, SystemExit) as error:
        return "failed", error_line(error)
    return "passed", ""


if __name__ == "__main__":
    main()
