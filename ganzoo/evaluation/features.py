"""The `Sample`s that metrics get: features, logits, mean and covariance of real and generated images."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from ganzoo.data.prepared import PreparedDataset, Reference
from ganzoo.evaluation.extractors import LoadedExtractor, preprocessing_of
from ganzoo.util.devices import float64_device
from ganzoo.util.files import cache_folder, write_atomically
from ganzoo.util.rights import cache_fault
from ganzoo.util.tensorfiles import UNSIGNED, bears_its_sha256, read_header, signed
from ganzoo.util.text import printable, slug

CACHED_FEATURE_BYTES = 2 << 30
"""Real features larger than this are not kept on disk; their statistics always are."""


MOMENT_BLOCK = 8192
"""Images whose features are in float64 at a time."""


class FeatureSample:
    """A `Sample` of features on a device, copied to the CPU once, when a metric first reads them."""

    def __init__(
        self,
        features: Tensor,
        logits: Tensor,
        labels: Tensor | None = None,
        class_names: tuple[str, ...] = (),
        logit_names: tuple[str, ...] = (),
    ) -> None:
        self._features = features
        self._logits = logits
        self.labels = labels
        self.class_names = class_names
        self.logit_names = logit_names

    @cached_property
    def features(self) -> Tensor:
        """float32 (N, D) on the CPU."""
        return self._features.cpu()

    @cached_property
    def logits(self) -> Tensor:
        """float32 (N, K) on the CPU."""
        return self._logits.cpu()

    @property
    def finite(self) -> bool:
        """Whether every feature and logit is a finite number."""
        return bool(torch.isfinite(self._features).all() and torch.isfinite(self._logits).all())

    def __len__(self) -> int:
        return len(self._features)

    def first(self, count: int) -> FeatureSample:
        """The sample of the first images alone."""
        labels = None if self.labels is None else self.labels[:count]
        return FeatureSample(self._features[:count], self._logits[:count], labels, self.class_names, self.logit_names)

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Float64 mean (D,) and unbiased covariance (D, D), on the device of the features."""
        return self._statistics

    @cached_property
    def _statistics(self) -> tuple[Tensor, Tensor]:
        return moments(self._features)


class RealSample:
    """The real side: features of a dataset under an extractor, made once on a machine and kept in the cache.

    `source_sha256` is of the extractor's plugin. If the cache cannot be written, `on_note` is called with the reason.
    Raises `UsageError` where `reference` is held out and nothing is.
    """

    def __init__(
        self,
        dataset: PreparedDataset,
        extractor: LoadedExtractor,
        on_note: Callable[[str], None] = lambda line: None,
        source_sha256: str | None = None,
        reference: str = "train",
    ) -> None:
        self.dataset = dataset
        self.reference = dataset.reference(reference)
        self.extractor = extractor
        self.on_note = on_note
        self.class_names = dataset.class_names
        self.logit_names = extractor.extractor.class_names
        # The code that computes features decides them as much as its weights do.
        named, preprocessing = extractor.extractor, preprocessing_of(extractor.extractor, dataset.image_shape)
        self.identity = (named.name, extractor.weights_sha256, source_sha256, preprocessing)
        content = json.dumps([*self.identity, self.reference.sha256, self.reference.split, self.reference.count])
        key = hashlib.sha256(content.encode()).hexdigest()[:16]
        self._stem = f"{slug(dataset.name, 40)}-{slug(named.name, 40)}-{key}"
        self._source_sha256 = source_sha256

    def __len__(self) -> int:
        return self.reference.count

    def others(self, reference: str) -> RealSample:
        """Other images of the same dataset by the same extractor. Raises what the constructor does."""
        return RealSample(self.dataset, self.extractor, self.on_note, self._source_sha256, reference)

    def unseen(self) -> FeatureSample | None:
        """Real images that are not in the reference: those held out, or as many of the training images; None where the
        reference has all, or nothing is held out.
        """
        held_out = self.dataset.held_out
        if held_out is None or len(self.reference.parts) > 1:
            return None
        which = "test" if self.reference.parts[0] is self.dataset else "train"
        other = self.others(which)
        sample = FeatureSample(other.features, other.logits, other.labels, self.class_names, self.logit_names)
        return sample.first(held_out.count)

    @cached_property
    def _features_and_logits(self) -> tuple[Tensor, Tensor]:
        size = self.extractor.extractor.batch_size
        batches = chain.from_iterable(dataset_batches(part, size) for part in self.reference.parts)
        return kept_features(self._stem, self.reference.count, lambda: self.extractor(batches), self.on_note)

    @property
    def features(self) -> Tensor:
        """float32 (N, D)."""
        return self._features_and_logits[0]

    @property
    def logits(self) -> Tensor:
        """float32 (N, K)."""
        return self._features_and_logits[1]

    @cached_property
    def labels(self) -> Tensor | None:
        """int64 (N,), or None."""
        labels = self.reference.labels()
        return None if labels is None else torch.from_numpy(labels)

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Float64 mean (D,) and unbiased covariance (D, D), on the device of the fakes' statistics; cached on disk."""
        return self._statistics

    @cached_property
    def _statistics(self) -> tuple[Tensor, Tensor]:
        cached = _read(f"{self._stem}-statistics")
        if cached is not None:
            mu, sigma = cached["mu"], cached["sigma"]
        else:
            mu, sigma = moments(self.features.to(self.extractor.device))
            _write(f"{self._stem}-statistics", {"mu": mu.cpu(), "sigma": sigma.cpu()}, self.on_note)
        device = float64_device(self.extractor.device)
        return mu.to(device), sigma.to(device)


