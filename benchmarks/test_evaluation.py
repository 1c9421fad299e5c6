"""Scoring: features of generated images, and each metric on them."""

from __future__ import annotations

import pytest
import torch

from ganzoo.data.finding import find_dataset, prepare_dataset
from ganzoo.evaluation.extractors import load_extractor
from ganzoo.evaluation.features import FeatureSample, RealSample
from ganzoo.evaluation.scorer import result_of
from ganzoo.machine.settings import resolve_device, synchronize

FAKES = 5000


@pytest.fixture(scope="module")
def extractor(registry):
    return load_extractor(registry.get("features", "digits-cnn").record, resolve_device("auto"))


@pytest.fixture(scope="module")
def dataset(registry):
    offer, argument = find_dataset(registry, "digits")
    return prepare_dataset(registry, offer, argument)


@pytest.mark.benchmark(group="features of 5000 images, 16 px")
def test_features(benchmark, extractor):
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (FAKES, 1, 16, 16), dtype=torch.uint8, generator=rng)

    def features():
        extractor(iter(images.split(256)))
        synchronize(resolve_device("auto"))

    benchmark.pedantic(features, rounds=5, warmup_rounds=1)


@pytest.mark.parametrize("name", ["fid", "is", "kid", "cmmd", "prc", "dc", "vendi", "authpct", "modes"])
@pytest.mark.benchmark(group="metric, 1797 real against 5000 fakes")
def test_metric(benchmark, registry, extractor, dataset, name):
    metric = registry.get("metrics", name).record
    real = RealSample(dataset, extractor)
    real.statistics()
    rng = torch.Generator().manual_seed(0)
    chosen = torch.randint(len(real.features), (FAKES,), generator=rng)
    noise = torch.randn(FAKES, real.features.shape[1], generator=rng) * real.features.std() / 2
    settings = metric.settings(dataset.count, FAKES)
    # Where the extractor leaves them.
    device = resolve_device("auto")
    features, logits = (real.features[chosen] + noise).to(device), real.logits[chosen].to(device)

    def score():
        # A new sample each time: otherwise the second round would reuse the statistics of the first.
        return result_of(metric, {"real": real, "fake": FeatureSample(features, logits), "settings": settings})

    benchmark.pedantic(score, rounds=3, warmup_rounds=1)
