"""A whole step as one CUDA graph: captured after a few eager ones, then replayed on buffers that stay in place.

There is one graph for each set of phases that fall due together, so lazy phases keep their rhythm. What a step reads
is copied into the buffers before each replay; rates and coefficients are tensors that the schedules fill in place; the
default generator, from which dropout and penalties draw, is advanced by the replay itself (PyTorch's documentation on
CUDA graphs: whole-network capture).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from ganzoo.errors import GanzooError, PluginError
from ganzoo.training.phase_update import Call, eager_step
from ganzoo.types import Batch
from ganzoo.util.text import printable

WARMUP_STEPS = 3
"""Eager steps before a capture: libraries pick their algorithms, and optimizers allocate their state, in these."""

TENSORS = ("real", "latent", "labels", "fake_labels")
"""The fields of a `Batch` that hold one, if they hold any."""

StepTerms = list[dict[str, Tensor]]
"""The terms of each call of a step."""


@dataclass(frozen=True)
class CapturedStep:
    """Replaying reads `batches` and overwrites `terms`."""

    batches: Sequence[Batch]
    replay: Callable[[], object]
    terms: StepTerms


class Capture(Protocol):
    """Records a step and replays it."""

    def record(self, step: Callable[[], StepTerms]) -> tuple[Callable[[], object], StepTerms]:
        """`(replay, terms)`: record what `step` does without doing it; each replay does it and overwrites `terms`."""

    def warm_up(self, step: Callable[[], StepTerms]) -> StepTerms:
        """Do `step` eagerly, where a recording may follow."""


class GraphedStep:
    """A step to be called like `eager_step`; the terms it returns are overwritten by the next call."""

    def __init__(self, capture: Capture) -> None:
        self.capture = capture
        self.capture_seconds = 0.0
        self._captured: dict[tuple[object, ...], CapturedStep] = {}
        self._warmed: dict[tuple[object, ...], int] = {}

    def __call__(self, calls: Sequence[Call]) -> StepTerms:
        due = (*(update.phase.name for update, _ in calls), calls[0][1].real.shape)
        captured = self._captured.get(due)
        if captured is None:
            warmed = self._warmed.get(due, 0)
            if warmed < WARMUP_STEPS:
                self._warmed[due] = warmed + 1
                return self.capture.warm_up(lambda: eager_step(calls))
            captured = self._captured[due] = self._record(calls)
        _fill(captured.batches, [batch for _, batch in calls])
        captured.replay()
        return captured.terms

    def _record(self, calls: Sequence[Call]) -> CapturedStep:
        started = time.perf_counter()
        kept: dict[int, Tensor] = {}

        def buffer(tensor: Tensor | None) -> Tensor | None:
            # Phases that share a batch share its buffer too.
            if tensor is not None and id(tensor) not in kept:
                kept[id(tensor)] = tensor.clone()
            return None if tensor is None else kept[id(tensor)]

        batches = [
            replace(batch, **{name: buffer(getattr(batch, name)) for name in TENSORS})  # type: ignore[arg-type]
            for _, batch in calls
        ]
        on_buffers = [(update, batch) for (update, _), batch in zip(calls, batches, strict=True)]
        replay, terms = self.capture.record(lambda: eager_step(on_buffers))
        self.capture_seconds += time.perf_counter() - started
        return CapturedStep(batches, replay, terms)


def _fill(buffers: Sequence[Batch], batches: Sequence[Batch]) -> None:
    """Copy each tensor once, whichever phases share it."""
    filled: set[int] = set()
    for into, batch in zip(buffers, batches, strict=True):
        for name in TENSORS:
            buffer, tensor = getattr(into, name), getattr(batch, name)
            if buffer is not None and tensor is not None and id(buffer) not in filled:
                filled.add(id(buffer))
                buffer.copy_(tensor, non_blocking=True)


class CudaCapture:
    """A `Capture` by CUDA graphs on `device`, whichever is the current one.

    All graphs of a step share one pool: they are replayed one at a time, and their terms are read in between. They are
    captured on a stream of their own, for where graphs share one, the end of any takes the cuBLAS workspace of all
    (PyTorch issue 193402).
    """

    def __init__(self, device: str | torch.device) -> None:
        self.device = torch.device(device)
        with torch.cuda.device(self.device):
            self.pool = torch.cuda.graph_pool_handle()
            self.stream = torch.cuda.Stream()

    def record(self, step: Callable[[], StepTerms]) -> tuple[Callable[[], object], StepTerms]:
        """Record `step` as a graph. Raises `PluginError` where it does what a graph cannot hold."""
        with torch.cuda.device(self.device):
            graph = torch.cuda.CUDAGraph()
            # The end of a failed capture leaves its stream the current one.
            before = torch.cuda.current_stream()
            try:
                # Only this thread's calls: the one that streams data pins memory, which a global capture forbids.
                with torch.cuda.graph(graph, pool=self.pool, stream=self.stream, capture_error_mode="thread_local"):
                    terms = step()
            except Exception as error:
                reason = _first_of(error)
                if isinstance(reason, (torch.OutOfMemoryError, GanzooError)) or not isinstance(reason, Exception):
                    raise reason from None
                raise PluginError(
                    "the step cannot be captured as a CUDA graph: keep .item(), printing and data-dependent shapes out "
                    f"of phases and networks, or pass --step-mode eager ({printable(reason, 200)})"
                ) from error
            finally:
                torch.cuda.set_stream(before)
        return graph.replay, terms

    def warm_up(self, step: Callable[[], StepTerms]) -> StepTerms:
        """Run on a side stream: autograd remembers where a gradient was made first, and captures avoid the main one."""
        with torch.cuda.device(self.device):
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):
                terms = step()
            torch.cuda.current_stream().wait_stream(self.stream)
        return terms


def _first_of(error: Exception) -> BaseException:
    """The error behind the others: the end of a failed capture raises one of its own in front of the one that tells.

    What is no `Exception`, such as Ctrl-C, is no fault of the step, wherever it stands.
    """
    reason: BaseException = error
    while reason.__context__ is not None and isinstance(reason, Exception):
        reason = reason.__context__
    return reason
