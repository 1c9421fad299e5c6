"""A run: its spec, its record, and the events that observers get."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypedDict

from ganzoo.types import Average, MaxLength, Optimizer, Range, Recipe

SCHEMA = 4
"""Version of the record's layout; `ganzoo.records.upgrades` reads the earlier ones."""


# --- numbers of a record ----------------------------------------------------------------------------------------------

LEAST_FIGURE, LARGEST_FIGURE = 1e-30, 1e30
"""Sums, squares and quotients of numbers between them stay finite."""

Number = Annotated[float, Range(-LARGEST_FIGURE, LARGEST_FIGURE)]
"""A number of which tables show means."""

AboveZero = Annotated[float, Range(LEAST_FIGURE, LARGEST_FIGURE)]
"""A rate, a time, or another number that is above 0."""

FromZero = Annotated[float, Range(0, LARGEST_FIGURE)]
"""A time or a share, which may be 0."""

LARGEST_TERM = 1e100
Term = Annotated[float, Range(-LARGEST_TERM, LARGEST_TERM)]
"""A term of a loss: before it becomes infinite it may be large, or close to 0."""

Count = Annotated[int, Range(0)]
Size = Annotated[int, Range(1)]

Side = Annotated[int, Range(1, 2**16)]
"""The channels, height or width of an image."""

MOST_EVALUATIONS = 10_000
"""A plan asks for no more; each gives a sample of the rate of evaluation."""


# --- the spec ---------------------------------------------------------------------------------------------------------


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
    """A recipe with every default filled in, and parts by name; a part given as an object is `plugin:name`.

    `schedules` holds those that are not constant.
    """

    architecture: str
    loss: str
    latent: Size
    """Length of the latent vector."""
    phases: tuple[PhaseFrequency, ...]
    """`name`, `repeats`, `every` of each phase of the loss."""
    penalties: tuple[PenaltyFrequency, ...]
    """`name`, `every` of each penalty, those of the loss included."""
    optimizers: Mapping[str, Optimizer]
    """By player."""
    averages: Mapping[str, Average]
    """By player; half-life 0 means no moving average."""
    augment: tuple[str, ...] = ()
    """The augmentations by name."""


@dataclass(frozen=True)
class ExtractorWeights:
    """A feature extractor, and the sha256 of the weights file that it loads."""

    name: str
    weights_sha256: str


@dataclass(frozen=True)
class Scoring:
    """By what a run is scored, and when. No part of its training, and so none of its id: protocols tell scores apart.

    All of it is empty or 0 with `--throughput-only`.
    """

    metrics: tuple[str, ...] = ()
    """By name."""
    features: tuple[ExtractorWeights, ...] = ()
    """The feature extractors; each metric is computed under each."""
    fakes: Count = 0
    """Images per evaluation."""
    reference: str = "train"
    """The real images that fakes are scored against: `train`, `test` or `both`."""
    evaluate_at_kimg: Annotated[tuple[FromZero, ...], MaxLength(MOST_EVALUATIONS + 1)] = ()
    """When the generator is scored while it is trained; the last entry is the budget."""


@dataclass(frozen=True)
class RunSpec:
    """One run, fully resolved: one variant x dataset x seed x hardware. JSON-safe.

    Every default is filled in. A part that a variant gives as an object is named `plugin:name`. All but `scoring`
    belongs to the run's id.
    """

    variant: str
    """The name it was selected by; `dcgan+hinge` for a pair."""
    dataset: str
    """With its argument: `folder:PATH`."""
    image_shape: tuple[Side, Side, Side]
    """[C, H, W]."""
    classes: Count
    """Number of labels; 0: none."""
    dataset_images: Count
    """The number of real images."""
    dataset_sha256: str
    """The sha256 of shape, pixels and labels."""
    kimg: FromZero
    """The budget, thousands of real images; 0 with `--throughput-only`."""
    seed: Count
    recipe: ResolvedRecipe
    """The options of training."""
    throughput_seconds: FromZero
    """Measured time for each kind of rate."""
    device: str
    """Such as `cpu` or `cuda:0`."""
    precision: str
    """`fp32`, `tf32` or `bf16`."""
    threads: Size
    """CPU threads."""
    memory_format: str
    """`contiguous` or `channels_last`."""
    step_mode: str
    """`eager`, `graph` or `compile`."""
    hardware: str
    """The hardware's id."""
    deterministic: bool
    """Whether `--deterministic` was given."""
    requested_batch_size: Size | None
    """With `--batch-size auto`: the batch size that did not fit in memory, if `batch_size` is smaller."""
    continues: str
    """The id of the run that this one continues; empty if none."""
    scoring: Scoring = Scoring()
    """By what the training was scored."""

    def to_json(self) -> dict[str, Any]:
        """A plain dict of JSON types, in the order of the fields; in the recipe the options come last."""
        content = asdict(self)
        content["recipe"] = {name: content["recipe"][name] for name in RECIPE_KEYS}
        return content


