"""Postponed annotations with a dataclass: it looks its own module up while it is being imported."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

import ganzoo


@dataclass(frozen=True)
class Width:
    kinds: ClassVar[tuple[str, ...]] = ("narrow", "wide")
    kind: str = "narrow"
    _: KW_ONLY
    channels: int = 16


@ganzoo.hookimpl
def ganzoo_variants():
    for kind in Width.kinds:
        options = {"base_channels": Width(kind).channels}
        yield ganzoo.Variant(f"postponed-{kind}", architecture="dcgan", loss="non-saturating", options=options)
