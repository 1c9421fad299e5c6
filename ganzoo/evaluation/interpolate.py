"""Walks from one latent to another."""

from __future__ import annotations

import torch
from torch import Tensor


def straight_walks(start: Tensor, end: Tensor, steps: int) -> Tensor:
    """(N, D) starts and ends to (N · steps, D): each walk along a straight line, both ends in it, one after another."""
    share = _shares(start, steps)
    return ((1 - share) * start[:, None] + share * end[:, None]).flatten(0, 1)


def spherical_walks(start: Tensor, end: Tensor, steps: int) -> Tensor:
    """The same along great circles, for latents that are normally distributed: (N, D) to (N · steps, D).

    Such latents have lengths close to √D, and the middle of a straight line is far too short to be one of them (White
    2016, arXiv:1609.04468, section 2.1; Shoemake 1985). Latents that point the same way are joined by a straight line.
    """
    cosine = torch.nn.functional.cosine_similarity(start, end, dim=1)
    angle = torch.arccos(cosine.clamp(-1, 1))[:, None, None]
    share = _shares(start, steps)
    weights = torch.sin((1 - share) * angle), torch.sin(share * angle)
    curved = (weights[0] * start[:, None] + weights[1] * end[:, None]) / torch.sin(angle)
    bent = torch.sin(angle) > 1e-4
    return torch.where(bent, curved, straight_walks(start, end, steps).unflatten(0, (-1, steps))).flatten(0, 1)


def _shares(like: Tensor, steps: int) -> Tensor:
    return torch.linspace(0, 1, steps, dtype=like.dtype, device=like.device)[None, :, None]
