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
from torch.nn.utils.fusion import fuse_conv_bn_eval

import ganzoo

WEIGHTS = Path(__file__).parent / "weights"
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
            *convolutions(1, 16),
            nn.MaxPool2d(2),
            *convolutions(16, 32),
            nn.MaxPool2d(2),
            *convolutions(32, 32),
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


def convolutions(inputs: int, outputs: int) -> list[nn.Module]:
    """Two 3 x 3 convolutions, each with BatchNorm and ReLU."""
    layers: list[nn.Module] = []
    for before in (inputs, outputs):
        layers += [nn.Conv2d(before, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    return layers


def fused(layers: nn.Sequential) -> nn.Sequential:
    """The same function in fewer passes over memory: BatchNorm folded into the convolution before it, ReLU in place."""
    kept: list[nn.Module] = []
    for layer in layers:
        if isinstance(layer, nn.BatchNorm2d):
            convolution = kept[-1]
            assert isinstance(convolution, nn.Conv2d)
            kept[-1] = fuse_conv_bn_eval(convolution, layer)
        else:
            kept.append(nn.ReLU(inplace=True) if isinstance(layer, nn.ReLU) else layer)
    return nn.Sequential(*kept)


def preprocessing(size: int, image_shape: ganzoo.ImageShape) -> str:
    """In words. Images of the right size are not touched, and described as they were when the resize was another."""
    how = "bilinear, antialiased" if image_shape[1:] == (size, size) else "bilinear, antialiased, rounded once"
    return f"each channel by itself, resized to {size} px ({how}), in [0, 1]"


def extractor(name: str, summary: str) -> ganzoo.FeatureExtractor:
    """The extractor whose weights are weights/NAME.safetensors."""
    size = SIZES[name]

    def weights(path: Path | None) -> Path:
        file = path or WEIGHTS / f"{name}.safetensors"
        if not file.is_file():
            fix = "give the path of a file" if path else "reinstall ganzoo"
            raise ganzoo.WeightsUnavailable(f"the weights of {name} are not at {file}; {fix}")
        return file

    def load(path: Path) -> nn.Module:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        module = DigitCNN(size)
        try:
            module.load_state_dict(load_file(path))
        except (OSError, RuntimeError, SafetensorError) as error:
            raise ganzoo.WeightsUnavailable(f"{path} does not hold the weights of {name}") from error
        module.eval().requires_grad_(False)
        module.features = fused(module.features)
        return module

    return ganzoo.FeatureExtractor(
        name,
        weights,
        load,
        sha256=SHA256[name],
        preprocessing=partial(preprocessing, size),
        summary=summary,
        reference="plugins/features/weights/train_digit_cnns.py",
    )


@ganzoo.hookimpl
def ganzoo_feature_extractors() -> Iterator[ganzoo.FeatureExtractor]:
    """`--features digits-cnn`, `--features mnist-cnn`."""
    yield extractor("digits-cnn", "a small CNN trained on the 1438 digits of that dataset; 128 features per channel")
    yield extractor("mnist-cnn", "a small CNN trained on MNIST; 128 features per channel, 1000 classes for RGB")
