"""The settings of a run under the flat names that `--set`, `--where` and the tables use, from the spec of a record.

A name is a field of the spec or of its recipe; `optimizer` is the generator's and `PLAYER_optimizer` that of another
player, and the moving average of the generator is `ema_half_life_kimg` and `ema_rampup`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from ganzoo.runs import RECIPE_KEYS, RunSpec, Scoring
from ganzoo.types import Recipe

GENERATOR_PLAYER = "generator"

SPEC_KEYS = tuple(field.name for field in fields(RunSpec))

OPTION_DEFAULTS = {**asdict(Recipe()), "augment": ()}
"""The value of an option in a record that is older than the option."""


SCORING_SETTINGS = (*(field.name for field in fields(Scoring)), "weights_sha256")
"""The settings that `spec.scoring` holds; the weights are those of the extractors, in their order."""


def optimizer_field(player: str) -> str:
    """The name of a player's optimizer among the settings."""
    return "optimizer" if player == GENERATOR_PLAYER else f"{player}_optimizer"


def is_averaged(spec: RunSpec) -> bool:
    """Whether the generator of a run that is kept is a moving average, and not the trained network itself."""
    return spec.recipe.averages[GENERATOR_PLAYER].half_life_kimg > 0


def setting(spec: Mapping[str, Any], name: str) -> Any:
    """One setting of a run, from its spec as JSON; `image_size` is the height of its images in pixels.

    Raises `KeyError` for an unknown name.
    """
    if name == "image_size":
        return spec["image_shape"][1]
    if name in spec and name not in ("recipe", "scoring"):
        return spec[name]
    recipe = spec["recipe"]
    return recipe[name] if name in recipe else whole_spec(spec)[name]


def whole_spec(spec: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a run by name, from its spec as JSON; an option that is newer than the record has its default."""
    settings: dict[str, Any] = {}
    for name in SPEC_KEYS:
        if name == "recipe":
            settings |= _recipe_settings(spec["recipe"])
        elif name == "scoring":
            settings |= _scoring_settings(spec["scoring"])
        else:
            settings[name] = spec[name]
    return settings


def _scoring_settings(scoring: Mapping[str, Any]) -> dict[str, Any]:
    extractors = {key: [extractor[key] for extractor in scoring["features"]] for key in ("name", "weights_sha256")}
    flat = {**scoring, "features": extractors["name"], "weights_sha256": extractors["weights_sha256"]}
    return {name: flat[name] for name in SCORING_SETTINGS}


def _recipe_settings(recipe: Mapping[str, Any]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for name in RECIPE_KEYS:
        if name == "optimizers":
            for player, optimizer in recipe[name].items():
                settings[optimizer_field(player)] = optimizer
        elif name == "averages":
            for player, average in recipe[name].items():
                prefix = "ema" if player == GENERATOR_PLAYER else f"{player}_ema"
                settings |= {f"{prefix}_{key}": value for key, value in average.items()}
        else:
            settings[name] = recipe[name] if name in recipe else OPTION_DEFAULTS[name]
    return settings


def spec_over_seeds(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that all seeds of a row share. `continues` only says whether the run continues another.

    By what a run was scored is none of them: a column of a table has the scores of one protocol.
    """
    settings = {name: value for name, value in whole_spec(spec).items() if name not in ("seed", *SCORING_SETTINGS)}
    # The id of the continued run depends on its seed.
    return settings | {"continues": "another run" if settings["continues"] else ""}
