"""What `ganzoo bench` was asked, as plain data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from ganzoo.errors import UsageError
from ganzoo.util.text import printable

MOST = 10_000
"""Seeds of a plan, or evaluations of a run, beyond which the request is a slip of the finger."""


LARGEST_SEED = 2**63 - 1
"""Beyond it not every reader of JSON has whole numbers."""


@dataclass(frozen=True)
class BenchPlan:
    """What `ganzoo bench` was asked; None means the default. JSON-safe.

    `batch_size="auto"` is each variant's own, halved while it does not fit. `resume` names a run to train on.
    """

    models: tuple[str, ...] = ()
    dataset: str = "digits"
    image_size: int | None = None
    kimg: float | str | None = None
    seeds: int = 1
    seed: int = 0
    device: str = "auto"
    precision: str = "fp32"
    threads: int | None = None
    batch_size: int | Literal["auto"] | None = None
    metrics: tuple[str, ...] = ("fid", "is")
    features: str = "auto"
    weights: str | None = None
    weights_sha256: str | None = None
    fakes: int | None = None
    eval_every: float | None = None
    loss: str | None = None
    set: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()
    strict: bool = False
    data_root: str | None = None
    skip_bad_images: bool = False
    throughput_only: bool = False
    throughput_seconds: float = 5.0
    step_mode: str | None = None
    sweep_batch: str | None = None
    deterministic: bool = False
    resume: str | None = None


def check_numbers(plan: BenchPlan) -> None:
    """Raise `UsageError` for a number of a plan, or a list, that cannot be."""

    def positive(value: float | None, option: str) -> None:
        if value is not None and not (math.isfinite(value) and value > 0):
            raise UsageError(f"{option} {value}: give a number above 0")

    if isinstance(plan.kimg, str) and plan.kimg != "full":
        raise UsageError(f"--kimg {printable(plan.kimg)}: give thousands of images, or 'full' for each source's budget")
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
    if plan.fakes is not None and plan.fakes < 10:
        raise UsageError(f"--fakes {plan.fakes}: give at least 10, one for each split of the inception score")
    if not plan.metrics and not plan.throughput_only:
        raise UsageError("--metrics: name at least one, such as fid,is (or pass --throughput-only)")
