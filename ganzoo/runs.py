"""A run: what is asked of it, what it leaves, and the events that an observer sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    pass


SCHEMA = 2
"""Version of the record's layout; `ganzoo.records.upgrades` reads the earlier ones."""


@dataclass(frozen=True)
class RunSpec:
    """One run, fully resolved: one variant x dataset x seed x hardware. JSON-safe.

    Names of objects that were given in place of a name read `plugin:name`. `phases` and `penalties` carry the
    frequencies in force, `options` and `hyper` every value in force. `evaluate_at_kimg` lists when the generator is
    scored; its last entry is the end of the budget. `requested_batch_size` is what did not fit into memory where a
    smaller batch was taken for it. `continues` is the id of the run whose training this one goes on with.
    """

    variant: str
    architecture: str
    loss: str
    dataset: str
    image_shape: tuple[int, int, int]
    classes: int
    dataset_images: int
    dataset_sha256: str
    kimg: float
    batch_size: int
    seed: int
    latent: int
    options: Mapping[str, Any]
    hyper: Mapping[str, float]
    phases: tuple[Mapping[str, Any], ...]
    penalties: tuple[Mapping[str, Any], ...]
    optimizer: Mapping[str, Any]
    discriminator_optimizer: Mapping[str, Any]
    rate_decay: Mapping[str, Any]
    schedules: Mapping[str, Mapping[str, Any]]
    generator_first: bool
    label_smoothing: float
    feature_matching: float
    l1: float
    l2: float
    ema_half_life_kimg: float
    ema_rampup: float
    flips: bool
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
    linear_backend: str
    deterministic: bool
    requested_batch_size: int | None
    continues: str

    def to_json(self) -> dict[str, Any]:
        """A plain dict of JSON types, in the order of the fields."""
        return asdict(self)


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


@dataclass(frozen=True)
class RunRecord:
    """What a run leaves, failures included. The layout of its JSON is documented in docs/record.md.

    Everything that could not be measured is None; a run that failed lacks what it did not reach. `command` does the run
    again. `path` is where it was read from and is not part of the JSON.
    """

    schema: int
    run_id: str
    status: Literal["ok", "diverged", "oom", "crashed", "timeout", "interrupted"]
    spec: Mapping[str, Any]
    error: Mapping[str, str] | None = None
    scores: Sequence[Mapping[str, Any]] = ()
    protocols: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    throughput: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, int] = field(default_factory=dict)
    dataset: Mapping[str, Any] = field(default_factory=dict)
    hardware: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
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
