"""A protocol in words: what stands beside every score."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def protocol_words(content: Mapping[str, Any]) -> str:
    """`digits-cnn features, 1797 real (all) against 5000 fakes, EMA generator, splits 10`."""
    settings = ", ".join(f"{name} {value}" for name, value in (content.get("settings") or {}).items())
    ema = content.get("ema")
    weights = "EMA generator" if ema is True else "raw generator" if ema is False else "images"
    return (
        f"{content.get('extractor')} features, {content.get('n_real')} real ({content.get('real_split')}) "
        f"against {content.get('n_fake')} fakes, {weights}" + (f", {settings}" if settings else "")
    )
