"""Conformance checks for those who write plugins: `ganzoo check` from Python, and as tests of pytest::

    from ganzoo.testing import parametrize_checks

    @parametrize_checks("my-gan")
    def test_conformance(check):
        check()

`subjects_of` says what may stand in place of the name.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ganzoo.conformance.metric_checks import METRIC_CHECKS
from ganzoo.conformance.trial import CLASSES, Trial
from ganzoo.conformance.variant_checks import CHECKS, Failed, Skipped
from ganzoo.errors import GanzooError, PluginError, UsageError
from ganzoo.planning.describe import find_by_name
from ganzoo.planning.selection import Selection, select
from ganzoo.registry.discovery import discover
from ganzoo.registry.registry import Kind, Offer, Registry
from ganzoo.training.loop import due_calls
from ganzoo.types import Architecture, Batch, Loss, Metric, Penalty, Variant
from ganzoo.util.seeds import stream
from ganzoo.util.text import error_line, printable

__all__ = ["CheckResult", "Rehearsal", "Subject", "check", "parametrize_checks", "subjects_of"]

PARTNER_ARCHITECTURE, PARTNER_LOSS = "dcgan", "non-saturating"
"""What an architecture, a loss or a penalty is checked with that no variant uses."""


@dataclass(frozen=True)
class CheckResult:
    """What one check said of one subject; `reason` is empty where it passed. JSON-safe by `dataclasses.asdict`."""

    subject: str
    check: str
    status: Literal["passed", "failed", "skipped"]
    reason: str
    seconds: float


@dataclass(frozen=True)
class Subject:
    """What is checked: a variant or a metric, with its checks by name. All others need the first to pass."""

    name: str
    checks: Mapping[str, Callable[[], None]]
    _known: dict[str, CheckResult] = field(default_factory=dict, repr=False, compare=False)

    def result(self, check: str) -> CheckResult:
        """Run one check, and the first before it; what was run is known from then on."""
        if check not in self._known:
            first = next(iter(self.checks))
            if check != first and self.result(first).status == "failed":
                self._known[check] = CheckResult(self.name, check, "skipped", f"'{first}' failed", 0.0)
            else:
                self._known[check] = self._run(check)
        return self._known[check]

    def _run(self, check: str) -> CheckResult:
        started = time.perf_counter()
        status: Literal["passed", "failed", "skipped"] = "passed"
        reason = ""
        try:
            with _undisturbed():
                self.checks[check]()
        except Skipped as skipped:
            status, reason = "skipped", printable(skipped)
        except (Failed, GanzooError) as failed:
            status, reason = "failed", printable(failed)
        except (Exception, SystemExit) as error:
            status, reason = "failed", error_line(error)
        return CheckResult(self.name, check, status, reason, round(time.perf_counter() - started, 3))


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """The caller's random numbers stay as they are, and what a plugin prints goes to stderr."""
    with torch.random.fork_rng(), contextlib.redirect_stdout(sys.stderr):
        yield


def check(target: str | Path, plugins: Sequence[str | Path] = (), device: str = "cpu") -> Iterator[CheckResult]:
    """Run every check of `target`, one after another; see `subjects_of` for what it may be and what is raised."""
    for subject in subjects_of(target, plugins, device):
        for name in subject.checks:
            yield subject.result(name)


def subjects_of(target: str | Path, plugins: Sequence[str | Path] = (), device: str = "cpu") -> list[Subject]:
    """What there is to check in `target`.

    The path of a .py file: every variant that it yields, every architecture, loss and penalty that none of them uses,
    each with a common partner, and every metric. A name: the variant, the metric, or the part with a partner; a glob,
    `all` and `architecture+loss` select variants as `--models` does.

    Raises `UsageError` and its kin for a name that nobody offers, `PluginError` for a file that cannot be loaded, and
    `UsageError` where there is nothing to check.
    """
    named, path = [str(plugin) for plugin in plugins], Path(target)
    if path.suffix == ".py" or path.is_file():
        named.append(str(path))
        registry = discover(named)
        offers = _offers_of_file(registry)
    else:
        registry = discover(named)
        offers = _offers_of_name(registry, str(target))
    subjects = [_subject(registry, kind, offer, device, tuple(named)) for kind, offer in offers]
    if not subjects:
        raise UsageError(
            f"{printable(target)}: nothing to check; variants, architectures, losses and metrics have checks"
        )
    return subjects


def _offers_of_file(registry: Registry) -> list[tuple[Kind, Offer]]:
    """What the plugin that was loaded last offers, without the parts that its own variants bring in."""
    status = registry.statuses[-1]
    if status.state == "broken":
        raise PluginError(f"plugin {printable(status.name)} is broken: {status.error}")
    own = {kind: [o for o in registry.offers[kind] if o.plugin == status.name and not o.inline] for kind in _CHECKED}
    used = {
        part if isinstance(part, str) else part.name
        for offer in own["variants"]
        for part in (offer.record.architecture, offer.record.loss, *offer.record.penalties)
    }
    return [
        (kind, offer)
        for kind in _CHECKED
        for offer in own[kind]
        if kind in ("variants", "metrics") or offer.record.name not in used
    ]


