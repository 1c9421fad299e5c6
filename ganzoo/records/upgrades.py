"""Upgrades of records of earlier versions, in memory, one version at a time.

To change what a record's key means: raise `SCHEMA` in `ganzoo/runs.py`, append a function here, and keep a record of
the version before in `tests/records/`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Content = Mapping[str, Any]
"""The JSON of a record, not validated yet."""


def upgrade_1_to_2(content: Content) -> Content:
    """Add to the spec the library of matrix products, always torch's BLAS, and the fields of checkpoints."""
    spec = content.get("spec")
    if not isinstance(spec, Mapping):
        return content
    before = {"linear_backend": "blas", "deterministic": False, "requested_batch_size": None, "continues": ""}
    return {**content, "spec": {**before, **spec}}


MOVED_OPTIONS = (
    *("architecture", "loss", "latent", "phases", "penalties", "batch_size", "options", "hyper", "rate_decay"),
    *("schedules", "generator_first", "label_smoothing", "feature_matching", "l1", "l2", "flips"),
)
"""The fields that schema 3 moved from the spec to its recipe under the same name."""

OPTIMIZER_FIELDS = {"optimizer": "generator", "discriminator_optimizer": "discriminator"}
AVERAGE_FIELDS = {"ema_half_life_kimg": "half_life_kimg", "ema_rampup": "rampup"}


def upgrade_2_to_3(content: Content) -> Content:
    """Move the recipe to `spec.recipe`, with optimizers and averages by player, and `linear_backend`, which follows
    from machine and step, to the environment; add to scores the code and the date, which were not recorded.
    """
    spec, environment, scores = (content.get(name) for name in ("spec", "environment", "scores"))
    if not isinstance(spec, Mapping):
        return content
    rest = dict(spec)
    recipe = {name: rest.pop(name) for name in MOVED_OPTIONS if name in rest}
    recipe["optimizers"] = {player: rest.pop(name) for name, player in OPTIMIZER_FIELDS.items() if name in rest}
    recipe["averages"] = {"generator": {key: rest.pop(name) for name, key in AVERAGE_FIELDS.items() if name in rest}}
    flags = {"linear_backend": rest.pop("linear_backend", None)}
    changed: dict[str, Any] = {"spec": {**rest, "recipe": recipe}}
    if isinstance(environment, Mapping) and isinstance(environment.get("flags", {}), Mapping):
        changed["environment"] = {**environment, "flags": {**environment.get("flags", {}), **flags}}
    if isinstance(scores, list):
        unknown = {"code": None, "date": None}
        changed["scores"] = [{**unknown, **score} if isinstance(score, Mapping) else score for score in scores]
    return {**content, **changed}


SCORING_FIELDS = ("metrics", "fakes", "evaluate_at_kimg")
"""The fields that schema 4 moved from the spec to its scoring under the same name."""


def upgrade_3_to_4(content: Content) -> Content:
    """Move to `spec.scoring` what is no part of training, with several extractors; make `files` hold facts of each."""
    spec, files = content.get("spec"), content.get("files")
    if not isinstance(spec, Mapping):
        return content
    rest = dict(spec)
    scoring = {name: rest.pop(name) for name in SCORING_FIELDS if name in rest}
    extractor = {"name": rest.pop("features", ""), "weights_sha256": rest.pop("weights_sha256", "")}
    scoring["features"] = [extractor] if extractor["name"] else []
    scoring["reference"] = "train"
    changed: dict[str, Any] = {"spec": {**rest, "scoring": scoring}}
    if isinstance(files, Mapping):
        changed["files"] = {name: {"sha256": sha256} for name, sha256 in files.items()}
    return {**content, **changed}


UPGRADES: tuple[Callable[[Content], Content], ...] = (upgrade_1_to_2, upgrade_2_to_3, upgrade_3_to_4)
"""The first upgrades version 1 to 2, and so on."""


def upgrade(content: Content) -> Content:
    """`content` in the newest layout; its `schema` is any version from 1 to the newest."""
    for version in range(content["schema"], len(UPGRADES) + 1):
        content = {**UPGRADES[version - 1](content), "schema": version + 1}
    return content
