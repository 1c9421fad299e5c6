"""Scores of generated images against a dataset, each with the protocol that makes two scores comparable."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from torch import Tensor

from ganzoo.data.prepared import Reference
from ganzoo.errors import PluginError
from ganzoo.evaluation.extractors import preprocessing_of
from ganzoo.evaluation.features import FeatureSample, RealSample
from ganzoo.records.bounds import is_within
from ganzoo.records.protocols import bounds_of, protocol_id, score_facts
from ganzoo.registry.signatures import by_name
from ganzoo.runs import LARGEST_FIGURE, Score
from ganzoo.types import Estimate, FeatureExtractor, Metric, NoScore, Sample
from ganzoo.util.text import printable

NOT_FINITE = "the generated images have features that are not finite"


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
        )

    def score(
        self, images: Iterator[Tensor], kimg: float | None, ema: bool | None
    ) -> tuple[list[Score], dict[str, Any]]:
        """`(scores, protocols)` as a record holds them; a value that is not finite, too large, or out of the metric's
        bounds is None, with a reason.

        Raises `PluginError` where a metric does not give what `Metric` promises.
        """
        return self.score_sample(self.sample(images), kimg, ema)

    def sample(self, images: Iterator[Tensor]) -> FeatureSample:
        """What metrics see of images."""
        return FeatureSample(*self.real.extractor(images), logit_names=self.real.logit_names)

    def score_sample(
        self, generated: FeatureSample, kimg: float | None, ema: bool | None
    ) -> tuple[list[Score], dict[str, Any]]:
        """As `score`, of a sample."""
        fake: Sample = generated  # type: ignore[assignment]
        real: Sample = self.real  # type: ignore[assignment]
        scores: list[Score] = []
        protocols: dict[str, Any] = {}
        finite = generated.finite
        date = datetime.now(UTC).isoformat(timespec="seconds")
        for metric in self.metrics:
            identity, content = self.protocol(metric, len(generated), ema)
            protocols[identity] = content
            if finite:
                values: Mapping[str, Any] = _checked_names(metric, result_of(metric, real, fake, content["settings"]))
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


def result_of(metric: Metric, real: Any, fake: Any, settings: Mapping[str, Any]) -> Any:
    """What a metric's function gives, unchecked; it may leave out what it needs not."""
    return by_name(metric, "score")({"real": real, "fake": fake, "settings": settings})


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
