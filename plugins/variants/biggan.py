"""BigGAN at the sizes of small images (Brock et al. 2019, arXiv:1809.11096).

The paper trains large batches on ImageNet and has of CIFAR-10 two scores (IS 9.22, FID 14.73); `biggan` has the widths
and the recipe of PyTorch-StudioGAN for it (github.com/POSTECH-CVLab/PyTorch-StudioGAN). Differences: the average of the
weights begins at once, where that recipe's begins with the 1000th update; it is scored with the running statistics of
its BatchNorm in place of standing ones; and there is no truncation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, max_pool2d, relu
from torch.nn.utils.parametrizations import spectral_norm

import ganzoo
from ganzoo_plugins.variants.cdcgan import Projection

SIZES = (16, 32, 64)

WIDTHS = {16: ((4, 4, 4), (2, 2, 2)), 32: ((4, 4, 4, 4), (2, 2, 2, 2)), 64: ((16, 8, 4, 2, 1), (1, 2, 4, 8, 16))}
"""By image size: the generator's channels from the smallest map on, before and after its blocks, and what the
discriminator's blocks give, in units of `channels`."""

HALVINGS = {16: 1, 32: 2, 64: 4}
"""By image size: how many of the discriminator's blocks halve the map."""


class ConditionalBatchNorm(nn.Module):
    """BatchNorm whose gains and biases are linear in a condition: x (N, C, H, W) and (N, D) to (N, C, H, W)."""

    def __init__(self, channels: int, condition: int):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.gain = nn.Linear(condition, channels, bias=False)
        self.bias = nn.Linear(condition, channels, bias=False)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(1 + gain) · normalized + bias, for each image."""
        gain, bias = self.gain(condition), self.bias(condition)
        return self.norm(x) * (1 + gain[:, :, None, None]) + bias[:, :, None, None]


class GeneratorBlock(nn.Module):
    """A residual block to twice the size: x (N, C, H, W) and the condition (N, D)."""

    def __init__(self, inputs: int, outputs: int, condition: int):
        super().__init__()
        self.first_norm = ConditionalBatchNorm(inputs, condition)
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.second_norm = ConditionalBatchNorm(outputs, condition)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """The sum of the enlarged input and the branch."""
        branch = self.first(interpolate(relu(self.first_norm(x, condition)), scale_factor=2))
        branch = self.second(relu(self.second_norm(branch, condition)))
        return interpolate(self.skip(x), scale_factor=2) + branch


class DiscriminatorBlock(nn.Module):
    """A residual block, to half the size with `halve`; the `first` gets images and not activations."""

    def __init__(self, inputs: int, outputs: int, halve: bool, first: bool):
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1) if halve or inputs != outputs else nn.Identity()
        self.halve, self.activates = halve, not first

    def forward(self, x: Tensor) -> Tensor:
        """The sum of the input and the branch."""
        branch = self.second(relu(self.first(relu(x) if self.activates else x)))
        total = self.skip(x) + branch
        return avg_pool2d(total, 2) if self.halve else total


class Attention(nn.Module):
    """x + γ · attention(x), (N, C, H, W) to the same, γ from zero on (Zhang et al. 2018, arXiv:1805.08318).

    Keys and values are those of halved maps, as in the authors' code.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.query = nn.Conv2d(channels, channels // 8, 1, bias=False)
        self.key = nn.Conv2d(channels, channels // 8, 1, bias=False)
        self.value = nn.Conv2d(channels, channels // 2, 1, bias=False)
        self.output = nn.Conv2d(channels // 2, channels, 1, bias=False)
        self.strength = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Every place looks at all places."""
        query, key = self.query(x).flatten(2), max_pool2d(self.key(x), 2).flatten(2)
        value = max_pool2d(self.value(x), 2).flatten(2)
        shares = torch.einsum("ncq,nck->nqk", query, key).softmax(2)
        seen = torch.einsum("nqk,nck->ncq", shares, value)
        return x + self.strength * self.output(seen.reshape(len(x), -1, *x.shape[2:]))


class Generator(nn.Module):
    """Latents (N, latent) and labels (N,) to images (N, C, H, W) in [-1, 1].

    The latent is split: one part opens the network, and each block gets one of its own beside the embedded label, which
    all blocks share.
    """

    def __init__(self, latent: int, classes: int, embedding: int, widths: list[int], channels: int, attention: bool):
        super().__init__()
        blocks = len(widths) - 1
        self.parts = [latent // (blocks + 1) + (index < latent % (blocks + 1)) for index in range(blocks + 1)]
        self.embedding = nn.Embedding(classes, embedding)
        self.first = nn.Linear(self.parts[0], widths[0] * 16)
        self.blocks = nn.ModuleList(
            GeneratorBlock(*pair, embedding + part) for pair, part in zip(pairwise(widths), self.parts[1:], strict=True)
        )
        self.attention = Attention(widths[-2]) if attention else nn.Identity()
        self.last = nn.Sequential(
            nn.BatchNorm2d(widths[-1]), nn.ReLU(), nn.Conv2d(widths[-1], channels, 3, padding=1), nn.Tanh()
        )

    def forward(self, latent: Tensor, labels: Tensor) -> Tensor:
        """The images."""
        start, *parts = latent.split(self.parts, 1)
        label = self.embedding(labels)
        x = self.first(start).unflatten(1, (-1, 4, 4))
        for block, part in zip(self.blocks[:-1], parts[:-1], strict=True):
            x = block(x, torch.cat([label, part], 1))
        x = self.blocks[-1](self.attention(x), torch.cat([label, parts[-1]], 1))
        return self.last(x)


class Discriminator(nn.Module):
    """Images (N, C, H, W) and labels (N,) to logits (N,), by projection (Miyato & Koyama 2018, arXiv:1802.05637)."""

    def __init__(self, trunk: nn.Module, classes: int, features: int):
        super().__init__()
        self.trunk = trunk
        self.head = Projection(classes, features)

    def features(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """What the head sees, the sum over all places and the same for every label: (N, C, H, W) to (N, features)."""
        return relu(self.trunk(images)).sum((2, 3))

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """How real the images are as members of their classes."""
        return self.head(self.features(images), labels)


def normalize(network: nn.Module) -> nn.Module:
    """Orthogonal weights, zero biases, and spectral normalization of all layers but the generator's embedding."""
    for module in list(network.modules()):
        if isinstance(module, nn.Conv2d | nn.Linear | nn.Embedding):
            nn.init.orthogonal_(module.weight)
            if not isinstance(module, nn.Embedding) and module.bias is not None:
                nn.init.zeros_(module.bias)
            if not (isinstance(network, Generator) and isinstance(module, nn.Embedding)):
                spectral_norm(module)
    return network


def build(
    image_shape: tuple[int, int, int],
    latent: int,
    classes: int,
    *,
    channels: int = 16,
    embedding: int = 32,
    attention: bool = False,
) -> tuple[nn.Module, nn.Module]:
    """`channels` is the unit of `WIDTHS`, `embedding` the length of the label vectors.

    `attention` adds a layer of it to either network, on maps of half the image's size.
    """
    if classes < 1:
        raise ValueError("a conditional architecture needs a dataset with labels")
    size = image_shape[1]
    of_generator, of_discriminator = ([channels * unit for unit in units] for units in WIDTHS[size])
    if latent < len(of_generator):
        raise ValueError(f"a latent of {latent} cannot be split into {len(of_generator)} parts")
    trunk: list[nn.Module] = []
    for index, (before, after) in enumerate(pairwise([image_shape[0], *of_discriminator])):
        trunk.append(DiscriminatorBlock(before, after, index < HALVINGS[size], first=index == 0))
    if attention:
        trunk.insert(1, Attention(of_discriminator[0]))
    generator = Generator(latent, classes, embedding, of_generator, image_shape[0], attention)
    discriminator = Discriminator(nn.Sequential(*trunk), classes, of_discriminator[-1])
    return normalize(generator), normalize(discriminator)


@ganzoo.hookimpl
def ganzoo_architectures() -> Iterator[ganzoo.Architecture]:
    """Narrow by default; the usual widths are the variant's."""
    yield ganzoo.Architecture(
        "biggan",
        build,
        latent=80,
        conditional=True,
        image_sizes=SIZES,
        summary="residual networks with split latents, shared label vectors, projection, spectral norm in both",
        reference="Brock et al. 2019, arXiv:1809.11096",
    )


REPORTED = (
    ganzoo.Reported(
        "IS",
        9.96,
        "CIFAR-10 32 px",
        "50 000 fakes against the 50 000 training images, TensorFlow's Inception, best step",
        "PyTorch-StudioGAN, picture of its benchmark",
    ),
    ganzoo.Reported(
        "FID",
        4.16,
        "CIFAR-10 32 px",
        "50 000 fakes against the 50 000 training images, TensorFlow's Inception, best step",
        "PyTorch-StudioGAN, picture of its benchmark",
    ),
)


@ganzoo.hookimpl
def ganzoo_variants() -> Iterator[ganzoo.Variant]:
    """Both need a dataset with labels.

    `biggan` is PyTorch-StudioGAN's for CIFAR-10: 96 channels, attention at 16 px, 5 discriminator updates of 64 images
    for each of 100 000 of the generator, Adam at 2e-4, an average that decays by 0.9999 for each (there from the 1000th
    on). There real images are mirrored, too (`--set biggan.flips=true`).

    `biggan-small` has a sixth of the channels, one update of each player, and the rates 1e-4 and 4e-4 of a script for
    CIFAR-10 in the first author's code (github.com/ajbrock/BigGAN-PyTorch).

    Orthogonal regularization, which the paper has for the sake of truncation, is added by `--models biggan+orthogonal`.
    """
    yield ganzoo.Variant(
        "biggan",
        architecture="biggan",
        loss=ganzoo.Loss.of_logits(
            "hinge-5",
            discriminator=lambda real, fake: {"real": relu(1 - real).mean(), "fake": relu(1 + fake).mean()},
            generator=lambda fake: {"fool": -fake.mean()},
            repeats=5,
            summary="the hinge loss with 5 updates of the discriminator for each of the generator",
            reference="Lim & Ye 2017, arXiv:1705.02894; Miyato et al. 2018, arXiv:1802.05957",
        ),
        options={"channels": 96, "embedding": 128, "attention": True},
        latent=80,
        optimizer=ganzoo.Optimizer("adam", 2e-4, betas=(0.5, 0.999)),
        batch_size=64,
        ema_half_life_kimg=2218.0,
        full_kimg=32_000,
        summary="large residual conditional networks with spectral norm (needs labels)",
        reference="Brock et al. 2019, arXiv:1809.11096; Kang et al. 2023, arXiv:2206.09479",
        reported=REPORTED,
    )
    yield ganzoo.Variant(
        "biggan-small",
        architecture="biggan",
        loss="hinge",
        optimizer=ganzoo.Optimizer("adam", 1e-4, betas=(0.0, 0.999)),
        optimizers={"discriminator": ganzoo.Optimizer("adam", 4e-4, betas=(0.0, 0.999))},
        batch_size=64,
        summary="BigGAN with few channels, for a CPU (needs labels)",
        reference="Brock et al. 2019, arXiv:1809.11096 (shrunk)",
        reported=tuple(replace(figure, differs="the published network has far more channels") for figure in REPORTED),
    )
