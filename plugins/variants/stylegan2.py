"""StyleGAN2 at the sizes of small images (Karras et al. 2020, arXiv:1912.04958, configuration E).

`stylegan2` is the configuration for CIFAR-10 of Karras et al. 2020 (arXiv:2006.06676): no mixing of styles, no path
length regularization, a discriminator without residual connections. Differences: images go through a tanh, since here
they have to be in [-1, 1]; there is no truncation; and a convolution is modulated by scaling its input and its output,
which gives the numbers of equations 1 and 3 without weights for each image.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d, leaky_relu, linear

import ganzoo
from ganzoo.losses import r1
from ganzoo_plugins.variants.dcgan import stages

SIZES = (16, 28, 32, 64)


def activated(x: Tensor) -> Tensor:
    """Leaky ReLU with slope 0.2, times the square root of 2 to keep the second moment."""
    return leaky_relu(x, 0.2) * math.sqrt(2)


class EqualizedLinear(nn.Module):
    """(N, inputs) to (N, outputs) with N(0, 1) weights that are scaled when used (Karras et al. 2018, section 4.1).

    `rate` slows learning by that factor and leaves the function at the start as it is.
    """

    def __init__(self, inputs: int, outputs: int, bias: float = 0.0, rate: float = 1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / rate)
        self.bias = nn.Parameter(torch.full((outputs,), bias / rate))
        self.scale, self.rate = rate / math.sqrt(inputs), rate

    def forward(self, x: Tensor) -> Tensor:
        """A linear map."""
        return linear(x, self.weight * self.scale, self.bias * self.rate)


class Filter(nn.Module):
    """The low-pass filter of taps (1, 3, 3, 1) in both directions, for each channel by itself."""

    taps: Tensor

    def __init__(self) -> None:
        super().__init__()
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
        self.register_buffer("taps", torch.outer(taps, taps), persistent=False)

    def forward(self, x: Tensor, padding: int) -> Tensor:
        """(N, C, H, W), padded by zeros, to (N, C, H + 2 · padding - 3, …)."""
        return conv2d(x, self.for_each(x), padding=padding, groups=x.shape[1])

    def doubled(self, x: Tensor) -> Tensor:
        """Zeros between the pixels, then the filter: (N, C, H, W) to (N, C, 2H, 2W)."""
        return conv_transpose2d(x, 4 * self.for_each(x), stride=2, padding=1, groups=x.shape[1])

    def for_each(self, x: Tensor) -> Tensor:
        """(C, 1, 4, 4)."""
        return self.taps.to(x.dtype).expand(x.shape[1], 1, 4, 4)


class EqualizedConv(nn.Module):
    """(N, C, H, W) to (N, outputs, H, W), or to half the size after the filter; odd kernels, zero padding."""

    def __init__(self, inputs: int, outputs: int, kernel: int, bias: bool = True, halve: bool = False):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.filter = Filter() if halve else None
        self.scale, self.padding = 1 / math.sqrt(inputs * kernel**2), kernel // 2

    def forward(self, x: Tensor) -> Tensor:
        """A convolution."""
        weight = self.weight * self.scale
        if self.filter is not None:
            return conv2d(self.filter(x, self.padding + 1), weight, self.bias, stride=2)
        return conv2d(x, weight, self.bias, padding=self.padding)


class ModulatedConv(nn.Module):
    """x (N, C, H, W) and style vectors w (N, D) to (N, outputs, H, W), or twice the size (section 2.2, equations 1, 3).

    The affine map of w gives a scale for each input channel. With `demodulate` each output channel is divided by the
    norm of its scaled weights, so that maps of unit variance stay so.
    """

    def __init__(
        self, style: int, inputs: int, outputs: int, kernel: int, double: bool = False, demodulate: bool = True
    ):
        super().__init__()
        self.affine = EqualizedLinear(style, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.filter = Filter() if double else None
        self.scale, self.demodulate, self.padding = 1 / math.sqrt(inputs * kernel**2), demodulate, kernel // 2

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """A convolution with weights of its own for each image."""
        scales, weight = self.affine(w), self.weight * self.scale
        x = x * scales[:, :, None, None]
        if self.filter is not None:
            x = self.filter(conv_transpose2d(x, 4 * weight.transpose(0, 1), stride=2), padding=1)
        else:
            x = conv2d(x, weight, padding=self.padding)
        if self.demodulate:
            norms = linear(scales.square(), weight.square().sum((2, 3)))
            x = x * (norms + 1e-8).rsqrt()[:, :, None, None]
        return x


class StyledLayer(nn.Module):
    """A modulated 3 x 3 convolution, noise of a learned strength, a bias and the activation."""

    def __init__(self, style: int, inputs: int, outputs: int, double: bool):
        super().__init__()
        self.convolution = ModulatedConv(style, inputs, outputs, 3, double)
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """The noise is drawn anew in each call, one value for all channels of a pixel."""
        x = self.convolution(x, w)
        noise = torch.randn(len(x), 1, *x.shape[2:], device=x.device, dtype=x.dtype)
        return activated(x + self.noise_strength * noise + self.bias[:, None, None])


class ToImage(nn.Module):
    """A modulated 1 x 1 convolution, not demodulated, and a bias: (N, C, H, W) and (N, D) to (N, channels, H, W)."""

    def __init__(self, style: int, inputs: int, channels: int):
        super().__init__()
        self.convolution = ModulatedConv(style, inputs, channels, 1, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """This size's share of the image."""
        return self.convolution(x, w) + self.bias[:, None, None]


