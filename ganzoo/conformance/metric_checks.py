"""The conformance checks of a metric, each a function of it: it returns, or raises `Failed`."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch

from ganzoo.conformance.verdicts import Failed, Skipped
from ganzoo.evaluation.features import FeatureSample
from ganzoo.evaluation.scorer import result_of, settings_of
from ganzoo.records.bounds import is_within
from ganzoo.records.protocols import bounds_of, score_facts
from ganzoo.registry.signatures import metric_function
from ganzoo.types import Estimate, Metric, NoScore
from ganzoo.util.text import printable

COUNT, FEATURES, SAMPLE_CLASSES = 500, 16, 10
CLASS_NAMES = tuple(f"class-{letter}" for letter in "abcdefghij")


def scores(metric: Metric) -> None:
    """`score` gives a finite number, `(value, std)` or an `Estimate` for each name in `better` and for no other."""
    values = _scores_of(metric, similar_fakes())
    if set(values) != set(metric.better):
        raise Failed(f"it scores {_quoted(values)}, and `better` names {_quoted(metric.better)}")
    for name, value in values.items():
        if not all(isinstance(number, (int, float)) and math.isfinite(number) for number in _value_parts(value)):
            raise Failed(
                f"'{name}' is {printable(repr(value), 80)}; it must be a finite number, (value, std) or Estimate"
            )
        if isinstance(value, Estimate) and not value.low <= value.value <= value.high:
            raise Failed(f"'{name}' is {value.value:g}, and its interval from {value.low:g} to {value.high:g} lacks it")


def same_scores(metric: Metric) -> None:
    """The same images get the same scores. Draw random numbers from a seed that stands in `settings`."""
    if _scores_of(metric, similar_fakes()) != _scores_of(metric, similar_fakes()):
        raise Failed("the same images get other scores the second time; draw from a seed of the metric's own")


def json_settings(metric: Metric) -> None:
    """`settings` are the same after a JSON round trip, for they are part of the protocol."""
    settings = settings_of(metric, COUNT, COUNT)
    try:
        restored = json.loads(json.dumps(settings, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise Failed(f"settings cannot be written as JSON: {printable(error)}") from error
    if restored != settings:
        raise Failed(f"settings are {printable(settings, 100)}, and after JSON {printable(restored, 100)}")


def direction(metric: Metric) -> None:
    """Fakes that are like the real images score better, as `better` means it, than fakes that are far off.

    Of a metric of memorization, better than copies of the real images.
    """
    worse = "copies of them" if metric.memorization else "fakes far off"
    good = _scores_of(metric, similar_fakes())
    bad = _scores_of(metric, copies() if metric.memorization else distant_fakes())
    for name, way in metric.better.items():
        near, far = _value_parts(good[name])[0], _value_parts(bad[name])[0]
        if not (near < far if way == "lower" else near > far):
            raise Failed(
                f"'{name}' is {near:.4g} for fakes like the real images and {far:.4g} for {worse}, "
                f"and `better` says {way}"
            )


def within_bounds(metric: Metric) -> None:
    """Fakes that are like the real images, and fakes far off, score within `bounds`: no other value is recorded."""
    facts = {"scores": score_facts(metric)}
    for fakes in (similar_fakes(), distant_fakes()):
        for name, value in _scores_of(metric, fakes).items():
            number, (low, high) = _value_parts(value)[0], bounds_of(name, facts)
            if isinstance(number, (int, float)) and not is_within(number, (low, high)):
                raise Failed(f"'{name}' is {number:.4g}, and its `bounds` are {low:g} to {high:g}; correct either")


def class_names(metric: Metric) -> None:
    """A label is no number of a logit: where the dataset has its classes in another order, the scores are the same.

    Classes meet by their names, `class_names` of the labels and `logit_names`; `NoScore` where they do not is as good.
    """
    if not metric.labelled:
        raise Skipped("the metric needs no labels")
    values = _scores_of(metric, similar_fakes())
    reordered = _scores_of(metric, similar_fakes(), _clusters(seed=0, labelled=True, backwards=True))
    for name, value in values.items():
        before, after = _value_parts(value)[0], _value_parts(reordered[name])[0]
        if not isinstance(after, NoScore) and not math.isclose(before, after, rel_tol=1e-5, abs_tol=1e-9):
            raise Failed(
                f"'{name}' is {before:.4g}, and {after:.4g} where the dataset has its classes in another order; "
                "let labels and logits meet by real.class_names and real.logit_names"
            )


def few_images(metric: Metric) -> None:
    """A dozen fakes against one real image have a value, NaN, or `NoScore` with the reason; nothing is raised."""
    one, dozen = (_clusters(seed, labelled, count=count) for seed, labelled, count in ((0, True, 1), (1, False, 12)))
    result = _result_of(metric, one, dozen, settings_of(metric, 1, 12))
    if set(result) != set(metric.better):
        raise Failed(f"of one real image it scores {_quoted(result)}, and `better` names {_quoted(metric.better)}")
    for name, value in result.items():
        if not isinstance(value, NoScore) and not all(isinstance(part, (int, float)) for part in _value_parts(value)):
            raise Failed(f"of one real image '{name}' is {printable(repr(value), 80)}; give a number or ganzoo.NoScore")


METRIC_CHECKS: dict[str, Callable[[Metric], None]] = {
    function.__name__.replace("_", "-"): function
    for function in (scores, same_scores, json_settings, direction, within_bounds, class_names, few_images)
}
"""The checks of a metric by name; all others need the first."""


# --- synthetic samples ------------------------------------------------------------------------------------------------


def real_sample() -> FeatureSample:
    """Clusters of features, one for each class, with logits that classify them."""
    return _clusters(seed=0, labelled=True)


def similar_fakes() -> FeatureSample:
    """Fakes from the distribution of the real images, of a generator that was given their labels."""
    return _clusters(seed=1, labelled=True)


def copies() -> FeatureSample:
    """Fakes that are the real images."""
    return _clusters(seed=0, labelled=False)


def distant_fakes() -> FeatureSample:
    """Fakes in one narrow cluster far from the real images, with logits of zero."""
    noise = torch.randn(COUNT, FEATURES, generator=torch.Generator().manual_seed(2))
    labels = torch.arange(COUNT) % SAMPLE_CLASSES
    return FeatureSample(20 + 0.1 * noise, torch.zeros(COUNT, SAMPLE_CLASSES), labels, CLASS_NAMES, CLASS_NAMES)


def _clusters(seed: int, labelled: bool, backwards: bool = False, count: int = COUNT) -> FeatureSample:
    """With `backwards` the dataset counts its classes from the other end."""
    labels = torch.arange(count) % SAMPLE_CLASSES
    centres = 4 * torch.randn(SAMPLE_CLASSES, FEATURES, generator=torch.Generator().manual_seed(3))
    noise = torch.randn(count, FEATURES, generator=torch.Generator().manual_seed(seed))
    features, logits = centres[labels] + noise, 8 * torch.eye(SAMPLE_CLASSES)[labels]
    if not labelled:
        return FeatureSample(features, logits, logit_names=CLASS_NAMES)
    if backwards:
        return FeatureSample(features, logits, SAMPLE_CLASSES - 1 - labels, CLASS_NAMES[::-1], CLASS_NAMES)
    return FeatureSample(features, logits, labels, CLASS_NAMES, CLASS_NAMES)


def _scores_of(metric: Metric, fakes: FeatureSample, reals: FeatureSample | None = None) -> Mapping[str, Any]:
    result = _result_of(metric, reals or real_sample(), fakes, settings_of(metric, COUNT, COUNT))
    if not isinstance(result, Mapping):
        raise Failed(f"score gave {type(result).__name__}; it must give {{score: value, (value, std) or Estimate}}")
    return result


def _result_of(metric: Metric, reals: FeatureSample, fakes: FeatureSample, settings: Mapping[str, Any]) -> Any:
    """Raises `Skipped` for a metric that needs more than features and logits."""
    given = {"real": reals, "fake": fakes, "held_out": _clusters(seed=4, labelled=True), "settings": settings}
    if lacking := [name for name in metric_function(metric).needed if name not in given]:
        raise Skipped(f"the metric needs {_quoted(lacking)}, and the checks have features only")
    return result_of(metric, given)


def _value_parts(value: Any) -> tuple[Any, ...]:
    """The numbers of what a metric gives for a score, the value first."""
    if isinstance(value, Estimate):
        return value.value, value.low, value.high, *(() if value.std is None else (value.std,))
    return value if isinstance(value, tuple) else (value,)


def _quoted(names: Iterable[object]) -> str:
    return ", ".join(f"'{printable(name)}'" for name in sorted(map(str, names))) or "nothing"
