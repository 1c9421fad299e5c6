"""ADA: augmentation of what the discriminator sees, the stronger the more it overfits (Karras et al. 2020,
arXiv:2006.06676).

The pipeline of appendix B with its pixel blitting, geometric and colour transforms, of which each is applied to an
image with probability p. Left out are its filters in image space, noise and cutout, which the paper does not use in
the end (figure 4), and the supersampling of geometric transforms: pixels are looked up by bilinear weights. As in the
paper, colours may leave [-1, 1].
"""

from __future__ import annotations

from collections.abc import Iterator
from math import pi

import torch
from torch import Tensor

import ganzoo
from ganzoo_plugins.augmentations.overfitting import HEURISTIC, adapt
from ganzoo_plugins.augmentations.pixels import looked_up


class Draws:
    """Random numbers for each image, as many whatever p is: (N, 1, …), or two of them, (2, N, 1, …)."""

    def __init__(self, images: Tensor, dimensions: int) -> None:
        self.one = (len(images), *[1] * (dimensions - 1))
        self.two = (2, *self.one)
        self.device = images.device

    def uniform(self, shape: tuple[int, ...]) -> Tensor:
        """From -1 to 1."""
        return 2 * torch.rand(shape, device=self.device) - 1

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        """Of mean 0 and standard deviation 1."""
        return torch.randn(shape, device=self.device)

    def some(self, p: Tensor, values: Tensor) -> Tensor:
        """The values of an image with probability p, else 0, which stands for no change."""
        return torch.where(torch.rand(self.one, device=self.device) < p, values, 0)


def pipeline(images: Tensor, p: Tensor, blit: Tensor, geometry: Tensor, color: Tensor) -> Tensor:
    """(N, C, H, W) to the same, grey or RGB. `blit`, `geometry` and `color` multiply p for their group."""
    return recoloured(moved(images, p * blit, p * geometry), p * color)


def moved(images: Tensor, p_blit: Tensor, p_geometry: Tensor) -> Tensor:
    """Flipped, turned, shifted and stretched, by one look-up.

    Each pixel of the result asks where it comes from, so what is done last is undone first.
    """
    draw = Draws(images, 3)
    height, width = images.shape[2:]
    flip = draw.some(p_blit, (draw.uniform(draw.one) < 0).float())
    quarters = draw.some(p_blit, (2 * draw.uniform(draw.one)).floor())
    right, down = draw.some(p_blit, draw.uniform(draw.two) / 8)
    scale = draw.some(p_geometry, 0.2 * draw.normal(draw.one)).exp2()
    # There are two rotations, and at least one of them is to be applied with probability p.
    p_either = 1 - (1 - p_geometry).clamp(min=0).sqrt()
    before = draw.some(p_either, pi * draw.uniform(draw.one))
    stretch = draw.some(p_geometry, 0.2 * draw.normal(draw.one)).exp2()
    after = draw.some(p_either, pi * draw.uniform(draw.one))
    further_right, further_down = draw.some(p_geometry, draw.normal(draw.two) / 8)

    x = torch.arange(width, device=images.device) - (width - 1) / 2 - further_right * width
    y = torch.arange(height, device=images.device)[:, None] - (height - 1) / 2 - further_down * height
    x, y = turned(x, y, -after)
    x, y = turned(x / stretch, y * stretch, -before)
    x, y = x / scale - (right * width).round(), y / scale - (down * height).round()
    x, y = turned(x, y, -pi / 2 * quarters)
    x = x * (1 - 2 * flip)
    return looked_up(images, x + (width - 1) / 2, y + (height - 1) / 2)


def turned(x: Tensor, y: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    """Points turned about the middle."""
    return x * angle.cos() - y * angle.sin(), x * angle.sin() + y * angle.cos()


def recoloured(images: Tensor, p: Tensor) -> Tensor:
    """With other brightness, contrast, luma, hue and saturation.

    The last three mirror, turn and stretch colours about the grey axis, so they act on the mean of the channels and on
    what differs from it.
    """
    draw = Draws(images, 4)
    images = images + draw.some(p, 0.2 * draw.normal(draw.one))
    images = images * draw.some(p, 0.5 * draw.normal(draw.one)).exp2()
    flip = draw.some(p, (draw.uniform(draw.one) < 0).float())
    hue = draw.some(p, pi * draw.uniform(draw.one))
    saturation = draw.some(p, draw.normal(draw.one)).exp2()
    grey = images.mean(1, keepdim=True)
    colour = images - grey
    across = (colour.roll(1, 1) - colour.roll(-1, 1)) / 3**0.5
    return (1 - 2 * flip) * grey + saturation * (hue.cos() * colour + hue.sin() * across)


@ganzoo.hookimpl
def ganzoo_losses() -> Iterator[ganzoo.Augmentation]:
    """Blitting, geometry and colour, with the paper's target and speed."""
    yield ganzoo.Augmentation(
        "ada",
        pipeline,
        hyper={"target": 0.6, "kimg": 500.0, "blit": 1.0, "geometry": 1.0, "color": 1.0},
        state={"p": 0.0, **HEURISTIC},
        adapt=adapt,
        summary="flips, rotations, shifts, scales and colours with a probability that follows overfitting",
        reference="Karras et al. 2020, arXiv:2006.06676, section 3 and appendix B",
    )