def _offers_of_name(registry: Registry, name: str) -> list[tuple[Kind, Offer]]:
    if name == "all" or any(character in name for character in "*?[,!"):
        return [("variants", Offer(s.plugin or "-", s.variant)) for s in select(registry, [name])]
    found = [(kind, offer) for kind, offer in find_by_name(registry, name) if kind in _CHECKED]
    # A variant is often called as its architecture or its loss is, and brings them along.
    variants = [(kind, offer) for kind, offer in found if kind == "variants"]
    return variants + [(kind, offer) for kind, offer in found if kind == "metrics" or not variants]


_CHECKED: tuple[Kind, ...] = ("variants", "architectures", "losses", "metrics")


def _subject(registry: Registry, kind: Kind, offer: Offer, device: str, plugins: tuple[str, ...]) -> Subject:
    if kind == "metrics":
        metric: Metric = offer.record
        return Subject(metric.name, {name: partial(check, metric) for name, check in METRIC_CHECKS.items()})
    selection = _selection(registry, kind, offer)
    trial = Trial(registry, selection, device, plugins)
    return Subject(selection.label, {name: partial(check, trial) for name, check in CHECKS.items()})


def _selection(registry: Registry, kind: Kind, offer: Offer) -> Selection:
    record = offer.record
    if isinstance(record, Variant):
        listed = offer in registry.offers["variants"]
        return Selection(registry.reference("variants", offer) if listed else record.name, record, _plugin(offer))
    own = registry.reference(kind, offer)
    parts: dict[str, Any] = {"architecture": PARTNER_ARCHITECTURE, "loss": PARTNER_LOSS}
    if isinstance(record, Architecture):
        parts["architecture"] = own
    elif isinstance(record, Loss):
        parts["loss"] = own
    elif isinstance(record, Penalty):
        parts["penalties"] = (own,)
    label = "+".join([parts["architecture"], parts["loss"], *parts.get("penalties", ())])
    return Selection(label, Variant(record.name, **parts), None)


def _plugin(offer: Offer) -> str | None:
    """A pair of the grid is in no plugin."""
    return None if offer.plugin == "-" else offer.plugin


# --- pytest -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Case:
    """One check of one subject, to be called in a test."""

    subject: Subject
    check: str

    def __call__(self) -> None:
        import pytest

        result = self.subject.result(self.check)
        if result.status == "skipped":
            pytest.skip(result.reason)
        if result.status == "failed":
            pytest.fail(f"{result.subject}, {result.check}: {result.reason}", pytrace=False)


def parametrize_checks(target: str | Path, plugins: Sequence[str | Path] = (), device: str = "cpu") -> Any:
    """A decorator: the test gets an argument `check` for every check of `target`, and calls it.

    `target` and what is raised are as in `subjects_of`; a relative path is taken from where pytest was started, so
    give `Path(__file__).parent / "my_gan.py"`.
    """
    import pytest

    cases = [
        pytest.param(_Case(subject, name), id=f"{subject.name}-{name}")
        for subject in subjects_of(target, plugins, device)
        for name in subject.checks
    ]
    return pytest.mark.parametrize("check", cases)


class Rehearsal:
    """One variant on small made-up images, to be stepped by hand; what the fixture `ganzoo_variant` gives.

    `generator` and `discriminator` are called as in a phase: with labels always.
    """

    def __init__(self, name: str, plugins: Sequence[str | Path] = (), *, seed: int = 0, device: str = "cpu") -> None:
        registry = discover([str(plugin) for plugin in plugins])
        (selection,) = select(registry, [name])
        with torch.random.fork_rng():
            self._run = Trial(registry, selection, device).assemble(seed=seed)
        self.generator = self._run.players.generator
        self.discriminator = self._run.players.discriminator

    def batch(self) -> Batch:
        """Real images in [-1, 1], labels and latents of one batch."""
        real, labels = next(self._run.batches)
        return Batch(real, labels, self._run.draw_latent(len(real), self._run.latent_rng))

    def step(self) -> dict[str, float]:
        """One training step; the terms by `phase/name`, the last of each where a phase repeats."""
        calls = due_calls(self._run)
        terms = self._run.perform(calls)
        self._run.step += 1
        return {
            f"{update.phase.name}/{name}": float(term)
            for (update, _), named in zip(calls, terms, strict=True)
            for name, term in named.items()
        }

    def images(self, n: int) -> Tensor:
        """`n` images of the generator in its present mode: (n, C, H, W) in [-1, 1], the classes in turn."""
        device = self._run.batches.device
        latent = self._run.draw_latent(n, stream(0, "samples")).to(device)
        with torch.no_grad():
            return self.generator(latent, torch.arange(n, device=device) % CLASSES)
