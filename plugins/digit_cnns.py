"""Small classifiers of digits that score where Inception has nothing to say: `digits-cnn` and `mnist-cnn`.

Inception's features were learned on photographs; for grey digits a classifier of digits is the usual judge (Metz et
al. 2017, section 3.3; VEEGAN, PacGAN). The weights lie beside this file, with the script that made them and the
accuracies it measured: weights/train_digit_cnns.py, weights/digit-cnns.json.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

import ganzoo

WEIGHTS = Path(__file__).parent / "weights"
FEATURES = 64
"""Features per channel: 64 numbers before the last ReLU, so that their covariance has full rank."""


class DigitCNN(nn.Module):
    """Features and class log-probabilities of digits, channel by channel.

    `forward(images)`: uint8 (N, C, H, W), resized to `size` where it differs (bilinear, antialiased), gives

    * features, float32 (N, 64·C): those of the channels one after another;
    * logits, float32 (N, 10^C): log-probabilities of the digits, of the channels jointly. With three channels class
      100a + 10b + c has log p(a | red) + log p(b | green) + log p(c | blue).
    """

    def __init__(self, size: int, widths: Sequence[int]):
        super().__init__()
        self.size = size
        layers: list[nn.Module] = []
        for before, after in zip([1, *widths], widths, strict=False):
            for inputs in (before, after):
                layers += [nn.Conv2d(inputs, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
            layers += [nn.MaxPool2d(2)]
        side = size >> len(widths)
        self.features = nn.Sequential(*layers, nn.Flatten(), nn.Linear(widths[-1] * side**2, FEATURES))
        self.classify = nn.Sequential(nn.ReLU(), nn.Linear(FEATURES, 10))

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


def digits_cnn() -> DigitCNN:
    """The network of `digits-cnn`, untrained: 16 px."""
    return DigitCNN(16, (16, 32, 32))


def mnist_cnn() -> DigitCNN:
    """The network of `mnist-cnn`, untrained: 28 px."""
    return DigitCNN(28, (16, 32, 64))


NETWORKS = {"digits-cnn": digits_cnn, "mnist-cnn": mnist_cnn}
SHA256 = {
    "digits-cnn": "",
    "mnist-cnn": "",
}


def held_out(count: int) -> Tensor:
    """bool (count,): every fifth of scikit-learn's digits, on which `digits-cnn` was tested and never trained."""
    return torch.arange(count) % 5 == 4


def extractor(name: str, summary: str) -> ganzoo.FeatureExtractor:
    """The extractor whose weights are weights/NAME.safetensors."""
    network = NETWORKS[name]

    def weights(path: Path | None) -> Path:
        found = path or WEIGHTS / f"{name}.safetensors"
        if not found.is_file():
            raise ganzoo.WeightsUnavailable(f"the weights of {name} are not at {found}; reinstall ganzoo")
        return found

    def load(path: Path) -> nn.Module:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        module = network()
        try:
            module.load_state_dict(load_file(path))
        except (OSError, RuntimeError, SafetensorError) as error:
            raise ganzoo.WeightsUnavailable(f"{path} does not hold the weights of {name}") from error
        return module.eval().requires_grad_(False)

    return ganzoo.FeatureExtractor(
        name,
        weights,
        load,
        sha256=SHA256[name],
        preprocessing=f"each channel by itself, resized to {network().size} px (bilinear, antialiased), in [0, 1]",
        summary=summary,
        reference="weights/train_digit_cnns.py",
    )


@ganzoo.hookimpl
def ganzoo_feature_extractors():
    """`--features digits-cnn`, `--features mnist-cnn`."""
    yield extractor("digits-cnn", "a small CNN trained on 80 % of scikit-learn's digits; 64 features per channel")
    yield extractor("mnist-cnn", "a small CNN trained on MNIST; 64 features per channel, 1000 classes for RGB")
