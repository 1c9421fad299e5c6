"""A stand-in for a capture on the CPU: it records the operators of a step and carries them out again on their tensors.

What a CUDA graph does, it does: a replay calls no Python of the step; what is not an operator on a tensor that stays in
place is done once, when the step is recorded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from ganzoo.training.cuda_graph import StepTerms

SILENTLY_IN_PLACE = (torch.ops.aten.native_batch_norm.default,)
"""Operators that write to what they are given, running statistics here, and whose schemas do not say so."""


class Recording(TorchDispatchMode):
    """The operators that are carried out inside, with what they were given and what they gave."""

    def __init__(self) -> None:
        super().__init__()
        self.operators: list[tuple[Any, Any, Any, Any]] = []
        self.before: dict[int, tuple[Tensor, Tensor]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func._schema.is_mutable or func in SILENTLY_IN_PLACE:
            for tensor in _tensors((args, kwargs)):
                # What an operator may write to, as it was before the first that does.
                self.before.setdefault(tensor.untyped_storage().data_ptr(), (tensor, _whole(tensor).clone()))
        out = func(*args, **kwargs)
        self.operators.append((func, *tree_map(_bare, (args, kwargs, out))))
        return out


class Replay:
    """A `Capture` of operators: recorded without being done, as CUDA does, and replayed on the same tensors."""

    def __init__(self) -> None:
        self.recorded = self.replayed = 0

    def warm_up(self, step: Callable[[], StepTerms]) -> StepTerms:
        """Do the step."""
        return step()

    def record(self, step: Callable[[], StepTerms]) -> tuple[Callable[[], object], StepTerms]:
        """Do the step and undo it, random numbers included."""
        self.recorded += 1
        numbers = torch.get_rng_state()
        with Recording() as recording:
            terms = step()
        torch.set_rng_state(numbers)
        for tensor, before in recording.before.values():
            _whole(tensor).copy_(before)
        return lambda: self._replay(recording.operators), terms

    def _replay(self, operators: list[tuple[Any, Any, Any, Any]]) -> None:
        self.replayed += 1
        with torch.no_grad():
            for func, args, kwargs, out in operators:
                again = func(*args, **kwargs)
                if func.is_view or func._schema.is_mutable:
                    continue  # The tensors that it gives are others by another name.
                for kept, new in zip(_tensors(out), _tensors(again), strict=True):
                    kept.copy_(new)


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


def _bare(value: Any) -> Any:
    """A tensor without its graph, on the same memory."""
    return value.detach() if isinstance(value, Tensor) else value


def _whole(tensor: Tensor) -> Tensor:
    """All the memory of a tensor, as bytes."""
    return torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage())
