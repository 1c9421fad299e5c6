"""Small runs of the players in `plugins_from_strangers/many_players.py`, on made-up images, stepped by hand."""

from __future__ import annotations

from typing import Any

import torch
from conftest import STRANGERS
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ganzoo.conformance.trial import Trial
from ganzoo.planning.selection import Selection, select
from ganzoo.registry.discovery import discover
from ganzoo.training.assembly import Assembly
from ganzoo.training.loop import due_calls
from ganzoo.types import Batch, Variant

PLUGIN = STRANGERS / "many_players.py"
REGISTRY = discover([str(PLUGIN)])
SEEN: list[dict[str, Any]] = REGISTRY.get("architectures", "pairs").record.build.__globals__["SEEN"]
"""What penalties of the plugin have noted."""


def trial_of(label: str) -> Trial:
    """A trial of what `--models` calls `label`."""
    return Trial(REGISTRY, *select(REGISTRY, [label]), plugins=(str(PLUGIN),))


def run_of(label: str, **changes: Any) -> Assembly:
    """A fresh run of it; `changes` are those of `Trial.assemble`."""
    return trial_of(label).assemble(**changes)


def run_with(architecture: str, loss: str, *, share_fakes: bool = True, **recipe: Any) -> Assembly:
    """A fresh run of an architecture and a loss under a recipe of one's own."""
    variant = Variant("recipe", architecture, loss, **recipe)
    return Trial(REGISTRY, Selection("recipe", variant, None)).assemble(share_fakes=share_fakes)


def stepped(run: Assembly) -> dict[str, float]:
    """Make a step; its terms as `phase/name`."""
    calls = due_calls(run)
    terms = run.perform(calls)
    run.step += 1
    return {
        f"{update.phase.name}/{name}": float(term)
        for (update, _), named in zip(calls, terms, strict=True)
        for name, term in named.items()
    }


def course(run: Assembly, steps: int = 5) -> tuple[list[dict[str, float]], dict[str, Tensor]]:
    """The terms of so many steps, and the weights and buffers after them."""
    terms = [stepped(run) for _ in range(steps)]
    return terms, {name: tensor.clone() for name, tensor in tensors_of(run).items()}


def tensors_of(run: Assembly) -> dict[str, Tensor]:
    """The weights and buffers of all players by name."""
    return {
        f"{player}.{name}": tensor.detach()
        for player, wrapped in run.players.items()
        for name, tensor in (*wrapped.network.named_parameters(), *wrapped.network.named_buffers())
    }


def differing(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> list[str]:
    """The names of tensors that are not equal bit for bit."""
    assert ours.keys() == theirs.keys()
    return [name for name, tensor in ours.items() if not torch.equal(tensor, theirs[name])]


def batch_of(run: Assembly) -> Batch:
    """What the first phase of the coming step is given."""
    return due_calls(run)[0][1]


class Operators(TorchDispatchMode):
    """Counts the operators that are carried out, and the bytes that they give back."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.count += 1
        for part in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(part, Tensor):
                self.bytes += part.numel() * part.element_size()
        return out


def operators_of_step(run: Assembly) -> tuple[int, int]:
    """The operators of a step, and the bytes of what they give, after a first one that makes the optimizers' state."""
    run.perform(due_calls(run))
    run.step += 1
    calls = due_calls(run)
    with Operators() as operators:
        run.perform(calls)
    run.step += 1
    return operators.count, operators.bytes