RECIPE_KEYS = tuple(
    field.name for field in sorted(fields(ResolvedRecipe), key=lambda field: field.name in Recipe.__dataclass_fields__)
)
"""The keys of `spec.recipe`: the parts, then the options that every recipe has."""


@dataclass(frozen=True)
class KeptGenerator:
    """A generator that a run has kept: its file in the run's folder, the kimg of training behind it, and which share of
    the budget that was when the last step began.
    """

    file: str
    kimg: float
    progress: float = 1.0


@dataclass(frozen=True)
class ScoringJob:
    """A kept generator that is to be scored by `metrics` under the extractor `features`."""

    generator: KeptGenerator
    metrics: tuple[str, ...]
    features: str


@dataclass(frozen=True)
class RunRequest:
    """Everything that a run's process needs to know. JSON-safe.

    `continues` is the checkpoint of another run to start from. The run writes a checkpoint every `checkpoint_seconds`.
    `code` is the answer of `ganzoo.planning.provenance.code_of` when the plan was made; the process loads the plugins
    that it names and no others, and refuses to run if their code is another. Empty: all plugins, and no check.
    `search_path` is where the bench has looked for modules. `max_disturbance` is the share of the CPU that other
    processes may use while speed is measured; None: any. `windows` is how many windows of its speed are timed; None:
    the usual number. `scoring_code` has the plugins of metrics and extractors with the hashes of their sources, which
    are checked like `code`. `yardsticks` says whether to measure what scores are held against, `keep` which generators
    stay beside the record, see `ganzoo.running.options`. With `jobs` nothing is trained or measured: generators that
    the run has kept are scored.
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
    code: Environment = field(default_factory=lambda: Environment())
    search_path: tuple[str, ...] = ()
    max_disturbance: float | None = None
    windows: int | None = None
    scoring_code: Mapping[str, str | None] = field(default_factory=dict)
    keep: str = "final"
    yardsticks: bool = True
    jobs: tuple[ScoringJob, ...] = ()


# --- the record -------------------------------------------------------------------------------------------------------

# The nested parts of a record: their keys, and the types that readers of a record may rely on. A failed run lacks the
# keys of stages that it did not reach; keys that are not named here may hold anything.


class Score(TypedDict):
    """One score of one evaluation. The list of a record may grow: a run can be scored again later."""

    metric: str
    """Name of the score, such as `fid` or `precision`; a metric may give several."""
    value: Number | None
    std: NotRequired[FromZero | None]
    """Over splits or subsets, where the metric has any."""
    sample_low: NotRequired[Number]
    """Lower end of the 95 % interval from the sample; absent where the metric gives none, and from older records."""
    sample_high: NotRequired[Number]
    """Its upper end."""
    protocol: str
    """Id of its protocol."""
    kimg: AboveZero
    """Real images shown until then, in thousands."""
    ema: bool
    """Averaged or raw generator."""
    train_seconds: NotRequired[FromZero]
    """Training time until then; absent from older records."""
    code: Mapping[str, str | None] | None
    """The plugins of the metric and of the extractor, each with the hash of its source (null where that is unknown);
    null in records of schema 1 and 2."""
    date: str | None
    """When it was computed: UTC, ISO 8601, to the second; null in records of schema 1 and 2."""
    reason: NotRequired[str]
    """Only where `value` is null: why."""


YardstickKind = Literal["real", "pixel gaussian", "untrained", "trained"]


class Yardstick(TypedDict):
    """A score of images that a run's own are held against, or of as few of its own as there are of those."""

    of: YardstickKind
    """Real images that are not in the reference; draws from the Gaussian of the real pixels; the generator at 0 kimg,
    seed 0; or the generator at the end."""
    metric: str
    """Name of the score."""
    value: Number | None
    images: Size
    """How many images were scored."""
    protocol: str
    """Id of the protocol of the run's final score, beside which it stands; but for the number of images it is by the
    same."""


