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

from ganzoo.conformance.checks import CHECKS
from ganzoo.conformance.metric_checks import METRIC_CHECKS
from ganzoo.conformance.trial import TOY_CLASSES, Trial
from ganzoo.conformance.verdicts import Failed, Skipped
from ganzoo.errors import GanzooError, PluginError, UsageError
from ganzoo.planning.describe import find_by_name
from ganzoo.planning.selection import Selection, select
from ganzoo.registry.discovery import discover
from ganzoo.registry.isolation import undisturbed
from ganzoo.registry.registry import Kind, Offer, Registry
from ganzoo.training.loop import due_calls
from ganzoo.types import Architecture, Augmentation, Batch, Loss, Metric, Penalty, Variant
from ganzoo.util.seeds import stream
from ganzoo.util.text import error_line, printable

__all__ = ["CheckResult", "Rehearsal", "Subject", "check", "parametrize_checks", "subjects_of"]

PARTNER_ARCHITECTURE, PARTNER_LOSS = "dcgan", "non-saturating"
"""The other half of the pair in which a lone architecture, loss, penalty or augmentation is checked."""


@dataclass(frozen=True)
class CheckResult:
    """The result of one check of one subject; `reason` is empty if it passed. JSON-safe by `dataclasses.asdict`."""

    subject: str
    check: str
    status: Literal["passed", "failed", "skipped"]
    reason: str
    seconds: float


@dataclass(frozen=True)
class Subject:
    """A variant or a metric, with its checks by name. If the first check fails, the others are skipped."""

    name: str
    checks: Mapping[str, Callable[[], None]]
    _results: dict[str, CheckResult] = field(default_factory=dict, repr=False, compare=False)

    def result(self, check: str) -> CheckResult:
        """Run one check, after the first one; each runs once and its result is kept."""
        if check not in self._results:
            first = next(iter(self.checks))
            if check != first and self.result(first).status == "failed":
                self._results[check] = CheckResult(self.name, check, "skipped", f"'{first}' failed", 0.0)
            else:
                self._results[check] = self._run(check)
        return self._results[check]

    def _run(self, check: str) -> CheckResult:
        started = time.perf_counter()
        status: Literal["passed", "failed", "skipped"] = "passed"
        reason = ""
        try:
            with _caller_untouched():
                self.checks[check]()
        except Skipped as skipped:
            status, reason = "skipped", printable(skipped)
        except (Failed, GanzooError) as failed:
            status, reason = "failed", printable(failed)
        except (Exception, SystemExit) as error:
            status, reason = "failed", error_line(error)
        return CheckResult(self.name, check, status, reason, round(time.perf_counter() - started, 3))


@contextlib.contextmanager
def _caller_untouched() -> Iterator[None]:
    """Restore the caller's random state and settings afterwards, and send what a plugin prints to stderr."""
    with torch.random.fork_rng(), undisturbed(), contextlib.redirect_stdout(sys.stderr):
        yield


def check(target: str | Path, plugins: Sequence[str | Path] = (), device: str = "cpu") -> Iterator[CheckResult]:
    """Run every check of `target`, one after another; see `subjects_of` for what it may be and what is raised."""
    for subject in subjects_of(target, plugins, device):
        for name in subject.checks:
            yield subject.result(name)


def subjects_of(target: str | Path, plugins: Sequence[str | Path] = (), device: str = "cpu") -> list[Subject]:
    """The variants and metrics of `target`, each with its checks.

    For the path of a .py file: every variant that it yields, every architecture, loss, penalty and augmentation that
    none of them uses, each with a common partner, and every metric. For a name: the variant, the metric, or the part
    with a partner; a glob, `all` and `architecture+loss` select variants as `--models` does.

    Raises `UnknownName` for a name that no plugin offers, `PluginError` for a file that cannot be loaded, and
    `UsageError` if nothing in `target` has checks.
    """
    paths, file = [str(plugin) for plugin in plugins], Path(target)
    if file.suffix == ".py" or file.is_file():
        # The last one is the one to check, also where it is named among the plugins.
        others = [path for path in paths if not (Path(path).exists() and file.exists() and file.samefile(path))]
        paths = [*others, str(file)]
        registry = discover(paths)
        offers = _offers_of_file(registry)
    else:
        registry = discover(paths)
        offers = _offers_of_name(registry, str(target))
    subjects = [_subject(registry, kind, offer, device, tuple(paths)) for kind, offer in offers]
    if not subjects:
        raise UsageError(
            f"{printable(target)}: nothing to check; variants, architectures, losses and metrics have checks"
        )
    return subjects


