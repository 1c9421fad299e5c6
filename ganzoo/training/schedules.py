"""Schedules: multipliers of learning rates and coefficients over the course of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ganzoo.training.phase_update import Values
from ganzoo.types import Schedule


def multiplier(schedule: Schedule, progress: float, updates: int) -> float:
    """The multiplier at `progress` in [0, 1] of the budget, after `updates` steps; see `Schedule`."""
    if schedule.kind == "constant":
        return 1.0
    if schedule.kind == "exponential":
        return float(schedule.factor ** (updates / schedule.per_updates))
    along = min(1.0, max(0.0, (progress - schedule.start) / max(1e-12, 1 - schedule.start)))
    weight = along if schedule.kind == "linear" else (1 - math.cos(math.pi * along)) / 2
    return 1 + weight * (schedule.to - 1)


class Schedules:
    """Applies a recipe's schedules in place: to the optimizers' rates and to the coefficients on the device."""

    def __init__(
        self,
        rate_decay: Schedule,
        schedules: Mapping[str, Schedule],
        optimizers: Mapping[str, torch.optim.Optimizer],
        values: Values,
        follows_progress: bool = False,
    ) -> None:
        self.follows_progress = follows_progress
        self.rate_decay = rate_decay
        self.schedules = {name: schedule for name, schedule in schedules.items() if schedule.kind != "constant"}
        self.groups: list[tuple[dict[str, Any], float]] = [
            (group, float(group["lr"])) for optimizer in optimizers.values() for group in optimizer.param_groups
        ]
        self.values = values
        self.base = {name: float(values.hyper[name]) for name in self.schedules}

    def apply(self, progress: float, updates: int) -> None:
        """Set every scheduled value for the coming step; nothing is touched where all is constant."""
        if self.follows_progress and isinstance(self.values.progress, Tensor):
            self.values.progress.fill_(min(1.0, progress))
        if self.rate_decay.kind != "constant":
            scale = multiplier(self.rate_decay, progress, updates)
            for group, rate in self.groups:
                if isinstance(group["lr"], Tensor):
                    # In place, for a captured step reads this very tensor.
                    group["lr"].fill_(rate * scale)
                else:
                    group["lr"] = rate * scale
        for name, schedule in self.schedules.items():
            self.values.hyper[name].fill_(self.base[name] * multiplier(schedule, progress, updates))
