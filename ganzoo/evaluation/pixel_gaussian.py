"""Images that know nothing of shapes: draws from the Gaussian that has the real pixels' mean and covariance."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ganzoo.data.prepared import PreparedDataset
from ganzoo.util.seeds import stream

IMAGES_AT_ONCE = 4096
"""Real images that are in float32 at a time."""

SEED = 0


def pixel_gaussian_batches(dataset: PreparedDataset, count: int, size: int) -> Iterator[Tensor]:
    """`count` images, uint8 (n, C, H, W) on the CPU, at most `size` at a time; always the same ones.

    Each is x̄ + Σᵢ gᵢ (xᵢ − x̄) / √n over the n real images xᵢ, with gᵢ from N(0, 1): its mean is theirs and its
    covariance their (biased) covariance, and no matrix of pixels by pixels is made. Rounded and clamped to [0, 255].
    """
    images = dataset.images()
    starts = range(0, len(images), IMAGES_AT_ONCE)
    total = sum(_pixels(images, start).sum(0, dtype=torch.float64) for start in starts)
    assert isinstance(total, Tensor)
    mean = total / len(images)
    rng = stream(SEED, "pixel gaussian")
    for drawn in range(0, count, size):
        number = min(size, count - drawn)
        pixels = mean.float().repeat(number, 1)
        for start in starts:
            block = _pixels(images, start) - mean.float()
            weights = torch.randn(number, len(block), generator=rng)
            pixels.addmm_(weights, block, alpha=len(images) ** -0.5)
        yield pixels.round_().clamp_(0, 255).to(torch.uint8).view(number, *dataset.image_shape)


def _pixels(images: np.ndarray, start: int) -> Tensor:
    """float32 (n, C·H·W), from 0 to 255."""
    return torch.from_numpy(np.array(images[start : start + IMAGES_AT_ONCE])).flatten(1).float()
