"""Records of earlier versions brought up to date, one version at a time; the file they came from stays as it is.

To change what a record's key means: raise `SCHEMA` in `ganzoo/runs.py`, append a function here, and keep a record of
the version before in `tests/records/`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ganzoo.records.score_facts import with_score_facts

Content = Mapping[str, Any]
"""A record as JSON gave it: what is in it is not checked yet."""


def upgrade_1_to_2(content: Content) -> Content:
    """The spec names the library that multiplies matrices, which was torch's own before it did; and what came with
    checkpoints, of which there were none.
    """
    spec = content.get("spec")
    if not isinstance(spec, Mapping):
        return content
    before = {"linear_backend": "blas", "deterministic": False, "requested_batch_size": None, "continues": ""}
    return {**content, "spec": {**before, **spec}}


OPTIONS = (
    *("architecture", "loss", "latent", "phases", "penalties", "batch_size", "options", "hyper", "rate_decay"),
    *("schedules", "generator_first", "label_smoothing", "feature_matching", "l1", "l2", "flips"),
)
"""What moved from the spec to its recipe in schema 3 under the name that it had."""

OPTIMIZERS = {"optimizer": "generator", "discriminator_optimizer": "discriminator"}
AVERAGE = {"ema_half_life_kimg": "half_life_kimg", "ema_rampup": "rampup"}


def upgrade_2_to_3(content: Content) -> Content:
    """The recipe has an object of its own, in which optimizers and averages go by player; `linear_backend`, which
    follows from machine and step, is told with the environment; scores say when and by which code they were computed,
    which was not noted down.
    """
    spec, environment, scores = (content.get(name) for name in ("spec", "environment", "scores"))
    if not isinstance(spec, Mapping):
        return content
    rest = dict(spec)
    recipe = {name: rest.pop(name) for name in OPTIONS if name in rest}
    recipe["optimizers"] = {player: rest.pop(name) for name, player in OPTIMIZERS.items() if name in rest}
    recipe["averages"] = {"generator": {key: rest.pop(name) for name, key in AVERAGE.items() if name in rest}}
    flags = {"linear_backend": rest.pop("linear_backend", None)}
    changed: dict[str, Any] = {"spec": {**rest, "recipe": recipe}}
    if isinstance(environment, Mapping) and isinstance(environment.get("flags", {}), Mapping):
        changed["environment"] = {**environment, "flags": {**environment.get("flags", {}), **flags}}
    if isinstance(scores, list):
        unknown = {"code": None, "date": None}
        changed["scores"] = [{**score, **unknown} if isinstance(score, Mapping) else score for score in scores]
    return with_score_facts({**content, **changed})


UPGRADES: tuple[Callable[[Content], Content], ...] = (upgrade_1_to_2, upgrade_2_to_3)
"""From version 1 on, each to the next."""


def upgrade(content: Content) -> Content:
    """`content` in the newest layout, whatever version its `schema` says, from 1 to the newest."""
    for version in range(content["schema"], len(UPGRADES) + 1):
        content = {**UPGRADES[version - 1](content), "schema": version + 1}
    return content
