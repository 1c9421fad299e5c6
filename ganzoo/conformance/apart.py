"""A function of a trial in a process of its own, for one that may spoil its process or needs settings from the start.

A capture that fails may leave torch's generator and streams in a state that no later check can use.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NoReturn, TypeVar

import msgspec
import torch

from ganzoo.conformance.trial import Trial
from ganzoo.conformance.verdicts import Failed, Skipped
from ganzoo.errors import GanzooError
from ganzoo.planning.selection import select
from ganzoo.registry.discovery import discover
from ganzoo.registry.search_path import absolute_search_path, search_like
from ganzoo.util.text import error_line, printable

T = TypeVar("T")


@dataclass(frozen=True)
class FunctionCall:
    """What the new process is asked: a function by its name, and what its trial is made from."""

    module: str
    function: str
    label: str
    device: str
    plugins: tuple[str, ...]
    search_path: tuple[str, ...]
    threads: int


@dataclass(frozen=True)
class Answer:
    """How the function ended: with a `result`, or with the `reason` for another end."""

    end: Literal["returned", "skipped", "failed"]
    reason: str = ""
    result: object = None


def call_apart(trial: Trial, function: Callable[[Trial], T], environment: Mapping[str, str] = os.environ) -> T:
    """What `function`, which a module holds, gives in a new process; it is made of JSON values, with lists.

    Raises `Failed` or `Skipped` as the function does, and `Failed` for any other exception and where nothing comes.
    """
    call = FunctionCall(
        function.__module__,
        function.__name__,
        trial.label,
        trial.device,
        trial.plugins,
        absolute_search_path(),
        torch.get_num_threads(),
    )
    done = subprocess.run(
        [sys.executable, "-P", "-m", "ganzoo.conformance.apart"],
        input=msgspec.json.encode(call),
        env=environment,
        capture_output=True,
    )
    sys.stderr.write(done.stderr.decode(errors="replace"))
    try:
        answer = msgspec.json.decode(done.stdout, type=Answer)
    except msgspec.DecodeError:
        raise Failed(f"its process ended with exit code {done.returncode} and said nothing") from None
    if answer.end != "returned":
        raise (Skipped if answer.end == "skipped" else Failed)(answer.reason)
    return answer.result  # type: ignore[return-value]


def main() -> NoReturn:
    """Answer the call on stdin and exit at once, whatever threads a plugin has."""
    with os.fdopen(os.dup(1), "wb") as channel:
        # What a plugin prints must not mix with the answer.
        os.dup2(2, 1)
        channel.write(msgspec.json.encode(_answer(msgspec.json.decode(sys.stdin.buffer.read(), type=FunctionCall))))
    sys.stderr.flush()
    os._exit(0)


def _answer(call: FunctionCall) -> Answer:
    try:
        search_like(call.search_path)
        torch.set_num_threads(call.threads)
        registry = discover(call.plugins)
        (selection,) = select(registry, [call.label])
        trial = Trial(registry, selection, call.device, call.plugins)
        result = getattr(importlib.import_module(call.module), call.function)(trial)
    except Skipped as skipped:
        return Answer("skipped", printable(skipped))
    except (Failed, GanzooError) as failed:
        return Answer("failed", printable(failed))
    except (Exception, SystemExit) as error:
        return Answer("failed", error_line(error))
    return Answer("returned", result=result)


if __name__ == "__main__":
    main()
