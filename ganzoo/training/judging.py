"""What is put before the judge: real images and fakes, or the pairs that an architecture makes of them; and its answers
in the form that functions of logits want."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ganzoo.errors import PluginError, UsageError
from ganzoo.registry.signatures import ByName, by_name
from ganzoo.training.phase_update import Given
from ganzoo.training.players import Logits, PhaseTrace, StandIn, unpacked
from ganzoo.training.terms import of_batch
from ganzoo.types import Architecture, Inputs, Terms


@dataclass(frozen=True)
class Presenter:
    """Puts real images and fakes before the judge, as an architecture wants it, and knows its players and judges.

    `opponents` are the players that the generator's phase of a loss of logits updates.
    """

    players: tuple[str, ...]
    judges: tuple[str, ...]
    opponents: tuple[str, ...]
    _present: ByName | None

    @classmethod
    def of(cls, architecture: Architecture) -> Presenter:
        """Build from an architecture. Raises `PluginError` where its `present` asks for what there is not."""
        present = None
        opponents: tuple[str, ...] = ("generator",)
        if architecture.present is not None:
            present = by_name(architecture, "present", (), architecture.players)
            called = set(present.names) & set(architecture.players) - set(architecture.judges)
            opponents = tuple(name for name in architecture.players if name in called)
        return cls(architecture.players, architecture.judges, opponents, present)

    @property
    def judge(self) -> str:
        """The first judge. Raises `UsageError` where the architecture has none."""
        if not self.judges:
            raise UsageError("its architecture has no judge, as a loss of logits and a penalty of the judge need one")
        return self.judges[0]

    @property
    def real_is_given(self) -> bool:
        """Whether what is judged as real is the real images themselves."""
        return self._present is None

    def real(self, given: Given) -> tuple[Any, ...]:
        """What is judged as real, without making fakes where the architecture does not ask for it."""
        if self._present is None:
            return given.batch.real, given.batch.labels
        return self.pair(given)[0]

    def fake(self, given: Given) -> tuple[Any, ...]:
        """What is judged as fake."""
        if self._present is None:
            batch = given.batch
            return given.players["generator"](batch.latent, batch.fake_labels), batch.fake_labels
        return self.pair(given)[1]

    def pair(self, given: Given) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """`(real_inputs, fake_inputs)`, the fakes made first."""
        if self._present is None:
            fake = self.fake(given)
            return self.real(given), fake
        presented = self._present({**of_batch(given), "real": given.batch.real})
        if not isinstance(presented, tuple) or len(presented) != 2:
            raise PluginError("present gave no pair; it must give (real_inputs, fake_inputs)")
        real, fake = presented
        return _as_inputs(real), _as_inputs(fake)


def _as_inputs(value: Any) -> tuple[Any, ...]:
    return unpacked((value,)) if isinstance(value, (Tensor, Inputs)) else tuple(value)


def as_value(inputs: Sequence[Any]) -> Any:
    """The inputs of a call as one value: the tensor, or `Inputs` where there are several."""
    return inputs[0] if len(inputs) == 1 else Inputs(inputs)


def leaves(logits: Logits) -> list[Tensor]:
    """The tensors that a judge gave: one, or each of a list of maps."""
    return logits if isinstance(logits, list) else [logits]


def as_vector(logits: Logits) -> Tensor:
    """All logits of one call as one vector; one tensor of one or two logits for each image stays as it is."""
    parts = leaves(logits)
    if len(parts) == 1 and parts[0].dim() <= 2:
        return parts[0]
    return torch.cat([part.flatten() for part in parts])


def by_leaf(
    function: Callable[[Mapping[str, Any]], Terms], given: Mapping[str, Any], sides: Mapping[str, Logits]
) -> Terms:
    """The terms of a function of logits, which is applied to each map of a judge by itself, and summed.

    State and monitors are the mean over the maps.
    """
    parts = {side: leaves(logits) for side, logits in sides.items()}
    count = max(len(part) for part in parts.values())
    terms = [function({**given, **{side: part[index] for side, part in parts.items()}}) for index in range(count)]
    if count == 1:
        return terms[0]
    return Terms(
        {name: torch.stack([each.losses[name] for each in terms]).sum() for name in terms[0].losses},
        {name: torch.stack([each.monitors[name] for each in terms]).mean() for name in terms[0].monitors},
        {name: torch.stack([each.state[name] for each in terms]).mean(0) for name in terms[0].state},
    )


@contextmanager
def watched(given: Given, judges: Sequence[str], trace: PhaseTrace) -> Iterator[Given]:
    """Note in `trace` what the generator makes and what the judges are given; gives the players to use in the block."""
    generator = given.players["generator"]
    recorded = StandIn(generator, lambda *inputs: trace.note_fakes(generator(*inputs)))
    watching: list[Any] = [given.players[name] for name in judges]
    for judge in watching:
        judge.trace = trace
    try:
        yield given._replace(players={**given.players, "generator": recorded})
    finally:
        for judge in watching:
            judge.trace = None
