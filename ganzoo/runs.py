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

    Every value is the one in force. Names of objects that were given in place of a name read `plugin:name`.
    """

    variant: str
    """As it was selected; a pair reads `dcgan+hinge`."""
    architecture: str
    loss: str
    dataset: str
    """With its argument: `folder:PATH`."""
    image_shape: tuple[int, int, int]
    """[C, H, W]."""
    classes: int
    """Number of labels; 0: none."""
    dataset_images: int
    """How many real images."""
    dataset_sha256: str
    """Of shape, pixels and labels."""
    kimg: float
    """The budget, thousands of real images; 0 with `--throughput-only`."""
    batch_size: int
    seed: int
    latent: int
    """Length of the latent."""
    options: Mapping[str, Any]
    """Every option of the architecture."""
    hyper: Mapping[str, float]
    """Every coefficient; a penalty's as `PENALTY.NAME`."""
    phases: tuple[Mapping[str, Any], ...]
    """`name`, `repeats`, `every` of each phase of the loss."""
    penalties: tuple[Mapping[str, Any], ...]
    """`name`, `every` of each penalty."""
    optimizer: Mapping[str, Any]
    """The generator's: `kind`, `learning_rate`, `betas`, `momentum`."""
    discriminator_optimizer: Mapping[str, Any]
    """The discriminator's, likewise."""
    rate_decay: Mapping[str, Any]
    """A schedule: `kind`, `to`, `start`, `factor`, `per_updates`."""
    schedules: Mapping[str, Mapping[str, Any]]
    """Coefficient to schedule; constant ones are left out."""
    generator_first: bool
    label_smoothing: float
    feature_matching: float
    l1: float
    l2: float
    ema_half_life_kimg: float
    """0: no average."""
    ema_rampup: float
    flips: bool
    metrics: tuple[str, ...]
    """Empty with `--throughput-only`."""
    features: str
    """The extractor; empty with `--throughput-only`."""
    weights_sha256: str
    """sha256 of the extractor's weights file; empty with `--throughput-only`."""
    fakes: int
    """Images per evaluation; 0 with `--throughput-only`."""
    evaluate_at_kimg: tuple[float, ...]
    """When the generator is scored; the last entry is the budget."""
    throughput_seconds: float
    """Measured time for each kind of rate."""
    device: str
    """Such as `cpu` or `cuda:0`."""
    precision: str
    """`fp32`, `tf32` or `bf16`."""
    threads: int
    """CPU threads."""
    memory_format: str
    """`contiguous` or `channels_last`."""
    step_mode: str
    """`eager`, `graph` or `compile`."""
    hardware: str
    """The hardware's id."""
    linear_backend: str
    """`onednn` or `blas`: what multiplies matrices in linear layers."""
    deterministic: bool
    """Whether `--deterministic` was given."""
    requested_batch_size: int | None
    """With `--batch-size auto`: what did not fit, where `batch_size` is smaller for it."""
    continues: str
    """The id of the run that this one goes on with; empty if none."""

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

    Everything that could not be measured is None; a run that failed lacks what it did not reach.
    """

    schema: int
    """Version of this layout."""
    run_id: str
    """64 hexadecimal digits."""
    status: Literal["ok", "diverged", "oom", "crashed", "timeout", "interrupted"]
    """How the run ended."""
    spec: Mapping[str, Any]
    """What was to be done, fully resolved."""
    error: Mapping[str, str] | None = None
    """`type`, `message`, `tail` (strings): the exception or signal, one line, and the last lines of stderr and of the
    traceback, at most 2000 characters of each and 65 536 in all; null if ok."""
    scores: Sequence[Mapping[str, Any]] = ()
    """One object for each score at each evaluation."""
    protocols: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Protocol id to its content."""
    throughput: Mapping[str, Any] = field(default_factory=dict)
    """Speed and memory."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """Curves, updates, time, best and final scores."""
    parameters: Mapping[str, int] = field(default_factory=dict)
    """Parameter counts."""
    dataset: Mapping[str, Any] = field(default_factory=dict)
    """What the images were."""
    hardware: Mapping[str, Any] = field(default_factory=dict)
    """The machine."""
    environment: Mapping[str, Any] = field(default_factory=dict)
    """The software."""
    files: Mapping[str, str] = field(default_factory=dict)
    """The sha256 of `samples.png` and of `generator.safetensors`, by name; empty in older records, and where training
    did not come to its end; one that could not be written, as on a full disk, is not named."""
    command: str = ""
    """Does this run again; quoted for a POSIX shell."""
    path: Path | None = None
    """Where it was read from; not part of the JSON."""

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
