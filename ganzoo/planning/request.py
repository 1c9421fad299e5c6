"""The request of a user to `ganzoo bench`, as plain data."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import ClassVar, Literal

from ganzoo.errors import UsageError
from ganzoo.planning.budgets import auto_limit, check_budget
from ganzoo.util.options import option
from ganzoo.util.text import printable, split_at_commas

MOST = 10_000
"""More seeds of a plan, or evaluations of a run, than this must be a typing error."""

LARGEST_SEED = 2**63 - 1
"""The largest integer that readers of JSON such as orjson keep exact."""


def _read_kimg(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        check_budget(text)
        return text


def _read_batch_size(text: str) -> int | str:
    if text == "auto":
        return text
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"--batch-size {printable(text)}: give a number of images, or auto") from None


@dataclass(frozen=True)
class BenchPlan:
    """The request of a user to `ganzoo bench`; None means the default. JSON-safe.

    Each field declares its command-line option; to add an option, add a field. `batch_size="auto"` is each
    variant's default, halved until it fits into memory. `resume` names a run to continue.
    """

    models: tuple[str, ...] = option(
        "--models",
        default=(),
        metavar="LIST",
        help="names, globs (wgan*), all, !exclude, architecture+loss (dcgan+hinge)",
        fixed_on_resume=True,
    )
    dataset: str = option(
        "--dataset",
        default="digits",
        metavar="NAME",
        help="default: {default} (see `ganzoo list datasets`)",
        group="data",
        fixed_on_resume=True,
    )
    image_size: int | None = option(
        "--image-size",
        default=None,
        metavar="N",
        help="pixels (default: the dataset's)",
        group="data",
        fixed_on_resume=True,
    )
    kimg: float | str | None = option(
        "--kimg",
        default=None,
        metavar="N",
        help="budget in thousands of real images (default: the dataset's), full, or auto:LIMIT",
        read=_read_kimg,
    )
    seeds: int = option(
        "--seeds", default=1, metavar="N", help="how many seeds (default: {default})", fixed_on_resume=True
    )
    seed: int = option(
        "--seed", default=0, metavar="S", help="the first seed (default: {default})", fixed_on_resume=True
    )
    device: str = option(
        "--device", default="auto", help="auto, cpu, cuda:0, mps, xpu (default: {default})", group="machine"
    )
    precision: str = option(
        "--precision", default="fp32", help="fp32, tf32, bf16 (default: {default})", fixed_on_resume=True
    )
    threads: int | None = option(
        "--threads",
        default=None,
        metavar="N",
        help="CPU threads (default: $OMP_NUM_THREADS, else all)",
        group="machine",
    )
    batch_size: int | Literal["auto"] | None = option(
        "--batch-size",
        default=None,
        metavar="N",
        help="of all variants (default: each variant's); auto: each variant's, halved until it fits into memory",
        read=_read_batch_size,
        fixed_on_resume=True,
    )
    metrics: tuple[str, ...] = option(
        "--metrics",
        default=("fid", "is"),
        metavar="LIST",
        help="default: {default} (see `ganzoo list metrics`)",
        read=split_at_commas,
        group="scoring",
        fixed_on_resume=True,
    )
    features: tuple[str, ...] = option(
        "--features",
        default=("auto",),
        metavar="LIST",
        help="feature extractors (default: the dataset's)",
        read=split_at_commas,
        group="scoring",
        fixed_on_resume=True,
    )
    weights: str | None = option(
        "--weights",
        default=None,
        metavar="FILE",
        help="weights of the extractor, instead of the cached file",
        group="scoring",
    )
    weights_sha256: str | None = option(
        "--weights-sha256", default=None, metavar="HASH", help="accept --weights with this hash", group="scoring"
    )
    loss: str | None = option(
        "--loss",
        default=None,
        metavar="NAME",
        help="the loss of all variants, instead of each variant's",
        fixed_on_resume=True,
    )
    set: tuple[str, ...] = option(
        "--set",
        default=(),
        metavar="VARIANT.FIELD=VALUE",
        help="change a recipe (repeatable)",
        fixed_on_resume=True,
    )
    reference: str = option(
        "--reference",
        default="train",
        help="real images that fakes are scored against: train, test or both (default: {default})",
        group="scoring",
        fixed_on_resume=True,
    )
    fakes: int | None = option(
        "--fakes",
        default=None,
        metavar="N",
        help="generated images that are scored (default: the dataset's)",
        group="scoring",
        fixed_on_resume=True,
    )
    eval_every: float | None = option(
        "--eval-every", default=None, metavar="KIMG", help="score every KIMG (default: each quarter of the budget)"
    )
    plugins: tuple[str, ...] = option(
        "--plugin", default=(), metavar="PATH", help="also load this .py file or module (repeatable)", group="plugins"
    )
    strict: bool = option("--strict", default=False, help="treat a broken plugin as an error", group="plugins")
    data_root: str | None = option(
        "--data-root",
        default=None,
        metavar="DIR",
        help="where datasets lie (default: $GANZOO_DATA, else ./data)",
        group="data",
    )
    skip_bad_images: bool = option(
        "--skip-bad-images", default=False, help="leave out unreadable images and count them", group="data"
    )
    background: str = option(
        "--background",
        default="white",
        metavar="COLOUR",
        help="what lies under transparent images: white, '#808080' (default: {default})",
        group="data",
    )
    hold_out: float | None = option(
        "--hold-out",
        default=None,
        metavar="SHARE",
        help="of a dataset without a test split, not to be trained on (default: 0.1, at least 500; 0.25 below 2000)",
        group="data",
    )
    throughput_only: bool = option(
        "--throughput-only", default=False, help="measure speed; train and score nothing", fixed_on_resume=True
    )
    throughput_seconds: float = option(
        "--throughput-seconds", default=5.0, metavar="S", help="seconds to measure (default: {default})"
    )
    sweep_batch: str | None = option(
        "--sweep-batch",
        default=None,
        metavar="LIST",
        help="measure speed and memory at 16,32,64 or, with auto, at doubling batches until one does not fit",
        fixed_on_resume=True,
    )
    step_mode: str | None = option(
        "--step-mode",
        default=None,
        metavar="MODE",
        help="eager, graph (CUDA graphs), compile (default: graph on CUDA, else eager)",
    )
    deterministic: bool = option(
        "--deterministic", default=False, help="use algorithms that repeat bit for bit, also on a GPU; slower there"
    )
    resume: str | None = option(
        "--resume", default=None, metavar="RUN", help="continue a finished run up to the new --kimg in total"
    )
    set_by_suite: ClassVar[tuple[str, ...]] = ()


@dataclass(frozen=True)
class SuitePlan(BenchPlan):
    """A bench of a suite under options of the command line: its `set` wins over what the suite sets."""

    set_by_suite: tuple[str, ...] = ()  # type: ignore[misc]

    def without_suite(self) -> BenchPlan:
        """The same as a plan that the command line alone could have given, but for what the suite sets."""
        return BenchPlan(**{field.name: getattr(self, field.name) for field in fields(BenchPlan)})


def check_numbers(plan: BenchPlan) -> None:
    """Raise `UsageError` for a number of a plan that is out of range, and for an empty list."""

    def positive(value: float | None, option: str) -> None:
        if value is not None and not (math.isfinite(value) and value > 0):
            raise UsageError(f"{option} {value}: give a number above 0")

    check_budget(plan.kimg)
    if auto_limit(plan.kimg) is not None and plan.throughput_only:
        raise UsageError(f"--kimg {plan.kimg}: a budget is chosen by scores, and a measurement of speed has none")
    if not isinstance(plan.kimg, str):
        positive(plan.kimg, "--kimg")
    positive(plan.eval_every, "--eval-every")
    positive(plan.seeds, "--seeds")
    if plan.seeds > MOST:
        raise UsageError(f"--seeds {plan.seeds}: give at most {MOST}")
    positive(plan.throughput_seconds, "--throughput-seconds")
    last = LARGEST_SEED - plan.seeds + 1
    if not 0 <= plan.seed <= last:
        raise UsageError(f"--seed {plan.seed}: give a whole number from 0 to {last}")
    check_scoring(plan)


def check_scoring(plan: BenchPlan) -> None:
    """Raise `UsageError` for what cannot be scored, whatever the plugins are."""
    if plan.fakes is not None and plan.fakes < 10:
        raise UsageError(f"--fakes {plan.fakes}: give at least 10, one for each split of the inception score")
    if not plan.metrics and not plan.throughput_only:
        raise UsageError("--metrics: name at least one, such as fid,is (or pass --throughput-only)")
    if not plan.features:
        raise UsageError("--features: name at least one, or leave it out for the dataset's")
    if plan.weights is not None and len(plan.features) > 1:
        raise UsageError("--weights: belongs to one extractor; give one with --features")
