"""The facts of scores that records of schema 1 and 2 lack: what ganzoo knew of the zoo's metrics while it wrote those.

A table of the past, which no later change of a metric touches. Metrics of today declare their facts in their plugins.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Facts = Mapping[str, Mapping[str, Any]]


def _entry(title: str, better: str, low: float | None = None, high: float | None = None, log: bool = False) -> Any:
    return {"title": title, "better": better, "bounds": [low, high], "log": log}


OF_THE_ZOO: Mapping[str, tuple[str, Facts]] = {
    # FID's square root may fall below zero by rounding only; KID's unbiased estimate falls below it by chance.
    "fid": ("fid", {"fid": _entry("FID", "lower", low=0, log=True)}),
    "is": ("inception-score", {"is": _entry("IS", "higher", low=1)}),
    "kid": ("kid", {"kid": _entry("KID", "lower", log=True)}),
    "prc": (
        "precision-recall",
        {
            "precision": _entry("precision", "higher", low=0, high=1),
            "recall": _entry("recall", "higher", low=0, high=1),
        },
    ),
    "modes": ("modes", {"modes": _entry("modes", "higher"), "kl": _entry("kl", "lower")}),
}
"""From each metric of the zoo to its plugin and the facts of its scores."""


def with_score_facts(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """A record as JSON with the facts of the zoo's scores in its protocols; `content` stays as it is."""
    protocols = content.get("protocols")
    if not isinstance(protocols, Mapping):
        return content
    return {**content, "protocols": {identity: _completed(protocol) for identity, protocol in protocols.items()}}


def _completed(protocol: Any) -> Any:
    """A protocol with the facts of its scores, if it is one of the zoo and has none."""
    metric = protocol.get("metric") if isinstance(protocol, Mapping) else None
    if not isinstance(metric, str) or metric not in OF_THE_ZOO or "scores" in protocol:
        return protocol
    plugin, facts = OF_THE_ZOO[metric]
    # A stranger's metric of the same name is another measure. Where an old record does not say whose it is, it is ours.
    if protocol.get("metric_plugin") not in (None, plugin, f"{plugin}@ganzoo"):
        return protocol
    return {**protocol, "scores": facts}
