"""DCGAN whose discriminator has heads beside its logit, one for each penalty that reads one; all from one forward pass.

`classes` for ACGAN, `embedding` and `proxies` for ReACGAN, `rotation` for SSGAN, `category` and `continuous` for
InfoGAN's codes. Each is one linear map of the features that the logit sees, where the papers have residual networks,
dropout or hidden layers. A head that no penalty of the run reads stays as it began.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

import ganzoo
from ganzoo_plugins.variants import dcgan
from ganzoo_plugins.variants.cdcgan import ConditionalGenerator


class HeadedDiscriminator(dcgan.Discriminator):
    """Images (N, C, H, W) to `logits` (N,) and heads of raw numbers.

    `rotation` (N, 4). With classes: `classes` (N, classes), `embedding` (N, D) and `proxies` (classes, D), the same for
    all images. With codes: `category` (N, categories) and `continuous` (N, continuous).
    """

    def __init__(self, trunk: nn.Module, features: int, classes: int, embedding: int, categories: int, continuous: int):
        super().__init__(trunk, features)
        self.categories = categories
        widths = {"rotation": 4}
        if classes:
            widths |= {"classes": classes, "embedding": embedding}
        if categories + continuous:
            widths["codes"] = categories + continuous
        self.others = nn.ModuleDict({name: nn.Linear(features, width) for name, width in widths.items()})
        self.proxies = nn.Parameter(torch.randn(classes, embedding)) if classes else None

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """The logits and all heads."""
        features = self.features(images)
        heads = {name: layer(features) for name, layer in self.others.items()}
        if "codes" in heads:
            heads["category"], heads["continuous"] = heads.pop("codes").tensor_split([self.categories], 1)
        if self.proxies is not None:
            heads["proxies"] = self.proxies
        return {"logits": self.head(features).squeeze(1), **heads}


def draw_latent(
    n: int, latent: int, rng: torch.Generator, *, categories: int = 0, continuous: int = 0, **options: object
) -> Tensor:
    """(n, latent) on `rng.device`: a one-hot category, continuous codes, uniform on [-1, 1), and normal noise."""
    noise = torch.randn(n, latent - categories - continuous, generator=rng, device=rng.device)
    parts = [noise]
    if continuous:
        parts.insert(0, torch.rand(n, continuous, generator=rng, device=rng.device) * 2 - 1)
    if categories:
        category = torch.randint(categories, (n,), generator=rng, device=rng.device)
        parts.insert(0, torch.eye(categories, device=rng.device)[category])
    return torch.cat(parts, 1)


def build(
    image_shape: tuple[int, int, int],
    latent: int,
    classes: int,
    *,
    embedding: int = 128,
    label_embedding: int = 50,
    categories: int = 0,
    continuous: int = 0,
    base_channels: int = 64,
    slope: float = 0.2,
    discriminator_norm: str = "batch",
    init_std: float = 0.02,
) -> tuple[nn.Module, nn.Module]:
    """`embedding` is the length of what ReACGAN compares, `label_embedding` that of the generator's label vectors.

    With `categories` or `continuous` the latent begins with codes. Without classes the generator takes no labels.
    """
    if min(categories, continuous) < 0 or categories + continuous > latent:
        raise ValueError(f"a latent of {latent} cannot hold {categories} categories and {continuous} continuous codes")
    trunk, features = dcgan.trunk(image_shape, base_channels, slope, discriminator_norm)
    discriminator = HeadedDiscriminator(trunk, features, classes, embedding, categories, continuous)
    length = latent + label_embedding if classes else latent
    generator = dcgan.initialize(dcgan.generator(image_shape, length, base_channels), init_std)
    if classes:
        generator = ConditionalGenerator(nn.Embedding(classes, label_embedding), generator)
    return generator, dcgan.initialize(discriminator, init_std)


def build_unlabelled(
    image_shape: tuple[int, int, int],
    latent: int,
    classes: int,
    *,
    categories: int = 10,
    continuous: int = 2,
    base_channels: int = 64,
    slope: float = 0.2,
    discriminator_norm: str = "batch",
    init_std: float = 0.02,
) -> tuple[nn.Module, nn.Module]:
    """The same without labels, and with the codes that InfoGAN has for handwritten digits."""
    return build(
        image_shape,
        latent,
        0,
        categories=categories,
        continuous=continuous,
        base_channels=base_channels,
        slope=slope,
        discriminator_norm=discriminator_norm,
        init_std=init_std,
    )


@ganzoo.hookimpl
def ganzoo_architectures() -> Iterator[ganzoo.Architecture]:
    """With labels, as the heads of classes need, and without."""
    yield ganzoo.Architecture(
        "dcgan-heads",
        build,
        conditional=True,
        image_sizes=dcgan.SIZES,
        draw_latent=draw_latent,
        summary="conditional DCGAN; its discriminator sees no labels and has heads of classes, embedding and rotation",
        reference="Odena et al. 2017, arXiv:1610.09585; Kang et al. 2021, arXiv:2111.01118",
    )
    yield ganzoo.Architecture(
        "dcgan-heads-unlabelled",
        build_unlabelled,
        image_sizes=dcgan.SIZES,
        draw_latent=draw_latent,
        summary="DCGAN with heads of rotation and of the codes with which its latent begins",
        reference="Chen et al. 2019, arXiv:1811.11212; Chen et al. 2016, arXiv:1606.03657",
    )