def _offers_of_file(registry: Registry) -> list[tuple[Kind, Offer]]:
    """The offers of the plugin that was loaded last, without the parts that its variants use."""
    status = registry.statuses[-1]
    if status.state == "broken":
        raise PluginError(f"plugin {printable(status.name)} is broken: {status.error}")
    offers = {kind: [o for o in registry.offers[kind] if o.plugin == status.name and not o.inline] for kind in _CHECKED}
    variants = [offer.record for offer in offers["variants"]]
    named = [
        part
        for variant in variants
        for part in (variant.architecture, variant.loss, *variant.penalties, *variant.augment)
    ]
    named += [part for offer in offers["losses"] for part in getattr(offer.record, "penalties", ())]
    used = {part if isinstance(part, str) else part.name for part in named}
    return [
        (kind, offer)
        for kind in _CHECKED
        for offer in offers[kind]
        if kind in ("variants", "metrics") or offer.record.name not in used
    ]


def _offers_of_name(registry: Registry, name: str) -> list[tuple[Kind, Offer]]:
    if name == "all" or any(character in name for character in "*?[,!"):
        return [("variants", Offer(s.plugin or "-", s.variant)) for s in select(registry, [name])]
    matches = [(kind, offer) for kind, offer in find_by_name(registry, name) if kind in _CHECKED]
    # A variant often shares its name with its architecture or loss; checking the variant checks those too.
    variants = [(kind, offer) for kind, offer in matches if kind == "variants"]
    return variants + [(kind, offer) for kind, offer in matches if kind == "metrics" or not variants]


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
        registered = offer in registry.offers["variants"]
        return Selection(registry.reference("variants", offer) if registered else record.name, record, _plugin(offer))
    reference = registry.reference(kind, offer)
    parts: dict[str, Any] = {"architecture": PARTNER_ARCHITECTURE, "loss": PARTNER_LOSS}
    if isinstance(record, Architecture):
        parts["architecture"] = reference
    elif isinstance(record, Loss):
        parts["loss"] = reference
    elif isinstance(record, Penalty):
        parts["penalties"] = (reference,)
    elif isinstance(record, Augmentation):
        parts["augment"] = (reference,)
    more = (*parts.get("penalties", ()), *parts.get("augment", ()))
    label = "+".join([parts["architecture"], parts["loss"], *more])
    return Selection(label, Variant(record.name, **parts), None)


def _plugin(offer: Offer) -> str | None:
    """The plugin of an offer; None for a pair such as `dcgan+hinge`, which belongs to no plugin."""
    return None if offer.plugin == "-" else offer.plugin


# --- pytest -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Case:
    """One check of one subject, as a callable for a test."""

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
    """A decorator that runs a test once for every check of `target`; the test takes the argument `check` and calls it.

    `target` and errors are as in `subjects_of`; a relative path starts where pytest was started, so give
    `Path(__file__).parent / "my_gan.py"`.
    """
    import pytest

    cases = [
        pytest.param(_Case(subject, name), id=f"{subject.name}-{name}")
        for subject in subjects_of(target, plugins, device)
        for name in subject.checks
    ]
    return pytest.mark.parametrize("check", cases)


class Rehearsal:
    """One variant on small synthetic images, to step by hand; the fixture `ganzoo_variant` returns it.

    Call its players, `generator`, `discriminator` and the others, as in a phase: always with labels.
    """

    def __init__(self, name: str, plugins: Sequence[str | Path] = (), *, seed: int = 0, device: str = "cpu") -> None:
        registry = discover([str(plugin) for plugin in plugins])
        (selection,) = select(registry, [name])
        with torch.random.fork_rng():
            self._run = Trial(registry, selection, device).assemble(seed=seed)
        self.players = self._run.players
        self.generator = self.players.generator

    def __getattr__(self, name: str) -> Any:
        """A player by its name."""
        try:
            return self.__dict__["players"][name]
        except KeyError:
            raise AttributeError(f"there is no player '{name}'") from None

    def batch(self) -> Batch:
        """The next batch: real images in [-1, 1], labels and latents."""
        real, labels = next(self._run.batches)
        return Batch(real, labels, self._run.draw_latent(len(real), self._run.latent_rng))

    def step(self) -> dict[str, float]:
        """Do one training step and return its terms by `phase/name`; of a phase that repeats, the last."""
        calls = due_calls(self._run)
        terms = self._run.perform(calls)
        self._run.step += 1
        return {
            f"{update.phase.name}/{name}": float(term)
            for (update, _), named in zip(calls, terms, strict=True)
            for name, term in named.items()
        }

    def images(self, n: int) -> Tensor:
        """`n` images of the generator in its current mode: (n, C, H, W) in [-1, 1], the classes in turn."""
        device = self._run.batches.device
        latent = self._run.draw_latent(n, stream(0, "samples")).to(device)
        with torch.no_grad():
            return self.generator(latent, torch.arange(n, device=device) % TOY_CLASSES)
