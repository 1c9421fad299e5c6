"""Scores of generated images against a dataset, each with the protocol that makes two scores comparable."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import torch
from torch import Tensor, nn

from ganzoo.data.prepared import PreparedDataset, Reference
from ganzoo.errors import PluginError, UsageError
from ganzoo.evaluation.extractors import LoadedExtractor, preprocessing_of
from ganzoo.evaluation.features import FeatureSample, RealSample, all_images
from ganzoo.evaluation.sampling import GeneratedImages, eval_mode
from ganzoo.records.bounds import is_within
from ganzoo.records.protocols import bounds_of, protocol_id, score_facts
from ganzoo.registry.registry import Offer, Registry
from ganzoo.registry.signatures import by_name, metric_function
from ganzoo.runs import LARGEST_FIGURE, Score
from ganzoo.types import Estimate, FeatureExtractor, ImageSource, Metric, NoScore
from ganzoo.util.text import printable

NOT_FINITE = "the generated images have features that are not finite"


OF_HELD_OUT = {"held_out", "held_out_images"}

WHY_ABSENT = {
    **dict.fromkeys(OF_HELD_OUT, "the dataset has no held-out images"),
    "generator": "a folder of images has no generator",
}
"""Why there is nothing under a name that a metric needs; other names are those of players."""


@dataclass(frozen=True)
class Scorer:
    """Scores samples of generated images against one dataset by the given metrics."""

    metrics: Sequence[Metric]
    real: RealSample
    plugins: Mapping[str, str] = field(default_factory=dict)
    """The plugin that each metric is from: two may give one name to two measures."""
    code: Mapping[str, Mapping[str, str | None]] = field(default_factory=dict)
    """For each metric its plugin and the extractor's, each with the hash of its source."""
    drawing: Mapping[str, Any] = field(default_factory=dict)
    """The options with which images are drawn, where the architecture has some."""
    dataset_images: str = ""
    """The kind of the real images; see `Dataset.images`."""
    held_out: RealSample | None = None
    """Real images that no run trains on, by the same extractor; None where the dataset has none."""

    @classmethod
    def of(
        cls,
        registry: Registry,
        metrics: Sequence[Offer],
        extractor: Offer,
        loaded: LoadedExtractor,
        dataset: PreparedDataset,
        dataset_images: str,
        reference: str,
        *,
        drawing: Mapping[str, Any] | None = None,
        on_note: Callable[[str], None] = lambda line: None,
    ) -> Scorer:
        """Metrics under one extractor, which is `loaded`, and the real images that they compare with.

        Whatever is scored, the real images' features are those that others have made and kept, and the code in the
        protocols is that of the same plugins. Raises what `RealSample` does.
        """
        source = registry.status_of(extractor.plugin).source_sha256
        real = RealSample(dataset, loaded, on_note, source, reference)
        plugins = {metric.record.name: metric.plugin for metric in metrics}
        code = {name: registry.sources_of(plugin, extractor.plugin) for name, plugin in plugins.items()}
        held_out = real.others("test") if dataset.held_out else None
        records = [metric.record for metric in metrics]
        return cls(records, real, plugins, code, drawing or {}, dataset_images, held_out)

    def protocol(self, metric: Metric, fakes: int, ema: bool | None) -> tuple[str, dict[str, Any]]:
        """The id and content of the protocol: equal ids mean comparable scores. `ema` is None for a folder."""
        return protocol_of(
            metric,
            self.real.reference,
            self.real.extractor.extractor,
            self.real.extractor.weights_sha256,
            plugin=self.plugins.get(metric.name),
            code=self.code.get(metric.name),
            drawing=self.drawing,
            fakes=fakes,
            ema=ema,
            dataset_images=self.dataset_images,
            held_out=self.held_out.reference if self.held_out else None,
        )

    def score(
        self,
        images: Iterator[Tensor],
        kimg: float | None,
        ema: bool | None,
        players: Mapping[str, nn.Module] | None = None,
    ) -> tuple[list[Score], dict[str, Any]]:
        """`(scores, protocols)` as a record holds them; a value that is not finite, too large, or out of the metric's
        bounds is None, with a reason.

        `GeneratedImages` have labels, and metrics may draw more of them; `players` are the networks that metrics may
        name. Raises `PluginError` where a metric does not give what `Metric` promises.
        """
        return self.score_fakes(self.fakes(images), kimg, ema, players)

    def fakes(self, images: Iterator[Tensor]) -> Fakes:
        """What metrics see of images."""
        kept = KeptImages(images, self._asked_for("fake_images"))
        features, logits = self.real.extractor(kept)
        generated = images if isinstance(images, GeneratedImages) else None
        labels = None if generated is None else generated.labels
        sample = FeatureSample(features, logits, labels, self.real.class_names, self.real.logit_names)
        return Fakes(sample, kept.images(), None if generated is None else generated.source())

    def score_fakes(
        self, fakes: Fakes, kimg: float | None, ema: bool | None, players: Mapping[str, nn.Module] | None = None
    ) -> tuple[list[Score], dict[str, Any]]:
        """As `score`, of what metrics see."""
        generated = fakes.sample
        given = {**(players or {}), **self._given(fakes)}
        scores: list[Score] = []
        protocols: dict[str, Any] = {}
        finite = generated.finite
        date = datetime.now(UTC).isoformat(timespec="seconds")
        for metric in self.metrics:
            identity, content = self.protocol(metric, len(generated), ema)
            protocols[identity] = content
            if finite:
                with contextlib.ExitStack() as modes:
                    for player in (players or {}).values():
                        modes.enter_context(eval_mode(player))
                    result = result_of(metric, {**given, "settings": content["settings"]})
                values: Mapping[str, Any] = _checked_names(metric, result)
            else:
                values = dict.fromkeys(metric.better, math.nan)
            for name, result in values.items():
                estimate = _estimate_of(metric, name, result)
                value, bounds = estimate.value, bounds_of(name, content)
                fault = _fault_of_value(value, bounds)
                entry: Score = {
                    "metric": name,
                    "value": None if fault else value,
                    "std": None if fault or _fault_of_value(estimate.std, (0, math.inf)) else estimate.std,
                    "protocol": identity,
                    # A folder of images has neither, and its scores go into no record.
                    "kimg": kimg,  # type: ignore[typeddict-item]
                    "ema": ema,  # type: ignore[typeddict-item]
                    "code": self.code.get(metric.name),
                    "date": date,
                }
                if entry["value"] is None:
                    entry["reason"] = _reason_for_none(result, fault) if finite else NOT_FINITE
                elif interval := _interval_of(estimate, bounds):
                    entry["sample_low"], entry["sample_high"] = interval
                scores.append(entry)
        return scores, protocols

    def _asked_for(self, name: str) -> bool:
        """Whether any metric names it."""
        return any(name in metric_function(metric).names for metric in self.metrics)

    def _given(self, fakes: Fakes) -> dict[str, Any]:
        """What a metric may name, but settings and players; None for what is not there."""
        given = {
            "real": self.real,
            "fake": fakes.sample,
            "held_out": self.held_out,
            "fake_images": fakes.images,
            "generator": fakes.source,
        }
        for name, side in (("real_images", self.real), ("held_out_images", self.held_out)):
            given[name] = all_images(side.reference) if side and self._asked_for(name) else None
        return given


