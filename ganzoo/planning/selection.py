"""The grammar of `--models`: names, globs, `all`, `!exclude`, and `architecture+loss` for any pair of the grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from ganzoo.errors import UnknownName, UsageError
from ganzoo.registry.registry import Registry
from ganzoo.types import Architecture, Loss, Variant
from ganzoo.util.text import did_you_mean, printable


@dataclass(frozen=True)
class Selection:
    """A selected variant. `named` is False if a glob or `all` matched it: it is left out if it cannot run."""

    label: str
    variant: Variant
    plugin: str | None
    named: bool = True


def select(registry: Registry, models: Sequence[str]) -> list[Selection]:
    """Resolve the tokens of `--models`, in order, each variant once.

    Raises `UnknownName`, `AmbiguousName`, or `UsageError` if no variant is left.
    """
    tokens = [token.strip() for text in models for token in text.split(",") if token.strip()]
    if not tokens:
        raise UsageError("--models: name at least one variant, such as --models dcgan,mlp (see `ganzoo list variants`)")
    if all(token.startswith("!") for token in tokens):
        tokens.insert(0, "all")
    selected: dict[str, Selection] = {}
    for token in tokens:
        if token.startswith("!"):
            dropped = [
                label
                for label, selection in selected.items()
                if fnmatchcase(label, token[1:]) or fnmatchcase(selection.variant.name, token[1:])
            ]
            if not dropped:
                raise UnknownName(f"--models: '{printable(token)}' excludes nothing that is selected")
            for label in dropped:
                del selected[label]
        else:
            for selection in _expand(registry, token):
                known = selected.get(selection.label)
                if known is None or (selection.named and not known.named):
                    selected[selection.label] = selection
    if not selected:
        raise UsageError("--models: the exclusions leave no variant")
    return list(selected.values())


def _expand(registry: Registry, token: str) -> list[Selection]:
    if token == "all" or any(character in token for character in "*?["):
        offers = [
            offer
            for offer in sorted(registry.offers["variants"], key=lambda offer: str(offer.record.name))
            if token == "all" or fnmatchcase(offer.record.name, token)
        ]
        if not offers:
            raise UnknownName(f"--models: no variant matches '{printable(token)}' (see `ganzoo list variants`)")
        # Of a name that several plugins offer every variant matches, as `plugin:name`.
        return [
            Selection(registry.reference("variants", offer), offer.record, offer.plugin, named=False)
            for offer in offers
        ]
    if "+" in token:
        return [_pair(registry, token)]
    return [_by_name(registry, token)]


def _by_name(registry: Registry, name: str) -> Selection:
    try:
        offer = registry.get("variants", name)
    except UnknownName as error:
        if name in registry.names("architectures"):
            raise UnknownName(
                f"no variant is called '{printable(name)}', but an architecture is: pair it with a loss, "
                f"such as '{printable(name)}+hinge'"
            ) from error
        raise
    return Selection(name, offer.record, offer.plugin)


def _pair(registry: Registry, token: str) -> Selection:
    """`architecture+loss`, and any penalties after that, under the default recipe."""
    architecture, *others = token.split("+")
    registry.get("architectures", architecture, Architecture)
    losses: list[str] = []
    penalties: list[str] = []
    for name in others:
        record = registry.get("losses", name).record
        (losses if isinstance(record, Loss) else penalties).append(name)
    if len(losses) != 1:
        known = did_you_mean("", registry.names("losses"))
        raise UsageError(f"--models '{printable(token)}': give one architecture and one loss, as in dcgan+hinge{known}")
    return Selection(
        token, Variant(token, architecture=architecture, loss=losses[0], penalties=tuple(penalties)), plugin=None
    )
