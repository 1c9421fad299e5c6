"""Titles, directions and bounds of the zoo's oldest scores: records of schema 1 and 2 do not hold them.

A frozen table of the metrics that existed then; do not change it with a metric. Metrics now declare these facts in
their plugins, and records hold them; what a record says of these scores is held against the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ganzoo.util.text import printable

Facts = Mapping[str, Mapping[str, Any]]


def _old_facts(
    title: str, better: str, low: float | None = None, high: float | None = None, log: bool = False, **more: str
) -> Any:
    return {"title": title, "better": better, "bounds": [low, high], "log": log, **more}


OLD_METRICS: Mapping[str, tuple[str, Facts]] = {
    # FID can only be below zero by rounding; KID's unbiased estimate often is, so it has no lower bound.
    "fid": ("fid", {"fid": _old_facts("FID", "lower", low=0, log=True, title_by_other="FD")}),
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
    """A protocol of a metric of the zoo with the facts of its scores that it lacks; any other as it is."""
    known = _known_facts(protocol)
    given = protocol.get("scores", {}) if known else None
    if not isinstance(given, Mapping) or not all(isinstance(facts, Mapping) for facts in given.values()):
        return protocol
    return {**protocol, "scores": {**given, **{name: {**known[name], **given.get(name, {})} for name in known}}}


def facts_fault(protocols: Mapping[str, Mapping[str, Any]]) -> str:
    """What is wrong where a protocol contradicts what is known of a score of the zoo; its id holds no fact.

    With wider bounds an impossible value would pass, and with another direction the worst row would be the best.
    Narrower bounds are those of a later version.
    """
    for identity, protocol in protocols.items():
        for score, facts in _known_facts(protocol).items():
            given = protocol["scores"][score]
            narrower = all(map(_is_as_narrow, given["bounds"], facts["bounds"], (1, -1)))
            for name, holds in (("better", given["better"] == facts["better"]), ("bounds", narrower)):
                if not holds:
                    where = f"protocols.{printable(identity, 80)}.scores.{score}.{name}"
                    return f"{where} is {printable(given[name], 80)}; of {score} it is {facts[name]}"
    return ""


def _is_as_narrow(bound: float | None, known: float | None, sign: int) -> bool:
    """Whether a lower bound (sign 1) or an upper one (-1) is at least as narrow as what is known; None: no bound."""
    return known is None or (bound is not None and sign * bound >= sign * known)


def _known_facts(protocol: Any) -> Facts:
    """The facts of the scores of the metric of the zoo that a protocol is of; none for any other metric."""
    metric = protocol.get("metric") if isinstance(protocol, Mapping) else None
    if not isinstance(metric, str) or metric not in OLD_METRICS:
        return {}
    plugin, facts = OLD_METRICS[metric]
    # A third-party metric of the same name is another measure. Old records that name no plugin mean the zoo's.
    return facts if protocol.get("metric_plugin") in (None, plugin, f"{plugin}@ganzoo") else {}