@dataclass(frozen=True)
class Fakes:
    """Images to be scored, as metrics see them; None for pixels that no metric asks for, or that nothing drew."""

    sample: FeatureSample
    images: Tensor | None = None
    source: ImageSource | None = None


class KeptImages:
    """Batches of images (n, C, H, W) as they come, of which all are kept on the CPU if that is asked for."""

    def __init__(self, batches: Iterator[Tensor], keep: bool) -> None:
        self._batches = batches
        self._kept: list[Tensor] | None = [] if keep else None

    def __iter__(self) -> Iterator[Tensor]:
        for batch in self._batches:
            if self._kept is not None:
                self._kept.append(batch.cpu())
            yield batch

    def images(self) -> Tensor | None:
        """uint8 (N, C, H, W); None if they were not to be kept."""
        return None if self._kept is None else torch.cat(self._kept)


def protocol_of(
    metric: Metric,
    real: Reference,
    extractor: FeatureExtractor,
    weights_sha256: str,
    *,
    plugin: str | None,
    code: Mapping[str, str | None] | None,
    drawing: Mapping[str, Any],
    fakes: int,
    ema: bool | None,
    dataset_images: str = "",
    held_out: Reference | None = None,
) -> tuple[str, dict[str, Any]]:
    """The id and content of a protocol, without loading or scoring anything; see `Scorer` for the parts."""
    content = {
        "metric": metric.name,
        "metric_plugin": plugin,
        "extractor": extractor.name,
        "weights_sha256": weights_sha256,
        "preprocessing": preprocessing_of(extractor, real.image_shape),
        # Of `folder:PATH` the path is left out: the sha256 says which images they are.
        "dataset": real.name.partition(":")[0],
        "dataset_sha256": real.sha256,
        "image_shape": list(real.image_shape),
        "real_split": real.split,
        "n_real": real.count,
        "n_fake": fakes,
        "quantization": "uint8",
        "generator_mode": "eval",
        "ema": ema,
        "settings": settings_of(metric, real.count, fakes),
        "code": None if code is None else dict(code),
        "scores": score_facts(metric),
    }
    if drawing:
        content["drawing"] = dict(drawing)
    if held_out is not None and OF_HELD_OUT & set(metric_function(metric).names):
        content["held_out"] = {"dataset_sha256": held_out.sha256, "split": held_out.split, "n": held_out.count}
    known_weights = weights_sha256 == extractor.sha256
    # What no score depends on, and so no part of the id.
    facts = {
        "extractor_for": extractor.images if known_weights else "",
        "dataset_images": dataset_images,
        "weights_licence": extractor.licence if known_weights else "",
    }
    content |= {name: fact for name, fact in facts.items() if fact}
    return protocol_id(content), content


