"""The command that does one run of a plan again, with everything in it that decided the run."""

from __future__ import annotations

import shlex
from dataclasses import MISSING, fields
from typing import Any

from ganzoo.errors import UsageError
from ganzoo.planning.overrides import parse_overrides
from ganzoo.planning.plan import BenchPlan
from ganzoo.types import RunSpec

SAID_ANYWAY = ("models", "seeds", "seed", "device", "threads", "batch_size", "sweep_batch")
"""What the command says by the run's own values, or what one run has no use for."""


def reproducing_command(plan: BenchPlan, spec: RunSpec) -> str:
    """`ganzoo bench …` for the one run of `plan` that `spec` is, quoted for a POSIX shell."""
    words = ["ganzoo", "bench"]
    if plan.resume is None:
        words += ["--models", spec.variant, "--seed", str(spec.seed), "--batch-size", str(spec.batch_size)]
    words += ["--device", spec.device, "--threads", str(spec.threads)]
    for field in fields(plan):
        value = getattr(plan, field.name)
        default = None if field.default is MISSING else field.default
        if field.name not in SAID_ANYWAY and value != default:
            words += _option(field.name, value, spec)
    return shlex.join(words)


def _option(name: str, value: Any, spec: RunSpec) -> list[str]:
    option = "--" + {"plugins": "plugin"}.get(name, name).replace("_", "-")
    if value is True:
        return [option]
    if name == "metrics":
        return [option, ",".join(value)]
    if isinstance(value, tuple):
        used = (item for item in value if name != "set" or _concerns(item, spec))
        return [word for item in used for word in (option, item)]
    # Every digit of a number counts: another one makes another run.
    return [option, repr(float(value)).removesuffix(".0") if isinstance(value, float) else str(value)]


def _concerns(override: str, spec: RunSpec) -> bool:
    try:
        return bool(parse_overrides([override], [spec.variant]))
    except UsageError:
        return False
