"""BiGAN, also ALI: an encoder learned beside the generator, and a discriminator of pairs of image and code.

Donahue et al. 2017, arXiv:1605.09782; Dumoulin et al. 2017, arXiv:1606.00704. Real pairs are (x, E(x)), fake ones
(G(z), z); generator and encoder fool the discriminator together, under any loss of logits.

Differences from the papers: DCGAN's networks at every size, whose discriminator joins image and code at the end (each
layer of BiGAN's adds the code); a normal latent, as ALI's (BiGAN's is uniform, of 50 numbers for digits and 200 for
ImageNet); neither maxout nor dropout; and the discriminator is updated first (BiGAN updates all players at once). The
encoder is a function, as BiGAN's; with `gaussian` it draws from a Gaussian, as ALI's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

import ganzoo
from ganzoo_plugins.variants import dcgan


class Gaussian(nn.Module):
    """Means and logarithms of standard deviations (N, 2 · D) to a draw (N, D) from the Gaussians that they describe."""

    def forward(self, described: Tensor) -> Tensor:
        """mean + deviation · noise."""
        mean, log_deviation = described.chunk(2, 1)
        return mean + log_deviation.exp() * torch.randn_like(mean)


class PairDiscriminator(nn.Module):
    """Images (N, C, H, W) and codes (N, latent) to logits (N,): the features of both, side by side, and two layers."""

    def __init__(self, trunk: nn.Module, features: int, latent: int, hidden: int, slope: float):
        super().__init__()
        self.of_image = trunk
        self.of_code = nn.Sequential(nn.Linear(latent, hidden), nn.LeakyReLU(slope))
        self.head = nn.Sequential(nn.Linear(features + hidden, hidden), nn.LeakyReLU(slope), nn.Linear(hidden, 1))

    def forward(self, images: Tensor, codes: Tensor) -> Tensor:
        """How real the pairs are."""
        return self.head(torch.cat([self.of_image(images), self.of_code(codes)], 1)).squeeze(1)


def build(
    image_shape: tuple[int, int, int],
    latent: int,
    classes: int,
    *,
    base_channels: int = 64,
    hidden: int = 512,
    gaussian: bool = False,
    slope: float = 0.2,
    init_std: float = 0.02,
) -> dict[str, nn.Module]:
    """DCGAN's pair with an encoder that is another trunk of the discriminator's form.

    `hidden` is the width of the discriminator's layers for codes and pairs.
    """
    trunk, features = dcgan.trunk(image_shape, base_channels, slope)
    of_encoder, _ = dcgan.trunk(image_shape, base_channels, slope)
    code: list[nn.Module] = [nn.Linear(features, 2 * latent), Gaussian()] if gaussian else [nn.Linear(features, latent)]
    players = {
        "generator": dcgan.generator(image_shape, latent, base_channels),
        "discriminator": PairDiscriminator(trunk, features, latent, hidden, slope),
        "encoder": nn.Sequential(of_encoder, *code),
    }
    return {name: dcgan.initialize(network, init_std) for name, network in players.items()}


def pairs(generator: Any, encoder: Any, real: Tensor, latent: Tensor) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """What the discriminator is to tell apart: (x, E(x)) and (G(z), z)."""
    return (real, encoder(real)), (generator(latent), latent)


@torch.no_grad()
def reconstruction(generator: Any, real: ganzoo.Inputs) -> ganzoo.Terms:
    """How far G(E(x)) is from x, as a monitor: the mean squared error, in units of the images, of pairs (x, E(x)).

    The generator's running statistics stay those of the prior, so that watching changes nothing.
    """
    images, codes = real
    apart = {name: buffer.clone() for name, buffer in generator.network.named_buffers()}
    rebuilt = generator.called_with(generator.parameters_now() | apart, codes)
    return ganzoo.Terms({}, monitors={"error": (rebuilt - images).square().mean()})


@ganzoo.hookimpl
def ganzoo_architectures() -> Iterator[ganzoo.Architecture]:
    """Three players."""
    yield ganzoo.Architecture(
        "bigan",
        build,
        players=("generator", "discriminator", "encoder"),
        present=pairs,
        summary="DCGAN with an encoder and a discriminator of pairs of image and code",
        reference="Donahue et al. 2017, arXiv:1605.09782; Dumoulin et al. 2017, arXiv:1606.00704",
    )


@ganzoo.hookimpl
def ganzoo_losses() -> Iterator[ganzoo.Penalty]:
    """A term that nobody minimizes: as a penalty of the encoder it joins any loss of logits (`bigan+hinge`)."""
    yield ganzoo.Penalty(
        "reconstruction",
        reconstruction,
        player="encoder",
        summary="monitor of how far G(E(x)) is from x; minimized by nobody",
        reference="Donahue et al. 2017, arXiv:1605.09782, section 3.2: the optimal encoder inverts the generator",
    )


@ganzoo.hookimpl
def ganzoo_variants() -> Iterator[ganzoo.Variant]:
    """Adam at 2e-4 with a first moment of 0.5, batches of 128, as in BiGAN's code (github.com/jeffdonahue/bigan).

    There weights decay, too, by 2.5e-5, and in the second half the rate falls to a hundredth; here neither is done.
    """
    yield ganzoo.Variant(
        "bigan",
        architecture="bigan",
        loss="non-saturating",
        penalties=("reconstruction",),
        optimizer=ganzoo.Optimizer("adam", 2e-4, betas=(0.5, 0.999)),
        summary="an encoder learned adversarially, from pairs of image and code (ALI, too)",
        reference="Donahue et al. 2017, arXiv:1605.09782; Dumoulin et al. 2017, arXiv:1606.00704",
    )
