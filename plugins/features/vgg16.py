"""VGG-16 as torch-fidelity uses it, for precision and recall as they were published (Kynkäänniemi et al. 2019).

The network is torchvision's; its weights are fetched, checked and unpickled here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from torch import Tensor, nn

import ganzoo
from ganzoo_plugins.features.fetched import fetched
from ganzoo_plugins.features.state_dicts import network_with, read_tensors, refusing
from ganzoo_plugins.features.tensorflow_resize import IMAGENET, IN_WORDS, TensorFlowResize

WEIGHTS = ganzoo.Weights(
    "vgg16-397923af.pth",
    "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
    url="https://download.pytorch.org/models/vgg16-397923af.pth",
    licence="BSD-3-Clause",
)
SIZE = 224


class VGG16(nn.Module):
    """uint8 (N, C, H, W), C = 1 or 3, to features, float32 (N, 4096), and ImageNet's logits, float32 (N, 1000).

    The features are torch-fidelity's `fc2_relu`: the second fully connected layer after its ReLU.
    """

    def __init__(self, tensors: Mapping[str, Tensor]):
        super().__init__()
        from torchvision.models import vgg16

        network = network_with(partial(vgg16, init_weights=False), tensors)
        *layers, self.classify = network.classifier
        # Without dropout, which does nothing in eval mode.
        layers = [layer for layer in layers if not isinstance(layer, nn.Dropout)]
        pixels = TensorFlowResize(SIZE, IMAGENET)
        self.features = nn.Sequential(pixels, network.features, network.avgpool, nn.Flatten(), *layers)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        features = self.features(images)
        return features, self.classify(features)


def load(path: Path) -> VGG16:
    """The network with the weights at `path`, in eval mode. Raises `WeightsUnavailable` where they do not fit."""
    with refusing(path, "torchvision's VGG-16 weights"):
        return VGG16(read_tensors(path)).eval()


@ganzoo.hookimpl
def ganzoo_feature_extractors() -> Iterator[ganzoo.FeatureExtractor]:
    """`--features vgg16`."""
    yield ganzoo.FeatureExtractor(
        "vgg16",
        fetched("vgg16", WEIGHTS),
        load,
        sha256=WEIGHTS.sha256,
        preprocessing=f"{IN_WORDS.format(SIZE, 'ImageNet')}; features fc2 after ReLU",
        summary="VGG-16 trained on ImageNet, as torch-fidelity uses it; 4096 features, 1000 logits",
        reference="Simonyan & Zisserman 2015, arXiv:1409.1556; https://github.com/toshas/torch-fidelity",
        batch_size=32,
        images="natural",
        licence=WEIGHTS.licence,
    )
