"""Sample, extract features, score; and the protocol that makes two scores comparable.

Generated images are quantized to uint8 on the device before features are taken, as if they had been saved as PNG.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from ganzoo.data.prepared import PreparedDataset
from ganzoo.errors import PluginError, WeightsUnavailable
from ganzoo.machine.settings import TORCH_FORMATS, ieee_float32, memory_format
from ganzoo.records.store import LARGEST_FIGURE
from ganzoo.registry.validation import blaming
from ganzoo.types import FeatureExtractor, Metric, Sample
from ganzoo.util.files import cache_folder, sha256_of_file, write_atomically
from ganzoo.util.images import to_uint8
from ganzoo.util.text import printable, slug

CACHED_FEATURE_BYTES = 2 << 30
"""Real features larger than this are not kept on disk; their statistics always are."""

MOMENT_BLOCK = 8192
"""Images whose features are in float64 at a time."""


@dataclass(frozen=True)
class LoadedExtractor:
    """An extractor on a device, with the sha256 of the weights it really has."""

    extractor: FeatureExtractor
    weights_sha256: str
    module: nn.Module
    device: str

    @torch.inference_mode()
    def __call__(self, batches: Iterator[Tensor]) -> tuple[Tensor, Tensor]:
        """uint8 (n, C, H, W) batches to float32 features (N, D) and logits (N, K), on the extractor's device."""
        features, logits = [], []
        with ieee_float32():
            for batch in batches:
                feature, logit = self.module(batch.to(self.device, non_blocking=True))
                features.append(feature.float())
                logits.append(logit.float())
        return torch.cat(features), torch.cat(logits)


def find_weights(extractor: FeatureExtractor, path: Path | None, sha256: str | None) -> tuple[Path, str]:
    """The weights file and its sha256, checked: against `sha256` where given, else the extractor's own.

    Raises `WeightsUnavailable` where the file is absent, cannot be read or is another one, and `PluginError` where the
    extractor gives no path.
    """
    if path is not None and not path.is_file():
        raise WeightsUnavailable(f"--weights {printable(path)}: no such file")
    with blaming(WeightsUnavailable, f"the weights of '{extractor.name}' cannot be had"):
        found = extractor.weights(path)
        if not isinstance(found, Path):
            given = printable(type(found).__name__, 80)
            raise PluginError(f"extractor '{extractor.name}': weights gave {given}; it must give a pathlib.Path")
        actual, expected = sha256_of_file(found), sha256 or extractor.sha256
    if actual != expected:
        raise WeightsUnavailable(
            f"{printable(found)} has sha256 {actual}, not the {expected} of '{extractor.name}'; "
            "delete it to fetch it again, or to use these weights on purpose pass --weights-sha256 with its hash"
        )
    return found, actual


def load_extractor(
    extractor: FeatureExtractor, device: str, path: Path | None = None, sha256: str | None = None
) -> LoadedExtractor:
    """Find, check and load an extractor; see `find_weights` for what it raises."""
    found, actual = find_weights(extractor, path, sha256)
    module = extractor.load(found).eval().requires_grad_(False)
    layout = getattr(torch, TORCH_FORMATS[memory_format(module.parameters(), device, "fp32")])
    module.to(device=device, memory_format=layout)  # type: ignore[call-overload]
    return LoadedExtractor(extractor, actual, module, device)