class ScoreFacts(TypedDict, total=False):
    """How a score is shown, and what values it can have; nothing that makes two scores comparable."""

    title: str
    title_by_other: str
    better: Literal["lower", "higher"]
    bounds: tuple[Number | None, Number | None]
    log: bool


class FileFacts(TypedDict):
    """A file that a run has left beside its record."""

    sha256: str
    kimg: NotRequired[FromZero]
    """The training behind a generator; absent from older records."""
    progress: NotRequired[FromZero]
    """The share of the budget when the last step behind a generator began: networks that grow follow it."""


class Protocol(TypedDict, total=False):
    """What makes two scores comparable, and in `scores` how each is shown."""

    metric: str
    extractor: str
    weights_sha256: str
    preprocessing: str
    dataset: str
    dataset_sha256: str
    image_shape: Sequence[Count]
    real_split: str
    n_real: Count
    n_fake: Count
    quantization: str
    generator_mode: str
    drawing: Mapping[str, Any]
    ema: bool | None
    settings: Mapping[str, Any]
    code: Mapping[str, str | None] | None
    scores: Mapping[str, ScoreFacts]
    extractor_for: str
    """The kind of images that the extractor was trained on; absent where it says none."""
    dataset_images: str
    """The kind of the dataset's images; absent where that is unknown."""
    weights_licence: str
    """Of the extractor's weights; absent where it is unknown."""


class Summary(TypedDict):
    """The samples of a measurement, and their median with its 95 % interval from `low` to `high`."""

    median: AboveZero
    low: AboveZero
    high: AboveZero
    interval: NotRequired[str]
    min: NotRequired[AboveZero]
    max: NotRequired[AboveZero]
    samples: Annotated[Sequence[AboveZero], MaxLength(MOST_EVALUATIONS)]
    outliers: NotRequired[Sequence[Count]]


class Throughput(TypedDict, total=False):
    """Speed and memory."""

    import_seconds: Number
    """From the start of the run's process until Python and torch were there; in the earliest records, from Linux, up to
    a second off."""
    assemble_seconds: FromZero
    """Building the networks, and placing networks and images on the device."""
    first_step_seconds: FromZero
    """The very first step, with all that libraries put off until then."""
    capture_seconds: FromZero | None
    """Recording CUDA graphs; null in other step modes."""
    warmup_seconds: FromZero
    """Everything before the windows, the first step included."""
    warmup_steps: Count
    """The steps of that time."""
    warmup_steady: bool
    """Whether the rate had become steady by then, or time was up."""
    train_images_per_second: Summary
    """Real images per second of the training step, as kimg counts them."""
    step_seconds: Summary
    """Seconds per step."""
    sample_images_per_second: Summary
    """Generated images per second, eval mode, the run's precision, left on the device."""
    sample_latency_seconds: Summary
    """One image at a time, waited for."""
    evaluation_images_per_second: Summary
    """From latents to scores, one sample for each evaluation; absent where nothing was scored."""
    window_seconds: Sequence[AboveZero]
    """Length of each window."""
    short_windows: bool
    """A window lasted less than about a second: trust the figures less."""
    data_wait_share: FromZero
    """Share of the time in which the step waited for streamed images; 0 where they lie on the device."""
    peak_memory_bytes: Size | None
    """Of training and sampling, scoring excluded: allocated on CUDA and XPU, the largest resident set of the process on
    the CPU (with Python, torch and the images in it); null on other devices."""
    peak_memory_reserved_bytes: Count | None
    """What torch's allocator held then; null on the CPU."""
    flops_per_image: FromZero | None
    """FLOPs executed for each real image shown, two for a multiply-add, counted before the run by torch's formulas;
    null where an operator could not be traced."""
    uncounted_operators: Sequence[str]
    """Operators without a formula, taken for free (normalizations, activations, sums)."""
    peak_flops: AboveZero | None
    """FLOPs per second that a large matrix product reached in this run, at the same precision."""
    datasheet_flops: AboveZero | None
    """The maker's figure for the device and the precision, where known."""
    mfu: FromZero | None
    """`flops_per_image` times the median rate, over `peak_flops`."""
    energy_joules_per_kimg: FromZero | None
    """Over all windows, by the device's own counter."""
    energy_source: str | None
    """Which counter; null where there is none."""
    energy_reason: str | None
    """Why there is no figure of energy; null where there is one."""
    disturbance: FromZero
    """Share of the CPU that other processes used during the windows of training; on an accelerator 1 where another
    process used it, else 0. Absent in older records."""
    device_states: Sequence[Mapping[str, Any]]
    """At each edge of a window, on NVIDIA GPUs: `sm_clock_mhz`, `temperature_celsius`, `throttled_by`, and
    `limited_seconds`: how long power and temperature have held the clocks down so far."""
    flags: Sequence[str]
    """What makes the figures doubtful: other processes at work, throttling, waiting for data; and that the run was
    resumed, so that another process than the last has measured them."""
    in_turn_with: Sequence[str]
    """With `--interleave`: the ids of the runs that took turns with this one, window by window. Summaries have the
    windows of all rounds in their order; other numbers are medians over the rounds, and what tells of trouble is that
    of the worst. Absent otherwise."""
    in_turn_session: str
    """What the records of these runs share; another measurement in turn has another."""


