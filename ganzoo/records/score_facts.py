"""Titles, directions and bounds of scores for records of schema 1 and 2, which do not hold them.

A frozen table of the metrics that existed then; do not change it with a metric. Metrics now declare these facts in
their plugins.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Facts = Mapping[str, Mapping[str, Any]]


def _old_facts(title: str, better: str, low: float | None = None, high: float | None = None, log: bool = False) -> Any:
    return {"title": title, "better": better, "bounds": [low, high], "log": log}


OLD_METRICS: Mapping[str, tuple[str, Facts]] = {
    # FID can only be below zero by rounding; KID's unbiased estimate often is, so it has no lower bound.
    "fid": ("fid", {"fid": _old_facts("FID", "lower", low=0, log=True)}),
    "is": ("inception-score", {"is": _old_facts("IS", "higher", low=1)}),
    "kid": ("kid", {"kid": _old_facts("KID", "lower", log=True)}),
    "prc": (
        "precision-recall",
        {
            "precision": _old_facts("precision", "higher", low=0, high=1),
            "recall": _old_facts("recall", "higher", low=0, high=1),
        },
    ),
    "modes": ("modes", {"modes": _old_facts("modes", "higher"), "kl": _old_facts("kl", "lower")}),
}
"""Metric to its plugin in the zoo and the facts of its scores."""


def with_score_facts(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """A copy of a record's JSON whose protocols have the facts of the zoo's scores."""
    protocols = content.get("protocols")
    if not isinstance(protocols, Mapping):
        return content
    return {**content, "protocols": {identity: _completed(protocol) for identity, protocol in protocols.items()}}


def _completed(protocol: Any) -> Any:
    """A protocol of a metric of the zoo with the facts of its scores, if it lacks them; any other as it is."""
    metric = protocol.get("metric") if isinstance(protocol, Mapping) else None
    if not isinstance(metric, str) or metric not in OLD_METRICS or "scores" in protocol:
        return protocol
    plugin, facts = OLD_METRICS[metric]
    # A third-party metric of the same name is another measure. Old records that name no plugin mean the zoo's.
    if protocol.get("metric_plugin") not in (None, plugin, f"{plugin}@ganzoo"):
        return protocol
    return {**protocol, "scores": facts}
