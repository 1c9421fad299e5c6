"""The moving average of the generator's weights, with its half-life in thousands of images."""

from __future__ import annotations

import copy

import torch
from torch import nn


class MovingAverage:
    """`average` follows `network` with a half-life of `half_life_kimg`, shorter while few images were seen.

    After k thousand images the half-life is min(half_life_kimg, rampup · k), as in StyleGAN2-ADA (Karras et al. 2020),
    so that a short run's average is not its random start. Floating-point buffers (BatchNorm's statistics) are averaged
    like weights, integer ones copied. A half-life of 0 means no averaging: `average` is `network` itself.
    """

    def __init__(self, network: nn.Module, half_life_kimg: float, rampup: float) -> None:
        self.half_life_kimg = half_life_kimg
        self.rampup = rampup
        self.average = copy.deepcopy(network).eval().requires_grad_(False) if half_life_kimg else network
        if self.enabled:
            pairs = list(
                zip(
                    [*self.average.parameters(), *self.average.buffers()],
                    [*network.parameters(), *network.buffers()],
                    strict=True,
                )
            )
            self._lerped = [pair for pair in pairs if pair[0].is_floating_point()]
            self._copied = [pair for pair in pairs if not pair[0].is_floating_point()]

    @property
    def enabled(self) -> bool:
        """Whether there is an average apart from the network."""
        return self.half_life_kimg > 0

    @torch.no_grad()
    def update(self, kimg: float, kimg_since_last: float) -> None:
        """Move the average towards the network, `kimg_since_last` thousand images after the last time."""
        if not self.enabled:
            return
        half_life = min(self.half_life_kimg, self.rampup * kimg)
        weight = 1 - 0.5 ** (kimg_since_last / max(half_life, 1e-8))
        averages, networks = zip(*self._lerped, strict=True)
        torch._foreach_lerp_(list(averages), [tensor.detach() for tensor in networks], weight)
        for average, network in self._copied:
            average.copy_(network)
