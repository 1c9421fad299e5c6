"""DCGAN: strided convolutions with BatchNorm on both sides (Radford et al. 2015, arXiv:1511.06434).

Activations, initialization, placing of BatchNorm and recipe are the paper's. The networks are smaller, as is common
since: half the channels (the paper has 1024 at 4 x 4 for 64 px, `--set dcgan.base_channels=128`) and 4 x 4 kernels in
place of 5 x 5. The latent is normal, where the paper's is uniform.

Its siblings share the parts defined here: `stages`, `Discriminator`, `initialize`, `trunk`, `generator`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise

from torch import Tensor, nn

import ganzoo

STAGES = {8: (4, 1), 16: (4, 2), 28: (7, 2), 32: (4, 3), 48: (6, 3), 64: (4, 4), 128: (4, 5)}
"""Image size: (size of the smallest map, doublings from there to the image), so 28 is 7, 14, 28."""

SIZES = tuple(STAGES)
"""The image sizes that stacks of exact doublings can build."""

NORMALIZATIONS: dict[str, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm2d,
    "layer": partial(nn.GroupNorm, 1),
    "none": nn.Identity,
}
"""What `discriminator_norm` chooses from; Gulrajani et al. 2017 (section 4) advise `layer` under a penalty."""


def stages(image_shape: tuple[int, int, int]) -> tuple[int, int]:
    """`(start, n)`: the smallest map is start x start, and `n` doublings lead from it to the image."""
    _, height, width = image_shape
    if height != width or height not in STAGES:
        raise ValueError(f"images must be square, of {', '.join(map(str, SIZES))} pixels, not {height} x {width}")
    return STAGES[height]


class Discriminator(nn.Module):
    """A trunk and a linear head: images (N, C, H, W) to logits (N,), or (N, 2) with `logits=2`."""

    def __init__(self, trunk: nn.Module, features: int, logits: int = 1):
        super().__init__()
        self.trunk = trunk
        self.head = nn.Linear(features, logits)

    def features(self, images: Tensor) -> Tensor:
        """What the head sees: (N, C, H, W) to (N, features)."""
        return self.trunk(images)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, of which (N, 1) is given as (N,)."""
        return self.head(self.features(images)).squeeze(1)


def initialize(network: nn.Module, std: float = 0.02) -> nn.Module:
    """Draw weights from N(0, std), those of normalizations from N(1, std), and zero the biases; returns `network`.

    The paper names the first alone; the rest is in its code (github.com/Newmu/dcgan_code).
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(module.weight, 0.0, std)
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.GroupNorm):
            nn.init.normal_(module.weight, 1.0, std)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    return network


def generator(image_shape: tuple[int, int, int], latent: int, base_channels: int) -> nn.Sequential:
    """(N, latent) to (N, C, H, W) in [-1, 1]: project and reshape, then double the size stage by stage.

    64 px with 64 base channels: 512 x 4 x 4, 256 x 8 x 8, 128 x 16 x 16, 64 x 32 x 32, C x 64 x 64.
    """
    start, n = stages(image_shape)
    widths = [base_channels << stage for stage in reversed(range(n))]
    layers: list[nn.Module] = [
        nn.Linear(latent, widths[0] * start**2, bias=False),
        nn.Unflatten(1, (widths[0], start, start)),
        nn.BatchNorm2d(widths[0]),
        nn.ReLU(),
    ]
    for before, after in pairwise(widths):
        layers += [nn.ConvTranspose2d(before, after, 4, 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.ConvTranspose2d(widths[-1], image_shape[0], 4, 2, 1), nn.Tanh())


def trunk(
    image_shape: tuple[int, int, int], base_channels: int, slope: float, norm: str = "batch"
) -> tuple[nn.Sequential, int]:
    """The generator mirrored, (N, C, H, W) to (N, features), and `features`. The first layer is not normalized."""
    if norm not in NORMALIZATIONS:
        raise ValueError(f"discriminator_norm is one of {', '.join(NORMALIZATIONS)}, not {norm!r}")
    start, n = stages(image_shape)
    widths = [base_channels << stage for stage in range(n)]
    layers: list[nn.Module] = [nn.Conv2d(image_shape[0], widths[0], 4, 2, 1), nn.LeakyReLU(slope)]
    for before, after in pairwise(widths):
        convolution = nn.Conv2d(before, after, 4, 2, 1, bias=norm == "none")
        layers += [convolution, NORMALIZATIONS[norm](after), nn.LeakyReLU(slope)]
    return nn.Sequential(*layers, nn.Flatten()), widths[-1] * start**2


def build(
    image_shape: tuple[int, int, int],
    latent: int,
    classes: int,
    *,
    discriminator_shape: tuple[int, int, int] | None = None,
    base_channels: int = 64,
    slope: float = 0.2,
    discriminator_norm: str = "batch",
    init_std: float = 0.02,
) -> tuple[nn.Module, nn.Module]:
    """`base_channels` is the width next to the image; it doubles with every halving of the map, down to 4 x 4 (7 x 7).

    The discriminator ends in a linear map of the flattened features, as the paper's does. With `discriminator_shape`,
    (m * C, H, W), it judges packs of m images.
    """
    discriminator = Discriminator(*trunk(discriminator_shape or image_shape, base_channels, slope, discriminator_norm))
    return initialize(generator(image_shape, latent, base_channels), init_std), initialize(discriminator, init_std)


@ganzoo.hookimpl
def ganzoo_architectures() -> Iterator[ganzoo.Architecture]:
    """The all-convolutional pair."""
    yield ganzoo.Architecture(
        "dcgan",
        build,
        image_sizes=SIZES,
        summary="transposed against strided 4 x 4 convolutions, with BatchNorm",
        reference="Radford et al. 2015, arXiv:1511.06434",
    )


@ganzoo.hookimpl
def ganzoo_variants() -> Iterator[ganzoo.Variant]:
    """The recipe of section 4: Adam at 2e-4 with a first moment of 0.5, batches of 128."""
    yield ganzoo.Variant(
        "dcgan",
        architecture="dcgan",
        loss="non-saturating",
        optimizer=ganzoo.Optimizer("adam", 2e-4, betas=(0.5, 0.999)),
        batch_size=128,
        summary="the convolutional baseline: BatchNorm, Adam, non-saturating",
        reference="Radford et al. 2015, arXiv:1511.06434",
        reported=(
            ganzoo.Reported(
                "FID",
                42.72,
                "CIFAR-10 32 px",
                "50 000 fakes against the training images",
                "w86763777/pytorch-gan-collections, README",
                differs="that project's network and options of training, not this variant's",
            ),
            ganzoo.Reported(
                "FID",
                48.29,
                "CIFAR-10 32 px",
                "50 000 fakes against the 50 000 training images, TensorFlow's Inception, best step",
                "PyTorch-StudioGAN, picture of its benchmark",
                differs="that project's network and options of training, not this variant's",
            ),
            ganzoo.Reported(
                "modes",
                78.9,
                "stacked MNIST 28 px, 128 000 fixed images",
                "26 000 samples, a digit classifier of 99.2 % accuracy",
                "arXiv:1712.04086, table 2",
                budget="50 epochs",
                differs="64 to 512 channels, two updates of the generator for each of the discriminator",
            ),
            ganzoo.Reported(
                "KL",
                4.5,
                "stacked MNIST 28 px, 128 000 fixed images",
                "26 000 samples, a digit classifier of 99.2 % accuracy",
                "arXiv:1712.04086, table 2",
                budget="50 epochs",
                differs="64 to 512 channels, two updates of the generator for each of the discriminator",
            ),
        ),
    )
