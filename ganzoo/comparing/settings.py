"""The settings of a run that tables show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ganzoo.records import settings

SETTINGS = ("variant", "dataset", "image_size", "kimg", "batch_size", "precision", "device", "threads", "hardware")
"""Records that agree in these, and whose specs otherwise differ in the seed only, are one row of a comparison."""

RACE = ("dataset", "image_size", "kimg")
"""Rows that agree in these had the same images and the same budget. Ranks are among those of one hardware, too, for a
variant that ran on several would count as several."""


def setting(spec: Mapping[str, Any], name: str) -> Any:
    """A setting of a run by its name; `image_size` is the height of the images in pixels."""
    if name == "image_size":
        return spec["image_shape"][1]
    return settings.setting(spec, name)
