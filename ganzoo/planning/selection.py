"""The grammar of `--models`: names, globs, `all`, `!exclude`, `architecture+loss+…` for any point of the grid, and
`variant+…` for a variant with more penalties and augmentations."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from ganzoo.errors import UnknownName, UsageError
from ganzoo.registry.registry import Registry
from ganzoo.types import Architecture, Augmentation, Loss, Penalty, Variant
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
    return [_registered_variant(registry, token)]


def _registered_variant(registry: Registry, name: str) -> Selection:
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


PACK = re.compile(r"pac([2-9]|[1-9][0-9]+)")
"""A name for the option `pack`, unless a plugin offers something of that name."""


def _pair(registry: Registry, token: str) -> Selection:
    """`architecture+loss`, and penalties, augmentations and `pac2` in any order after the architecture, under the
    default recipe; or a variant by name, and what is added to it.
    """
    first, *others = token.split("+")
    parts: dict[type, list[str]] = {Loss: [], Penalty: [], Augmentation: []}
    pack = 1
    known = set(registry.names("losses"))
    for name in others:
        if name not in known and (packed := PACK.fullmatch(name)):
            pack = int(packed[1])
            continue
        parts[type(registry.get("losses", name).record)].append(name)
    losses, penalties, augment = parts.values()
    if not losses and first in registry.names("variants"):
        offer = registry.get("variants", first)
        variant = offer.record
        more = replace(
            variant,
            name=token,
            penalties=(*variant.penalties, *penalties),
            augment=(*variant.augment, *augment),
            pack=max(pack, variant.pack),
        )
        return Selection(token, more, offer.plugin)
    registry.get("architectures", first, Architecture)
    if len(losses) != 1:
        named = did_you_mean("", registry.names("losses"))
        raise UsageError(f"--models '{printable(token)}': give one architecture and one loss, as in dcgan+hinge{named}")
    return Selection(
        token,
        Variant(
            token,
            architecture=first,
            loss=losses[0],
            penalties=tuple(penalties),
            augment=tuple(augment),
            pack=pack,
        ),
        plugin=None,
    )