class FeatureSample:
    """A `Sample` of features on a device; they come to the CPU once, when a metric asks for them there."""

    def __init__(self, features: Tensor, logits: Tensor, labels: Tensor | None = None) -> None:
        self._features = features
        self._logits = logits
        self.labels = labels

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

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Float64 mean (D,) and unbiased covariance (D, D), on the device of the features."""
        return self._statistics

    @cached_property
    def _statistics(self) -> tuple[Tensor, Tensor]:
        return moments(self._features)


class RealSample:
    """The real side: features of a dataset under an extractor, made once on a machine and kept in the cache.

    `source_sha256` is of the extractor's plugin. What cannot be kept is made again the next time; `on_note` is told so.
    """

    def __init__(
        self,
        dataset: PreparedDataset,
        extractor: LoadedExtractor,
        on_note: Callable[[str], None] = lambda line: None,
        source_sha256: str | None = None,
    ) -> None:
        self.dataset = dataset
        self.extractor = extractor
        self.on_note = on_note
        # The code that computes features decides them as much as its weights do.
        identity = (dataset.sha256, extractor.extractor.name, extractor.weights_sha256, source_sha256)
        key = hashlib.sha256(
            json.dumps([*identity, extractor.extractor.preprocessing, dataset.split, dataset.count]).encode()
        ).hexdigest()[:16]
        self._stem = f"{slug(dataset.name, 40)}-{slug(extractor.extractor.name, 40)}-{key}"

    @cached_property
    def _features_and_logits(self) -> tuple[Tensor, Tensor]:
        cached = self._read("features", ("features", "logits"))
        if cached is not None:
            return cached["features"], cached["logits"]
        batches = dataset_batches(self.dataset, self.extractor.extractor.batch_size)
        features, logits = (found.cpu() for found in self.extractor(batches))
        if features.nbytes + logits.nbytes <= CACHED_FEATURE_BYTES:
            self._write("features", {"features": features, "logits": logits})
        return features, logits

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
        labels = self.dataset.labels()
        return None if labels is None else torch.from_numpy(labels)

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Float64 mean (D,) and unbiased covariance (D, D), on the device of the fakes' own; cached on disk."""
        return self._statistics

    @cached_property
    def _statistics(self) -> tuple[Tensor, Tensor]:
        cached = self._read("statistics", ("mu", "sigma"))
        if cached is not None:
            mu, sigma = cached["mu"], cached["sigma"]
        else:
            mu, sigma = moments(self.features.to(self.extractor.device))
            self._write("statistics", {"mu": mu.cpu(), "sigma": sigma.cpu()})
        device = float64_device(self.extractor.device)
        return mu.to(device), sigma.to(device)

    def _read(self, kind: str, keys: tuple[str, str]) -> dict[str, Tensor] | None:
        path = cache_folder("references") / f"{self._stem}-{kind}.safetensors"
        try:
            tensors = load_file(path)
        except (OSError, SafetensorError):
            return None
        return tensors if set(keys) <= set(tensors) else None

    def _write(self, kind: str, tensors: dict[str, Tensor]) -> None:
        path = cache_folder("references") / f"{self._stem}-{kind}.safetensors"
        try:
            write_atomically(path, lambda stream: stream.write(save(tensors)))
        except OSError as error:
            self.on_note(f"cannot keep {path}: {error.strerror}; free space there or set GANZOO_CACHE")


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (D,) and unbiased covariance (D, D) of features (N, D), in float64, summed in blocks of images.

    On the device of `features`, or on the CPU where that knows no float64. NaN for a single image.
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


def float64_device(device: str | torch.device) -> torch.device:
    """`device`, or the CPU where it knows no float64."""
    device = torch.device(device)
    return torch.device("cpu") if device.type == "mps" else device


def dataset_batches(dataset: PreparedDataset, size: int) -> Iterator[Tensor]:
    """Every image of a dataset in order: uint8 (n, C, H, W) on the CPU, `size` at a time."""
    images = dataset.images()
    for start in range(0, len(images), size):
        yield torch.from_numpy(np.array(images[start : start + size]))


def generated_images(
    generator: nn.Module,
    count: int,
    batch_size: int,
    draw_latent: Callable[[int, torch.Generator], Tensor],
    rng: torch.Generator,
    device: str,
    label_pool: Tensor | None = None,
) -> Iterator[Tensor]:
    """Batches of uint8 (n, C, H, W) on `device`, `count` in all, from `generator` in eval mode.

    Latents come from `rng`, a CPU generator, so that they are the same on all hardware. Labels are drawn from
    `label_pool`, so that a conditional generator is scored on the dataset's own mixture of classes.
    """
    with eval_mode(generator), torch.inference_mode():
        for start in range(0, count, batch_size):
            size = min(batch_size, count - start)
            latent = draw_latent(size, rng).to(device)
            labels = None
            if label_pool is not None:
                labels = label_pool[torch.randint(len(label_pool), (size,), generator=rng)].to(device)
            yield to_uint8(generator(latent, labels))


@contextlib.contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """Put `module` in eval mode for a while, and each part back as it was."""
    training = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, mode in training.items():
            part.training = mode


