"""`cifar-cnn`: a small classifier of CIFAR-10 that judges small natural images without a download.

It is no substitute for Inception in a publication. It tells CIFAR-10's ten classes apart at 32 px, and is the fairer
the more the images are like those. The weights lie beside this file, with the script that made them and the accuracy it
measured: weights/train_cifar_cnn.py, weights/cifar-cnn.json.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

import ganzoo
from ganzoo_plugins.features.shipped import LICENCE, convolution, read_weights, weights_of

NAME = "cifar-cnn"
SIZE = 32
SHA256 = "9984a21568924c78903e15edacb9e2f2ac8284fa10e39862cbab568e6fee9c2b"
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


def preprocessing(image_shape: ganzoo.ImageShape) -> str:
    """In words."""
    resized = "" if image_shape[1:] == (SIZE, SIZE) else f"resized to {SIZE} px (bilinear, antialiased, rounded once), "
    return f"{resized}grey repeated to RGB, (x - 127.5) / 63.75"


@ganzoo.hookimpl
def ganzoo_feature_extractors() -> Iterator[ganzoo.FeatureExtractor]:
    """`--features cifar-cnn`."""
    yield ganzoo.FeatureExtractor(
        NAME,
        weights_of(NAME),
        lambda path: read_weights(CifarCNN(), path, NAME),
        sha256=SHA256,
        preprocessing=preprocessing,
        summary="a small CNN trained on 45000 images of CIFAR-10; 128 features, 10 classes",
        reference="plugins/features/weights/train_cifar_cnn.py",
        images="natural",
        licence=LICENCE,
    )
