"""Intervals from the sample: how often they hold the mean of a score over independent draws of as many images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from metrics_of_features import METRICS_OF_FEATURES

from ganzoo.evaluation.features import FeatureSample
from ganzoo.evaluation.scorer import result_of

FEWER_SUBSETS = {"kid": {"subsets": 5}}
"""So that a draw takes less than a second and not ten; the interval is wider for it."""

LOGITS = 10

CLASSES = 3

HELD = (0.90, 0.99)
"""The share of 95 % intervals that hold the mean, in 200 draws: the deviation of the share itself is 0.015."""


def draw(width, n_real, n_fake, same, seed):
    """Real images and fakes whose features are Gaussian with one covariance; with `same` fakes are like the real ones,
    else they vary more and lie aside. A share of the features serve as logits."""
    rng = torch.Generator().manual_seed(seed)
    mixing = torch.randn(width, width, generator=torch.Generator().manual_seed(99)) / width**0.5
    real, fake = (torch.randn(count, width, generator=rng) @ mixing for count in (n_real, n_fake))
    if not same:
        fake = 1.1 * fake + 0.1
    return tuple(FeatureSample(side, 2 * side[:, :LOGITS], torch.arange(len(side)) % CLASSES) for side in (real, fake))


def share_of_intervals_that_hold_the_mean(name, width, n_real, n_fake, same, draws, draws_of_mean):
    """For each score of a metric."""
    metric = METRICS_OF_FEATURES[name]
    settings = {**metric.settings(n_real, n_fake), **FEWER_SUBSETS.get(name, {})}

    def scores(seeds):
        for seed in seeds:
            real, fake = draw(width, n_real, n_fake, same, seed)
            given = result_of(metric, {"real": real, "fake": fake, "settings": settings})
            yield [(given[each].value, given[each].low, given[each].high) for each in metric.better]

    means = np.mean(list(scores(range(draws, draws + draws_of_mean))), 0)[:, 0]
    found = np.array(list(scores(range(draws))))
    held = ((found[:, :, 1] <= means) & (means <= found[:, :, 2])).mean(0)
    return dict(zip(metric.better, held, strict=True))


def outside(held):
    """The shares that are not within `HELD`."""
    return {score: share for score, share in held.items() if not HELD[0] <= share <= HELD[1]}


SMALL = {"fid": (48, 200, 400), "is": (10, 20, 200), "kid": (48, 60, 120), "prc": (16, 90, 150), "dc": (16, 90, 150)}
SMALL |= {"vendi": (24, 10, 300), "authpct": (16, 90, 150), "cmmd": (48, 60, 120), "intra-fd": (12, 150, 300)}


@pytest.mark.parametrize("same", [True, False], ids=["equal", "different"])
@pytest.mark.parametrize("name", SMALL)
def test_intervals_of_small_samples_hold_the_mean_over_draws(name, same):
    held = share_of_intervals_that_hold_the_mean(name, *SMALL[name], same, draws=200, draws_of_mean=300)
    assert outside(held) == {}


@pytest.mark.slow
@pytest.mark.parametrize("same", [True, False], ids=["equal", "different"])
@pytest.mark.parametrize("name", METRICS_OF_FEATURES)
def test_intervals_of_1797_real_images_and_5000_fakes_hold_the_mean_over_draws(name, same):
    held = share_of_intervals_that_hold_the_mean(name, 128, 1797, 5000, same, draws=200, draws_of_mean=1000)
    print(name, "equal" if same else "different", held)
    assert outside(held) == {}
