"""The moving average of the generator's weights, with its half-life in thousands of images."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from ganzoo.training.spectral import settle_spectral_norms


class MovingAverage:
    """`average` follows `network` with a half-life of `half_life_kimg`, shorter while few images were seen.

    After k thousand images the half-life is min(half_life_kimg, rampup · k), as in StyleGAN2-ADA (Karras et al. 2020),
    so that a short run's average is not its random start. Weights are averaged, and so are the running mean and
    variance of BatchNorm and its kin. All other buffers are copied: the mean of several unit vectors, such as those of
    spectral norm, is no unit vector. A half-life of 0 means no averaging: `average` is `network` itself.

    Draw from what `settled` gives.
    """

    def __init__(self, network: nn.Module, half_life_kimg: float, rampup: float) -> None:
        self.network = network
        self.half_life_kimg = half_life_kimg
        self.rampup = rampup
        self.average = _copy_of(network).eval().requires_grad_(False) if half_life_kimg else network
        if self.enabled:
            averaged = _averaged_tensors(network)
            pairs = list(zip(_tensors(self.average), _tensors(network), strict=True))
            self._lerped = [(_as_real(average), _as_real(own)) for average, own in pairs if id(own) in averaged]
            self._copied = [(average, own) for average, own in pairs if id(own) not in averaged]

    @property
    def enabled(self) -> bool:
        """Whether there is an average apart from the network."""
        return self.half_life_kimg > 0

    def set_half_life(self, half_life_kimg: float) -> None:
        """Follow with another half-life from now on; one that averages nothing goes on doing so."""
        if self.enabled:
            self.half_life_kimg = max(half_life_kimg, 1e-8)

    def settled(self) -> nn.Module:
        """The average, ready to be drawn from: spectral norm's vectors are those of the averaged weights.

        What modules keep beside their tensors (`get_extra_state`) is that of the network as it is now.
        """
        if self.enabled:
            # Where the run is, which a copy does not follow.
            for name in ("progress", "image_size", "image_shape"):
                if name in vars(self.network):
                    setattr(self.average, name, getattr(self.network, name))
            settle_spectral_norms(self.average)
            _copy_extra_states(self.network, self.average)
        return self.average

    @torch.no_grad()
    def update(self, kimg: float, kimg_since_last: float) -> None:
        """Move the average towards the network, `kimg_since_last` thousand images after the last time."""
        if not self.enabled:
            return
        half_life = min(self.half_life_kimg, self.rampup * kimg)
        weight = 1 - 0.5 ** (kimg_since_last / max(half_life, 1e-8))
        if self._lerped:
            averages, networks = zip(*self._lerped, strict=True)
            torch._foreach_lerp_(list(averages), [tensor.detach() for tensor in networks], weight)
        for average, network in self._copied:
            average.copy_(network)


def _tensors(network: nn.Module) -> list[Tensor]:
    return [*network.parameters(), *network.buffers()]


def _averaged_tensors(network: nn.Module) -> set[int]:
    """The ids of what is averaged: weights and running statistics, those of whole numbers aside."""
    averaged = (*network.parameters(), *_running_statistics(network))
    return {id(tensor) for tensor in averaged if tensor.is_floating_point() or tensor.is_complex()}


def _as_real(tensor: Tensor) -> Tensor:
    """A complex tensor as a view of its real and imaginary parts, for those are averaged."""
    return torch.view_as_real(tensor.detach()) if tensor.is_complex() else tensor


def _copy_of(network: nn.Module) -> nn.Module:
    """A deep copy. What a hook computes anew in each forward pass, as weight norm does its weight, carries no graph."""
    for module in network.modules():
        for name, value in vars(module).items():
            if isinstance(value, Tensor) and value.grad_fn is not None:
                vars(module)[name] = value.detach()
    return copy.deepcopy(network)


def _copy_extra_states(network: nn.Module, average: nn.Module) -> None:
    for own, averaged in zip(network.modules(), average.modules(), strict=True):
        if type(own).get_extra_state is not nn.Module.get_extra_state:
            averaged.set_extra_state(copy.deepcopy(own.get_extra_state()))


def _running_statistics(network: nn.Module) -> Iterator[Tensor]:
    for module in network.modules():
        if isinstance(module, _NormBase):
            yield from (tensor for tensor in (module.running_mean, module.running_var) if tensor is not None)
