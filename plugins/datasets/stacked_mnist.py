"""Stacked MNIST: three digits as the channels of one picture, 1000 modes to lose.

Introduced by Metz et al. 2017 (arXiv:1611.02163, section 3.3); VEEGAN (Srivastava et al. 2017) and PacGAN (Lin et al.
2018) count the modes among 26 000 fakes. The papers draw the training triples at random, PacGAN 128 000 of them. Here
they are three seeded permutations of MNIST's training split: 60 000 triples in which each digit occurs once in each
channel, so that the channels have MNIST's own frequencies and a copy of the data needs no file; and likewise 10 000
triples of its test split.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

import ganzoo
from ganzoo_plugins.datasets.mnist import fingerprint, read_mnist

SEED = 1000


def load(request: ganzoo.DatasetRequest) -> ganzoo.LabelledImages:
    """uint8 (60000, 3, size, size), and labels 100a + 10b + c of the digits in red, green and blue; 10 000 to test."""
    return ganzoo.LabelledImages(
        *stacked(*read_mnist(request.root, request.image_size)),
        *stacked(*read_mnist(request.root, request.image_size, train=False)),
        source=f"three permutations of torchvision.datasets.MNIST, seed {SEED}",
    )


def stacked(images: Tensor, digits: Tensor) -> tuple[Tensor, Tensor]:
    """As many triples as there are images, (N, 3, H, W), and their labels."""
    from numpy.random import RandomState

    # NumPy promises that RandomState's numbers never change; PyTorch makes no such promise.
    random = RandomState(SEED)
    orders = [torch.from_numpy(random.permutation(len(images))) for _ in range(3)]
    labels = sum(place * digits[order] for place, order in zip((100, 10, 1), orders, strict=True))
    assert isinstance(labels, Tensor)
    return torch.cat([images[order] for order in orders], dim=1), labels


@ganzoo.hookimpl
def ganzoo_datasets() -> Iterator[ganzoo.Dataset]:
    """`--dataset stacked-mnist`."""
    yield ganzoo.Dataset(
        "stacked-mnist",
        load,
        fingerprint,
        summary="60 000 triples of MNIST digits in RGB, 28 px, 1000 classes",
        reference="Metz et al. 2017, arXiv:1611.02163; Lin et al. 2018, arXiv:1712.04086",
        image_size=28,
        features="mnist-cnn",
        fakes=26_000,
        images="digits",
    )
