"""What a score is held against before it is believed: real images, a Gaussian of the pixels, an untrained generator.

Most scores depend on the number of images, so each of the three, and the trained generator itself, is also scored by as
many images as there are real ones to score.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from torch import Tensor

from ganzoo.evaluation.features import FeatureSample, kept_features
from ganzoo.evaluation.pixel_gaussian import pixel_gaussian_batches
from ganzoo.evaluation.scorer import Fakes, Scorer
from ganzoo.runs import Yardstick, YardstickKind

DrawImages = Callable[[int], Iterator[Tensor]]
"""Draws so many images: batches of uint8 (n, C, H, W)."""


def measure_yardsticks(
    scorer: Scorer, fakes: int, ema: bool, *, trained: DrawImages, untrained: DrawImages, untrained_key: Any
) -> list[Yardstick]:
    """The scores of the three, and of the first images of the trained generator, by each metric of `scorer`.

    `fakes` and `ema` are those of the run's final scores, whose protocols the yardsticks name. What was not trained has
    the same features in every run with the same `untrained_key`, and they are kept in the cache. Without real images to
    score nothing is scored by their number.
    """
    real = scorer.real.unseen()
    number = fakes if real is None else min(fakes, len(real))
    size = scorer.real.extractor.extractor.batch_size
    images = scorer.real.dataset

    def kept(what: str, key: Any, draw: DrawImages) -> Fakes:
        content = json.dumps([what, key, fakes, *scorer.real.identity])
        stem = f"{what}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"
        features = kept_features(stem, fakes, lambda: scorer.real.extractor(draw(fakes)), scorer.real.on_note)
        return Fakes(FeatureSample(*features, logit_names=scorer.real.logit_names))

    samples: dict[YardstickKind, Fakes] = {
        "pixel gaussian": kept(
            "pixel-gaussian", images.sha256, lambda count: pixel_gaussian_batches(images, count, size)
        ),
        "untrained": kept("untrained", untrained_key, untrained),
    }
    measured = [stick for of, sample in samples.items() for stick in _scored(scorer, of, sample, fakes, ema)]
    if real is None:
        return measured
    few: dict[YardstickKind, Fakes] = {"real": Fakes(real.first(number))}
    if number < fakes:
        few |= {of: Fakes(many.sample.first(number)) for of, many in samples.items()}
        few["trained"] = scorer.fakes(trained(number))
    return measured + [stick for of, sample in few.items() for stick in _scored(scorer, of, sample, fakes, ema)]


def _scored(scorer: Scorer, of: YardstickKind, images: Fakes, fakes: int, ema: bool) -> Iterator[Yardstick]:
    for metric in scorer.metrics:
        protocol, _ = scorer.protocol(metric, fakes, ema)
        scores, _ = replace(scorer, metrics=[metric]).score_fakes(images, None, ema)
        for score in scores:
            stick: Yardstick = {
                "of": of,
                "metric": score["metric"],
                "value": score["value"],
                "images": len(images.sample),
                "protocol": protocol,
            }
            yield stick
