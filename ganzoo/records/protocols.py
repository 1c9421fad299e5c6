"""Protocols: their ids, their descriptions in words, and the facts of scores that they hold."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ganzoo.util.text import slug

if TYPE_CHECKING:
    from ganzoo.types import Metric
    from ganzoo.util.significance import Direction

GENERATOR_NAMES: Mapping[Any, str] = {True: "EMA", False: "raw", None: "images"}


INCEPTION = "inception"
"""The extractor that scores are by unless something else is said, as in the literature."""


def protocol_words(content: Mapping[str, Any]) -> str:
    """`digits-cnn features, 1797 real (all) against 5000 fakes, EMA generator, splits 10`."""
    settings = _settings_in_words(content)
    generator = GENERATOR_NAMES[content.get("ema")]
    weights = generator if generator == "images" else f"{generator} generator"
    return (
        f"{content.get('extractor')} features, {content.get('n_real')} real ({content.get('real_split')}) "
        f"against {content.get('n_fake')} fakes, {weights}" + (f", {settings}" if settings else "")
    )


def distinctions(protocols: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """For each protocol, by id, how it differs from the others of the same metric, dataset and extractor.

    `5000 fakes, raw`, with the last digits of the id if these words are not unique; empty for one that is alone.
    """
    alike: dict[tuple[object, ...], list[str]] = defaultdict(list)
    for identity, content in protocols.items():
        alike[tuple(content.get(name) for name in ("metric", "dataset", "extractor"))].append(identity)
    return {identity: text for group in alike.values() for identity, text in _apart(group, protocols).items()}


def _apart(identities: Sequence[str], protocols: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    if len(identities) == 1:
        return {identities[0]: ""}
    parts = {identity: _protocol_parts(protocols[identity]) for identity in identities}
    varying = [place for place, texts in enumerate(zip(*parts.values(), strict=True)) if len(set(texts)) > 1]
    texts = {identity: ", ".join(filter(None, (part[place] for place in varying))) for identity, part in parts.items()}
    counts = Counter(texts.values())
    return {
        identity: text if text and counts[text] == 1 else ", ".join(filter(None, (text, identity.rpartition("-")[2])))
        for identity, text in texts.items()
    }


def _protocol_parts(content: Mapping[str, Any]) -> list[str]:
    """The parts in which two protocols of a metric may differ, in words."""
    return [
        " x ".join(map(str, content.get("image_shape") or ())),
        f"{content.get('n_real')} real ({content.get('real_split')})",
        f"{content.get('n_fake')} fakes",
        GENERATOR_NAMES[content.get("ema")],
        _settings_in_words(content),
    ]


def _settings_in_words(content: Mapping[str, Any]) -> str:
    settings = {**(content.get("settings") or {}), **(content.get("drawing") or {})}
    return ", ".join(f"{name} {value}" for name, value in settings.items())


NOT_HASHED = ("scores", "extractor_for", "dataset_images", "weights_licence")
"""What a protocol says that makes no scores incomparable; protocols older than these facts keep their ids."""


def protocol_id(content: Mapping[str, Any]) -> str:
    """The id of a protocol: its main parts in words, and a hash of everything but `NOT_HASHED`."""
    hashed = {name: value for name, value in content.items() if name not in NOT_HASHED}
    digest = hashlib.sha256(json.dumps(hashed, sort_keys=True).encode()).hexdigest()[:8]
    weights = {True: "ema", False: "raw", None: "images"}[content["ema"]]
    return f"{content['metric']}-{slug(content['extractor'])}-{content['n_fake']}-{weights}-{digest}"


def foreign_images(content: Mapping[str, Any]) -> str:
    """`mnist-cnn was made for digits, and cifar10 has natural images`; empty unless the two kinds are known and differ.

    An extractor of the one kind has little to say of the other.
    """
    made_for, images = content.get("extractor_for"), content.get("dataset_images")
    if not made_for or not images or made_for == images:
        return ""
    kinds = (kind if kind.endswith("s") else f"{kind} images" for kind in (made_for, images))
    return "{0} was made for {2}, and {1} has {3}".format(content.get("extractor"), content.get("dataset"), *kinds)


def by_teacher(content: Mapping[str, Any], training: Mapping[str, Any]) -> bool:
    """Whether a score of this protocol is by a network that the run was trained against; see `Training.teachers`."""
    return bool({content.get("extractor"), content.get("weights_sha256")} & {*training.get("teachers", ())})


# --- how a score is shown ---------------------------------------------------------------------------------------------


def score_facts(metric: Metric) -> dict[str, dict[str, Any]]:
    """The title, direction, bounds and log axis that a metric declares for each score: a protocol's `scores`.

    From these a record's scores can be shown and checked without the plugin of the metric.
    """
    return {
        score: {
            "title": metric.title.get(score) or score,
            "better": better,
            "bounds": list(metric.bounds.get(score, (None, None))),
            "log": score in metric.log,
            **({"title_by_other": metric.title_by_other[score]} if score in metric.title_by_other else {}),
        }
        for score, better in metric.better.items()
    }


def title_of(score: str, protocol: Mapping[str, Any]) -> str:
    """What a score is called in tables, reports and on axes: `FID`, `FD digits-cnn`, `recall mnist-cnn`.

    It is the title that the protocol has, else the score's name, and behind it the extractor unless that is Inception.
    """
    facts, extractor = _facts_of(score, protocol), protocol.get("extractor")
    title = str(facts.get("title") or score)
    return title if extractor in (None, INCEPTION) else f"{facts.get('title_by_other') or title} {extractor}"


def has_title(score: str, protocol: Mapping[str, Any]) -> bool:
    """Whether a score's metric calls it by another name than the score's own."""
    return _facts_of(score, protocol).get("title", score) != score


def direction_of(score: str, protocol: Mapping[str, Any]) -> Direction | None:
    """The direction in which a score is better; None if the protocol does not say."""
    direction: Direction | None = _facts_of(score, protocol).get("better")
    return direction


def bounds_of(score: str, protocol: Mapping[str, Any]) -> tuple[float, float]:
    """The lowest and the highest possible value of a score; infinite if there is no limit."""
    low, high = _facts_of(score, protocol).get("bounds") or (None, None)
    return (-math.inf if low is None else low, math.inf if high is None else high)


def is_log(score: str, protocol: Mapping[str, Any]) -> bool:
    """Whether to draw a score on a logarithmic axis."""
    return bool(_facts_of(score, protocol).get("log"))


def _facts_of(score: str, protocol: Mapping[str, Any]) -> Mapping[str, Any]:
    facts: Mapping[str, Any] = (protocol.get("scores") or {}).get(score) or {}
    return facts