class Mapping(nn.Sequential):
    """Latents (N, D) to style vectors (N, D): normalized, then layers that learn a hundred times slower."""

    def __init__(self, latent: int, layers: int):
        super().__init__(*(EqualizedLinear(latent, latent, rate=0.01) for _ in range(layers)))

    def forward(self, latent: Tensor) -> Tensor:
        """Style vectors."""
        x = latent * (latent.square().mean(1, keepdim=True) + 1e-8).rsqrt()
        for layer in self:
            x = activated(layer(x))
        return x


class Synthesis(nn.Module):
    """Style vectors to images in [-1, 1]: w (N, D) for all layers alike, or (N, layers, D) with one for each.

    `widths` are the channels from the smallest map on, one for each size. The images of all sizes are enlarged and
    added up (skip connections, figure 7b); each shares its style vector with the next size's first layer.
    """

    def __init__(self, style: int, widths: list[int], start: int, channels: int):
        super().__init__()
        self.constant = nn.Parameter(torch.randn(widths[0], start, start))
        self.first = StyledLayer(style, widths[0], widths[0], double=False)
        self.doubling = nn.ModuleList(StyledLayer(style, *pair, double=True) for pair in pairwise(widths))
        self.keeping = nn.ModuleList(StyledLayer(style, width, width, double=False) for width in widths[1:])
        self.to_image = nn.ModuleList(ToImage(style, width, channels) for width in widths)
        self.filter = Filter()
        self.layers = 2 * len(widths)

    def forward(self, w: Tensor) -> Tensor:
        """Images (N, C, H, W)."""
        of_layers = (w if w.dim() == 3 else w[:, None].expand(-1, self.layers, -1)).unbind(1)
        x = self.first(self.constant.expand(len(w), -1, -1, -1), of_layers[0])
        image = self.to_image[0](x, of_layers[1])
        for index, (double, keep, to_image) in enumerate(
            zip(self.doubling, self.keeping, self.to_image[1:], strict=True)
        ):
            first, second, third = of_layers[2 * index + 1 : 2 * index + 4]
            x = keep(double(x, first), second)
            image = self.filter.doubled(image) + to_image(x, third)
        return image.tanh()


