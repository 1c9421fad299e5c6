"""DiffAugment: colour, translation and cutout of what the discriminator sees (Zhao et al. 2020, arXiv:2006.10738).

The strengths are the paper's. Translation fills with 0, the middle of [-1, 1], and so does cutout; colours
may leave [-1, 1], as in the paper.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

import ganzoo
from ganzoo_plugins.augmentations.pixels import picked


def diffaug(
    images: Tensor, brightness: Tensor, saturation: Tensor, contrast: Tensor, translation: Tensor, cutout: Tensor
) -> Tensor:
    """All three policies, each image by its own random numbers: (N, C, H, W) to the same. Grey has no saturation."""
    images = images + brightness * _sway(images)
    grey = images.mean(1, keepdim=True)
    images = grey + (1 + saturation * _sway(images)) * (images - grey)
    mean = images.mean((1, 2, 3), keepdim=True)
    images = mean + (1 + contrast * _sway(images)) * (images - mean)
    return cut_out(translated(images, translation), cutout)


def _sway(images: Tensor) -> Tensor:
    """Uniform from -1 to 1, (N, 1, 1, 1)."""
    return 2 * torch.rand(len(images), 1, 1, 1, device=images.device) - 1


def translated(images: Tensor, share: Tensor) -> Tensor:
    """Moved along each axis by up to this share of the size, in whole pixels; what comes in is 0."""

    def places(size: int) -> Tensor:
        furthest = (share * size + 0.5).floor()
        shift = _up_to(2 * furthest, images) - furthest
        return torch.arange(size, device=images.device) + shift

    rows, columns = places(images.shape[2]), places(images.shape[3])
    inside = _within(rows, images.shape[2])[:, None, :, None] & _within(columns, images.shape[3])[:, None, None, :]
    rows, columns = rows.clamp(0, images.shape[2] - 1), columns.clamp(0, images.shape[3] - 1)
    return torch.where(inside, picked(images, rows, columns), 0)


def cut_out(images: Tensor, share: Tensor) -> Tensor:
    """With a rectangle of this share of the size set to 0, its middle anywhere in the image."""

    def hidden(size: int) -> Tensor:
        length = (share * size + 0.5).floor()
        middle = _up_to(size - length.remainder(2), images)
        return _within(torch.arange(size, device=images.device) - middle + (length / 2).floor(), length)

    rows, columns = hidden(images.shape[2]), hidden(images.shape[3])
    return torch.where(rows[:, None, :, None] & columns[:, None, None, :], 0, images)


def _up_to(last: Tensor, images: Tensor) -> Tensor:
    """A whole number from 0 to `last` for each image, (N, 1)."""
    return (torch.rand(len(images), 1, device=images.device) * (last + 1)).floor()


def _within(places: Tensor, length: Tensor | int) -> Tensor:
    return (places >= 0) & (places < length)


@ganzoo.hookimpl
def ganzoo_losses() -> Iterator[ganzoo.Augmentation]:
    """The policy `color,translation,cutout`."""
    yield ganzoo.Augmentation(
        "diffaug",
        diffaug,
        hyper={"brightness": 0.5, "saturation": 1.0, "contrast": 0.5, "translation": 1 / 8, "cutout": 0.5},
        summary="random colours, translation by an eighth and a hidden square of half the size",
        reference="Zhao et al. 2020, arXiv:2006.10738, section 3",
    )
