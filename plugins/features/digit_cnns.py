"""Small classifiers of digits that score where Inception has nothing to say: `digits-cnn` and `mnist-cnn`.

Inception's features were learned on photographs; for grey digits a classifier of digits is the usual judge (Metz et
al. 2017, section 3.3; VEEGAN, PacGAN). The weights lie beside this file, with the script that made them and the
accuracies it measured: weights/train_digit_cnns.py, weights/digit-cnns.json.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from torch import Tensor, nn

import ganzoo
from ganzoo_plugins.features.shipped import LICENCE, convolution, fused, read_weights, weights_of

SIZES = {"digits-cnn": 16, "mnist-cnn": 28}
SHA256 = {
    "digits-cnn": "6195768ec49cd2b509ed001e8201670f296f53a8a1c28a90123f5e9f2c12a821",
    "mnist-cnn": "2f6a0c805874ecb6013fa08dcbde859713c5f904b204325adf67a7d96e62faf5",
}


class DigitCNN(nn.Module):
    """Features and class log-probabilities of digits, channel by channel.

    `forward(images)`: uint8 (N, C, H, W), resized to `size` where it differs (bilinear, antialiased), gives

    * features, float32 (N, 128·C): those of the channels one after another. They are the last maps, averaged over
      quarters of the picture, much as Inception's are averaged over all of it.
    * logits, float32 (N, 10^C): log-probabilities of the digits, of the channels jointly. With three channels class
      100a + 10b + c has log p(a | red) + log p(b | green) + log p(c | blue).
    """

    def __init__(self, size: int):
        super().__init__()
        self.size = size
        self.features = nn.Sequential(
            *convolution(1, 16),
            *convolution(16, 16),
            nn.MaxPool2d(2),
            *convolution(16, 32),
            *convolution(32, 32),
            nn.MaxPool2d(2),
            *convolution(32, 32),
            *convolution(32, 32),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
        )
        self.classify = nn.Linear(128, 10)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        channels = images.shape[1]
        pixels = ganzoo.resize_images(images, self.size).float().div(255)
        features = self.features(pixels.flatten(0, 1)[:, None])
        digit = self.classify(features).log_softmax(1).unflatten(0, (-1, channels))
        joint = digit[:, 0]
        for channel in range(1, channels):
            joint = (joint[:, :, None] + digit[:, channel, None, :]).flatten(1)
        return features.unflatten(0, (-1, channels)).flatten(1), joint


def preprocessing(size: int, image_shape: ganzoo.ImageShape) -> str:
    """In words. Images of the right size are not touched, and described as they were when the resize was another."""
    how = "bilinear, antialiased" if image_shape[1:] == (size, size) else "bilinear, antialiased, rounded once"
    return f"each channel by itself, resized to {size} px ({how}), in [0, 1]"


def extractor(name: str, summary: str) -> ganzoo.FeatureExtractor:
    """The extractor whose weights are weights/NAME.safetensors."""
    size = SIZES[name]

    def load(path: Path) -> nn.Module:
        module = read_weights(DigitCNN(size), path, name)
        module.features = fused(module.features)
        return module

    return ganzoo.FeatureExtractor(
        name,
        weights_of(name),
        load,
        sha256=SHA256[name],
        preprocessing=partial(preprocessing, size),
        summary=summary,
        reference="plugins/features/weights/train_digit_cnns.py",
        images="digits",
        licence=LICENCE,
    )


@ganzoo.hookimpl
def ganzoo_feature_extractors() -> Iterator[ganzoo.FeatureExtractor]:
    """`--features digits-cnn`, `--features mnist-cnn`."""
    yield extractor("digits-cnn", "a small CNN trained on the 1438 digits of that dataset; 128 features per channel")
    yield extractor("mnist-cnn", "a small CNN trained on MNIST; 128 features per channel, 1000 classes for RGB")