class Generator(nn.Module):
    """Latents (N, D) to images (N, C, H, W) in [-1, 1], by `mapping` and `synthesis`.

    In training a share `mixing` of the images has the style vectors of another latent from a random layer on.
    """

    def __init__(self, mapping: Mapping, synthesis: Synthesis, mixing: float):
        super().__init__()
        self.mapping, self.synthesis, self.mixing = mapping, synthesis, mixing

    def forward(self, latent: Tensor) -> Tensor:
        """The images."""
        w = self.mapping(latent)
        if self.training and self.mixing:
            w = self.mixed(w, self.mapping(torch.randn_like(latent)))
        return self.synthesis(w)

    def mixed(self, w: Tensor, other: Tensor) -> Tensor:
        """Style vectors for each layer, (N, layers, D), from two (N, D) (Karras et al. 2019, section 3.1)."""
        layers = self.synthesis.layers
        places = torch.rand(len(w), 2, device=w.device, dtype=torch.float32)
        crossing = torch.where(places[:, :1] < self.mixing, 1 + places[:, 1:] * (layers - 1), layers)
        own = torch.arange(layers, device=w.device) < crossing.floor()
        return torch.where(own[:, :, None], w[:, None], other[:, None])


class Halving(nn.Module):
    """Two 3 x 3 convolutions, the second to half the size; with `residual` a 1 x 1 convolution beside them.

    The sum of the two is divided by the square root of 2 (section 4.1).
    """

    def __init__(self, inputs: int, outputs: int, residual: bool):
        super().__init__()
        self.first = EqualizedConv(inputs, inputs, 3)
        self.second = EqualizedConv(inputs, outputs, 3, halve=True)
        self.skip = EqualizedConv(inputs, outputs, 1, bias=False, halve=True) if residual else None

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H / 2, W / 2)."""
        branch = activated(self.second(activated(self.first(x))))
        return branch if self.skip is None else (branch + self.skip(x)) / math.sqrt(2)


def with_deviation(x: Tensor, group: int) -> Tensor:
    """x (N, C, H, W) and a map more: the mean deviation within a group of images (Karras et al. 2018, section 3).

    A group has as many images as divide N, at most `group`, and takes every N / group-th.
    """
    images, _, height, width = x.shape
    size = next(size for size in range(min(group, images), 0, -1) if images % size == 0)
    grouped = x.reshape(size, -1, *x.shape[1:])
    deviation = (grouped.var(0, unbiased=False) + 1e-8).sqrt().mean((1, 2, 3))
    return torch.cat([x, deviation.repeat(size)[:, None, None, None].expand(-1, 1, height, width)], 1)


class Discriminator(nn.Module):
    """Images (N, C, H, W) to logits (N,); `widths` are the channels from the image on, one for each size."""

    def __init__(self, channels: int, widths: list[int], start: int, residual: bool, group: int):
        super().__init__()
        self.from_image = EqualizedConv(channels, widths[0], 1)
        self.trunk = nn.Sequential(*(Halving(*pair, residual) for pair in pairwise(widths)))
        self.last = EqualizedConv(widths[-1] + 1, widths[-1], 3)
        self.dense = EqualizedLinear(widths[-1] * start**2, widths[-1])
        self.head = EqualizedLinear(widths[-1], 1)
        self.group = group

    def features(self, images: Tensor) -> Tensor:
        """What the head sees: (N, C, H, W) to (N, features)."""
        x = with_deviation(self.trunk(activated(self.from_image(images))), self.group)
        return activated(self.dense(activated(self.last(x)).flatten(1)))

    def forward(self, images: Tensor) -> Tensor:
        """How real the images are."""
        return self.head(self.features(images)).squeeze(1)


def build(
    image_shape: tuple[int, int, int],
    latent: int,
    classes: int,
    *,
    base_channels: int = 32,
    max_channels: int = 64,
    mapping_layers: int = 2,
    mixing: float = 0.0,
    residual: bool = False,
    group: int = 32,
) -> tuple[nn.Module, nn.Module]:
    """`base_channels` next to the image, doubling with every halving of the map up to `max_channels`.

    `mixing` is the share of mixed styles, `residual` a discriminator of residual blocks, `group` the images over which
    its deviation is taken. The paper has 8 mapping layers, mixes 0.9 and is residual; at 32 px it would have 512
    channels at every size, as variant `stylegan2` has.
    """
    start, n = stages(image_shape)
    widths = [min(base_channels << stage, max_channels) for stage in range(n + 1)]
    synthesis = Synthesis(latent, widths[::-1], start, image_shape[0])
    return (
        Generator(Mapping(latent, mapping_layers), synthesis, mixing),
        Discriminator(image_shape[0], widths, start, residual, group),
    )


@ganzoo.hookimpl
def ganzoo_architectures() -> Iterator[ganzoo.Architecture]:
    """Small by default; the widths of the paper are the variant's."""
    yield ganzoo.Architecture(
        "stylegan2",
        build,
        latent=64,
        image_sizes=SIZES,
        summary="a mapping and modulated convolutions with noise against filtered halvings; equalized learning rates",
        reference="Karras et al. 2020, arXiv:1912.04958",
    )