@dataclass(frozen=True)
class Scorer:
    """Scores samples of generated images against one dataset by the given metrics."""

    metrics: Sequence[Metric]
    real: RealSample
    plugins: Mapping[str, str] = field(default_factory=dict)
    """The plugin that each metric is from: two may give one name to two measures."""

    def protocol(self, metric: Metric, fakes: int, ema: bool | None) -> tuple[str, dict[str, Any]]:
        """The id and content of the protocol: equal ids mean comparable scores. `ema` is None for a folder."""
        dataset, loaded = self.real.dataset, self.real.extractor
        content = {
            "metric": metric.name,
            "metric_plugin": self.plugins.get(metric.name),
            "extractor": loaded.extractor.name,
            "weights_sha256": loaded.weights_sha256,
            "preprocessing": loaded.extractor.preprocessing,
            # Of `folder:PATH` the path is left out: the sha256 says which images they are.
            "dataset": dataset.name.partition(":")[0],
            "dataset_sha256": dataset.sha256,
            "image_shape": list(dataset.image_shape),
            "real_split": dataset.split,
            "n_real": dataset.count,
            "n_fake": fakes,
            "quantization": "uint8",
            "generator_mode": "eval",
            "ema": ema,
            "settings": dict(metric.settings(dataset.count, fakes)),
        }
        return protocol_id(content), content

    def score(
        self, images: Iterator[Tensor], kimg: float | None, ema: bool | None
    ) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]:
        """`(scores, protocols)` as they stand in a record; a score that is not finite is None, with a reason.

        So is one beyond what a record holds. Raises `PluginError` where a metric does not give what `Metric` promises.
        """
        generated = FeatureSample(*self.real.extractor(images))
        fake: Sample = generated  # type: ignore[assignment]
        real: Sample = self.real  # type: ignore[assignment]
        scores, protocols = [], {}
        finite = generated.finite
        for metric in self.metrics:
            identity, content = self.protocol(metric, len(generated), ema)
            protocols[identity] = content
            if finite:
                values: Mapping[str, Any] = _named(metric, metric.score(real, fake, content["settings"]))
            else:
                values = dict.fromkeys(metric.better, math.nan)
            for name, told in values.items():
                value, deviation = _figures(metric, name, told)
                entry = {"metric": name, "value": _kept(value), "std": _kept(deviation)}
                entry |= {"protocol": identity, "kimg": kimg, "ema": ema}
                if entry["value"] is None:
                    entry["reason"] = (
                        _why_not(value) if finite else "the generated images have features that are not finite"
                    )
                scores.append(entry)
        return scores, protocols


def protocol_id(content: Mapping[str, Any]) -> str:
    """The id of a protocol: what matters most in words, and a hash of all of it."""
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]
    weights = {True: "ema", False: "raw", None: "images"}[content["ema"]]
    return f"{content['metric']}-{slug(content['extractor'])}-{content['n_fake']}-{weights}-{digest}"


def _named(metric: Metric, given: Any) -> Mapping[str, Any]:
    """What a metric gave. Raises `PluginError` where it is not a value for each name in `better` and no other."""
    if isinstance(given, Mapping) and set(given) == set(metric.better):
        return given
    told = printable(list(given) if isinstance(given, Mapping) else repr(given), 80)
    raise PluginError(f"metric '{metric.name}' scored {told}; its `better` names {printable(list(metric.better), 80)}")


def _figures(metric: Metric, name: str, told: Any) -> tuple[float | None, float | None]:
    """`(value, std)` as numbers, infinite ones included."""
    value, deviation = told if isinstance(told, tuple) and len(told) == 2 else (told, None)
    try:
        return _number(value), _number(deviation)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        what = printable(repr(told), 80)
        raise PluginError(f"metric '{metric.name}': {name} is {what}; it must be a number, or (value, std)") from error


def _number(value: Any) -> float | None:
    if isinstance(value, str):
        raise TypeError("text is no number")
    return None if value is None else float(value)


def _kept(value: float | None) -> float | None:
    """A figure as a record holds it."""
    return value if value is not None and abs(value) <= LARGEST_FIGURE else None


def _why_not(value: float | None) -> str:
    return "not finite" if value is None or not math.isfinite(value) else f"beyond {LARGEST_FIGURE:g}"
