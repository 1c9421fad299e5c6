"""Codes of real images, from the player `encoder` of a variant that has one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

BATCH = 256
"""Images encoded at a time."""

CODE_SEED = 2020
"""Some encoders draw their codes."""


def in_range(encoder: nn.Module, images: Tensor) -> Tensor:
    """uint8 images to float32 in [-1, 1], where the encoder is."""
    first = next(encoder.parameters(), images)
    return images.to(first.device).float() / 127.5 - 1


@torch.no_grad()
def codes_of(encoder: nn.Module, images: Tensor, seed: int) -> Tensor:
    """uint8 (N, C, H, W) to float32 (N, K): what the encoder gives, flat; what it draws is drawn from the seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return torch.cat([encoder(in_range(encoder, batch)).flatten(1).float() for batch in images.split(BATCH)])
