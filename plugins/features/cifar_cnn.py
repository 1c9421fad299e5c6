"""`cifar-cnn`: a small classifier of CIFAR-10 that judges small natural images without a download.

It is no substitute for Inception in a publication. It tells CIFAR-10's ten classes apart at 32 px, and is the fairer
the more the images are like those. The weights lie beside this file, with the script that made them and the accuracy it
measured: weights/train_cifar_cnn.py, weights/cifar-cnn.json.

It is not offered until its weights are there.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

import ganzoo
from ganzoo_plugins.features.shipped import convolution

NAME = "cifar-cnn"
SIZE = 32
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


class Residual(nn.Module):
    """x + f(x), where f is two 3 x 3 convolutions, each with BatchNorm and ReLU."""

    def __init__(self, channels: int):
        super().__init__()
        self.layers = nn.Sequential(*convolution(channels, channels), *convolution(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same."""
        return x + self.layers(x)


class CifarCNN(nn.Module):
    """uint8 (N, C, H, W), C = 1 or 3, to features, float32 (N, 128), and logits of CIFAR-10's classes, (N, 10).

    A residual network of eight convolutions. The features are its last maps, averaged over the picture, as Inception's
    are. Images are resized to 32 px where they differ (bilinear, antialiased); grey is repeated to RGB.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *convolution(3, 16),
            *convolution(16, 32),
            nn.MaxPool2d(2),
            Residual(32),
            *convolution(32, 64),
            nn.MaxPool2d(2),
            *convolution(64, 128),
            nn.MaxPool2d(2),
            Residual(128),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.classify = nn.Linear(128, len(CLASSES))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        pixels = ganzoo.resize_images(images, SIZE).expand(-1, 3, -1, -1).float()
        features = self.features((pixels - 127.5) / 63.75)
        return features, self.classify(features)


def held_out(count: int) -> Tensor:
    """bool (count,): every tenth of the images, ordered by class and name, on which it was tested and never trained."""
    return torch.arange(count) % 10 == 9