LAZY_R1 = ganzoo.Penalty(
    "lazy-r1",
    r1,
    hyper={"gamma": 0.01},
    every=16,
    summary="gamma/2 · E‖∇D(x)‖² on real images in every 16th step, 16 times as strong",
    reference="Karras et al. 2020, arXiv:1912.04958, section 3.1",
)


REPORTED = (
    ganzoo.Reported(
        "IS",
        10.17,
        "CIFAR-10 32 px",
        "50 000 fakes against the 50 000 training images, TensorFlow's Inception, best step",
        "PyTorch-StudioGAN, picture of its benchmark",
    ),
    ganzoo.Reported(
        "FID",
        3.78,
        "CIFAR-10 32 px",
        "50 000 fakes against the 50 000 training images, TensorFlow's Inception, best step",
        "PyTorch-StudioGAN, picture of its benchmark",
    ),
)


@ganzoo.hookimpl
def ganzoo_variants() -> Iterator[ganzoo.Variant]:
    """The configuration for CIFAR-10 of Karras et al. 2020 (arXiv:2006.06676), and a small one.

    There is neither mixing of styles nor path length regularization; the generator is updated first. Since the
    discriminator is updated 17 times in 16 steps, its rate and moments are corrected by 16/17. The authors' code also
    corrects the generator's, by 4/5, though without path lengths nothing regularizes it; here they stay.

    The small one has the paper's regularization, path lengths, with a larger gamma, a shorter average and smaller
    batches, chosen for budgets of minutes.
    """
    share = 16 / 17
    yield ganzoo.Variant(
        "stylegan2",
        architecture="stylegan2",
        loss="non-saturating",
        penalties=(LAZY_R1,),
        options={"base_channels": 512, "max_channels": 512},
        latent=512,
        optimizer=ganzoo.Optimizer("adam", 2.5e-3, betas=(0.0, 0.99)),
        optimizers={"discriminator": ganzoo.Optimizer("adam", 2.5e-3 * share, betas=(0.0, 0.99**share))},
        batch_size=64,
        generator_first=True,
        ema_half_life_kimg=500.0,
        full_kimg=100_000,
        summary="styles by modulated convolutions, the configuration for CIFAR-10",
        reference="Karras et al. 2020, arXiv:1912.04958; Karras et al. 2020, arXiv:2006.06676",
        reported=REPORTED,
    )
    yield ganzoo.Variant(
        "stylegan2-small",
        architecture="stylegan2",
        loss="non-saturating",
        penalties=(LAZY_R1, "path-length"),
        hyper={"lazy-r1.gamma": 0.1},
        options={"group": 8},
        optimizer=ganzoo.Optimizer("adam", 2.5e-3, betas=(0.0, 0.99)),
        batch_size=32,
        generator_first=True,
        summary="StyleGAN2 with few channels and path length regularization, for a CPU",
        reference="Karras et al. 2020, arXiv:1912.04958 (shrunk)",
        reported=tuple(replace(figure, differs="the published network has far more channels") for figure in REPORTED),
    )
