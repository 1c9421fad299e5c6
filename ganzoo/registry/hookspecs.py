"""The hooks. Each takes no argument and yields frozen records; none depends on the order of plugins."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from ganzoo.runs import Event
    from ganzoo.types import (
        Architecture,
        Augmentation,
        Dataset,
        FeatureExtractor,
        Loss,
        Metric,
        Penalty,
        Reporter,
        Variant,
    )

PROJECT = "ganzoo"
"""The pluggy project and the entry-point group."""

API_VERSION = 2
"""Raised when a hook or a record changes in a way that plugins notice."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def ganzoo_variants() -> Iterable[Variant]:  # type: ignore[empty-body]
    """Yield what `--models` can select."""


@hookspec
def ganzoo_architectures() -> Iterable[Architecture]:  # type: ignore[empty-body]
    """Yield builders of generators and discriminators."""


@hookspec
def ganzoo_losses() -> Iterable[Loss | Penalty | Augmentation]:  # type: ignore[empty-body]
    """Yield objectives, penalties that join any of them, and augmentations of what judges see."""


@hookspec
def ganzoo_datasets() -> Iterable[Dataset]:  # type: ignore[empty-body]
    """Yield datasets that `--dataset` can name."""


@hookspec
def ganzoo_feature_extractors() -> Iterable[FeatureExtractor]:  # type: ignore[empty-body]
    """Yield extractors that `--features` can name."""


@hookspec
def ganzoo_metrics() -> Iterable[Metric]:  # type: ignore[empty-body]
    """Yield metrics that `--metrics` can name."""


@hookspec
def ganzoo_reporters() -> Iterable[Reporter]:  # type: ignore[empty-body]
    """Yield formats that `compare --format` can name."""


@hookspec
def ganzoo_event(event: Event) -> None:
    """Observe a run: called in the parent process with plain frozen data; what it returns is ignored."""
