"""Inception-v3 as the first FID used it: features and logits by torch-fidelity's port of the TensorFlow network.

The network and its TensorFlow-1 bilinear resize are torch-fidelity's; the weights are fetched, checked and unpickled
here, because torch-fidelity loads them without `weights_only`.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

import ganzoo
from ganzoo_plugins.features.fetched import fetched

WEIGHTS = ganzoo.Weights(
    "weights-inception-2015-12-05-6726825d.pth",
    "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    url="https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
    licence="Apache-2.0",
)


class Inception(nn.Module):
    """uint8 (N, C, H, W), C = 1 or 3, to features, float32 (N, 2048), and logits, float32 (N, 1008).

    The features are those of the last average pool. The logits are without the bias, as in the code of the Inception
    Score (Salimans et al. 2016). Grey is repeated to RGB.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        return self.network(images.expand(-1, 3, -1, -1))


def load(path: Path) -> Inception:
    """The network with the weights at `path`, in eval mode. Raises `WeightsUnavailable` where they do not fit."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    try:
        # torch-fidelity's constructor unpickles any file. So it gets a stream of plain tensors that are read here with
        # weights_only: its torch.load takes a stream as well as a path.
        tensors = io.BytesIO()
        torch.save(torch.load(path, map_location="cpu", weights_only=True), tensors)
        tensors.seek(0)
        network = FeatureExtractorInceptionV3(
            "inception-v3-compat", ["2048", "logits_unbiased"], feature_extractor_weights_path=tensors
        )
    except (OSError, EOFError, RuntimeError, TypeError, AttributeError, pickle.UnpicklingError) as error:
        raise ganzoo.WeightsUnavailable(f"{path} does not hold torch-fidelity's Inception-v3 weights") from error
    return Inception(network).eval()


@ganzoo.hookimpl
def ganzoo_feature_extractors() -> Iterator[ganzoo.FeatureExtractor]:
    """`--features inception`."""
    yield ganzoo.FeatureExtractor(
        "inception",
        fetched("inception", WEIGHTS),
        load,
        sha256=WEIGHTS.sha256,
        preprocessing="grey repeated to RGB, TensorFlow 1's bilinear resize to 299 px (no antialias), (x - 128) / 128",
        summary="Inception-v3 of the first FID, in torch-fidelity's port; 2048 features, 1008 logits",
        reference="Szegedy et al. 2016, arXiv:1512.00567; https://github.com/toshas/torch-fidelity",
        batch_size=64,
        images="natural",
        licence=WEIGHTS.licence,
    )