def kept_features(
    stem: str, count: int, compute: Callable[[], tuple[Tensor, Tensor]], on_note: Callable[[str], None]
) -> tuple[Tensor, Tensor]:
    """Features and logits of `count` images, on the CPU: from the cache, or computed and kept there if they are small.

    `on_note` is called with the reason where they cannot be kept.
    """
    cached = _read(f"{stem}-features")
    if cached is not None and len(cached["features"]) == count:
        return cached["features"], cached["logits"]
    features, logits = (output.cpu() for output in compute())
    if features.nbytes + logits.nbytes <= CACHED_FEATURE_BYTES:
        _write(f"{stem}-features", {"features": features, "logits": logits}, on_note)
    return features, logits


def _read(name: str) -> dict[str, Tensor] | None:
    path = _path(name)
    try:
        return None if fault_of_reference(path) else load_file(path)
    except OSError:
        return None


def _write(name: str, tensors: dict[str, Tensor], on_note: Callable[[str], None]) -> None:
    path = _path(name)
    content = save(tensors, metadata={"of": path.name, "sha256": UNSIGNED})
    try:
        write_atomically(path, lambda stream: stream.writelines(signed(content)), shared=True)
    except OSError as error:
        on_note(f"cannot keep {printable(path)}: {cache_fault(error, path.parent)}")


def _path(name: str) -> Path:
    return cache_folder("references") / f"{name}.safetensors"


def fault_of_reference(path: Path) -> str | None:
    """The fault of a file in `references/` of the cache, or None; loads no tensor. Raises `OSError`.

    It must bear its sha256 and its name, which holds what it was computed from, and tensors of shapes that belong
    together: `features` and `logits` of as many images, or `mu` and `sigma` of as many features.
    """
    try:
        header = read_header(path, links=True)
        metadata = header.get("__metadata__") or {}
        if metadata.get("of") != path.name or not bears_its_sha256(path, metadata.get("sha256", ""), links=True):
            return "is damaged, was changed, or is of an earlier version: it does not bear its sha256"
    except ValueError as error:
        return str(error)
    tensors = {name: (entry["dtype"], entry["shape"]) for name, entry in header.items() if name != "__metadata__"}
    match tensors:
        case {"features": ("F32", [count, _]), "logits": ("F32", [others, _])} if count == others:
            return None
        case {"mu": ("F64", [count]), "sigma": ("F64", [rows, columns])} if count == rows == columns:
            return None
    return "holds other tensors than features and logits, or a mean and a covariance"


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (D,) and unbiased covariance (D, D) of features (N, D), in float64, summed in blocks of images.

    On the device of `features`, or on the CPU if that has no float64. NaN for a single image.
    """
    device = float64_device(features.device)
    mean = torch.zeros(features.shape[1], dtype=torch.float64, device=device)
    covariance = torch.zeros(features.shape[1], features.shape[1], dtype=torch.float64, device=device)
    for block in features.split(MOMENT_BLOCK):
        mean += block.to(device, torch.float64).sum(0)
    mean /= len(features)
    for block in features.split(MOMENT_BLOCK):
        centred = block.to(device, torch.float64) - mean
        covariance.addmm_(centred.T, centred)
    return mean, covariance / (len(features) - 1)


def all_images(reference: Reference) -> Tensor:
    """Every real image in order: uint8 (N, C, H, W) on the CPU."""
    return torch.from_numpy(np.concatenate([part.images() for part in reference.parts]))


def dataset_batches(dataset: PreparedDataset, size: int) -> Iterator[Tensor]:
    """Every image of a dataset in order: uint8 (n, C, H, W) on the CPU, `size` at a time."""
    images = dataset.images()
    for start in range(0, len(images), size):
        yield torch.from_numpy(np.array(images[start : start + size]))
