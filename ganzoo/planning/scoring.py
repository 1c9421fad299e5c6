"""What scores a plan asks for: metrics and extractors looked up, weights checked."""

from __future__ import annotations

from pathlib import Path

from ganzoo.data.finding import check_labels
from ganzoo.data.prepared import PreparedDataset
from ganzoo.evaluation.extractors import find_weights
from ganzoo.evaluation.scorer import check_held_out
from ganzoo.planning.request import BenchPlan
from ganzoo.records.protocols import foreign_images
from ganzoo.registry.registry import Registry
from ganzoo.runs import ExtractorWeights, Scoring
from ganzoo.types import Dataset


def resolve_scoring(plan: BenchPlan, registry: Registry, dataset: Dataset) -> Scoring:
    """The scoring of a plan for images of `dataset`, without the kimg of evaluations; empty where only speed is
    measured.

    Raises `UnknownName` for what no plugin offers, and what `find_weights` does.
    """
    if plan.throughput_only:
        return Scoring()
    metrics = tuple(
        dict.fromkeys(registry.reference("metrics", registry.get("metrics", name)) for name in plan.metrics)
    )
    features: dict[str, ExtractorWeights] = {}
    for name in plan.features:
        extractor = registry.get("features", dataset.features if name == "auto" else name)
        _, sha256 = find_weights(extractor.record, Path(plan.weights) if plan.weights else None, plan.weights_sha256)
        reference = registry.reference("features", extractor)
        features[reference] = ExtractorWeights(reference, sha256)
    return Scoring(metrics, tuple(features.values()), plan.fakes or dataset.fakes, plan.reference)


def check_images_for(scoring: Scoring, registry: Registry, dataset: PreparedDataset) -> None:
    """Raise `UsageError` where a metric needs labels that the images lack, or none are held out to compare with."""
    dataset.reference(scoring.reference)
    metrics = [registry.get("metrics", name).record for name in scoring.metrics]
    check_labels(metrics, dataset)
    check_held_out(metrics, dataset)


def foreign_images_of(scoring: Scoring, registry: Registry, dataset: Dataset) -> list[str]:
    """A note for each extractor that was made for other images than the dataset has, where it has its own weights."""
    extractors = {
        registry.get("features", extractor.name).record: extractor.weights_sha256 for extractor in scoring.features
    }
    notes = (
        foreign_images(
            {
                "extractor": extractor.name,
                "dataset": dataset.name,
                "extractor_for": extractor.images,
                "dataset_images": dataset.images,
            }
        )
        for extractor, sha256 in extractors.items()
        if sha256 == extractor.sha256
    )
    return list(filter(None, notes))