class Point(TypedDict):
    """The value of a score, and the kimg at which it was computed."""

    value: Number | None
    kimg: AboveZero


class Training(TypedDict, total=False):
    """Curves, updates, time, best and final scores."""

    kimg: FromZero
    train_seconds: FromZero
    setup_seconds: FromZero
    curves: Mapping[str, Sequence[Term | None]]
    updates: Mapping[str, Count]
    steps_per_point: Size
    evaluated_kimg: FromZero
    resumed_at_kimg: Sequence[FromZero]
    best: Mapping[str, Point]
    final: Mapping[str, Point]
    teachers: Sequence[str]
    """Pretrained networks that the players were trained against: sha256 of weights, or names of extractors; absent
    where there are none."""


class DatasetFacts(TypedDict, total=False):
    """The real images."""

    name: str
    source: str
    """Where the images came from."""
    split: str
    count: Count
    sha256: str
    """As in the spec."""
    held_out_split: str | None
    """Which part of the data is held out of training; null where none is. Absent from older records, as are the two
    that follow."""
    held_out_count: Count
    held_out_sha256: str | None
    skipped: Sequence[str]
    """Files left out as unreadable."""
    images_with_alpha: Count
    """Images with transparency, put on `background`; absent from older records, which show what lies under transparent
    pixels."""
    background: str | None
    """Their background, `#rrggbb`; null where no image had transparency."""
    notes: Sequence[str]
    """What a user may not expect of the images."""
    resident: bool
    """Whether the images lay on the device, or were streamed."""


class HardwareFacts(TypedDict, total=False):
    """The machine."""

    id: str
    """Slug of model, count and threads; no software versions in it."""
    accelerator: str | None
    """Its name; null for a run on the CPU."""
    cpu: str
    """The processor's name."""
    cores: Count
    """Logical cores of the machine."""
    threads: Count
    """CPU threads of the run."""
    memory_bytes: Count | None
    """The accelerator's, else the machine's."""
    machine_memory_bytes: Count
    """The machine's."""
    driver: str | None
    """Version of the NVIDIA driver."""
    cuda: str | None
    """CUDA version of torch."""
    cudnn: Count | None
    """Version of cuDNN."""
    power_limit_watts: FromZero | None
    """NVIDIA power limit."""
    cpu_capability: str
    """The vector instructions that torch uses, such as `AVX512`."""


class PluginFacts(TypedDict, total=False):
    """A plugin that a run used."""

    version: str | None
    source_sha256: str | None


