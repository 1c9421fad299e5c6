"""Stages of growing image size: small images first, and larger ones as the budget is used up (ProGAN)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ganzoo.errors import PluginError, UsageError
from ganzoo.types import Architecture, ImageShape
from ganzoo.util.text import printable

Stages = tuple[tuple[float, int], ...]
"""`((until, size), …)`: up to the fraction `until` of the budget images are `size` px wide and high."""


def stages_of(architecture: Architecture, image_shape: ImageShape) -> Stages:
    """The stages of an architecture for images of a shape; one of full size where it declares none.

    Raises `UsageError` where they are not in ascending order, or do not end at the size of the images.
    """
    full = image_shape[1]
    if architecture.stages is None:
        return ((1.0, full),)
    stages = architecture.stages(image_shape)
    shown = f"architecture '{architecture.name}' has the stages {printable(stages, 120)}"
    try:
        given = tuple((float(until), int(size)) for until, size in stages)
    except (TypeError, ValueError):
        raise PluginError(f"{shown}; give ((until, size), …)") from None
    fractions, sizes = [until for until, _ in given], [size for _, size in given]
    if not given or fractions != sorted(set(fractions)) or fractions[-1] != 1 or fractions[0] <= 0:
        raise UsageError(f"{shown}; give fractions of the budget in ascending order, the last of them 1")
    if sizes != sorted(set(sizes)) or sizes[-1] != full or any(size < 1 or full % size for size in sizes):
        raise UsageError(f"{shown}; for images of {full} px give sizes that divide it, in ascending order up to {full}")
    return given


def size_at(stages: Stages, progress: float) -> int:
    """The size of the images when a share `progress` of the budget is used up."""
    return next((size for until, size in stages if progress < until), stages[-1][1])


def shrunk(images: Tensor, size: int) -> Tensor:
    """(N, C, H, W) at another size by the mean of the pixels that fall together; images of that size as they are."""
    if images.shape[2] == size:
        return images
    return torch.nn.functional.interpolate(images, size=(size, size), mode="area")


def enlarged(images: Tensor, image_shape: Sequence[int]) -> Tensor:
    """(N, C, h, w) at the full size by repeating pixels; images of that size as they are."""
    scale = image_shape[1] // images.shape[2]
    return images if scale == 1 else images.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
