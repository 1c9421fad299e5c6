"""Augmentations between images and judges: applied to every call in training, and adapted after a judge's update."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ganzoo.errors import PluginError, UsageError
from ganzoo.registry.signatures import ByName, by_name
from ganzoo.training.judging import as_vector
from ganzoo.training.phase_update import Given, Values
from ganzoo.training.players import Judgement, PhaseTrace, Players
from ganzoo.training.terms import images_seen, names_of, own_values, state_of_recipe
from ganzoo.types import Augmentation
from ganzoo.util.text import printable


@dataclass(frozen=True)
class NamedAugmentation:
    """An augmentation with its functions by name."""

    record: Augmentation
    function: ByName
    adapt: ByName | None

    @classmethod
    def of(cls, record: Augmentation) -> NamedAugmentation:
        """Build from a record."""
        own = names_of(record)
        adapt = by_name(record, "adapt", own) if record.adapt is not None else None
        return cls(record, by_name(record, "function", own), adapt)


class Augmenting:
    """The augmentations of a variant, one after another, with their coefficients and state of a run.

    The first of `fakes`, once a phase has made them, may be put in place of real images.
    """

    def __init__(self, records: Sequence[Augmentation]) -> None:
        self.augmentations = [NamedAugmentation.of(record) for record in records]
        adapting = [each.record.name for each in self.augmentations if each.adapt is not None]
        if len(adapting) > 1:
            raise UsageError(
                f"augmentations {' and '.join(map(printable, adapting))} both adapt to what the judge says; give one "
                "of them"
            )
        self.values = Values({})
        self.fakes: Sequence[Tensor] = ()
        self.applied = False
        """Whether any image has been augmented."""

    def __bool__(self) -> bool:
        return bool(self.augmentations)

    @property
    def asks_for_sides(self) -> bool:
        """Whether one treats real images and fakes differently."""
        return any(not each.record.same_for_real_and_fake for each in self.augmentations)

    @property
    def asks_for_fakes(self) -> bool:
        """Whether one puts fakes in place of real images."""
        return any("fake" in each.function.names for each in self.augmentations)

    @property
    def adapting(self) -> NamedAugmentation | None:
        """The one that adapts, if there is one."""
        return next((each for each in self.augmentations if each.adapt is not None), None)

    def install(self, players: Players, values: Values) -> None:
        """Let every judge augment what it is given. Raises `UsageError` where there is no judge."""
        self.values = values
        if not self.augmentations:
            return
        if not players.judges:
            raise UsageError("an augmentation needs a judge of images, and the architecture has none")
        for judge in players.judges:
            judge.augment = self

    def __call__(self, images: Tensor, labels: Tensor | None = None, is_real: bool | None = None) -> tuple[Tensor, ...]:
        """`(images,)`, or `(images, condition)`. Raises `PluginError` where a shape changes."""
        self.applied = True
        conditions: list[Tensor] = []
        fake = self.fakes[0].detach() if self.fakes else None
        for each in self.augmentations:
            given = {"images": images, "labels": labels, "is_real": is_real, "fake": fake}
            result = each.function({**given, **own_values(self.values, each.record)})
            augmented, *condition = result if isinstance(result, (tuple, list)) else (result,)
            if not isinstance(augmented, Tensor) or augmented.shape != images.shape:
                shape = tuple(augmented.shape) if isinstance(augmented, Tensor) else type(augmented).__name__
                raise PluginError(
                    f"augmentation '{printable(each.record.name)}' gave {shape} for images of {tuple(images.shape)}; "
                    "it must keep their shape"
                )
            images = augmented
            conditions += condition
        return (images, *conditions)

    def of_phase(self, images: Tensor) -> Tensor:
        """What a phase calls as `augment(images)`."""
        return self(images)[0]

    def adapted(self, given: Given, calls: Sequence[Judgement], trace: PhaseTrace) -> dict[str, Tensor]:
        """The next state of the augmentation that adapts, from the judge's augmented call on real images."""
        each = self.adapting
        if each is None or each.adapt is None:
            return {}
        judged = [call for call in calls if call.inputs and trace.is_real(call.inputs[0]) is True]
        if len(judged) != 1:
            raise PluginError(
                f"augmentation '{printable(each.record.name)}' adapts to what the judge says of real images, and the "
                f"phase has {len(judged)} calls with batch.real"
            )
        count = given.values.state[images_seen(each.record)] + len(given.batch.real)
        with torch.no_grad():
            result = each.adapt(
                {
                    "real_logits": as_vector(judged[0].logits).detach(),
                    "images_seen": count,
                    **own_values(given.values, each.record),
                }
            )
        what = f"adapt of augmentation '{printable(each.record.name)}'"
        if not isinstance(result, dict):
            raise PluginError(f"{what} gave {type(result).__name__}; it must give the next values of its state by name")
        return {**state_of_recipe(result, each.record, what), images_seen(each.record): count}
