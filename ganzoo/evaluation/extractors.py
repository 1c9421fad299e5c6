"""Feature extractors: find and verify their weights, and load them onto a device."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ganzoo.errors import PluginError, WeightsUnavailable
from ganzoo.machine.settings import TORCH_FORMATS, ieee_float32, memory_format
from ganzoo.registry.validation import blaming
from ganzoo.types import FeatureExtractor, ImageShape
from ganzoo.util.files import sha256_of_file
from ganzoo.util.text import printable


@dataclass(frozen=True)
class LoadedExtractor:
    """An extractor on a device, with the sha256 of the weights that were loaded."""

    extractor: FeatureExtractor
    weights_sha256: str
    module: nn.Module
    device: str

    @torch.inference_mode()
    def __call__(self, batches: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
        """uint8 (n, C, H, W) batches to float32 features (N, D) and logits (N, K), on the extractor's device.

        Raises `PluginError` where the extractor does not name each of the K classes once.
        """
        features, logits = [], []
        with ieee_float32():
            for batch in batches:
                feature, logit = self.module(batch.to(self.device, non_blocking=True))
                features.append(feature.float())
                logits.append(logit.float())
        names, classes = self.extractor.class_names, logits[0].shape[1]
        if names and not len(names) == len(set(names)) == classes:
            raise PluginError(
                f"extractor '{self.extractor.name}': class_names has {len(set(names))} names, and there are {classes} "
                "logits; name each class once, or none"
            )
        return torch.cat(features), torch.cat(logits)


def preprocessing_of(extractor: FeatureExtractor, image_shape: ImageShape) -> str:
    """In words, what the extractor does to images of this shape."""
    given = extractor.preprocessing
    return given(image_shape) if callable(given) else given


def find_weights(extractor: FeatureExtractor, path: Path | None, sha256: str | None) -> tuple[Path, str]:
    """The weights file and its sha256, verified against `sha256` if given, else against the extractor's.

    Raises `WeightsUnavailable` if the file is absent, unreadable or has another sha256, and `PluginError` if the
    extractor returns no path.
    """
    if path is not None and not path.is_file():
        raise WeightsUnavailable(f"--weights {printable(path)}: no such file; give the path of a weights file")
    with blaming(WeightsUnavailable, f"the weights of '{extractor.name}' cannot be obtained"):
        file = extractor.weights(path)
        if not isinstance(file, Path):
            given = printable(type(file).__name__, 80)
            raise PluginError(f"extractor '{extractor.name}': weights gave {given}; it must give a pathlib.Path")
        actual, expected = sha256_of_file(file), sha256 or extractor.sha256
    if actual != expected:
        raise WeightsUnavailable(
            f"{printable(file)} has sha256 {actual}, not the {expected} of '{extractor.name}'; "
            "delete it to fetch it again, or to use these weights on purpose pass --weights-sha256 with its hash"
        )
    return file, actual


def load_extractor(
    extractor: FeatureExtractor, device: str, path: Path | None = None, sha256: str | None = None
) -> LoadedExtractor:
    """Find, check and load an extractor; see `find_weights` for what it raises."""
    file, actual = find_weights(extractor, path, sha256)
    module = extractor.load(file).eval().requires_grad_(False)
    layout = getattr(torch, TORCH_FORMATS[memory_format(module.parameters(), device, "fp32")])
    module.to(device=device, memory_format=layout)  # type: ignore[call-overload]
    return LoadedExtractor(extractor, actual, module, device)