def settings_of(metric: Metric, n_real: int, n_fake: int) -> dict[str, Any]:
    """What else decides the value of a metric for so many images of each kind."""
    return dict(by_name(metric, "settings")({"n_real": n_real, "n_fake": n_fake}))


def result_of(metric: Metric, given: Mapping[str, Any]) -> Any:
    """What a metric's function gives, unchecked, of what it may name; None stands for what is not there.

    Where it needs that, there is `NoScore` for each of its scores.
    """
    function = metric_function(metric)
    for name in function.needed:
        if given.get(name) is None:
            reason = WHY_ABSENT.get(name, f"the variant has no player '{name}'")
            return dict.fromkeys(metric.better, NoScore(f"{reason}, which the metric needs"))
    return function({**dict.fromkeys(function.names), **given})


def check_held_out(metrics: Iterable[Metric], dataset: PreparedDataset) -> None:
    """Raise `UsageError` where a metric has no score without held-out real images, and a dataset has none."""
    for metric in metrics:
        if dataset.held_out is None and not OF_HELD_OUT.isdisjoint(metric_function(metric).needed):
            raise UsageError(
                f"metric '{metric.name}' needs held-out real images, and dataset '{printable(dataset.name)}' has none; "
                "leave it out of --metrics"
            )


def _checked_names(metric: Metric, given: object) -> Mapping[str, Any]:
    """`given`, if it has a value for each name in `better` and no other. Raises `PluginError` otherwise."""
    if isinstance(given, Mapping) and set(given) == set(metric.better):
        return given
    shown = printable(list(given) if isinstance(given, Mapping) else repr(given), 80)
    raise PluginError(f"metric '{metric.name}' scored {shown}; its `better` names {printable(list(metric.better), 80)}")


def _estimate_of(metric: Metric, name: str, result: Any) -> Estimate:
    """What a metric gave for a score, in floats, which may be infinite or NaN; what it did not give is NaN, or None.

    Raises `PluginError` for anything but numbers, and for an interval that does not hold the value.
    """
    match result:
        case NoScore():
            return Estimate(math.nan, math.nan, math.nan)
        case Estimate():
            given = result.value, result.low, result.high, result.std
        case (value, deviation):
            given = value, math.nan, math.nan, deviation
        case _:
            given = result, math.nan, math.nan, None
    try:
        value, low, high = map(_as_float, given[:3])
        estimate = Estimate(value, low, high, None if given[3] is None else _as_float(given[3]))
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        what = printable(repr(result), 80)
        raise PluginError(
            f"metric '{metric.name}': {name} is {what}; it must be a number, (value, std), Estimate or NoScore"
        ) from error
    if low > value or high < value:
        raise PluginError(
            f"metric '{metric.name}': {name} is {value:g}, and its interval from {low:g} to {high:g} does not hold it"
        )
    return estimate


def _as_float(value: Any) -> float:
    if isinstance(value, str):
        raise TypeError("text is no number")
    return math.nan if value is None else float(value)


def _interval_of(estimate: Estimate, bounds: tuple[float, float]) -> tuple[float, float] | None:
    """The interval of a value, without what lies beyond the bounds; None where a record cannot hold an end."""
    low, high = max(estimate.low, bounds[0]), min(estimate.high, bounds[1])
    if not (math.isfinite(low) and math.isfinite(high)) or max(abs(low), abs(high)) >= LARGEST_FIGURE:
        return None
    # By rounding a value may lie beyond its bound.
    return min(low, estimate.value), max(high, estimate.value)


def _fault_of_value(value: float | None, bounds: tuple[float, float]) -> str:
    """Why a record cannot hold a value; empty if it can."""
    if value is None or not math.isfinite(value):
        return "not finite"
    if abs(value) >= LARGEST_FIGURE:
        return f"beyond {LARGEST_FIGURE:g}"
    low, high = bounds
    return "" if is_within(value, bounds) else f"{value:g}, outside of the metric's bounds, {low:g} to {high:g}"


def _reason_for_none(result: Any, fault: str) -> str:
    """Why there is no value that a record can hold, for a `result` that a metric gave."""
    return printable(result.reason) if isinstance(result, NoScore) else fault
