"""A run: what is asked of it, what it leaves, and the events that an observer sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypedDict

from ganzoo.types import Average, Optimizer, Range, Recipe

SCHEMA = 3
"""Version of the record's layout; `ganzoo.records.upgrades` reads the earlier ones."""


# --- what is asked of a run -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PhaseFrequency:
    """A phase of the loss runs in each step whose index is a multiple of `every`, `repeats` times over."""

    name: str
    repeats: Annotated[int, Range(1)]
    every: Annotated[int, Range(1)]


@dataclass(frozen=True)
class PenaltyFrequency:
    """A penalty is added in each step whose index is a multiple of `every`."""

    name: str
    every: Annotated[int, Range(1)]


@dataclass(frozen=True, kw_only=True)
class ResolvedRecipe(Recipe):
    """A recipe with every value in force, and names in place of objects: `plugin:name` for an object without one.

    `schedules` holds those that are not constant.
    """

    architecture: str
    loss: str
    latent: int
    phases: tuple[PhaseFrequency, ...]
    """Of the loss."""
    penalties: tuple[PenaltyFrequency, ...]
    """Those of the loss included."""
    optimizers: Mapping[str, Optimizer]
    """By player."""
    averages: Mapping[str, Average]
    """By player: those that have a moving average, also one of half-life 0, which is none."""


@dataclass(frozen=True)
class RunSpec:
    """One run, fully resolved: one variant x dataset x seed x hardware. JSON-safe.

    `evaluate_at_kimg` lists when the generator is scored; its last entry is the end of the budget.
    `requested_batch_size` is what did not fit into memory where a smaller batch was taken for it. `continues` is the
    id of the run whose training this one goes on with.
    """

    variant: str
    dataset: str
    image_shape: tuple[int, int, int]
    classes: int
    dataset_images: int
    dataset_sha256: str
    kimg: float
    seed: int
    recipe: ResolvedRecipe
    metrics: tuple[str, ...]
    features: str
    weights_sha256: str
    fakes: int
    evaluate_at_kimg: tuple[float, ...]
    throughput_seconds: float
    device: str
    precision: str
    threads: int
    memory_format: str
    step_mode: str
    hardware: str
    deterministic: bool
    requested_batch_size: int | None
    continues: str

    def to_json(self) -> dict[str, Any]:
        """A plain dict of JSON types, in the order of the fields; in the recipe the options come last."""
        content = asdict(self)
        content["recipe"] = {name: content["recipe"][name] for name in RECIPE_KEYS}
        return content


RECIPE_KEYS = tuple(
    field.name for field in sorted(fields(ResolvedRecipe), key=lambda field: field.name in Recipe.__dataclass_fields__)
)
"""The keys of `spec.recipe`: what the recipe is made of, then the options that every recipe has."""


@dataclass(frozen=True)
class RunRequest:
    """What a fresh process needs to do one run. JSON-safe.

    `continues` is the checkpoint of another run to start from. A checkpoint is written when `checkpoint_seconds` have
    passed since the last one. `code` is what the plan was made with (`ganzoo.planning.provenance.code_of`), to which
    the process holds what it loads; where it is empty, to nothing.
    """

    run_id: str
    spec: Mapping[str, Any]
    dataset: Mapping[str, Any]
    folder: str
    plugins: tuple[str, ...]
    weights: str | None
    weights_sha256: str | None
    checkpoint_seconds: float
    continues: str | None = None
    code: Mapping[str, Any] = field(default_factory=dict)


# --- what a run leaves ------------------------------------------------------------------------------------------------

# The nested parts of a record: their keys, and the types that whoever reads a record may rely on. A run that failed
# lacks keys that it did not reach; keys that are not named here may hold anything.


class Score(TypedDict):
    """One score of one evaluation. The list of a record may grow: a run can be scored again later."""

    metric: str
    value: float | None
    std: NotRequired[float | None]
    protocol: str
    kimg: float
    ema: bool
    train_seconds: NotRequired[float]
    code: Mapping[str, str | None] | None
    """The sources' hashes of the plugins that gave the metric and the extractor, by plugin; None before schema 3."""
    date: str | None
    """When it was computed, UTC in ISO 8601; None before schema 3."""


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
    """Samples of a measurement: their median with its 95 % interval from `low` to `high`."""

    median: float
    low: float
    high: float
    interval: NotRequired[str]
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
    cores: int
    threads: int
    memory_bytes: int | None
    machine_memory_bytes: int
    driver: str | None
    cuda: str | None
    cudnn: int | None
    power_limit_watts: float | None
    cpu_capability: str


class PluginFacts(TypedDict, total=False):
    """A plugin that a run drew on."""

    version: str | None
    source_sha256: str | None


class Environment(TypedDict, total=False):
    """The machine's name, and the software."""

    host: str
    torch: str
    ganzoo: str
    packages: Mapping[str, str | None]
    plugins: Mapping[str, PluginFacts]
    flags: Mapping[str, Any]


Status = Literal["ok", "diverged", "oom", "crashed", "timeout", "interrupted"]


@dataclass(frozen=True)
class RunRecord:
    """What a run leaves, failures included. The layout of its JSON is documented in docs/record.md.

    `spec` is the JSON of a `RunSpec`. What could not be measured is None; a run that failed lacks what it did not
    reach. `command` does the run again. `path` is where it was read from and is not part of the JSON.
    """

    schema: int
    run_id: str
    status: Status
    spec: Mapping[str, Any]
    error: Mapping[str, str] | None = None
    scores: Sequence[Score] = ()
    protocols: Mapping[str, Protocol] = field(default_factory=dict)
    throughput: Throughput = field(default_factory=Throughput)
    training: Training = field(default_factory=Training)
    parameters: Mapping[str, int] = field(default_factory=dict)
    dataset: DatasetFacts = field(default_factory=DatasetFacts)
    hardware: HardwareFacts = field(default_factory=HardwareFacts)
    environment: Environment = field(default_factory=Environment)
    files: Mapping[str, str] = field(default_factory=dict)
    command: str = ""
    path: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """A plain dict, without `path`."""
        fields = asdict(self)
        del fields["path"]
        return fields

    @property
    def ok(self) -> bool:
        """Whether the run finished."""
        return self.status == "ok"


# --- events -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RunStarted:
    """A run's process is about to start; `index` counts from 1 to `total`. `folder` is where its record will lie."""

    run_id: str
    spec: Mapping[str, Any]
    index: int
    total: int
    folder: str = ""


@dataclass(frozen=True)
class StageChanged:
    """The run moved on to `stage`: loading, measuring, reference (features of the real images), training, scoring."""

    run_id: str
    stage: str


@dataclass(frozen=True)
class TrainingProgress:
    """`terms` are means since the last such event; `images_per_second` likewise; seconds_left is an estimate."""

    run_id: str
    kimg: float
    total_kimg: float
    images_per_second: float
    seconds_left: float
    terms: Mapping[str, float]


@dataclass(frozen=True)
class Scored:
    """The generator was scored at `kimg`."""

    run_id: str
    kimg: float
    scores: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class RunFinished:
    """The record is written. `skipped` says that it was there already."""

    run_id: str
    record: RunRecord
    skipped: bool
    index: int
    total: int


Event = RunStarted | StageChanged | TrainingProgress | Scored | RunFinished


class BenchInterrupted(KeyboardInterrupt):
    """The user stopped a bench; `records` are those so far, in the order of the plan."""

    def __init__(self, records: Sequence[RunRecord]) -> None:
        super().__init__()
        self.records = list(records)
