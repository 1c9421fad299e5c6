"""The records that plugins offer, looked up by kind and name, and the status of every plugin."""

from __future__ import annotations

import contextlib
import copy
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from ganzoo.errors import AmbiguousName, UnknownName
from ganzoo.registry.sources import Sources
from ganzoo.types import Architecture, Augmentation, Dataset, FeatureExtractor, Loss, Metric, Penalty, Reporter, Variant
from ganzoo.util.text import did_you_mean, error_line, printable

if TYPE_CHECKING:
    from ganzoo.runs import Event

Kind = Literal["variants", "architectures", "losses", "datasets", "features", "metrics", "reporters"]

RECORD_TYPES: dict[str, tuple[Kind, tuple[type, ...]]] = {
    "ganzoo_variants": ("variants", (Variant,)),
    "ganzoo_architectures": ("architectures", (Architecture,)),
    "ganzoo_losses": ("losses", (Loss, Penalty, Augmentation)),
    "ganzoo_datasets": ("datasets", (Dataset,)),
    "ganzoo_feature_extractors": ("features", (FeatureExtractor,)),
    "ganzoo_metrics": ("metrics", (Metric,)),
    "ganzoo_reporters": ("reporters", (Reporter,)),
}
"""What each hook yields. A `Loss`, a `Penalty` and an `Augmentation` share one name space."""

KINDS: tuple[Kind, ...] = tuple(kind for kind, _ in RECORD_TYPES.values())
SINGULAR = {
    "variants": "variant",
    "architectures": "architecture",
    "losses": "loss",
    "datasets": "dataset",
    "features": "feature extractor",
    "metrics": "metric",
    "reporters": "reporter",
}


@dataclass(frozen=True)
class PluginStatus:
    """The outcome of loading one plugin. `source` is its entry point or file; `hooks` what it implements.

    `conflicts` are its records, as `plugin:name`, of which another plugin offers one of the same kind and name.
    """

    name: str
    source: str
    version: str | None = None
    hooks: tuple[str, ...] = ()
    state: Literal["ok", "broken", "disabled"] = "ok"
    error: str | None = None
    source_sha256: str | None = None
    load_seconds: float | None = None
    conflicts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Offer:
    """A record and the plugin that yields it."""

    plugin: str
    record: Any
    inline: bool = False
    """Given as an object inside a variant: found as `plugin:name` only."""

    @property
    def qualified(self) -> str:
        """`plugin:name`."""
        return f"{self.plugin}:{self.record.name}"


@dataclass
class Registry:
    """Everything that the plugins without faults offer, by kind and name."""

    statuses: list[PluginStatus] = field(default_factory=list)
    offers: dict[Kind, list[Offer]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    observers: list[tuple[str, Callable[[Event], object]]] = field(default_factory=list)
    sources: Sources = field(default_factory=Sources)

    def names(self, kind: Kind) -> list[str]:
        """The names of a kind, sorted, each once."""
        return sorted({offer.record.name for offer in self.offers[kind] if not offer.inline})

    def get(self, kind: Kind, name: str, type_: type | tuple[type, ...] = object, prefer: str | None = None) -> Offer:
        """The offer called `name`, or `plugin:name`.

        `type_` narrows a kind that holds two types; `prefer` names a plugin whose record wins a conflict.
        Raises `UnknownName` (with the nearest names, and the broken plugins that may have held it) or
        `AmbiguousName` (with the `plugin:name` forms).
        """
        candidates = [offer for offer in self.offers[kind] if isinstance(offer.record, type_)]
        plugin, colon, bare = name.rpartition(":")
        if colon:
            matches = [offer for offer in candidates if offer.plugin == plugin and offer.record.name == bare]
        else:
            matches = [offer for offer in candidates if not offer.inline and offer.record.name == bare]
            matches = [offer for offer in matches if offer.plugin == prefer] or matches
        if len(matches) == 1:
            return matches[0]
        if matches:
            forms = " or ".join(f"'{printable(offer.qualified)}'" for offer in matches)
            raise AmbiguousName(f"{len(matches)} plugins offer a {SINGULAR[kind]} '{printable(name)}'; ask for {forms}")
        broken = [printable(status.name) for status in self.statuses if status.state == "broken"]
        hint = f"; broken plugins may have held it: {', '.join(broken)} (see `ganzoo plugins`)" if broken else ""
        known = {offer.record.name for offer in candidates if not offer.inline}
        raise UnknownName(f"no {SINGULAR[kind]} is called '{printable(name)}'{did_you_mean(bare, known)}{hint}")

    def reference(self, kind: Kind, offer: Offer) -> str:
        """The name by which `get` returns `offer`: the bare name if it is unique, else `plugin:name`."""
        rivals = [other for other in self.offers[kind] if other.record.name == offer.record.name and not other.inline]
        return str(offer.record.name) if rivals == [offer] and not offer.inline else offer.qualified

    def conflicts(self) -> Iterator[tuple[Kind, list[Offer]]]:
        """Every kind and name that more than one plugin offers, with the offers."""
        for kind in KINDS:
            for name in self.names(kind):
                rivals = [offer for offer in self.offers[kind] if offer.record.name == name and not offer.inline]
                if len(rivals) > 1:
                    yield kind, rivals

    def status_of(self, plugin: str) -> PluginStatus:
        """The status of the plugin with that name."""
        return next(status for status in self.statuses if status.name == plugin)

    def sources_of(self, *plugins: str) -> dict[str, str | None]:
        """The hash of the source of each plugin, by the plugin's name."""
        return {name: self.status_of(name).source_sha256 for name in sorted(plugins)}

    def notify(self, event: Event, on_error: Callable[[str], None]) -> None:
        """Give each observer a copy of `event`; one that raises is reported once and not called again."""
        for observer in list(self.observers):
            plugin, function = observer
            try:
                with contextlib.redirect_stdout(sys.stderr):
                    function(copy.deepcopy(event))
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                self.observers.remove(observer)
                on_error(f"plugin {printable(plugin)}: ganzoo_event raised {error_line(error)}; it is not called again")