class Environment(TypedDict, total=False):
    """The machine's name, and the software."""

    host: str
    """The machine's name in its network; absent from records of schema 1 and 2."""
    python: str
    """Version of Python."""
    torch: str
    """Version of torch."""
    ganzoo: str
    """Version of ganzoo."""
    packages: Mapping[str, str | None]
    """Versions of torchvision, torch-fidelity, numpy and pluggy; null if absent."""
    distributions: Mapping[str, str | None]
    """Versions of the distributions that the plugins of variant, networks, loss, penalties and augmentations import
    (timm, numpy, …), ganzoo and torch aside; absent from older records."""
    platform: str
    """Operating system."""
    plugins: Mapping[str, PluginFacts]
    """Each plugin that the run drew on: `version` (null for a file), `source_sha256`."""
    plugin_allow_list: str | None
    """`GANZOO_PLUGINS`; null if unset."""
    git: str | None
    """Commit of the checkout that ganzoo ran from, with `-dirty` if it was changed; null for an installed copy."""
    flags: Mapping[str, bool | int | float | str | None]
    """`linear_backend` (`onednn` or `blas`: what multiplies matrices in linear layers, by a rule from device, precision
    and step mode), `float32_matmul_precision` (string; null where torch cannot tell), `deterministic`,
    `cudnn_benchmark` (booleans), `interop_threads` (integer), `niceness` (integer or null), `omp_wait_policy`,
    `gomp_spincount`, `malloc_mmap_threshold_`, `malloc_trim_threshold_`, `cuda_launch_blocking`, `pytorch_alloc_conf`,
    `pytorch_cuda_alloc_conf`, `nvidia_tf32_override` (string or null: environment variables)."""


Status = Literal["ok", "diverged", "oom", "crashed", "timeout", "disturbed", "interrupted"]


@dataclass(frozen=True)
class RunRecord:
    """The record of a run, failed or not. The layout of its JSON is documented in docs/record.md.

    What could not be measured is None; a failed run lacks the parts of stages that it did not reach.
    """

    schema: int
    """Version of this layout."""
    run_id: str
    """64 hexadecimal digits."""
    status: Status
    """How the run ended."""
    spec: Mapping[str, Any]
    """The JSON of the `RunSpec`."""
    error: Mapping[str, str] | None = None
    """`type`, `message`, `tail` (strings): the exception or signal, one line, and the last lines of stderr and of the
    traceback, at most 2000 characters of each and 65 536 in all; null if ok."""
    scores: Sequence[Score] = ()
    """One object per score and evaluation; scoring a run again appends to the list."""
    yardsticks: Annotated[Sequence[Yardstick], MaxLength(10_000)] = field(default_factory=list)
    """What the final scores are held against. Empty in older records, with `--no-bounds`, and without scores."""
    protocols: Mapping[str, Protocol] = field(default_factory=dict)
    """Protocol id to its content."""
    throughput: Throughput = field(default_factory=Throughput)
    """Speed and memory."""
    training: Training = field(default_factory=Training)
    """Curves, updates, time, best and final scores."""
    parameters: Mapping[str, Count] = field(default_factory=dict)
    """Parameter counts."""
    dataset: DatasetFacts = field(default_factory=DatasetFacts)
    """The real images."""
    hardware: HardwareFacts = field(default_factory=HardwareFacts)
    """The machine."""
    environment: Environment = field(default_factory=Environment)
    """The software."""
    files: Mapping[str, FileFacts] = field(default_factory=dict)
    """`samples.png` and the generators that were kept, by name: `sha256`, and of a generator the `kimg` of training
    behind it. Empty in older records and if training did not finish; lacks a file that could not be written, as on a
    full disk."""
    command: str = ""
    """The command that reproduces this run, quoted for a POSIX shell."""
    path: Path | None = None
    """The file it was read from or written to; not part of the JSON."""

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
    """A run is about to start; `index` counts from 1 to `total`, and `folder` will hold its record."""

    run_id: str
    spec: Mapping[str, Any]
    index: int
    total: int
    folder: str = ""


@dataclass(frozen=True)
class StageChanged:
    """The run entered `stage`: loading, measuring, reference (features of the real images), training or scoring."""

    run_id: str
    stage: str


@dataclass(frozen=True)
class TrainingProgress:
    """The training so far: `terms` and `images_per_second` are means since the last such event, `seconds_left` is an
    estimate.
    """

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
    """A run ended and its record is written; `skipped`: the record existed already."""

    run_id: str
    record: RunRecord
    skipped: bool
    index: int
    total: int


Event = RunStarted | StageChanged | TrainingProgress | Scored | RunFinished


class BenchInterrupted(KeyboardInterrupt):
    """The user stopped a bench; `records` has those written so far, in the order of the plan."""

    def __init__(self, records: Sequence[RunRecord]) -> None:
        super().__init__()
        self.records = list(records)
