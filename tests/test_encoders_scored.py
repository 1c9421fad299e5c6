"""Metrics of a variant's encoder: what a linear classifier reads from its codes, and what the generator rebuilds."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

import ganzoo
from ganzoo.evaluation.features import FeatureSample
from ganzoo.evaluation.scorer import result_of, settings_of
from ganzoo_plugins.metrics import linear_probe, reconstruction

PROBE, REBUILT = (next(iter(plugin.ganzoo_metrics())) for plugin in (linear_probe, reconstruction))


class Flat(torch.nn.Module):
    """Codes that are the pixels, times a factor, with noise and further numbers behind them."""

    def __init__(self, factor=1.0, noise=0.0, more=0):
        super().__init__()
        self.factor = torch.nn.Parameter(torch.tensor(factor))
        self.noise, self.more = noise, more

    def forward(self, images):
        codes = self.factor * images.flatten(1)
        return torch.cat([codes + self.noise * torch.randn_like(codes), torch.ones(len(codes), self.more)], 1)


def images_of(count, seed):
    """Grey images of 3 px whose class is the brightest row, most of the time."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (count,), generator=rng)
    images = torch.randint(0, 200, (count, 1, 3, 3), generator=rng)
    images[torch.arange(count), 0, labels] += 55
    return images.to(torch.uint8), labels


def labelled(labels):
    return FeatureSample(torch.zeros(len(labels), 2), torch.zeros(len(labels), 0), labels)


def source(images=lambda latent: latent.reshape(-1, 1, 3, 3), width=9):
    return ganzoo.ImageSource(lambda count: (torch.zeros(count, width), None), lambda latent, labels: images(latent))


def given(encoder, known=400, asked=300, **changes):
    (real_images, real_labels), (images, labels) = images_of(known, 1), images_of(asked, 2)
    sides = {"real": labelled(real_labels), "held_out": labelled(labels), "encoder": encoder, "generator": source()}
    return {**sides, "real_images": real_images, "held_out_images": images, **changes}


def score(metric, **names):
    return result_of(metric, {"settings": settings_of(metric, 400, 100), **names})[metric.name]


def test_the_probe_is_the_ridge_regression_of_scikit_learn():
    names = given(Flat())
    x, asked = (names[side].flatten(1).double().numpy() / 127.5 - 1 for side in ("real_images", "held_out_images"))
    scaler = StandardScaler().fit(x)
    ridge = Ridge(alpha=1e-3 * len(x)).fit(scaler.transform(x), np.eye(3)[names["real"].labels])
    right = ridge.predict(scaler.transform(asked)).argmax(1) == names["held_out"].labels.numpy()
    found = score(PROBE, **names)
    assert 0.5 < right.mean() < 0.95, "a case that tells"
    assert found.value == pytest.approx(right.mean(), abs=1e-9)
    z, n, p = 1.959964, len(right), right.mean()
    middle, reach = (
        (p + z**2 / 2 / n) / (1 + z**2 / n),
        z * np.sqrt(p * (1 - p) / n + (z / 2 / n) ** 2) / (1 + z**2 / n),
    )
    assert (found.low, found.high) == pytest.approx((middle - reach, middle + reach), rel=1e-5), "Wilson 1927"


def test_codes_that_hold_nothing_are_read_by_chance_and_noise_costs_accuracy():
    exact, noisy, constant = (score(PROBE, **given(encoder)).value for encoder in (Flat(), Flat(noise=2.0), Flat(0.0)))
    most_frequent = images_of(400, 1)[1].bincount().argmax()
    assert exact > noisy > constant == pytest.approx((images_of(300, 2)[1] == most_frequent).double().mean().item())
    state = torch.get_rng_state()
    assert score(PROBE, **given(Flat(noise=2.0))).value == noisy, "codes that are drawn are drawn from a seed"
    assert torch.equal(torch.get_rng_state(), state)


def test_a_probe_is_not_asked_for_what_it_was_fitted_to():
    names = given(Flat())
    reals = {"real": names["held_out"], "real_images": names["held_out_images"]}
    assert "--reference train" in score(PROBE, **{**names, **reals}).reason
    both = torch.cat([names["real_images"], names["held_out_images"]])
    labels = torch.cat([names["real"].labels, names["held_out"].labels])
    assert "--reference train" in score(PROBE, **{**names, "real": labelled(labels), "real_images": both}).reason


@pytest.mark.parametrize("more", [0, 9], ids=["codes", "means and variances"])
def test_the_error_of_a_reconstruction_is_that_of_the_pixels(more):
    names = given(Flat(0.5, more=more))
    pixels = names["held_out_images"].flatten(1).double().numpy() / 127.5 - 1
    errors = ((pixels / 2) ** 2).mean(1)
    found = score(REBUILT, **names)
    reach = 1.959964 * errors.std(ddof=1) / np.sqrt(len(errors))
    assert (found.value, found.low, found.high) == pytest.approx(
        (errors.mean(), errors.mean() - reach, errors.mean() + reach), rel=1e-5
    )
    assert score(REBUILT, **given(Flat(more=more))).value < 1e-12, "a perfect inverse"


def test_what_does_not_fit_has_a_reason():
    assert score(REBUILT, **given(Flat(more=4))).reason == "the encoder gives 13 numbers, and a latent has 9"
    large = source(lambda latent: torch.zeros(len(latent), 1, 6, 6))
    assert "another size" in score(REBUILT, **given(Flat(), generator=large)).reason
    for metric in (PROBE, REBUILT):
        without = score(metric, **given(None))
        assert without.reason == "the variant has no player 'encoder', which the metric needs"


@pytest.mark.usefixtures("forked_runs")
def test_variants_with_an_encoder_are_scored_and_others_say_why_not(invoke):
    metrics = ("--metrics", "linear-probe,reconstruction-error", "--fakes", "64")
    brief = ("--kimg", "0.256", "--batch-size", "32", "--throughput-seconds", "0.05", "--device", "cpu")
    outcome = invoke("bench", "--models", "bigan,vaegan,aae,dcgan", *metrics, *brief, "--json", "--quiet")
    assert outcome.code == 0, outcome.err
    for record in json.loads(outcome.out):
        scores = {score["metric"]: score for score in record["scores"]}
        if record["spec"]["variant"] == "dcgan":
            assert {each["reason"] for each in scores.values()} == {
                "the variant has no player 'encoder', which the metric needs"
            }
            continue
        probe, rebuilt = scores["linear-probe"], scores["reconstruction-error"]
        assert 0.1 < probe["sample_low"] < probe["value"] < probe["sample_high"] <= 1
        assert 0 < rebuilt["sample_low"] < rebuilt["value"] < rebuilt["sample_high"] <= 4
