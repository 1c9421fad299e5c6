"""The nested parts of a record: their keys, and the types that whoever reads a record may rely on.

A run that failed lacks keys that it did not reach; keys that are not named here may hold anything.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NotRequired, TypedDict


class Score(TypedDict):
    """One score of one evaluation."""

    metric: str
    value: float | None
    std: NotRequired[float | None]
    protocol: str
    kimg: float
    ema: bool
    train_seconds: NotRequired[float]


class ScoreFacts(TypedDict, total=False):
    """How a score is shown, and what values it can have; nothing that makes two scores comparable."""

    title: str
    better: Literal["lower", "higher"]
    bounds: tuple[float | None, float | None]
    log: bool


class Protocol(TypedDict, total=False):
    """What makes two scores comparable, and in `scores` how each is shown."""

    metric: str
    extractor: str
    weights_sha256: str
    dataset: str
    dataset_sha256: str
    image_shape: Sequence[int]
    n_real: int
    n_fake: int
    ema: bool | None
    settings: Mapping[str, Any]
    scores: Mapping[str, ScoreFacts]


class Summary(TypedDict):
    """What the samples of a measurement tell."""

    median: float
    low: float
    high: float
    min: NotRequired[float]
    max: NotRequired[float]
    samples: Sequence[float]


class Throughput(TypedDict, total=False):
    """Speed and memory."""

    train_images_per_second: Summary
    step_seconds: Summary
    sample_images_per_second: Summary
    sample_latency_seconds: Summary
    evaluation_images_per_second: Summary
    window_seconds: Sequence[float]
    peak_memory_bytes: int | None
    peak_memory_reserved_bytes: int | None
    flops_per_image: float | None
    peak_flops: float | None
    datasheet_flops: float | None
    mfu: float | None
    energy_joules_per_kimg: float | None
    flags: Sequence[str]


class Point(TypedDict):
    """The value of a score, and when."""

    value: float | None
    kimg: float


class Training(TypedDict, total=False):
    """Curves, updates, time, best and final scores."""

    kimg: float
    train_seconds: float
    curves: Mapping[str, Sequence[float | None]]
    updates: Mapping[str, int]
    steps_per_point: int
    evaluated_kimg: float
    resumed_at_kimg: Sequence[float]
    best: Mapping[str, Point]
    final: Mapping[str, Point]


class DatasetFacts(TypedDict, total=False):
    """What the images were."""

    name: str
    count: int
    sha256: str


class HardwareFacts(TypedDict, total=False):
    """The machine."""

    id: str
    accelerator: str | None
    cpu: str


class PluginFacts(TypedDict, total=False):
    """A plugin that a run drew on."""

    version: str | None
    source_sha256: str | None


class Environment(TypedDict, total=False):
    """The software."""

    torch: str
    ganzoo: str
    packages: Mapping[str, str | None]
    plugins: Mapping[str, PluginFacts]


class PhaseFacts(TypedDict):
    """How often a phase, or a penalty, runs."""

    name: str
    every: int


RECORD_PARTS: Mapping[str, Any] = {
    "scores": Sequence[Score],
    "protocols": Mapping[str, Protocol],
    "throughput": Throughput,
    "training": Training,
    "parameters": Mapping[str, int],
    "dataset": DatasetFacts,
    "hardware": HardwareFacts,
    "environment": Environment,
    "files": Mapping[str, str],
}
"""The fields of a record that have parts."""

SPEC_PARTS: Mapping[str, Any] = {
    "image_shape": Sequence[int],
    "metrics": Sequence[str],
    "phases": Sequence[PhaseFacts],
    "penalties": Sequence[PhaseFacts],
    "evaluate_at_kimg": Sequence[float],
}
"""The fields of a spec that have parts, as they stand in JSON."""
