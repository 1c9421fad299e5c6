"""Schedules: multipliers of rates, betas, coefficients and half-lives over the course of a run."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ganzoo.training.average import MovingAverage
from ganzoo.training.phase_update import Values
from ganzoo.types import SCHEDULED_OF_PLAYER, SCHEDULED_OF_RUN, Schedule


def multiplier(schedule: Schedule, progress: float, updates: int) -> float:
    """The multiplier at `progress` in [0, 1] of the budget, after `updates` steps; see `Schedule`."""
    if schedule.kind == "constant":
        return 1.0
    if schedule.kind == "exponential":
        return float(schedule.factor ** (updates / schedule.per_updates))
    if schedule.kind == "points":
        return _between_points(schedule.points, progress)
    along = min(1.0, max(0.0, (progress - schedule.start) / max(1e-12, schedule.end - schedule.start)))
    weight = along if schedule.kind == "linear" else (1 - math.cos(math.pi * along)) / 2
    return schedule.initial + weight * (schedule.to - schedule.initial)


def follows_budget(schedule: Schedule) -> bool:
    """Whether the multiplier at a step depends on how long the run will be."""
    return schedule.kind not in ("constant", "exponential")


def _between_points(points: Sequence[tuple[float, float]], progress: float) -> float:
    """Straight between two points, level before the first and after the last."""
    if progress <= points[0][0]:
        return points[0][1]
    for (left, low), (right, high) in pairwise(points):
        if progress <= right:
            return low + (high - low) * (progress - left) / max(1e-12, right - left)
    return points[-1][1]


LEARNING_RATE, *BETAS = SCHEDULED_OF_PLAYER
(HALF_LIFE,) = SCHEDULED_OF_RUN


def moving_betas(schedules: Mapping[str, Schedule], player: str) -> bool:
    """Whether a schedule changes a player's betas."""
    return any(f"{player}.{beta}" in schedules for beta in BETAS)


@dataclass(frozen=True)
class Moving:
    """Something that schedules move: `set` puts `base` times the product of the multipliers in its place."""

    base: float
    schedules: tuple[Schedule, ...]
    set: Callable[[float], object]

    def apply(self, progress: float, updates: int) -> None:
        """Set it for the coming step."""
        self.set(self.base * math.prod(multiplier(schedule, progress, updates) for schedule in self.schedules))


class Schedules:
    """Applies a recipe's schedules in place, before each step; what is constant is not touched."""

    def __init__(
        self,
        rate_decay: Schedule,
        schedules: Mapping[str, Schedule],
        optimizers: Mapping[str, torch.optim.Optimizer],
        values: Values,
        averages: Mapping[str, MovingAverage],
        follows_progress: bool,
    ) -> None:
        given = {name: schedule for name, schedule in schedules.items() if schedule.kind != "constant"}
        self.progress = values.progress if follows_progress else None
        self.moving: list[Moving] = []
        for player, optimizer in optimizers.items():
            of_rate = [rate_decay, given.pop(f"{player}.{LEARNING_RATE}", Schedule())]
            moving = tuple(schedule for schedule in of_rate if schedule.kind != "constant")
            betas = [given.pop(f"{player}.{beta}", None) for beta in BETAS]
            for group in optimizer.param_groups:
                if moving:
                    self.moving.append(Moving(float(group["lr"]), moving, partial(_set_rate, group)))
                for index, schedule in enumerate(betas):
                    if schedule is not None:
                        self.moving.append(
                            Moving(float(group["betas"][index]), (schedule,), partial(_set_beta, group, index))
                        )
        if schedule := given.pop(HALF_LIFE, None):
            for average in averages.values():
                self.moving.append(Moving(average.half_life_kimg, (schedule,), average.set_half_life))
        for name, schedule in given.items():
            self.moving.append(Moving(float(values.hyper[name]), (schedule,), values.hyper[name].fill_))

    def apply(self, progress: float, updates: int) -> None:
        """Set every scheduled value for the coming step."""
        if isinstance(self.progress, Tensor):
            self.progress.fill_(min(1.0, progress))
        for each in self.moving:
            each.apply(progress, updates)


def _set_rate(group: dict[str, Any], rate: float) -> None:
    if isinstance(group["lr"], Tensor):
        # In place, for a captured step reads this very tensor.
        group["lr"].fill_(rate)
    else:
        group["lr"] = rate


def _set_beta(group: dict[str, Any], index: int, value: float) -> None:
    beta = min(value, LARGEST_BETA)
    if isinstance(group["betas"][index], Tensor):
        group["betas"][index].fill_(beta)
    else:
        group["betas"] = tuple(beta if i == index else other for i, other in enumerate(group["betas"]))


LARGEST_BETA = 1 - 1e-6
"""At 1 a moment would never move, and its correction divide by 0."""
